"""When the snippets of a video are: from places on the grid of snippets to seconds of the video, and back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyws.data.annotations.names import other_name
from pyws.errors import DataError, reading
from pyws.files import read_json

Seconds = NDArray[np.float64]
SAME_RATE = 0.01  # by which rates may differ: 29.97 and 30 frames a second are one
_GRID_NUMBERS = ("snippets_per_second", "offset", "start", "end")
_GRID = 9  # decimals of a snippet: what is closer to a boundary than this is on it


def to_seconds(snippets: np.ndarray, snippets_per_second: float | np.ndarray) -> np.ndarray:
    """Seconds that convert back to no less than the snippet: int() would cut off a whole one for the last bit."""
    seconds = snippets / snippets_per_second
    return np.where(seconds * snippets_per_second < snippets, np.nextafter(seconds, np.inf), seconds)


def rows_by_video(video: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each index that occurs, rising, and the rows that have it."""
    order = np.argsort(video, kind="stable")
    present, first = np.unique(video[order], return_index=True)
    if len(order):
        yield from zip(present.tolist(), np.split(order, first[1:]), strict=True)


@dataclass(frozen=True)
class SnippetGrid:
    """The grid of one video's snippets: place k is where snippet k - 1 hands over to snippet k.

    Parameters
    ----------
    snippets_per_second : one over the distance of places
    offset : seconds of place 0, were the first snippet as long as the others
    start, end : start and end of the video, in seconds; the first place is at the start and the last one at the end
    snippets : how many the video has; if None the grid is steady from 0 on and has no end

    Examples
    --------
    >>> late = SnippetGrid(2.0, offset=5.0, start=5.0, end=7.0, snippets=4)
    >>> late.edges.tolist()
    [5.0, 5.5, 6.0, 6.5, 7.0]
    >>> late.places(np.array([5.5, 9.0])).tolist(), late.seconds(np.array([1.0, 9.0])).tolist()
    ([1.0, 4.0], [5.5, 7.0])
    """

    snippets_per_second: float
    offset: float = 0.0
    start: float = 0.0
    end: float = np.inf
    snippets: int | None = None

    @staticmethod
    def of_edges(edges: Seconds) -> SnippetGrid:
        """The grid of (L + 1,) seconds of places, of which the inner ones are steady."""
        count, start, end = len(edges) - 1, float(edges[0]), float(edges[-1])
        inner = edges[1:-1] if count > 2 else edges
        rate = (len(inner) - 1) / max(float(inner[-1] - inner[0]), 1e-9)
        return SnippetGrid(rate, float(edges[1]) - 1 / rate if count > 2 else start, start, end, count)

    @property
    def edges(self) -> Seconds:
        """(L + 1,) seconds of the places 0, 1, ..., L of a video whose snippets are counted."""
        count = self.snippets or 0
        edges = np.clip(self.offset + np.arange(count + 1) / self.snippets_per_second, self.start, self.end)
        edges[[0, -1]] = self.start, self.end
        return edges

    def places(self, seconds: np.ndarray) -> Seconds:
        """Places of the grid at seconds of the file, never before the first or after the last."""
        if self.snippets is None:
            return np.asarray(seconds * self.snippets_per_second)
        return np.interp(seconds, self.edges, np.arange(self.snippets + 1)).round(_GRID)

    def seconds(self, places: np.ndarray) -> Seconds:
        """Seconds of the file at places of the grid, never before its start or after its end."""
        if self.snippets is None:
            return to_seconds(places, self.snippets_per_second)
        return np.interp(places, np.arange(self.snippets + 1), self.edges)


