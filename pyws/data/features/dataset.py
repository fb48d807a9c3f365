"""Features of untrimmed videos with their tags, for training, prediction and evaluation."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pyws.data.annotations.activitynet import Truth
from pyws.data.annotations.corrections import CORRECTIONS, Corrected, read_corrections
from pyws.data.annotations.names import other_name
from pyws.data.features.doubts import doubts_of, look_transposed
from pyws.data.features.files import times_of
from pyws.data.features.layouts import list_features
from pyws.data.features.listing import Listing
from pyws.data.features.streams import Stored
from pyws.data.features.time_base import SnippetGrid, SnippetGrids, TimeBase, rows_by_video, to_seconds
from pyws.data.problem import Problem
from pyws.errors import DataError
from pyws.files import files_within

Read = TypeVar("Read")
ON_ERROR = ("error", "skip")
_HINTS = 20  # missing videos for which like names are looked for among all that are there


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The videos of one subset of a data set; features are read when they are asked for.

    Parameters
    ----------
    names : names of the videos
    classes : classes of the whole data set, so that its subsets agree on the columns
    tags : (videos, classes) bool
    lengths : (videos,) int64 snippets
    width : width of the features
    snippets_per_second : one over the seconds that a snippet lasts; the median where videos have rates of their own,
        and of rescaled features a nominal number
    truth : the annotated segments of the whole data set, where it has them
    subset : which one was asked for
    skipped : what was wrong with the videos that were left out
    description : description of the data set, a line for people
    stored : where the features lie
    durations : (videos,) seconds that the snippets of each video last, where features were rescaled or ``dataset.json``
        has a rate for each video; ``rates`` follow from them
    doubts : what is assumed, was not read or looks wrong, a sentence each
    corrections : what people said of segments, by video; ``tags`` follow it
    rescaled : every video was brought to some number of snippets
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    tags: np.ndarray
    lengths: np.ndarray
    width: int
    snippets_per_second: float
    truth: Truth | None
    subset: str | None = None
    skipped: tuple[Problem, ...] = ()
    description: str = ""
    stored: tuple[Stored, ...] = field(default=(), repr=False)
    durations: np.ndarray | None = None
    doubts: tuple[str, ...] = ()
    corrections: Mapping[str, Corrected] = field(default_factory=dict, repr=False)
    rescaled: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def times(self) -> tuple[TimeBase | None, ...]:
        """When the snippets of each video are, where its file says so."""
        return tuple(self._of(index, partial(times_of, stored)) for index, stored in enumerate(self.stored))

    @cached_property
    def rates(self) -> np.ndarray:
        """(videos,) snippets a second of each video: what its own file says, or else the set."""
        usual = (
            np.full(len(self), self.snippets_per_second) if self.durations is None else self.lengths / self.durations
        )
        return np.array([own.rate if own else rate for own, rate in zip(self.times, usual.tolist(), strict=True)])

    @cached_property
    def grids(self) -> SnippetGrids:
        """When the snippets are, as files made from this set note it: of videos by their own file or duration."""
        own = {name: times.grid for name, times in zip(self.names, self.times, strict=True) if times}
        if self.durations is not None:
            lasting = zip(self.names, self.rates.tolist(), self.durations.tolist(), self.lengths.tolist(), strict=True)
            own = {name: SnippetGrid(rate, 0.0, 0.0, end, count) for name, rate, end, count in lasting} | own
        return SnippetGrids(self.snippets_per_second, own)

    @cached_property
    def ends(self) -> np.ndarray:
        """(videos,) seconds at which each video ends: as its file says, as annotated, or else its last snippet."""
        ends = self.lengths / self.rates
        if self.truth is not None and self.durations is None:
            place = {video: row for row, video in enumerate(self.truth.instances.videos)}
            known = np.array([self.truth.duration[place[name]] if name in place else np.nan for name in self.names])
            ends = np.where(known > 0, known, ends)
        return np.array([own.end if own else end for own, end in zip(self.times, ends.tolist(), strict=True)])

    def seconds(self, videos: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Seconds at which places on the grid of snippets are, never after the end of the video.

        Parameters
        ----------
        videos : (N,) indices
        places : (N,) float, 0 where the video's first snippet starts, 1 where the second does, ...
        """
        seconds = np.minimum(to_seconds(places, self.rates[videos]), self.ends[videos])
        for index, rows in rows_by_video(videos):
            own = self.times[index]
            if own is not None:
                seconds[rows] = own.seconds(places[rows])
        return seconds

    def known(self, video: int, label: str, rows: str = "sum") -> np.ndarray:
        """(L,) snippet labels of a video that people fixed, NaN where nothing is; see :class:`Corrected`."""
        length = int(self.lengths[video])
        one = self.corrections.get(self.names[video])
        if one is None:
            return np.full(length, np.nan)
        return one.known(label, self.seconds(np.full(length, video), np.arange(length) + 0.5), rows)

    def choose(self, videos: np.ndarray) -> FeatureSet:
        """Some of the videos by index, in that order; classes and truth stay those of the whole data set."""
        names, stored = (tuple(rows[video] for video in videos.tolist()) for rows in (self.names, self.stored))
        durations = None if self.durations is None else self.durations[videos]
        return replace(
            self, names=names, stored=stored, tags=self.tags[videos], lengths=self.lengths[videos], durations=durations
        )

    def check_annotated(self) -> Truth:
        """The annotated segments of the whole data set.

        Raises
        ------
        DataError : none of these videos has any
        """
        if self.truth is None or not len(self.truth.instances.of_videos(self.names)):
            example = f"videos such as {self.names[0]!r} must have annotated segments, got none"
            raise DataError("evaluation", example)
        return self.truth

    def features(self, index: int) -> np.ndarray:
        """The features of one video: (snippets, width) float32, finite.

        Raises
        ------
        DataError : the file is gone, damaged or changed, or a value is not finite; names the video and the row
        """
        return self._of(index, lambda: read_checked(self.stored[index], (int(self.lengths[index]), self.width)))

    def _of(self, index: int, read: Callable[[], Read]) -> Read:
        """What ``read`` gives of a video; an error names the video too."""
        try:
            return read()
        except DataError as error:
            raise DataError(error.path, f"video {self.names[index]!r}: {error.rule}") from error


