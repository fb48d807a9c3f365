"""Frames of a folder or a video file, and masks as palette PNG. Whatever a file holds, an error names it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pyws.data.video.decoders import Pixels, PyAV, check_frame, check_size, open_decoder
from pyws.data.video.png import encode_png
from pyws.data.video.remembered import ReadAgain
from pyws.errors import DataError, counted, name_bytes, reading
from pyws.files import atomic_write

HEAT_SIDE = 120  # pixels of the short side of a map that is kept for pictures
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class FrameFolder:
    """The jpg and png files of a folder, in the order of their names, numbers in them by value: 9.jpg before 10.jpg.

    Parameters
    ----------
    path : the folder; its name is the name of the video, the files' stems are the names of the frames

    Raises
    ------
    DataError : not a folder, no frames in it, or two frames of one stem
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = os.path.basename(os.path.realpath(self.path))
        with reading(path):
            entries = in_order(self.path.iterdir())
        self._files = [file for file in entries if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
        self.stems = [file.stem for file in self._files]
        if not self._files:
            folders = sum(entry.is_dir() for entry in entries)
            hint = f"; it has {folders} folders: give those" if folders else ""
            raise DataError(path, f"must hold jpg or png frames, found none{hint}")
        for one, next_ in zip(self._files, self._files[1:], strict=False):
            if one.stem == next_.stem:
                raise DataError(path, f"must hold one file a frame, found {one.name} and {next_.name}")
        self._by_stem = {file.stem: file for file in self._files}
        self.again = ReadAgain(self.path)

    def __len__(self) -> int:
        return len(self._files)

    def file(self, stem: str) -> Path:
        """The file of a frame."""
        return self._by_stem[stem]

    def read(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """The frames of the given indices, each (H, W, 3) uint8 RGB."""
        for index in indices:
            picture = self.again.kept([index])[0]
            if picture is None:
                picture = read_image(self._files[index])
                check_frame(self._files[index], picture.shape[1], picture.shape[0])
                self.again.keep(index, picture)
            yield picture

    def times(self, fps: float | None = None) -> list[float]:
        """Seconds at which each frame is shown, at ``fps`` frames a second.

        Raises
        ------
        DataError : no rate given
        """
        rate = check_rate(self.path, fps)
        return [index / rate for index in range(len(self))]

    def fingerprint(self) -> str:
        """Changes when a frame is added, removed, renamed or changes its size in bytes."""
        return _digest(f"{file.name} {file.stat().st_size}" for file in self._files)


class VideoFile:
    """The frames of a video file, turned as the file says. Nothing but the file itself is opened.

    torchcodec decodes it where that is installed and gets to the last frame, PyAV otherwise. Both use FFmpeg; frames of
    two FFmpeg versions may differ by a level or two, and so may masks made from them.

    Parameters
    ----------
    path : the file; its stem is the name of the video, frames are named 00000, 00001, ...

    Raises
    ------
    DataError : the file is missing, unreadable, truncated, a playlist, has no picture, or is beyond MAX_PIXELS a frame
        or MAX_FRAMES. Where its packets do not tell all of it, the whole file is decoded to find out.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        if not _is_regular(self.path):
            raise DataError(path, "must be a folder of frames or a video file, found neither")
        self._packets = PyAV(self.path)
        self._decoder, count = open_decoder(self._packets)
        self.stems = [f"{index:05d}" for index in range(count)]
        if not self.stems:
            raise DataError(path, "has no frames")
        self.again = ReadAgain(self.path)

    def __len__(self) -> int:
        return len(self.stems)

    def read(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """The frames of the given indices, which must rise, each (H, W, 3) uint8 RGB.

        Frames to remember that lie between them, before or behind them are decoded in the same pass.
        """
        kept = self.again.kept(indices)
        if all(picture is not None for picture in kept):
            return (picture for picture in kept if picture is not None)
        return self._decoded(indices)

    def _decoded(self, indices: Sequence[int]) -> Iterator[Pixels]:
        wanted = frozenset[int]()
        if self.again.sets:
            header = self._packets.header()
            wanted = self.again.wanted(3 * header.height * header.width)
        passing = sorted(self.again.missing(wanted).union(indices))
        incoming = zip(passing, self._decoder.read(passing), strict=True)
        asked = set(indices)
        for index, picture in incoming:
            self.again.keep(index, picture)
            if index == indices[-1]:
                for later, one in incoming:
                    self.again.keep(later, one)
            if index in asked:
                yield picture

    def times(self, fps: float | None = None) -> list[float]:
        """Seconds since the file starts at which each frame is shown, as the file says."""
        return self._packets.times()

    def glance(self, seconds: Sequence[float], slack: float) -> list[Pixels]:
        """The frame shown at each time since the first frame, or a key frame up to ``slack`` seconds before it, for
        which no other frame is decoded."""
        shown, wanted = self.times(), []
        for time in seconds:
            index = max(0, bisect_right(shown, shown[0] + time) - 1)
            key = self._packets.stamps.key_before(index) if self._packets.stamps else index
            wanted.append(key if shown[index] - shown[key] <= slack else index)
        found = dict(zip(sorted(set(wanted)), self.read(sorted(set(wanted))), strict=True))
        return [found[index] for index in wanted]

    def fingerprint(self) -> str:
        """Changes with the name, the size in bytes and the number of frames."""
        return _digest([f"{self.path.name} {self.path.stat().st_size} {len(self)}"])


def check_rate(folder: Path, fps: float | None) -> float:
    """The rate of a folder of frames, or DataError where nobody said it."""
    if fps is None:
        raise DataError(folder, "is a folder of frames, which have no times: give their rate (--folder-fps)")
    return fps


def open_frames(path: str | os.PathLike[str]) -> FrameFolder | VideoFile:
    """A folder of jpg or png frames, or a video file.

    Both have ``.name``, ``.path``, ``.stems`` (names of the frames), ``len()``, ``.read(indices)`` and
    ``.fingerprint()``.

    Raises
    ------
    DataError : neither, empty, unreadable or truncated

    Examples
    --------
    >>> open_frames("no/such/video")
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: no/such/video: must be a folder of frames or a video file, found neither
    """
    return FrameFolder(path) if Path(path).is_dir() else VideoFile(path)


def evenly(length: int, count: int) -> list[int]:
    """``count`` of the indices 0 to length - 1, spread evenly: the middles of equal parts; all where there are fewer.

    Examples
    --------
    >>> evenly(20, 4), evenly(2, 4)
    ([2, 7, 12, 17], [0, 1])
    """
    count = min(count, length)
    return [(2 * k + 1) * length // (2 * count) for k in range(count)]


def in_order(files: Iterable[Path]) -> list[Path]:
    """Files in the order of their names, numbers in them by value.

    Examples
    --------
    >>> [file.name for file in in_order(map(Path, ["frame10.png", "frame9.png", "frame009.png"]))]
    ['frame009.png', 'frame9.png', 'frame10.png']
    """

    def key(file: Path) -> tuple[list[tuple[int, str]], str]:
        parts = re.split(r"([0-9]+)", file.stem)
        return [(int(part) if at % 2 else 0, "" if at % 2 else part) for at, part in enumerate(parts)], file.name

    return sorted(files, key=key)


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """A jpg or png file as (H, W, 3) uint8 RGB, turned as its EXIF orientation says; 16 bits are scaled to 8.

    Raises
    ------
    DataError : missing, not a picture, truncated, or of more than MAX_PIXELS
    """
    image = _load(path)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode[0] == "I":  # 16-bit grey: Pillow's own conversion would cut everything above 255 to white
        levels = np.asarray(image, np.int64)
        image = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def is_upright(path: str | os.PathLike[str]) -> bool:
    """Whether a picture needs no turning: its EXIF data, if any, do not ask for it."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        return image.getexif().get(0x0112, 1) == 1


def read_mask(path: str | os.PathLike[str]) -> Pixels:
    """A palette, grey or two-level PNG as (H, W) uint8 ids; a two-level picture gives 0 and 255.

    A palette mask that some tool saved as RGB is read by its colours, those of :func:`palette`.

    Raises
    ------
    DataError : missing, not such a picture, truncated, or of more than MAX_PIXELS
    """
    image = _load(path)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("RGB", "RGBA"):
        return _ids_of_colours(path, np.asarray(image.convert("RGB")))
    if image.mode not in ("P", "L"):
        raise DataError(path, f"must be a palette or grey picture of 8 bits, got mode {image.mode}")
    return np.asarray(image)


def _ids_of_colours(path: str | os.PathLike[str], picture: Pixels) -> Pixels:
    """(H, W) ids of (H, W, 3) colours of the palette."""
    code = np.dot(picture.astype(np.int64), [1 << 16, 1 << 8, 1])
    known = np.dot(palette().astype(np.int64), [1 << 16, 1 << 8, 1])
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], code), 255)
    strange = known[order][place] != code
    if strange.any():
        y, x = (int(at[0]) for at in np.nonzero(strange))
        rule = (
            f"must be a palette or grey picture, or RGB in the colours of such a palette, got {picture[y, x].tolist()}"
        )
        raise DataError(path, f"{rule} at row {y}, column {x}; pyws.data.video.frames.write_mask writes ids as one")
    return order[place].astype(np.uint8)


