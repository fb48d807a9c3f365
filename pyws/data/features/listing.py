"""What a data set of features says that it has, before a feature is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyws.data.annotations.activitynet import Truth, read_truth
from pyws.data.annotations.names import other_name
from pyws.data.features.streams import Stored
from pyws.data.problem import Problem
from pyws.errors import DataError, named_as
from pyws.files import read_json

FORMAT = "pyws features 1"  # what the manifest of a folder of pyws features says it is
SNIPPETS_PER_SECOND = 25 / 16  # I3D features of the literature: 25 frames a second, 16 frames a snippet


@dataclass(frozen=True, eq=False)
class Listing:
    """What a data set says that it has.

    Parameters
    ----------
    where : the folder
    layout : its name
    videos, subset, tags : videos, subset and tags of each video; the subset is "" where none is given
    classes : names of all classes
    stored : features by video
    truth : annotated segments, where the data set has them
    snippets_per_second : rate of the features, the median where videos have rates of their own
    problems : what the annotations say that cannot be; such videos are not among ``videos``
    description : a line for people
    unlisted : names of features that belong to no video
    rescaled : all videos were brought to some number of snippets, however long they last
    rate_is_assumed : ``snippets_per_second`` is the usual one of the literature, since nothing says another
    annotations : the file that the annotations come from
    unread : files beside the features that look like annotations and were not read
    rates : snippets a second by video, where ``dataset.json`` says them; empty where all have one rate
    """

    where: Path
    layout: str
    videos: tuple[str, ...]
    subset: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    stored: Mapping[str, Stored]
    truth: Truth | None
    snippets_per_second: float
    problems: tuple[Problem, ...] = ()
    description: str = ""
    unlisted: tuple[str, ...] = ()
    rescaled: bool = False
    rate_is_assumed: bool = False
    annotations: Path | None = None
    unread: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def durations(self) -> np.ndarray:
        """(videos,) seconds, NaN where they are not given."""
        return np.full(len(self.videos), np.nan) if self.truth is None else self.truth.duration

    def rate(self, video: str) -> float:
        """Snippets a second of a video by ``dataset.json``, whether it has the prefix ``v_`` there or not; NaN where it
        has rates of other videos alone.
        """
        return (
            self.rates.get(video, self.rates.get(other_name(video), np.nan)) if self.rates else self.snippets_per_second
        )


def safe_truth(where: Path, document: Any) -> tuple[Truth, tuple[Problem, ...]]:
    """Ground truth of the videos whose records can be read, and a problem for each of the others."""
    try:
        return read_truth(document), ()
    except DataError as error:
        if not isinstance(document, Mapping) or not isinstance(document.get("database"), Mapping):
            raise DataError(where, error.rule) from error
    good: dict[str, Any] = {}
    problems = []
    for video, record in document["database"].items():
        try:
            read_truth({"database": {video: record}})
            good[video] = record
        except DataError as error:
            rule = error.rule.removeprefix(f"video {video!r}").lstrip(":, ")
            subset = record.get("subset") if isinstance(record, Mapping) else None
            problems.append(Problem(video, rule, subset=subset if isinstance(subset, str) else None))
    with named_as(database=where):
        return read_truth({**document, "database": good}), tuple(problems)


def checked_name(where: str | os.PathLike[str], video: str) -> str:
    """A video's name, which becomes part of paths."""
    if not video or video.startswith(".") or any(character in video for character in "/\\\0"):
        raise DataError(where, f"video name must be a plain file name, got {video!r}")
    return video


def annotated(
    folder: Path,
    layout: str,
    truth: Truth,
    stored: Mapping[str, Stored],
    problems: tuple[Problem, ...] = (),
    classes: tuple[str, ...] | None = None,
    snippets_per_second: float | None = None,
    description: str = "",
    rescaled: bool = False,
    rates: Mapping[str, float] | None = None,
) -> Listing:
    """The listing of a data set whose videos are those of its ground truth.

    Features of ActivityNet are often called ``v_ID`` where the annotations say ``ID``, or the other way round: such
    names are matched.
    """
    videos = tuple(checked_name(folder, video) for video in truth.instances.videos)
    if classes is None:
        classes = tuple(sorted({*truth.instances.labels, *(tag for tags in truth.tags for tag in tags)}))
    prefixed = {video: other for video in videos if video not in stored and (other := other_name(video)) in stored}
    stored = {name: file for name, file in stored.items() if name not in prefixed.values()} | {
        video: stored[name] for video, name in prefixed.items()
    }
    listed = {*videos, *(problem.video for problem in problems)}
    unlisted = tuple(name for name in stored if name not in listed)
    rate, assumed = snippets_per_second or SNIPPETS_PER_SECOND, not snippets_per_second and not rescaled
    return Listing(folder, layout, videos, truth.subset, truth.tags, classes, stored, truth, rate,
                   problems, description, unlisted, rescaled, assumed, rates=rates or {})  # fmt: skip


def read_about(folder: Path) -> dict[str, Any]:
    """What ``dataset.json`` says, where a folder has one, as arguments of :func:`annotated`."""
    path = folder / "dataset.json"
    said = read_json(path) if path.exists() else {}
    if not isinstance(said, dict):
        raise DataError(path, f"must be a JSON object, got {type(said).__name__}")
    about: dict[str, Any] = {"description": str(said.get("description", ""))}
    if "snippets_per_second" in said:
        about |= _rates(path, said["snippets_per_second"])
    if "rescaled" in said:
        about["rescaled"] = said["rescaled"]
        if not isinstance(said["rescaled"], bool):
            raise DataError(path, f"rescaled must be true or false, got {said['rescaled']!r}")
        if said["rescaled"] and "rates" in about:
            raise DataError(path, "rescaled features have the rates that follow from durations; leave one of both out")
    if "classes" in said:
        classes = said["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise DataError(path, f"classes must be a list of strings, got {classes!r}")
        if len(set(classes)) != len(classes):
            raise DataError(path, "classes must differ from each other")
        about["classes"] = tuple(classes)
    return about


def _rates(path: Path, said: Any) -> dict[str, Any]:
    """Snippets a second, of all videos or of each."""
    by_video = said if isinstance(said, dict) and said else None
    for rate in [said] if by_video is None else by_video.values():
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
            raise DataError(path, f"snippets_per_second must be a number > 0, got {rate!r}; one, or {{VIDEO: number}}")
    if by_video is None:
        return {"snippets_per_second": said}
    return {"snippets_per_second": float(np.median(list(by_video.values()))), "rates": by_video}
