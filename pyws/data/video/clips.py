"""Clips of a video: which frames each has, and which frame each activation map of a clip belongs to."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyws.data.video.frames import FrameFolder, VideoFile, evenly, open_frames
from pyws.errors import DataError

PLAIN = 2.0  # standard deviation of the levels, 0 to 255, of a frame of one colour, at most
MapRule = Literal["centre", "start", "linspace"]


@dataclass(frozen=True)
class Clip:
    """Frames ``start`` to ``start + real`` of a video, the last repeated until there are ``frames``."""

    start: int
    real: int
    frames: int

    def indices(self) -> list[int]:
        """The frame of the video at each place of the clip."""
        return [self.start + min(place, self.real - 1) for place in range(self.frames)]

    def of_maps(self, maps: int, rule: MapRule = "centre") -> list[tuple[int, int]]:
        """(map, frame of the video) of every map that belongs to a real frame.

        A clip of which only repeated frames would be mapped keeps its first map, for its middle real frame.

        Examples
        --------
        >>> Clip(start=10, real=16, frames=16).of_maps(2)
        [(0, 14), (1, 22)]
        >>> Clip(start=0, real=3, frames=16).of_maps(2)
        [(0, 1)]
        """
        places = enumerate(map_places(self.frames, maps, rule))
        found = [(index, self.start + place) for index, place in places if place < self.real]
        return found or [(0, self.start + self.real // 2)]


def map_places(frames: int, maps: int, rule: MapRule = "centre") -> list[int]:
    """The place in a clip of ``frames`` that each of its ``maps`` activation maps belongs to.

    Parameters
    ----------
    rule : "centre": the middle of the k-th of equal parts, floor((k + 1/2) frames / maps);
        "start": its beginning, floor(k frames / maps); "linspace": evenly from the first frame to the last

    Examples
    --------
    >>> map_places(64, 8)
    [4, 12, 20, 28, 36, 44, 52, 60]
    >>> map_places(64, 8, "start")[:3], map_places(64, 8, "linspace")
    ([0, 8, 16], [0, 9, 18, 27, 36, 45, 54, 63])
    """
    if frames < 1 or maps < 1:
        raise ValueError(f"map_places: frames and maps must be >= 1, got {frames} and {maps}")
    if rule == "linspace":
        return [k * (frames - 1) // (maps - 1) if maps > 1 else 0 for k in range(maps)]
    return [((2 * k + (rule == "centre")) * frames) // (2 * maps) for k in range(maps)]


def clips_of(length: int, frames: int) -> list[Clip]:
    """Clips that follow one another and cover a video; the last ends where the video ends, a short video makes one.

    Examples
    --------
    >>> clips_of(40, 16)
    [Clip(start=0, real=16, frames=16), Clip(start=16, real=16, frames=16), Clip(start=24, real=16, frames=16)]
    >>> clips_of(5, 16)
    [Clip(start=0, real=5, frames=16)]
    """
    if length < 1 or frames < 1:
        raise ValueError(f"clips_of: length and frames must be >= 1, got {length} and {frames}")
    if length <= frames:
        return [Clip(0, length, frames)]
    starts = list(range(0, length - frames + 1, frames))
    if starts[-1] + frames < length:
        starts.append(length - frames)
    return [Clip(start, frames, frames) for start in starts]


def clips_within(clips: Sequence[Clip], spans: Sequence[tuple[float, float]], most: int = 0) -> list[Clip]:
    """The clips whose middle lies in a span; of one that has no such clip, the clip that is nearest to its middle.

    Parameters
    ----------
    clips : clips of a video, in its order
    spans : first and last frame of parts of the video, the most wanted first; () for the whole video
    most : maximum number of clips: spans are taken in their order, and clips are spread evenly over the first span
        whose clips do not all fit; 0 for all

    Examples
    --------
    >>> clips = clips_of(80, 16)
    >>> [clip.start for clip in clips_within(clips, [(60, 63), (0, 50)])]
    [0, 16, 32, 48]
    >>> [clip.start for clip in clips_within(clips, [(60, 63), (0, 50)], 2)]
    [16, 48]
    """
    middles = np.array([clip.start + clip.real / 2 for clip in clips])
    chosen: dict[int, None] = {}
    for first, last in spans or [(0.0, float("inf"))]:
        inside = np.flatnonzero((first <= middles) & (middles <= last)).tolist()
        inside = [index for index in inside or [int(abs(middles - (first + last) / 2).argmin())] if index not in chosen]
        room = most - len(chosen) if most else len(inside)
        chosen.update(dict.fromkeys(inside[place] for place in evenly(len(inside), room)))
        if most and len(chosen) == most:
            break
    return [clips[index] for index in sorted(chosen)]


def near(index: int, offsets: Sequence[int], length: int) -> list[int]:
    """Places beside a frame; beyond the ends of the video its first or last frame comes again.

    Examples
    --------
    >>> near(1, [-2, 0, 2], 10)
    [0, 1, 3]
    """
    return [min(max(index + offset, 0), length - 1) for offset in offsets]


def side_by_side(pictures: Sequence[NDArray[np.uint8]], path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Frames (H, W, 3) of a video as (H, W, 3 T), frame after frame.

    Raises
    ------
    DataError : frames of different sizes
    """
    if len({picture.shape for picture in pictures}) > 1:
        raise DataError(path, "must have frames of one size")
    return np.concatenate(pictures, 2)