def write_mask(path: str | os.PathLike[str], ids: Pixels) -> None:
    """Write (H, W) uint8 ids as a PNG with the palette of DAVIS and PASCAL VOC, whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "00000.png"
    >>> write_mask(path, np.array([[0, 1], [2, 255]], np.uint8))
    >>> read_mask(path).tolist()
    [[0, 1], [2, 255]]
    """
    if ids.ndim != 2 or ids.dtype != np.uint8 or not ids.size:
        raise ValueError(f"write_mask: ids must be (H, W) uint8, not empty, got {ids.shape} {ids.dtype}")
    with atomic_write(path, "wb") as file:
        file.write(encode_png(ids, palette()))


def write_picture(path: str | os.PathLike[str], picture: Pixels, quality: int = 75) -> None:
    """Write (H, W, 3) uint8 RGB, or (H, W) grey, as .jpg (of that quality, up to 95) or .png, whole or not at all."""
    kinds = {".jpg": "JPEG", ".png": "PNG"}
    suffix = Path(path).suffix
    if suffix not in kinds:
        raise ValueError(f"write_picture: path must end in .jpg or .png, got {path}")
    with atomic_write(path, "wb") as file:
        Image.fromarray(picture).save(file, format=kinds[suffix], quality=quality)


def write_heat(path: str | os.PathLike[str], levels: NDArray[np.floating]) -> None:
    """Write a map (h, w) in [0, 1] as an 8-bit grey PNG, whole or not at all."""
    grey = np.rint(np.clip(np.nan_to_num(levels), 0, 1) * 255).astype(np.uint8)
    with atomic_write(path, "wb") as file:
        file.write(encode_png(grey))


