"""What the second stage of WS^2 reads: the folder of ``pyws masks init``, with frames, tags and pseudo-annotations."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from pyws.data.tagged.corrected_masks import corrected_frames, mask_file
from pyws.data.tagged.label_space import IGNORE, LabelSpace
from pyws.data.video.clips import near, shrunk, side_by_side
from pyws.data.video.frames import FrameFolder, Pixels, VideoFile, in_order, open_frames, read_image, read_mask
from pyws.errors import DataError, reading
from pyws.files import atomic_write, file_sha256
from pyws.masks.initial_masks.pipeline import FORMAT
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.run_manifest import read_manifest

CACHED_BYTES = 1 << 30
_SUPERPIXELS = ("region_area", "compactness", "iterations", "superpixels")


class Frame(NamedTuple):
    """A sampled frame, one that has a pseudo-annotation."""

    video: str
    stem: str

    def png(self, folder: Path) -> Path:
        return folder / self.video / f"{self.stem}.png"


class Annotations:
    """Sampled frames of tagged videos. Videos that failed in the first stage are left out.

    Parameters
    ----------
    folder : what ``pyws masks init`` wrote
    work : a folder where the sampled frames of video files are put, which can only be read in order
    cached_bytes : decoded frames are kept in memory up to this size
    offsets : places, beside a sampled frame, of other frames that :meth:`clip` may be asked for

    Raises
    ------
    DataError : not such a folder, no video in it is done, or a mask is missing
    """

    def __init__(
        self, folder: Path, work: Path, cached_bytes: int = CACHED_BYTES, offsets: Sequence[int] = (0,)
    ) -> None:
        self._offsets = tuple(offsets)
        self.folder = folder
        self._work = work
        self.manifest = _read_manifest(folder / "manifest.json")
        self.parameters = parameters = self.manifest["parameters"]
        self.space = LabelSpace.read(self.manifest.get("label_space"), folder / "manifest.json")
        """What the ids in the masks mean."""
        self.classes = {entry["id"]: tuple(entry["classes"]) for entry in parameters["tags"]}
        """Classes of the first stage's classifier that stand for an id."""
        done = {name: video for name, video in self.manifest["videos"].items() if video["status"] == "done"}
        if not done:
            raise DataError(folder, "must hold masks of at least one video, found none that is done")
        self.corrected = {Frame(*key): ids for key, ids in corrected_frames(folder).items() if key[0] in done}
        """Frames whose masks people corrected, with their ids: they have no other pseudo-annotation in any version."""
        shown = {name: set(video["ids"]) for name, video in done.items()}
        for frame, ids in self.corrected.items():
            shown[frame.video] |= set(ids)
        self.tags = {name: tuple(sorted(ids)) for name, ids in shown.items()}
        """Ids that each video may show."""
        self.subsets = {name: video.get("subset", "") for name, video in done.items()}
        """Subset of the data set that videos are from: train, val or test; empty where it has none."""
        self.sources = {name: Path(video["source"]) for name, video in done.items()}
        self.frames = tuple(frame for name in done for frame in self._frames_of(name))
        self.superpixels = superpixels_of(parameters, folder)
        self._open: dict[str, Any] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._cached: OrderedDict[tuple[Frame, int | None], Pixels] = OrderedDict()
        self._free_bytes = cached_bytes

    def picture(self, frame: Frame, short_side: int | None = None) -> Pixels:
        """The frame (H, W, 3) uint8 RGB, scaled so that its short side is ``short_side`` if that makes it smaller."""
        key = (frame, short_side)
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key]
        picture = self._read(frame)
        picture = picture if short_side is None else shrunk(picture, short_side)
        self._cached[key] = picture
        self._free_bytes -= picture.nbytes
        while self._free_bytes < 0 and len(self._cached) > 1:
            self._free_bytes += self._cached.popitem(last=False)[1].nbytes
        return picture

    def clip(self, frame: Frame, offsets: Sequence[int], short_side: int | None = None) -> Pixels:
        """A frame and those around it (H, W, 3 T) uint8, frame after frame; beyond the ends of the video its first or
        last frame again."""
        if tuple(offsets) == (0,):
            return self.picture(frame, short_side)
        stems = self._source(frame.video).stems
        places = near(stems.index(frame.stem), offsets, len(stems))
        seen = [self.picture(Frame(frame.video, stems[place]), short_side) for place in places]
        return side_by_side(seen, self.sources[frame.video])

    def superpixels_of(self, frame: Frame) -> Tensor:
        """Superpixels (H, W) int32 of the frame."""
        return torch.from_numpy(self.superpixels(self.picture(frame), *frame))

    def mask(self, folder: Path, frame: Frame) -> Pixels:
        """The pseudo-annotation (H, W) uint8 of a frame, from a folder of one version."""
        file = self.file(folder, frame)
        mask = read_mask(file)
        if mask.shape != self._size(frame):
            raise DataError(file, f"must have the size of its frame {self._size(frame)}, got {mask.shape}")
        unknown = mask[(mask >= len(self.space)) & (mask != IGNORE)]
        if unknown.size:
            raise DataError(file, f"must have ids below {len(self.space)}, got {unknown.max()}")
        return mask

    def file(self, folder: Path, frame: Frame) -> Path:
        """Where the pseudo-annotation of a frame lies: in the folder of its version, or where people corrected it."""
        return mask_file(self.folder, *frame) if frame in self.corrected else frame.png(folder)

    def digest(self, folder: Path) -> str:
        """SHA-256 over all pseudo-annotations of a version, in the order of the frames."""
        return digest(self.file(folder, frame) for frame in self.frames)

    def _frames_of(self, video: str) -> list[Frame]:
        """Frames of a video with a mask, in their order."""
        paths = {path.stem: path for path in (self.folder / "pa/v0" / video).glob("*.png")}
        paths |= {frame.stem: mask_file(self.folder, *frame) for frame in self.corrected if frame.video == video}
        return [Frame(video, path.stem) for path in in_order(paths.values())]

    def _size(self, frame: Frame) -> tuple[int, int]:
        """(H, W) of the frames of a video, which all have one size."""
        if frame.video not in self._sizes:
            height, width = self.picture(frame).shape[:2]
            self._sizes[frame.video] = (height, width)
        return self._sizes[frame.video]

    def _source(self, video: str) -> FrameFolder | VideoFile:
        if video not in self._open:
            source = open_frames(self.sources[video])
            if source.fingerprint() != self.manifest["videos"][video]["fingerprint"]:
                raise DataError(source.path, "changed since its masks were made; run pyws masks init again")
            self._open[video] = source
        return self._open[video]

    def _read(self, frame: Frame) -> Pixels:
        source = self._source(frame.video)
        if isinstance(source, FrameFolder):
            return next(source.read([source.stems.index(frame.stem)]))
        if not frame.png(self._work).is_file():
            self._extract(source)
        return read_image(frame.png(self._work))

    def _extract(self, source: VideoFile) -> None:
        """Put the sampled frames of a video file, and those beside them, where any of them can be read."""
        stems = source.stems
        at = [stems.index(frame.stem) for frame in self.frames if frame.video == source.name]
        wanted = sorted({one for place in at for one in near(place, (0, *self._offsets), len(stems))})
        for place, picture in zip(wanted, source.read(wanted), strict=True):
            frame = Frame(source.name, stems[place])
            with atomic_write(frame.png(self._work), "wb") as file:
                Image.fromarray(picture).save(file, format="PNG")


def superpixels_of(parameters: Mapping[str, Any], folder: Path) -> Superpixels:
    """Superpixels by the parameters of a first stage, kept under ``folder``."""
    return Superpixels(folder / "slic", *(parameters[key] for key in _SUPERPIXELS))


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, one after the other."""
    total = hashlib.sha256()
    for file in files:
        with reading(file):
            total.update(bytes.fromhex(file_sha256(file)))
    return total.hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_manifest(path, *FORMAT)
    missing = {*_SUPERPIXELS, "tags"} - set(manifest["parameters"])
    if missing:
        raise DataError(path, f"must have the parameters {', '.join(sorted(missing))}; run pyws masks init again")
    return manifest
