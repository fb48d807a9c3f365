"""Small pictures of a video, taken while a job reads it: its page then decodes nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from pyws.data.video.decoders import Pixels

_PER_PICTURE = 2  # frames that are kept for each picture that is asked for


class Thumbnails:
    """Frames at about even distances of a video whose length is known for certain only when it ends.

    Between two and four times as many are kept as are asked for, every second one is dropped when there are more.

    Parameters
    ----------
    count : pictures that will be asked for
    width : their width, in pixels; smaller frames stay as they are
    seconds : about how long the video is; 0 where nobody knows

    Examples
    --------
    >>> taken = Thumbnails(2, 480)
    >>> for second in range(100):
    ...     taken.see(float(second), lambda: np.full((4, 6, 3), second, np.uint8))
    >>> [int(picture[0, 0, 0]) for picture in taken.at([25.0, 75.0])]
    [16, 64]
    """

    def __init__(self, count: int, width: int, seconds: float = 0.0) -> None:
        self._most, self._width = 2 * _PER_PICTURE * count, width
        self._step = seconds / (_PER_PICTURE * count)
        self._taken: list[tuple[float, Pixels]] = []

    def see(self, time: float, pixels: Callable[[], Pixels]) -> None:
        """A frame (H, W, 3) that is shown from ``time`` on, in seconds; later than those before it."""
        if self._taken and time < self._taken[-1][0] + self._step:
            return
        if len(self._taken) == self._most:
            self._taken = self._taken[::2]
            self._step = (time - self._taken[0][0]) / len(self._taken)
        self._taken.append((time, self._small(pixels())))

    def at(self, seconds: Sequence[float]) -> list[Pixels]:
        """The last frame that was kept at or before each time since the first one; none where no frame was seen."""
        if not self._taken:
            return []
        times = [time - self._taken[0][0] for time, _ in self._taken]
        return [self._taken[max(0, bisect_right(times, time) - 1)][1] for time in seconds]

    def _small(self, picture: Pixels) -> Pixels:
        tall, wide = picture.shape[:2]
        if wide <= self._width:
            return picture
        size = (self._width, max(1, round(self._width * tall / wide)))
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
