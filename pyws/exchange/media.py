"""The frames of a video and their times, as tools count them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.frames import FrameFolder, is_upright, open_frames, write_picture
from pyws.errors import DataError

QUALITY = 95  # quality of JPEG
_SLACK = 1e-6  # share of a frame by which rounded seconds may miss it


class Media:
    """A video for export.

    Parameters
    ----------
    source : video file, or folder of frames
    folder_fps : frames a second of a folder of frames

    Raises
    ------
    DataError : neither, or unreadable
    """

    def __init__(self, source: Path, folder_fps: float | None = None) -> None:
        self.source = source
        self.frames = open_frames(source)
        self._folder_fps = folder_fps

    @property
    def file(self) -> str:
        """The path of the video file.

        Raises
        ------
        DataError : a folder of frames, which tools that play videos cannot open
        """
        if isinstance(self.frames, FrameFolder):
            rule = "is a folder of frames, and the tool plays video files; make one of that name, give it by --videos"
            raise DataError(self.source, rule)
        return os.path.abspath(self.source)

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """(frames,) seconds of the file at which each frame is first shown.

        Raises
        ------
        DataError : a folder of frames whose rate nobody said
        """
        return np.array(self.frames.times(self._folder_fps))

    @cached_property
    def fps(self) -> float:
        """Frames a second, on average over the video."""
        if self._folder_fps is not None and isinstance(self.frames, FrameFolder):
            return self._folder_fps
        spans = len(self.times) - 1
        return spans / float(self.times[-1] - self.times[0]) if spans and self.times[-1] > self.times[0] else 25.0

    @property
    def duration(self) -> float:
        """Seconds from the start of the file to the end of the last frame."""
        return float(self.times[-1]) + 1 / self.fps

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        height, width = next(self.frames.read([0])).shape[:2]
        return height, width

    def first_and_last(self, start: float, end: float) -> tuple[int, int]:
        """The frames, counted from 0, that are on show between two times; at least the one at ``start``.

        Parameters
        ----------
        start, end : seconds of the file
        """
        slack = _SLACK / self.fps
        first = int(np.searchsorted(self.times, start + slack, side="right")) - 1
        last = int(np.searchsorted(self.times, end - slack, side="left")) - 1
        first = max(first, 0)
        return first, max(first, last)

    def seconds(self, first: int, last: int) -> tuple[float, float]:
        """When frames ``first`` to ``last``, counted from 0, are on show."""
        end = float(self.times[last + 1]) if last + 1 < len(self.times) else self.duration
        return float(self.times[first]), end

    def write(self, files: Iterable[tuple[str, Path]]) -> None:
        """Write frames as JPEG, but for files that are there; frames of a folder that are JPEG already are copied.

        Parameters
        ----------
        files : (name of a frame, file to write), in the order of the frames

        Raises
        ------
        DataError : the video has no such frame
        """
        wanted = list(files)
        place = {stem: index for index, stem in enumerate(self.frames.stems)}
        missing = [stem for stem, _ in wanted if stem not in place]
        if missing:
            raise DataError(self.source, f"has no frame {missing[0]}; were the masks made from another file?")
        wanted = [(stem, target) for stem, target in wanted if not target.exists()]
        if isinstance(self.frames, FrameFolder):
            ready = [self.frames.file(stem) for stem, _ in wanted]
            if all(path.suffix.lower() in (".jpg", ".jpeg") and is_upright(path) for path in ready):
                for path, (_, target) in zip(ready, wanted, strict=True):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
                return
        for (_, target), picture in zip(wanted, self.frames.read([place[stem] for stem, _ in wanted]), strict=True):
            write_picture(target, picture, QUALITY)
