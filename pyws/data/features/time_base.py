"""When the snippets of a video are: from places on the grid of snippets to seconds of the video, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.errors import DataError

Seconds = NDArray[np.float64]


def to_seconds(snippets: np.ndarray, snippets_per_second: float | np.ndarray) -> np.ndarray:
    """Seconds that convert back to no less than the snippet: int() would cut off a whole one for the last bit."""
    seconds = snippets / snippets_per_second
    return np.where(seconds * snippets_per_second < snippets, np.nextafter(seconds, np.inf), seconds)


@dataclass(frozen=True, eq=False)
class TimeBase:
    """When each snippet of a video is, as the file of its features says.

    Snippets may overlap. Place k of the grid is where snippet k - 1 hands over to snippet k: halfway between the
    middles of the two; place 0 is where the video starts and the last one where it ends.

    Parameters
    ----------
    spans : (L, 2) float64, start and end of the frames that each snippet has seen, in seconds of the file
    middles : (L,) float64, the middle of each window, also where the video ends before the window does
    start, end : of the video stream, in seconds of the file; a stream may start late
    about : fps, stride, window and offset that the snippets were made with

    Examples
    --------
    >>> times = TimeBase(np.array([[0, 2.0], [1, 3.0], [2, 3.5]]), np.array([1, 2, 3.0]), 0.0, 3.5, {})
    >>> times.seconds(np.array([0, 1, 1.5, 3, 4])).tolist()
    [0.0, 1.5, 2.0, 3.5, 3.5]
    >>> times.snippets(np.array([1.5, 9])).tolist(), round(times.rate, 3)
    ([1.0, 3.0], 1.0)
    """

    spans: Seconds
    middles: Seconds
    start: float
    end: float
    about: Mapping[str, Any]

    @property
    def edges(self) -> Seconds:
        """(L + 1,) seconds of the places 0, 1, ..., L."""
        inner = (self.middles[1:] + self.middles[:-1]) / 2
        return np.clip(np.concatenate([[self.start], inner, [self.end]]), self.start, self.end)

    @property
    def rate(self) -> float:
        """Snippets a second: one over the mean distance of their middles; of one snippet, over its video's length."""
        if len(self.middles) > 1:
            return float((len(self.middles) - 1) / (self.middles[-1] - self.middles[0]))
        return 1 / max(self.end - self.start, 1e-9)

    def seconds(self, places: np.ndarray) -> Seconds:
        """Seconds of the file at places of the grid of snippets, never before its start or after its end."""
        return np.interp(places, np.arange(len(self.middles) + 1), self.edges)

    def snippets(self, seconds: np.ndarray) -> Seconds:
        """Places of the grid of snippets at seconds of the file."""
        return np.interp(seconds, self.edges, np.arange(len(self.middles) + 1))


def read_time_base(where: Any, spans: np.ndarray, note: Mapping[str, Any]) -> TimeBase:
    """What a file of features says of its snippets.

    Raises
    ------
    DataError : times that cannot be: not (L, 2), not finite, falling, or an end before the start
    """
    try:
        fps, window, stride = (float(note[name]) for name in ("fps", "window", "stride"))
        start, end, first = (float(note[name]) for name in ("start", "end", "first"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            where, f"must say fps, window, stride, start, end and first of its snippets: {error}"
        ) from error
    middles = first + (np.arange(len(spans), dtype=np.float64) * stride + window / 2) / max(fps, 1e-9)
    fits = spans.ndim == 2 and spans.shape[1:] == (2,) and bool(np.isfinite(spans).all())
    if not fits or not fps > 0 or not start < end < np.inf or (np.diff(spans, axis=1) < 0).any():
        raise DataError(where, "must have the start and end of each snippet in seconds, (snippets, 2), start <= end")
    return TimeBase(spans.astype(np.float64), middles, start, end, dict(note))
