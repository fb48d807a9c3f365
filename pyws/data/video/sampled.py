"""Frames of a video at a steady rate, whatever rate it was recorded at, by the times in the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pyws.data.video.decoders import MAX_FRAMES, Pixels, PyAV
from pyws.data.video.frames import FrameFolder, check_rate
from pyws.data.video.thumbnails import Thumbnails
from pyws.errors import DataError

_SLACK = 1e-4  # seconds by which rounded times of frames may miss the grid


class SampledVideo:
    """The frames that a video shows at ``start + offset + k / fps``, k = 0, 1, ..., from its start to its end.

    Variable rates, rates such as 30000/1001 and streams that start late are what the times of the frames say. A frame
    is shown until the next one; frames are repeated where the video has fewer than ``fps``.

    Parameters
    ----------
    path : a video file, or a folder of frames
    fps : samples a second
    offset : seconds from the start of the video stream to the first sample
    folder_fps : frames a second of a folder of frames, whose files have no times

    Raises
    ------
    ValueError : fps or folder_fps not above 0, offset below 0
    DataError : a folder of frames without ``folder_fps``; when read, what :mod:`pyws.data.video.decoders` refuses, and
        a video without a frame, one that ends before the offset, or one whose times ask for more than MAX_FRAMES
        samples
    """

    def __init__(
        self, path: str | os.PathLike[str], fps: float, offset: float = 0.0, folder_fps: float | None = None
    ) -> None:
        if not fps > 0 or not offset >= 0 or (folder_fps is not None and not folder_fps > 0):
            raise ValueError(f"frames a second must be > 0 and an offset >= 0, got {fps}, {folder_fps} and {offset}")
        self.path, self.fps, self.offset, self._folder_fps = Path(path), fps, offset, folder_fps
        if self.path.is_dir():
            check_rate(self.path, folder_fps)
        elif not self.path.is_file():
            raise DataError(path, "must be a folder of frames or a video file, found neither")
        self.start = self.end = 0.0
        """Seconds of the file at which the stream starts and ends; known when all frames are read."""
        self.thumbnails: Thumbnails | None = None

    def take(self, count: int, width: int) -> None:
        """Take so many ``thumbnails``, of that width in pixels, when the video is read."""
        if self._folder_fps is not None and self.path.is_dir():
            seconds = len(FrameFolder(self.path)) / self._folder_fps
        else:
            seconds = PyAV(self.path).seconds()
        self.thumbnails = Thumbnails(count, width, seconds)

    def __iter__(self) -> Iterator[Pixels]:
        shown, sample, count = None, 0, 0
        for time, lasts, pixels in self._frames():
            if shown is None:
                self.start = time
            if self._at(MAX_FRAMES) < time + lasts - _SLACK:
                rule = f"must have at most {MAX_FRAMES} samples at {self.fps:g} a second"
                raise DataError(self.path, f"{rule}, got a frame until {time + lasts - self.start:g} s after its start")
            if self.thumbnails is not None:
                self.thumbnails.see(time, pixels)
            while shown is not None and self._at(sample) < time - _SLACK:
                yield shown()
                sample += 1
            shown, self.end, count = pixels, max(self.end, time + lasts), count + 1
        if shown is None:
            raise DataError(self.path, "has no frames")
        while self._at(sample) < self.end - _SLACK:
            yield shown()
            sample += 1
        if not sample:
            raise DataError(self.path, f"ends {self.end - self.start:.3f} s after its start, before --offset")

    def _at(self, sample: int) -> float:
        return self.start + self.offset + sample / self.fps

    def _frames(self) -> Iterator[tuple[float, float, _Once]]:
        if self.path.is_dir():
            assert self._folder_fps is not None
            folder = FrameFolder(self.path)
            for index in range(len(folder)):
                yield index / self._folder_fps, 1 / self._folder_fps, _Once(partial(_picture, folder, index))
            return
        for one in PyAV(self.path).timed():
            yield one.time, one.lasts, _Once(one.pixels)


def _picture(folder: FrameFolder, index: int) -> Pixels:
    return next(folder.read([index]))


class _Once:
    """A frame that is converted when it is first asked for, and then kept."""

    def __init__(self, make: Callable[[], Pixels]) -> None:
        self._make = make
        self._made: Pixels | None = None

    def __call__(self) -> Pixels:
        if self._made is None:
            self._made = self._make()
        return self._made