@dataclass(frozen=True)
class SnippetGrids:
    """The grids of the videos of a set, or of a file made from it.

    Parameters
    ----------
    snippets_per_second : rate of videos that have no grid of their own
    own : grids of videos by name

    Raises
    ------
    ValueError : a rate that is not > 0

    Examples
    --------
    >>> grids = SnippetGrids(2.0, {"late": SnippetGrid(1.0, 5.0, 5.0, 9.0, 4)})
    >>> grids.places(["a", "late"], np.array([0, 1]), np.array([6.0, 6.0])).tolist()
    [12.0, 1.0]
    >>> grids["v_late"].snippets, grids["a"].snippets
    (4, None)
    >>> SnippetGrids.read("detections.json", grids.note(), assumed=1.0) == grids
    True
    """

    snippets_per_second: float
    own: Mapping[str, SnippetGrid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rate in (self.snippets_per_second, *(one.snippets_per_second for one in self.own.values())):
            if not 0 < rate < np.inf:
                raise ValueError(f"SnippetGrids: snippets_per_second must be > 0, got {rate}")

    @staticmethod
    def of(rate: float | SnippetGrids) -> SnippetGrids:
        """One rate of all videos, or grids as they are."""
        return rate if isinstance(rate, SnippetGrids) else SnippetGrids(float(rate))

    @staticmethod
    def read(where: Any, note: Mapping[str, Any], assumed: float) -> SnippetGrids:
        """What :meth:`note` gave; ``assumed`` where no rate is noted.

        Raises
        ------
        DataError : times of a video that cannot be
        """
        rate, times = note.get("snippets_per_second"), note.get("times") or {}
        if not isinstance(times, dict):
            raise DataError(where, f"times must be of videos by name, got {type(times).__name__}")
        own = {}
        for video, said in times.items():
            try:
                per_second, offset, start, end = (float(said[name]) for name in _GRID_NUMBERS)
                count, finite = int(said["snippets"]), np.isfinite([per_second, offset, start, end]).all()
                if not (finite and per_second > 0 and start < end and count > 0):
                    raise ValueError(f"got {said}")
                own[video] = SnippetGrid(per_second, offset, start, end, count)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                rule = "must have snippets_per_second > 0, offset, start < end and snippets > 0 in its times"
                raise DataError(where, f"video {video!r} {rule}: {error}") from error
        known = isinstance(rate, (int, float)) and 0 < rate < np.inf
        return SnippetGrids(float(rate if known and rate else assumed), own)

    def note(self) -> dict[str, Any]:
        """What a file that is made from the videos says of their times."""
        times = {"times": {video: asdict(one) for video, one in self.own.items()}} if self.own else {}
        return {"snippets_per_second": self.snippets_per_second, **times}

    def __getitem__(self, video: str) -> SnippetGrid:
        """The grid of a video, whether its name has the prefix ``v_`` or not."""
        own = self.own.get(video) or self.own.get(other_name(video))
        return own or SnippetGrid(self.snippets_per_second)

    def __str__(self) -> str:
        rates = [one.snippets_per_second for one in self.own.values()] or [self.snippets_per_second]
        low, high = f"{min(rates):g}", f"{max(rates):g}"
        return low if low == high else f"{low} to {high}, by video,"

    def edges_of(self, video: str, count: int, seconds: float | None = None) -> Seconds:
        """(count + 1,) seconds of the places of a video by its own grid, by how long it lasts, or else by the rate."""
        own = self[video]
        if own.snippets == count:
            return own.edges
        return to_seconds(np.arange(count + 1), count / seconds if seconds else self.snippets_per_second)

    def places(self, names: Sequence[str], video: np.ndarray, seconds: np.ndarray) -> Seconds:
        """(N,) places at (N,) seconds of the videos with these (N,) indices into ``names``."""
        places = np.asarray(seconds * self.snippets_per_second)
        for index, rows in rows_by_video(video) if self.own else ():
            places[rows] = self[names[index]].places(seconds[rows])
        return places

    def seconds(self, names: Sequence[str], video: np.ndarray, places: np.ndarray) -> Seconds:
        """(N,) seconds at (N,) places of the videos with these (N,) indices into ``names``."""
        seconds = to_seconds(places, self.snippets_per_second)
        for index, rows in rows_by_video(video) if self.own else ():
            seconds[rows] = self[names[index]].seconds(places[rows])
        return seconds


class LabelNote(NamedTuple):
    """What the ``.json`` beside a file of pseudo labels says.

    Parameters
    ----------
    classes : names of the columns
    grids : when the snippets of the videos are
    lasting : snippets and seconds of each video, seconds None where they are not known
    """

    classes: tuple[str, ...]
    grids: SnippetGrids
    lasting: dict[str, tuple[int, float | None]]


def read_label_note(path: str | os.PathLike[str], assumed: float) -> LabelNote:
    """Read the ``.json`` beside the labels ``path``; ``assumed`` is the rate where none is noted.

    Raises
    ------
    DataError : missing, damaged, or it says something else
    """
    beside = Path(f"{path}.json")
    note = read_json(beside)
    with reading(beside, "does not say its classes, videos and settings as pyws segments labels does"):
        grids = SnippetGrids.read(beside, dict(note["settings"]), assumed)
        lasting = {}
        for video, record in note["videos"].items():
            count, seconds = record["snippets"], record.get("seconds")
            if type(count) is not int or count < 1 or not (seconds is None or 0 < seconds < math.inf):
                raise ValueError(f"{video!r} must have snippets > 0 and finite seconds > 0")
            lasting[video] = (count, seconds)
        classes = note["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise TypeError("classes must be a list of names")
    return LabelNote(tuple(classes), grids, lasting)


@dataclass(frozen=True, eq=False)
class TimeBase:
    """When each snippet of a video is, as the file of its features says.

    Snippets may overlap. Place k of the grid is where snippet k - 1 hands over to snippet k: halfway between the
    middles of the two; place 0 is where the video starts and the last one where it ends.

    Parameters
    ----------
    spans : (L, 2) float64, start and end of the frames that each snippet has seen, in seconds of the file
    middles : (L,) float64, the middle of each window, also where the video ends before the window does
    start, end : start and end of the video stream, in seconds of the file; a stream may start late
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
    def grid(self) -> SnippetGrid:
        """Where the snippets hand over to each other."""
        offset = float(self.middles[0]) - 0.5 / self.rate
        return SnippetGrid(self.rate, offset, float(self.start), float(self.end), len(self.middles))

    @property
    def edges(self) -> Seconds:
        """(L + 1,) seconds of the places 0, 1, ..., L."""
        return self.grid.edges

    @property
    def rate(self) -> float:
        """Snippets a second: one over the mean distance of their middles; of one snippet, over its video's length."""
        if len(self.middles) > 1:
            return float((len(self.middles) - 1) / (self.middles[-1] - self.middles[0]))
        return 1 / max(self.end - self.start, 1e-9)

    def seconds(self, places: np.ndarray) -> Seconds:
        """Seconds of the file at places of the grid of snippets, never before its start or after its end."""
        return self.grid.seconds(places)

    def snippets(self, seconds: np.ndarray) -> Seconds:
        """Places of the grid of snippets at seconds of the file."""
        return self.grid.places(seconds)


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