def around(
    frames: FrameFolder | VideoFile, indices: Sequence[int], offsets: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    """Each of the frames with those around it, (H, W, 3 T) uint8, frame after frame; every frame is read once.

    Parameters
    ----------
    indices : rising
    offsets : places beside the frame, rising; beyond the ends of the video its first or last frame comes again

    Raises
    ------
    DataError : unreadable, or frames of different sizes
    """
    each = [near(index, offsets, len(frames)) for index in indices]
    wanted = sorted({place for places in each for place in places})
    incoming, kept = zip(wanted, frames.read(wanted), strict=True), {}
    for places in each:
        while max(places) not in kept:
            place, picture = next(incoming)
            kept[place] = picture
        yield side_by_side([kept[place] for place in places], frames.path)
        kept = {place: picture for place, picture in kept.items() if place >= min(places)}


class FrameStore:
    """Frames of many videos, made smaller, with the whole of recent videos kept in memory.

    Parameters
    ----------
    short_side : frames with a larger short side are made smaller, antialiased
    limit : bytes that are kept
    """

    def __init__(self, short_side: int, limit: int = 1 << 30) -> None:
        self.short_side, self.limit = short_side, limit
        self._open: dict[str, FrameFolder | VideoFile] = {}
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def length(self, path: str | os.PathLike[str]) -> int:
        """Frames of a video."""
        return len(self._video(path))

    def frames(self, path: str | os.PathLike[str], indices: Sequence[int]) -> Tensor:
        """(N, H, W, 3) uint8 RGB of the given indices, which may repeat but not fall.

        Raises
        ------
        DataError : unreadable, or frames of different sizes
        """
        key = str(path)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][list(indices)]
        video = self._video(path)
        wanted = sorted(set(indices))
        pictures = self._read(video, wanted)
        if len(video) * pictures[0].numel() <= self.limit // 4:
            pictures = pictures if len(wanted) == len(video) else self._read(video, range(len(video)))
            self._keep(key, pictures)
            return pictures[list(indices)]
        return pictures[[wanted.index(index) for index in indices]]

    def check(self, path: str | os.PathLike[str], indices: Sequence[int]) -> None:
        """Read the frames of the given indices, which do not fall, and keep none more than :meth:`frames` does.

        Raises
        ------
        DataError : as that does
        """
        self.frames(path, indices[:1])
        if str(path) not in self._kept:
            check_one_size((frame.shape for frame in self._video(path).read(indices)), path)

    def _video(self, path: str | os.PathLike[str]) -> FrameFolder | VideoFile:
        key = str(path)
        if key not in self._open:
            self._open[key] = open_frames(path)
        return self._open[key]

    def _read(self, video: FrameFolder | VideoFile, indices: Sequence[int]) -> Tensor:
        return stack([shrunk(frame, self.short_side) for frame in video.read(indices)], video.path)

    def _keep(self, key: str, pictures: Tensor) -> None:
        self._kept[key] = pictures
        while len(self._kept) > 1 and sum(one.numel() for one in self._kept.values()) > self.limit:
            self._kept.popitem(last=False)


def shrunk(frame: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """A frame (H, W, 3) whose short side is at most ``short_side``, antialiased."""
    height, width = frame.shape[:2]
    if min(height, width) <= short_side:
        return frame
    size = [max(1, round(side * short_side / min(height, width))) for side in (height, width)]
    pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None]
    small = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
    return small[0].permute(1, 2, 0).numpy()


def stack(pictures: Sequence[NDArray[np.uint8]], path: str | os.PathLike[str]) -> Tensor:
    """(N, H, W, 3) of pictures of one size; DataError names ``path`` where they differ."""
    check_one_size((picture.shape for picture in pictures), path)
    return torch.from_numpy(np.stack(pictures))


def check_one_size(shapes: Iterable[tuple[int, ...]], path: str | os.PathLike[str]) -> None:
    """Raise DataError unless frames (H, W, 3) have one size."""
    sizes = sorted({f"{shape[1]}x{shape[0]}" for shape in shapes})
    if len(sizes) > 1:
        raise DataError(path, f"frames must have one size, got {' and '.join(sizes)}")


def are_plain(frames: Tensor) -> Tensor:
    """Which frames (N, H, W, 3) uint8 are of one colour, but for noise, as where a film fades: they show no object.

    Examples
    --------
    >>> frames = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    >>> frames[1, :2] = 9
    >>> are_plain(frames)
    tensor([ True, False])
    """
    step = max(1, min(frames.shape[1:3]) // 64)
    return frames[:, ::step, ::step].float().flatten(1, 2).std(1, correction=0).amax(1) < PLAIN
