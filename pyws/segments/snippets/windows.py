"""Windows of a video as the network takes them, decoded and scaled beside the network's work."""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyws.data.video.clips import stack
from pyws.data.video.optical_flow import FlowEstimator, FlowMethod, flow_to_next
from pyws.data.video.sampled import SampledVideo
from pyws.errors import DataError, check_fields
from pyws.models.classifier import Classifier

AHEAD = 4  # batches of a video that wait for the network


@dataclass(frozen=True)
class Sampling:
    """Which frames a snippet has.

    Parameters
    ----------
    fps : frames a second that are looked at, whatever the video has
    window : frames of a snippet
    stride : frames from the start of one snippet to that of the next
    offset : seconds from the start of the video stream to the first snippet
    """

    fps: float
    window: int
    stride: int
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "sampling", "> 0", "fps")
        check_fields(self, "sampling", ">= 1", "window", "stride")
        check_fields(self, "sampling", ">= 0", "offset")

    @property
    def rate(self) -> float:
        """Snippets a second."""
        return self.fps / self.stride

    def snippets(self, frames: int) -> int:
        """How many snippets a video of so many sampled frames has; the last may be filled up with its last frame.

        Examples
        --------
        >>> [Sampling(25, 16, 8).snippets(frames) for frames in (1, 16, 17, 24, 25)]
        [1, 1, 2, 2, 3]
        """
        return max(1, min(-(-(frames - self.window) // self.stride) + 1, -(-frames // self.stride)))


def default_sampling(classifier: Classifier) -> Sampling:
    """About two snippets a second of windows as the network was trained on; of images two a second."""
    if not classifier.frames:
        return Sampling(2.0, 1, 1)
    fps, window = classifier.fps or 15.0, classifier.frames
    if classifier.name == "i3d":
        return Sampling(25.0, 16, 16)  # the features of the literature
    return Sampling(fps, window, max(1, round(fps * 8 / 15)))


class WindowReader:
    """Batches of a video's windows, made by a thread that keeps a few ahead.

    Parameters
    ----------
    video : to read
    classifier : what the windows are prepared for
    sampling : which frames a window has
    batch : windows of a batch
    flow : how the optical flow from each frame to the next is found, which windows then have in its place
    """

    def __init__(
        self,
        video: SampledVideo,
        classifier: Classifier,
        sampling: Sampling,
        batch: int,
        flow: FlowMethod | FlowEstimator | None = None,
    ) -> None:
        self.video, self.classifier, self.sampling, self.batch, self.flow = video, classifier, sampling, batch, flow
        self.frames = 0
        """Sampled frames; known when all batches are read."""
        self._queue: queue.Queue[Any] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        # Two threads that are the first to import parts of torchvision can wait for each other's locks.
        importlib.import_module("torchvision.transforms.functional")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Tensor]:
        """(B, 3, T, h, w), of flow (B, 2, T, h, w), or (B, 3, h, w) for a classifier of images.

        Raises
        ------
        DataError : what is wrong with the video
        """
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Give up what is not read yet."""
        self._stopped.set()

    def _work(self) -> None:
        try:
            for batch in self._batches():
                self._put(batch)
            self._put(None)
        except BaseException as error:  # handed to the thread that asks
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _batches(self) -> Iterator[Tensor]:
        waiting: list[Tensor] = []
        for window in self._windows():
            waiting.append(window)
            if len(waiting) == self.batch:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)

    def _windows(self) -> Iterator[Tensor]:
        """(3, T, h, w) each: of every frame the view is made once, windows share it."""
        size, stride = self.sampling.window, self.sampling.stride
        held, first, made = torch.empty(0), 0, 0  # prepared frames (3, n, h, w), the first's index, windows so far
        for views in self._views():
            held = views if not held.numel() else torch.cat([held, views], 1)
            self.frames += views.shape[1]
            while made * stride + size <= first + held.shape[1]:
                start = made * stride - first
                yield self._squeezed(held[:, start : start + size])
                made += 1
            keep = min(max(0, made * stride - first), held.shape[1] - 1)
            held, first = held[:, keep:], first + keep
        for place in range(made, self.sampling.snippets(self.frames)):
            indices = torch.arange(place * stride - first, place * stride - first + size)
            yield self._squeezed(held[:, indices.clamp(0, held.shape[1] - 1)])

    def _squeezed(self, window: Tensor) -> Tensor:
        return window if self.classifier.frames else window[:, 0]

    def _views(self) -> Iterator[Tensor]:
        """Frames as the network takes them, (3, n, h, w), a stride or more at a time."""
        waiting: list[np.ndarray] = []
        step = max(self.sampling.stride, 8)
        for pixels in self.video if self.flow is None else flow_to_next(self._resized(), self.flow):
            waiting.append(pixels)
            if len(waiting) == step:
                yield self._view(waiting)
                waiting = []
        if waiting:
            yield self._view(waiting)

    def _resized(self) -> Iterator[np.ndarray]:
        """Frames of the size that flow is found at, so that it counts the pixels that the network sees."""
        size = None
        for pixels in self.video:
            size = size or pixels.shape
            if pixels.shape != size:
                raise DataError(self.video.path, f"frames must have one size, got {size} and {pixels.shape}")
            yield self.classifier.resized(torch.from_numpy(np.array(pixels))[None])[0].permute(1, 2, 0).numpy()

    def _view(self, frames: list[np.ndarray]) -> Tensor:
        if self.flow is not None:
            return self.classifier.flow_view(torch.from_numpy(np.stack(frames)))
        pictures = stack(frames, self.video.path)
        if self.classifier.frames:
            return self.classifier.published_view(pictures[None])[0]
        return self.classifier.published_view(pictures).transpose(0, 1)


def source_of(path: Path) -> dict[str, Any]:
    """What tells whether a video has changed: its name and size in bytes; of a folder how many entries it has, and what
    changes with the name, size or time of change of any."""
    if not path.is_dir():
        return {"name": path.name, "size": path.stat().st_size}
    entries = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in path.iterdir())
    return {"name": path.name, "size": len(entries), "entries": sha256(repr(entries).encode()).hexdigest()[:16]}
