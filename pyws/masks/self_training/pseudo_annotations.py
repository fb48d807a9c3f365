"""What the second stage of WS^2 reads: the folder of ``pyws masks init``, with frames, tags and pseudo-annotations, and
which of its frames are held out to score epochs."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.data.tagged.corrected_masks import corrected_frames, mask_file
from pyws.data.tagged.label_space import IGNORE, LabelSpace, read_ids
from pyws.data.video.clips import near, shrunk, side_by_side
from pyws.data.video.frames import (
    HEAT_SIDE,
    FrameFolder,
    Pixels,
    VideoFile,
    evenly,
    in_order,
    masks_in,
    open_frames,
    read_heat,
    read_image,
    write_heat,
    write_picture,
)
from pyws.errors import DataError, reading
from pyws.files import file_sha256
from pyws.masks.initial_masks.pipeline import FORMAT
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.masks.seeds import seed_of
from pyws.masks.self_training.stopping import LoopConfig
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
        with reading(folder / "manifest.json", "is damaged"):
            self.parameters = parameters = self.manifest["parameters"]
            self.space = LabelSpace.read(self.manifest.get("label_space"), folder / "manifest.json")
            """What the ids in the masks mean."""
            self.classes = {entry["id"]: tuple(entry["classes"]) for entry in parameters["tags"]}
            """Classes of the first stage's classifier that stand for an id."""
            done = {name: video for name, video in self.manifest["videos"].items() if video["status"] == "done"}
            if not done:
                raise DataError(folder, "must hold masks of at least one video, found none that is done")
            self.corrected = {Frame(*key): ids for key, ids in corrected_frames(folder).items() if key[0] in done}
            """Frames whose masks people corrected, with their ids: they have no other pseudo-annotation."""
            shown = {name: set(video["ids"]) for name, video in done.items()}
            for frame, ids in self.corrected.items():
                shown[frame.video] |= set(ids)
            self.tags = {name: tuple(sorted(ids)) for name, ids in shown.items()}
            """Ids that each video may show."""
            self.subsets = {name: video.get("subset", "") for name, video in done.items()}
            """Subset of the data set that videos are from: train, val or test; empty where it has none."""
            self.sources = {name: Path(video["source"]) for name, video in done.items()}
            self.frames = tuple(frame for name in done for frame in self._frames_of(name))
            self._places = {frame: place for place, frame in enumerate(self.frames)}
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

    def pictures(self, frames: Sequence[Frame], shown: Iterable[Sequence[int]] = ()) -> Iterator[Pixels]:
        """Frames (H, W, 3) uint8 RGB of one video, in its order, each decoded once.

        Those that ``shown`` names, by their places among ``frames``, are kept for the next reader until :meth:`forget`.
        """
        video = frames[0].video
        source = self._source(video)
        index = {stem: place for place, stem in enumerate(source.stems)}
        at = [index[frame.stem] for frame in frames]
        for places in shown:
            source.again.remember(at[place] for place in places)
        for picture in source.read(at):
            self._sizes[video] = picture.shape[0], picture.shape[1]
            yield picture

    def forget(self, video: str) -> None:
        """Drop the frames of a video that are kept."""
        if video in self._open:
            self._open[video].again.forget()

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
        mask = read_ids(file, len(self.space))
        if mask.shape != self._size(frame):
            raise DataError(file, f"must have the size of its frame {self._size(frame)}, got {mask.shape}")
        return mask

    def file(self, folder: Path, frame: Frame) -> Path:
        """Where the pseudo-annotation of a frame lies: in the folder of its version, or where people corrected it."""
        return mask_file(self.folder, *frame) if frame in self.corrected else frame.png(folder)

    def digest(self, folder: Path) -> str:
        """SHA-256 over all pseudo-annotations of a version, in the order of the frames, and its soft labels."""
        soft = (self.soft_file(folder, frame) for frame in self.frames)
        return digest(
            [*(self.file(folder, frame) for frame in self.frames), *(file for file in soft if file.is_file())]
        )

    def soft_file(self, folder: Path, frame: Frame) -> Path:
        """Where the soft labels of a frame lie: the probability of the background and, below it, of each tag."""
        return frame.png(folder.parent.parent / "soft" / folder.name)

    def has_soft_labels(self, folder: Path) -> bool:
        """Whether a version of the pseudo-annotations has any."""
        return (folder.parent.parent / "soft" / folder.name).is_dir()

    def write_soft_labels(self, folder: Path, frame: Frame, probabilities: Tensor) -> None:
        """Keep probabilities (1 + tags, H, W) of the background and the tags of the video, as small as maps."""
        size = _soft_size(probabilities.shape[1:])
        small = functional.interpolate(probabilities[None], size=size, mode="bilinear", antialias=True)[0]
        write_heat(self.soft_file(folder, frame), small.flatten(0, 1).numpy())

    def soft_labels(self, folder: Path, frame: Frame, mask: Tensor) -> Tensor:
        """Probabilities (classes, H, W) of a frame at the size of its mask (H, W) int64, 0 of all classes where that is
        255; where the frame has no soft labels, the mask as probabilities of 0 and 1."""
        known = mask != IGNORE
        file, shown = self.soft_file(folder, frame), [0, *self.tags[frame.video]]
        if not file.is_file():
            found = functional.one_hot(torch.where(known, mask, 0), len(self.space)).permute(2, 0, 1)
            return found.float() * known
        size = _soft_size(self._size(frame))
        rows = torch.from_numpy(read_heat(file, (len(shown) * size[0], size[1]))).unflatten(0, (len(shown), size[0]))
        large = functional.interpolate(rows[None], size=mask.shape, mode="bilinear", align_corners=False)[0]
        large = large / large.sum(0).clamp(min=1e-6) * known
        return torch.zeros(len(self.space), *mask.shape).index_copy(0, torch.tensor(shown), large)

    def beside(self, frame: Frame) -> list[Frame]:
        """The sampled frames of its video before and after a frame."""
        place = self._places[frame]
        around = (self.frames[index] for index in (place - 1, place + 1) if 0 <= index < len(self.frames))
        return [other for other in around if other.video == frame.video]

    def _frames_of(self, video: str) -> list[Frame]:
        """Frames of a video with a mask, in their order."""
        sampled = self.manifest["videos"][video].get("sampled", ())
        paths = masks_in(self.folder / "pa/v0" / video, len(sampled))
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
            write_picture(Frame(source.name, stems[place]).png(self._work), picture)