def open_features(
    source: str | os.PathLike[str],
    subset: str | None = None,
    on_error: str = "error",
    need_tags: bool = False,
    annotations: str | os.PathLike[str] | None = None,
    videos: Iterable[str] | None = None,
) -> FeatureSet:
    """Open a data set of features; finds out which layout it has (:mod:`pyws.data.features.layouts`).

    ``corrections.json`` of the folder, which ``pyws import`` writes, changes tags: a label that people saw is a tag,
    one that they saw nowhere is none.

    Parameters
    ----------
    source : the folder
    subset : take the videos of this subset, or all
    on_error : a video that cannot be used is an error, or with "skip" left out and listed in ``skipped``. "skip" reads
        every video once to find the values that are not finite; "error" meets them when the video is read
    need_tags : a video without tags cannot be used (training)
    annotations : see :func:`pyws.data.features.layouts.list_features`
    videos : take these alone, with or without the prefix ``v_``; None for all

    Raises
    ------
    DataError : no known layout, an unknown subset, no usable video, and with "error" the first video that has no
        features, features of another width, none or no longer all of its rows, annotations that cannot be, a tag that
        is no class, or no tags where they are needed; names the video

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pyws.data.features.files import write_features
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "tags.csv").write_text("video,tag\\nv1,Diving\\n")
    >>> write_features(folder / "features" / "v1.npy", np.ones((5, 8)))
    >>> videos = open_features(folder)
    >>> videos.names, videos.classes, videos.lengths.tolist(), videos.features(0).shape
    (('v1',), ('Diving',), [5], (5, 8))
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"open_features: on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
    listing = list_features(source, annotations)
    chosen = _of_subset(listing, subset) if videos is None else _named(listing, videos)
    mine = (one for one in listing.problems if videos is None and (subset is None or one.subset in (None, subset)))
    listing = replace(listing, problems=tuple(mine))
    shapes, problems = check_headers(listing, chosen, need_tags)
    if on_error == "skip":
        for index in list(shapes):
            problems += check_contents(listing, index, shapes[index])
    elif problems:
        more = f" (and {len(problems) - 1} more; `pyws data check` lists them)" if len(problems) > 1 else ""
        where = listing.annotations if problems[0] in listing.problems else None
        raise DataError(where or listing.where, f"{problems[0]}{more}")
    bad = {problem.video for problem in problems}
    good = [index for index in shapes if listing.videos[index] not in bad]
    if not good:
        rule = f"must have a usable video, got {len(chosen)} of which none is"
        raise DataError(listing.where, rule + (f", such as {problems[0]}" if problems else ""))
    found = FeatureSet(
        tuple(listing.videos[index] for index in good),
        listing.classes,
        tag_matrix(listing, good),
        np.array([shapes[index][0] for index in good], dtype=np.int64),
        shapes[good[0]][1],
        _usual_rate(listing, good),
        listing.truth,
        subset,
        tuple(problems),
        listing.description,
        tuple(listing.stored[listing.videos[index]] for index in good),
        _durations(listing, good, shapes),
        tuple(doubts_of(listing, {index: shapes[index] for index in good})),
        read_corrections(source) if os.path.isdir(source) else {},
        listing.rescaled,
    )
    return _corrected(found, listing.where, need_tags) if found.corrections else found


def _corrected(data: FeatureSet, where: Path, need_tags: bool) -> FeatureSet:
    """With the tags that people's corrections say; videos that they leave none are left out where tags are needed."""
    tags = data.tags.copy()
    for video, name in enumerate(data.names):
        for label in data.corrections[name].labels if name in data.corrections else ():
            if label not in data.classes:
                raise DataError(where / CORRECTIONS, f"video {name!r}: label must be a class, got {label!r}")
            known = data.known(video, label)
            column = data.classes.index(label)
            tags[video, column] = (known > 0).any() or (tags[video, column] and np.isnan(known).any())
    bare = ~tags.any(axis=1) & data.tags.any(axis=1)
    data = replace(data, tags=tags)
    if not need_tags or not bare.any():
        return data
    if bare.all():
        raise DataError(where / CORRECTIONS, "leaves no video a tag")
    gone = [Problem(data.names[video], "shows none of its tags, people say") for video in np.flatnonzero(bare)]
    return replace(data, skipped=(*data.skipped, *gone)).choose(np.flatnonzero(~bare))


