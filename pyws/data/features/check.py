"""What is wrong with a data set of features, video by video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyws.data.features.dataset import check_contents, check_headers, most_common
from pyws.data.features.doubts import LENGTH_SHARE, LENGTH_SNIPPETS, doubts_of, streams_differ
from pyws.data.features.files import times_of
from pyws.data.features.layouts import list_features
from pyws.data.features.listing import Listing
from pyws.data.problem import Problem
from pyws.progress import track


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check_data_set` found.

    Parameters
    ----------
    videos : by subset
    width : that most videos have; 0 without features
    doubts : doubts of the whole set, a sentence each
    rates : the lowest and the highest snippets a second of a video
    """

    layout: str
    videos: dict[str, int]
    usable: int
    classes: tuple[str, ...]
    width: int
    snippets: int
    snippets_per_second: float
    rescaled: bool
    problems: tuple[Problem, ...]
    doubts: tuple[str, ...] = ()
    rates: tuple[float, float] = (0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document; ``ok`` tells whether every video can be used."""
        document = {**vars(self), "classes": list(self.classes), "doubts": list(self.doubts)}
        document["problems"] = [one.document() for one in self.problems]
        document["snippets_per_second"] = None if self.rescaled else self.snippets_per_second
        del document["rates"]
        return {"ok": not any(one.fatal for one in self.problems), **document}


def check_data_set(
    source: str | os.PathLike[str],
    need_tags: bool = False,
    quiet: bool = True,
    annotations: str | os.PathLike[str] | None = None,
) -> CheckReport:
    """Read everything of a data set of features once and list what is wrong.

    Unusable are videos with missing, damaged or non-finite features, another width than most, annotations that cannot
    be, or a tag that is no class. Odd, and used all the same, are videos whose length does not fit their duration,
    segments that are empty, there twice or end after the video, tags that differ from the annotated labels, videos
    without tags, and features of no video.

    Parameters
    ----------
    source, need_tags, annotations : arguments of :func:`pyws.data.features.dataset.open_features`
    quiet : show no progress

    Raises
    ------
    DataError : no layout that pyws knows, or annotations that cannot be read at all
    """
    listing = list_features(source, annotations)
    everything = range(len(listing.videos))
    shapes, problems = check_headers(listing, everything, need_tags)
    for index in track(shapes, "reading", quiet=quiet):
        problems += check_contents(listing, index, shapes[index])
    problems += _odd_features(listing, {listing.videos[index]: shape for index, shape in shapes.items()}, need_tags)
    problems += _odd_segments(listing)
    bad = {problem.video for problem in problems if problem.fatal}
    return CheckReport(
        listing.layout,
        {name: listing.subset.count(name) for name in sorted(set(listing.subset))},
        sum(video not in bad for video in listing.videos),
        listing.classes,
        most_common([width for _, width in shapes.values()]),
        sum(length for length, _ in shapes.values()),
        listing.snippets_per_second,
        listing.rescaled,
        tuple(sorted(problems, key=lambda problem: not problem.fatal)),
        tuple(doubts_of(listing, shapes)),
        _rates(listing, shapes),
    )


def _rates(listing: Listing, shapes: Mapping[int, tuple[int, int]]) -> tuple[float, float]:
    """The lowest and the highest rate of the videos that have features and a rate."""
    times = {index: times_of(listing.stored[listing.videos[index]]) for index in shapes}
    found = [own.rate if own else listing.rate(listing.videos[index]) for index, own in times.items()]
    known = [rate for rate in found if rate > 0] or [listing.snippets_per_second]
    return min(known), max(known)


def _odd_features(listing: Listing, shapes: dict[str, tuple[int, int]], need_tags: bool) -> Iterator[Problem]:
    for video, tags in zip(listing.videos, listing.tags, strict=True):
        if not tags and not need_tags:
            yield Problem(video, "has no tags", fatal=False)
    for video in shapes:
        if streams_differ(listing, video):
            yield Problem(
                video, "rgb and flow differ by a snippet: the last one of the longer is left out", fatal=False
            )
    for name in listing.unlisted:
        yield Problem(name, "has features, but the annotations do not list it", fatal=False)
    if listing.truth is None or listing.rescaled:
        return
    for video, duration in zip(listing.truth.instances.videos, listing.truth.duration.tolist(), strict=True):
        if video not in shapes:
            continue
        times = times_of(listing.stored[video])
        length, wanted = shapes[video][0], duration * (times.rate if times else listing.rate(video))
        if abs(length - wanted) > max(LENGTH_SNIPPETS, LENGTH_SHARE * wanted):
            rule = f"has {length} snippets, but {duration:g} seconds are {wanted:.1f}"
            yield Problem(video, rule, fatal=False)


def _odd_segments(listing: Listing) -> Iterator[Problem]:
    if listing.truth is None:
        return
    rows = listing.truth.instances
    found: list[set[str]] = [set() for _ in rows.videos]
    for video, label in zip(rows.video.tolist(), rows.label.tolist(), strict=True):
        found[video].add(rows.labels[label])
    for index, (video, tags) in enumerate(zip(rows.videos, listing.truth.tags, strict=True)):
        if found[index] and found[index] != set(tags):
            rule = f"has tags {', '.join(sorted(tags)) or 'none'}, but segments of {', '.join(sorted(found[index]))}"
            yield Problem(video, rule, fatal=False)
    rates = np.array([listing.rate(video) for video in rows.videos])
    late = rows.end > listing.truth.duration[rows.video] + 1 / rates[rows.video]
    _, first = np.unique(np.stack([rows.video, rows.label, rows.start, rows.end], 1), axis=0, return_index=True)
    again = np.ones(len(rows), bool)
    again[first] = False
    twice = "is there twice, and would count twice (`pyws segments evaluate --duplicates dropped`)"
    for chosen, rule in ((rows.start == rows.end, "is empty"), (late, "ends after the video"), (again, twice)):
        for row in np.flatnonzero(chosen):
            segment = f"[{rows.start[row]:g}, {rows.end[row]:g}]"
            yield Problem(rows.videos[rows.video[row]], f"segment {segment} {rule}", fatal=False)