def read_heat(path: str | os.PathLike[str], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map that :func:`write_heat` wrote, scaled to frames of ``size`` (H, W): float32 in [0, 1].

    Raises
    ------
    DataError : missing or damaged
    """
    small = _load(path).convert("L").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32) / np.float32(255)


@cache
def palette() -> Pixels:
    """The 256 colours of PASCAL VOC and DAVIS, (256, 3): the bits of an id are dealt to red, green, blue from the top.

    Examples
    --------
    >>> palette()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            place = 3 * bit + channel
            if place < 8:
                colours[:, channel] |= ((ids >> place & 1) << (7 - bit)).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def masks_in(folder: Path, count: int) -> dict[str, Path]:
    """The masks of a video by the stem of their frame, in order, of which a manifest says how many there are.

    Raises
    ------
    DataError : some are gone

    Examples
    --------
    >>> masks_in(Path("no-such-folder"), 2)
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: no-such-folder: must hold the 2 masks that its manifest speaks of, found 0; ...
    """
    with reading(folder):
        files = in_order(file for file in folder.iterdir() if file.suffix == ".png") if folder.is_dir() else []
    if len(files) < count:
        rule = f"must hold the {counted(count, 'mask')} that its manifest speaks of, found {len(files)}"
        raise DataError(folder, f"{rule}; run again what wrote them, which makes the others")
    return {file.stem: file for file in files}


def total_bytes(paths: Iterable[str | os.PathLike[str]]) -> int | None:
    """The size of several files together; None where one of them is missing.

    Examples
    --------
    >>> total_bytes([]), total_bytes(["no-such-file"])
    (0, None)
    """
    try:
        return sum(os.stat(path).st_size for path in paths)
    except OSError:
        return None


def _load(path: str | os.PathLike[str]) -> Image.Image:
    """Open and decode a picture in the mode that the file has."""
    if not _is_regular(Path(path)):
        raise DataError(path, "must be a picture file, found none")
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            check_size(path, *image.size)
            image.load()
            return image
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(path, f"cannot be read as a jpg or png picture: {error}") from error


def _is_regular(path: Path) -> bool:
    """A file, not a device or a pipe, which could be read for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _digest(lines: Any) -> str:
    return hashlib.sha256(name_bytes("\n".join(lines))).hexdigest()[:16]