def split(data: Annotations, loop: LoopConfig, seed: int) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on and to score on.

    Whole videos are held out: those of the data set's own subset "val", or else some that the seed draws such that
    every tag keeps a video to train on. Where no video can be spared, frames of each are, with a warning. Frames that
    people corrected are trained on, but for those of "val".

    Raises
    ------
    DataError : no frame can be spared
    """
    if loop.validation == "frames":
        held_out = _every_so_many(data, loop.validation_share)
    else:
        own = {frame for frame in data.frames if data.subsets[frame.video] == "val"}
        held_out = own or _whole_videos(data, loop.validation_share, seed)
        if not held_out:
            warnings.warn(
                f"{data.folder}: no video can be spared for scoring, every tag needs its own; frames of each video are"
                " held out instead, as --validation frames does",
                stacklevel=2,
            )
            held_out = _every_so_many(data, loop.validation_share)
    if not held_out or len(held_out) == len(data.frames):
        raise DataError(data.folder, "has no frames to spare for scoring: each video must have two or more masks")
    return tuple(frame for frame in data.frames if frame not in held_out), tuple(
        frame for frame in data.frames if frame in held_out
    )


def _every_so_many(data: Annotations, share: float) -> set[Frame]:
    """Frames spread evenly over each video."""
    found = set()
    frames = (frame for frame in data.frames if frame not in data.corrected)
    for _, group in groupby(frames, key=lambda frame: frame.video):
        several = list(group)
        count = round(share * len(several)) or int(len(several) > 1)
        found |= {several[place] for place in evenly(len(several), count)}
    return found


def _whole_videos(data: Annotations, share: float, seed: int) -> set[Frame]:
    names = sorted(data.tags)
    wanted = max(1, round(share * len(names)))
    left = Counter(tag for name in names for tag in data.tags[name])
    chosen: set[str] = set()
    corrected = {frame.video for frame in data.corrected}
    for index in np.random.default_rng(seed_of(seed, "validation")).permutation(len(names)):
        tags = data.tags[names[index]]
        if len(chosen) < wanted and names[index] not in corrected and all(left[tag] > 1 for tag in tags):
            chosen.add(names[index])
            left.subtract(tags)
    return {frame for frame in data.frames if frame.video in chosen}


def superpixels_of(parameters: Mapping[str, Any], folder: Path) -> Superpixels:
    """Superpixels by the parameters of a first stage, kept under ``folder``."""
    return Superpixels(folder / "slic", *(parameters[key] for key in _SUPERPIXELS))


def _soft_size(size: Sequence[int]) -> tuple[int, int]:
    """The size at which the soft labels of a frame of a size are kept."""
    share = min(1.0, HEAT_SIDE / min(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


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