def _usual_rate(listing: Listing, videos: Sequence[int]) -> float:
    """What is said of the set, or else the median of what the files of these videos say."""
    own = [times_of(listing.stored[listing.videos[index]]) for index in videos] if listing.rate_is_assumed else []
    rates = [times.rate for times in own if times is not None]
    return float(np.median(rates)) if rates else listing.snippets_per_second


def _durations(
    listing: Listing, videos: Sequence[int], shapes: Mapping[int, tuple[int, int]]
) -> NDArray[np.float64] | None:
    """(videos,) seconds that snippets last, where videos have different rates."""
    if listing.rescaled:
        return listing.durations[videos]
    if listing.rates:
        return np.array([shapes[index][0] / listing.rate(listing.videos[index]) for index in videos])
    return None


def read_checked(stored: Stored, shape: tuple[int, int]) -> np.ndarray:
    """The features as float32, of this shape and finite."""
    where = getattr(stored, "path", "features")
    array = stored.read()
    if array.shape != shape or array.dtype.kind != "f":
        raise DataError(where, f"features must be floating-point of shape {shape}, got {array.dtype} {array.shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found below
        array = np.require(array, np.float32, ["C", "W"])  # torch warns of arrays that cannot be written to
    check_finite(where, "features", array)
    return array


@np.errstate(invalid="ignore")
def check_finite(where: str | os.PathLike[str], what: str, array: np.ndarray) -> None:
    """Raise DataError unless all numbers of an array (rows, columns) are finite."""
    # A sum is finite only if all of its terms are, and costs one pass without a mask; where it is not, look closer.
    if not np.isfinite(array.sum(dtype=np.float64)):
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if len(rows):
            raise DataError(where, f"{what} must be finite, got {len(rows)} rows that are not, the first is {rows[0]}")


def check_headers(
    listing: Listing, chosen: Sequence[int], need_tags: bool
) -> tuple[dict[int, tuple[int, int]], list[Problem]]:
    """The (snippets, width) of the chosen videos that have features, and what is wrong, contents unread."""
    shapes: dict[int, tuple[int, int]] = {}
    problems = list(listing.problems)
    known, missing = set(listing.classes), 0
    for index in chosen:
        if listing.rescaled and not listing.durations[index] > 0:
            problems.append(Problem(listing.videos[index], "must have a duration > 0, as rescaled features need"))
        video = listing.videos[index]
        if np.isnan(listing.rate(video)):
            problems.append(Problem(video, "must have snippets_per_second in dataset.json, as other videos have"))
        tags = listing.tags[index]
        if need_tags and not tags:
            problems.append(Problem(video, "must have a tag, got none"))
        problems += [Problem(video, f"tag must be a class, got {tag!r}") for tag in tags if tag not in known]
        if video not in listing.stored:
            hint = _instead(listing, video) if missing < _HINTS else ""
            problems.append(Problem(video, f"must have features, got none{hint}"))
            missing += 1
            continue
        try:
            shape = listing.stored[video].shape()
        except DataError as error:
            problems.append(Problem(video, f"{error.path}: {error.rule}"))
            continue
        if len(shape) != 2 or min(shape) < 1:
            problems.append(Problem(video, f"features must have shape (snippets, width), none of them 0, got {shape}"))
            continue
        shapes[index] = shape
    return shapes, problems + _other_widths(listing, shapes)


def _instead(listing: Listing, video: str) -> str:
    """What a data set has where it has no features of a video."""
    names = listing.unlisted or tuple(listing.stored)
    near = difflib.get_close_matches(video, names, n=2, cutoff=0.6)
    if near:
        return f"; there are features of {' and '.join(near)}"
    if listing.stored:
        return f"; there are those of {len(listing.stored)} others, such as {next(iter(listing.stored))}"
    files = sorted({path.suffix or path.name for path in files_within(listing.where)})
    return f"; {listing.where} holds {', '.join(files[:6]) or 'nothing'}"


def _other_widths(listing: Listing, shapes: Mapping[int, tuple[int, int]]) -> list[Problem]:
    """Videos whose width is not the most frequent one, of equally frequent ones the first."""
    widths = [width for _, width in shapes.values()]
    usual = most_common(widths) if len(set(widths)) > 1 else None
    hint = "; they look transposed, (width, snippets)" if look_transposed(shapes.values()) else ""
    return [
        Problem(listing.videos[index], f"features must have width {usual} as most videos have, got {width}{hint}")
        for index, (_, width) in shapes.items()
        if usual is not None and width != usual
    ]


def most_common(widths: Sequence[int]) -> int:
    """The width that most videos have, of equally many the one that comes first; 0 of no videos.

    Examples
    --------
    >>> most_common([3, 2, 2, 3]), most_common([])
    (3, 0)
    """
    return Counter(widths).most_common(1)[0][0] if widths else 0


def check_contents(listing: Listing, index: int, shape: tuple[int, int]) -> list[Problem]:
    """What is wrong with the values of one video."""
    video = listing.videos[index]
    try:
        read_checked(listing.stored[video], shape)
    except DataError as error:
        return [Problem(video, f"{error.path}: {error.rule}")]
    return []


def tag_matrix(listing: Listing, chosen: Sequence[int]) -> np.ndarray:
    """(chosen videos, classes) bool."""
    place = {name: column for column, name in enumerate(listing.classes)}
    tags = np.zeros((len(chosen), len(listing.classes)), dtype=bool)
    for row, index in enumerate(chosen):
        tags[row, [place[tag] for tag in listing.tags[index]]] = True
    return tags


def _named(listing: Listing, videos: Iterable[str]) -> list[int]:
    """Videos by name, each of which must be there."""
    place = {video: index for index, video in enumerate(listing.videos)}
    found = {video: place.get(video, place.get(other_name(video))) for video in videos}
    missing = [video for video, index in found.items() if index is None]
    if missing:
        rule = f"must have features of all {len(found)} videos, got none of {len(missing)}, such as {missing[0]!r}"
        raise DataError(listing.where, rule)
    return [index for index in found.values() if index is not None]


def _of_subset(listing: Listing, subset: str | None) -> list[int]:
    if subset is not None and subset not in listing.subset:
        known = ", ".join(sorted(set(listing.subset) - {""})) or "none"
        raise DataError(listing.where, f"subset must be one of {known}, got {subset!r}")
    return [index for index, name in enumerate(listing.subset) if subset in (None, name)]
