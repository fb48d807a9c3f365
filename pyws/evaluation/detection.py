"""Mean average precision of temporal detections, by the rules of THUMOS14, of ActivityNet and of W-TALC."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pyws.data.annotations.activitynet import (
    Instances,
    Intervals,
    Source,
    Truth,
    read_ambiguous,
    read_detections,
    read_truth,
)
from pyws.data.annotations.names import as_named_by
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.time_base import SnippetGrids
from pyws.errors import DataError, name_bytes
from pyws.evaluation.precision import class_sums, first_match, precision_of_hits
from pyws.ops import match_segments
from pyws.ragged import Segments

THUMOS14_TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ACTIVITYNET_TIOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
WTALC_TIOUS = THUMOS14_TIOUS[:5]
MISSING_CLASS = ("zero", "released")
FOREIGN = ("ignored", "wrong")
DUPLICATES = ("kept", "dropped")
_SAME = 1e-3  # seconds: annotations of one label that differ by less are one, where duplicates are dropped


@dataclass(frozen=True)
class Rules:
    """Every rule in which evaluations of temporal detections differ.

    Parameters
    ----------
    subset : subset of the ground truth
    unannotated : videos without annotations count too: what is predicted in them is wrong
    grid : grid of snippets, on which segments are sets of snippets; None compares seconds
    ambiguous : predictions that touch an ambiguous stretch do not count
    matching : a prediction takes the free truth segment of largest IoU ("best": of equal ones the first; "official": of
        equal ones the last, and any two empty segments of a video are alike), or the first that passes ("first")
    precision : precision of a true positive, the largest from its rank on ("envelope"), or at its rank ("plain")
    missing_class : AP of a class without predictions is 0 ("zero"), or makes every mAP 0 ("released")
    tious : IoU thresholds, each in (0, 1]
    foreign : predictions in videos that are not evaluated do not count ("ignored"), or are wrong ("wrong")
    duplicates : annotations of one label whose bounds differ by less than a millisecond from an earlier one's count
        ("kept"), or not ("dropped")
    """

    subset: str
    unannotated: bool
    grid: SnippetGrids | None
    ambiguous: bool
    matching: str
    precision: str
    missing_class: str
    tious: tuple[float, ...]
    foreign: str = "ignored"
    duplicates: str = "kept"

    def describe(self) -> dict[str, str]:
        """What is done, for the record that goes with the numbers."""
        grid = f"snippet sets at {self.grid} a second, truth rounded, predictions truncated" if self.grid else None
        return {
            "IoU": grid or "intervals in seconds",
            "videos": "of the subset" if self.unannotated else "of the subset, with annotations",
            "ambiguous segments": "predictions that touch one do not count" if self.ambiguous else "not looked at",
            "ranking": "falling score, equal scores in file order",
            "matching": _MATCHING[self.matching],
            "AP": "under the precision envelope" if self.precision == "envelope" else "precision at each true positive",
            "class without predictions": "AP 0 for that class" if self.missing_class == "zero" else _RELEASED,
            "predictions in other videos": "do not count" if self.foreign == "ignored" else "are wrong",
            "duplicate annotations": "count" if self.duplicates == "kept" else "count once",
        }


_MATCHING = {
    "best": "the free truth segment of largest IoU",
    "official": "the free truth segment of largest IoU, of equal ones the last; empty segments are alike",
    "first": "the first that passes",
}
_RELEASED = "every mAP 0, as released"
_THUMOS14 = Rules("test", False, SnippetGrids(SNIPPETS_PER_SECOND), True, "best", "envelope", "zero", THUMOS14_TIOUS)
_ACTIVITYNET = Rules("validation", True, None, False, "official", "envelope", "zero", ACTIVITYNET_TIOUS)
PROTOCOLS = {
    "thumos14": _THUMOS14,
    "activitynet": _ACTIVITYNET,
    "thumos14-seconds": replace(_ACTIVITYNET, subset="test", tious=THUMOS14_TIOUS),
    "wtalc": replace(_THUMOS14, matching="first", precision="plain", tious=WTALC_TIOUS),
}


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Average precision (percent) of every class at every IoU threshold, and what it was computed from.

    Parameters
    ----------
    ap : (classes, tious)
    map : (tious,), the mean over classes
    video_hash : SHA-256 of the sorted names of the evaluated videos, one a line
    ignored_videos : videos that have predictions but are not evaluated
    hints : what makes the figures doubtful, in words
    """

    protocol: str
    subset: str
    tious: tuple[float, ...]
    classes: tuple[str, ...]
    ap: np.ndarray
    map: np.ndarray
    video_hash: str
    ignored_videos: tuple[str, ...]
    counts: dict[str, int]
    rules: dict[str, str]
    hints: tuple[str, ...] = ()

    @property
    def average(self) -> float:
        """The plain mean of ``map``."""
        return float(self.map.mean())

    def to_dict(self) -> dict[str, Any]:
        """The scores as one JSON document."""
        tious = [f"{tiou:g}" for tiou in self.tious]
        return {
            "protocol": self.protocol,
            "subset": self.subset,
            "mAP": dict(zip(tious, self.map.tolist(), strict=True)),
            "average_mAP": self.average,
            "AP": {
                name: dict(zip(tious, row, strict=True))
                for name, row in zip(self.classes, self.ap.tolist(), strict=True)
            },
            "counts": self.counts,
            "video_list_sha256": self.video_hash,
            "ignored_videos": list(self.ignored_videos),
            "rules": self.rules,
            "hints": list(self.hints),
        }


def detection_map(
    predictions: Source | Instances,
    truth: Source | Truth,
    protocol: str = "thumos14",
    tious: Sequence[float] | None = None,
    subset: str | None = None,
    ambiguous: str | os.PathLike[str] | Intervals | None = None,
    missing_class: str = "zero",
    snippets_per_second: float | SnippetGrids = SNIPPETS_PER_SECOND,
    foreign: str = "ignored",
    duplicates: str = "kept",
) -> DetectionScores:
    """Mean average precision of temporal detections.

    All protocols match greedily by falling score. Equal scores rank in the order of the videos in the ground truth,
    then of the predictions.

    ================== ==================================================== ========================================
    rule               ``"thumos14"``                                       ``"activitynet"``
    ================== ==================================================== ========================================
    IoU                of snippet sets: truth ``round`` (half to even),     of intervals in seconds
                       predictions ``int`` (towards 0), end exclusive
    videos             of the subset, with at least one annotation          of the subset
    classes            annotated in the subset, by name                     annotated in the subset, as they come
    ambiguous          predictions that touch such a segment do not count   all count
    matching           free truth segment of largest IoU, of equal ones the the same, of equal ones the last; two empty
                       first; two empty segments have IoU 0                 segments of a video are alike
    AP                 under the precision envelope                         under the precision envelope
    default subset     ``test``                                             ``validation``
    default thresholds 0.1:0.1:0.7                                          0.5:0.05:0.95
    ================== ==================================================== ========================================

    ``"wtalc"`` is the older evaluation of W-TALC: as ``"thumos14"``, but a prediction takes the first free truth
    segment that passes the threshold, AP is the mean over the truth of the precision at each true positive, and the
    thresholds are 0.1:0.1:0.5. ``"thumos14-seconds"`` is ``"activitynet"`` on the subset ``test`` with thresholds
    0.1:0.1:0.7, as most supervised work on THUMOS14 reports.

    Labels that differ from the ground truth's only in case, and videos only in a leading ``v_``, are the same. No
    prediction at all scores 0.

    Predictions in other videos do not count, unless ``foreign`` says so, and the videos are listed; a class of the
    ground truth file that is not annotated in the subset does not count either. A label that the ground truth does not
    know is an error.

    Parameters
    ----------
    predictions : detections in ActivityNet form, see :func:`pyws.data.annotations.activitynet.read_detections`
    truth : ground truth in ActivityNet form, see :func:`pyws.data.annotations.activitynet.read_truth`
    protocol : "thumos14", "activitynet", "thumos14-seconds" or "wtalc"
    tious : IoU thresholds, each in (0, 1]
    subset : which subset of the ground truth to evaluate
    ambiguous : ambiguous segments, for "thumos14" and "wtalc": a file of ``VIDEO START END`` lines or a mapping; if not
        given, what ``truth`` lists
    missing_class : AP of a class without predictions is 0 ("zero"), or makes every mAP 0, as the code does that most
        work on THUMOS14 reports from ("released")
    snippets_per_second : for "thumos14" and "wtalc": frames a second / frames a snippet, or the grid of each video
    foreign : predictions in other videos are left out ("ignored"), or wrong ("wrong"), as in the official ActivityNet
        code
    duplicates : annotations of one label within a millisecond of an earlier one are "kept", or "dropped" as in
        ActionFormer's and OpenTAD's evaluation

    Raises
    ------
    DataError : an unknown label, predictions in other videos alone, an empty or unknown subset, a bad file
    ValueError : an argument outside its choices or range

    Examples
    --------
    >>> record = {"subset": "test", "annotations": [{"label": "Diving", "segment": [0, 4]}]}
    >>> truth = {"database": {"v1": record}}
    >>> predictions = {"results": {"v1": [{"label": "Diving", "score": 0.9, "segment": [0, 3]}]}}
    >>> scores = detection_map(predictions, truth, tious=[0.5, 0.9])
    >>> scores.map.tolist(), scores.average
    ([100.0, 0.0], 50.0)
    """
    rules = rules_of(protocol, tious, subset, missing_class, snippets_per_second, foreign, duplicates)
    if ambiguous is not None and not rules.ambiguous:
        raise ValueError(f"detection_map: ambiguous segments are a rule of thumos14, got protocol {protocol!r}")
    known, found = read_truth(truth), read_detections(predictions)
    matched = match_detections(found, known, rules, ambiguous)
    wanted, counted, kept = matched.truth, matched.counted, matched.predictions
    ap = 100 * matched.ap
    names_hash = hashlib.sha256(name_bytes("\n".join(sorted(matched.videos)))).hexdigest()
    without = matched.classes_without_predictions
    predicted = np.flatnonzero(np.bincount(counted.video, minlength=len(matched.videos))[: len(matched.videos)])
    counts = {
        "videos": len(matched.videos),
        "videos_without_predictions": len(matched.videos) - len(predicted),
        "classes": len(wanted.labels),
        "classes_without_predictions": without,
        "instances": len(wanted),
        "predictions": len(kept),
        "predictions_ignored": len(found) - len(counted),
        "predictions_ambiguous": len(counted) - len(kept),
    }
    return DetectionScores(protocol, rules.subset, rules.tious, wanted.labels, ap, matched.factor * ap.mean(0),
                           names_hash, matched.ignored_videos, counts, rules.describe(),
                           tuple(_hints(matched, known)))  # fmt: skip


def rules_of(
    protocol: str,
    tious: Sequence[float] | None = None,
    subset: str | None = None,
    missing_class: str = "zero",
    snippets_per_second: float | SnippetGrids = SNIPPETS_PER_SECOND,
    foreign: str = "ignored",
    duplicates: str = "kept",
) -> Rules:
    """The rules of a protocol with those that :func:`detection_map` lets one choose."""
    for name, value, choices in (
        ("protocol", protocol, PROTOCOLS),
        ("missing_class", missing_class, MISSING_CLASS),
        ("foreign", foreign, FOREIGN),
        ("duplicates", duplicates, DUPLICATES),
    ):
        if value not in choices:
            raise ValueError(f"detection_map: {name} must be one of {', '.join(choices)}, got {value!r}")
    if tious is not None and not (len(tious) and all(0 < tiou <= 1 for tiou in tious)):
        raise ValueError(f"detection_map: tious must be one or more numbers in (0, 1], got {list(tious)}")
    rules, grids = PROTOCOLS[protocol], SnippetGrids.of(snippets_per_second)
    return replace(
        rules,
        subset=rules.subset if subset is None else subset,
        grid=None if rules.grid is None else grids,
        missing_class=missing_class,
        tious=rules.tious if tious is None else tuple(map(float, tious)),
        foreign=foreign,
        duplicates=duplicates,
    )


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Predictions matched with the truth by some rules.

    Parameters
    ----------
    truth : truth of the evaluated videos and classes, on the grid of the rules; where predictions in other videos are
        wrong, these follow among its videos
    videos : the evaluated ones
    counted : the predictions in them
    predictions : those that do not touch an ambiguous stretch, on the grid
    rows : (P,) the row of ``predictions`` at each rank: class 0 by falling score, then class 1, and so on
    hit : (P, tious) bool, by rank
    ap : (classes, tious) in [0, 1]
    """

    truth: Instances
    videos: tuple[str, ...]
    counted: Instances
    predictions: Instances
    ignored_videos: tuple[str, ...]
    rows: np.ndarray
    hit: np.ndarray
    ap: np.ndarray
    rules: Rules

    @property
    def classes_without_predictions(self) -> int:
        return len(self.truth.labels) - len(np.flatnonzero(np.bincount(self.predictions.label)))

    @property
    def factor(self) -> float:
        """0 where the released rule makes every mAP 0."""
        return 0.0 if self.rules.missing_class == "released" and self.classes_without_predictions else 1.0


def match_detections(
    predictions: Source | Instances,
    truth: Source | Truth,
    rules: Rules,
    ambiguous: str | os.PathLike[str] | Intervals | None = None,
) -> MatchedDetections:
    """Match predictions with ground truth by any rules.

    Parameters
    ----------
    predictions, truth, ambiguous : arguments of :func:`detection_map`
    rules : how they are matched

    Raises
    ------
    DataError : as :func:`detection_map`
    """
    known = read_truth(truth)
    wanted, found = _evaluated(known, rules), as_named_by(read_detections(predictions), known)
    videos, foreign = wanted.videos, _foreign(found, known, wanted)
    if rules.foreign == "wrong":
        wanted, foreign = replace(wanted, videos=(*videos, *foreign)), ()
    kept = counted = _select(found, wanted.videos, wanted.labels)
    if rules.grid is not None:
        wanted = _on_snippets(wanted, np.rint, rules.grid)
        kept = _on_snippets(counted, np.trunc, rules.grid)
    if rules.ambiguous:
        stretches = known.ambiguous if ambiguous is None else read_ambiguous(ambiguous)
        kept = _unambiguous(kept, stretches, rules.grid)
    rows, hit, ap = _match(kept, wanted, rules)
    return MatchedDetections(wanted, videos, counted, kept, foreign, rows, hit, ap, rules)


def _select(rows: Instances, videos: Sequence[str], labels: Sequence[str]) -> Instances:
    """The rows of these videos and labels, in the order of these videos."""
    places = [{name: index for index, name in enumerate(names)} for names in (videos, labels)]
    new_video, new_label = (
        np.array([place.get(name, -1) for name in names], dtype=np.int64)
        for place, names in zip(places, (rows.videos, rows.labels), strict=True)
    )
    video, label = new_video[rows.video], new_label[rows.label]
    chosen = np.flatnonzero((video >= 0) & (label >= 0))
    chosen = chosen[np.argsort(video[chosen], kind="stable")]
    columns = (rows.start[chosen], rows.end[chosen], rows.score[chosen])
    return Instances(tuple(videos), tuple(labels), video[chosen], label[chosen], *columns)


def _evaluated(known: Truth, rules: Rules) -> Instances:
    """The ground truth of the videos and classes that the rules evaluate."""
    rows, subset = known.instances, rules.subset
    if subset not in known.subset:
        raise DataError("ground truth", f"subset must be one of {', '.join(sorted(set(known.subset)))}, got {subset!r}")
    inside = np.array([name == subset for name in known.subset])
    annotated = np.bincount(rows.video, minlength=len(inside)) > 0
    if not (inside & annotated).any():
        raise DataError("ground truth", f"subset {subset!r} must have annotations, got none")
    kept = inside if rules.unannotated else inside & annotated
    present, first = np.unique(rows.label[inside[rows.video]], return_index=True)
    labels = [rows.labels[label] for label in present[np.argsort(first)]]
    videos = [rows.videos[index] for index in np.flatnonzero(kept)]
    wanted = _select(rows, videos, labels if rules.unannotated else sorted(labels))
    return wanted if rules.duplicates == "kept" else _without_duplicates(wanted)


def _without_duplicates(rows: Instances) -> Instances:
    """The first of rows of one video and label whose bounds differ by less than a millisecond."""
    unique = np.ones(len(rows), dtype=bool)
    key = rows.video * len(rows.labels) + rows.label
    order = np.lexsort((rows.start, key))
    ordered = key[order]
    near = (ordered[1:] == ordered[:-1]) & (np.diff(rows.start[order]) < _SAME)
    for group in np.unique(ordered[1:][near]):
        members = np.sort(order[slice(*np.searchsorted(ordered, (group, group + 1)))])
        apart = [np.abs(bound[members, None] - bound[members]) for bound in (rows.start, rows.end)]
        same = np.maximum(*apart) < _SAME
        for place, row in enumerate(members):
            unique[row] = not (same[place, :place] & unique[members[:place]]).any()
    return rows.where(unique)


def _foreign(found: Instances, known: Truth, wanted: Instances) -> tuple[str, ...]:
    """Videos that have predictions but are not evaluated."""
    for label in found.labels:
        if label not in known.instances.labels:
            video = found.videos[found.video[found.label == found.labels.index(label)][0]]
            raise DataError("predictions", f"label must occur in the ground truth, got {label!r} (video {video!r})")
    evaluated = set(wanted.videos)
    predicted = [found.videos[index] for index in np.flatnonzero(np.bincount(found.video))]
    foreign = tuple(name for name in predicted if name not in evaluated)
    if predicted and len(foreign) == len(predicted):
        rule = f"some video must be among the {len(evaluated)} evaluated such as {wanted.videos[0]!r}"
        raise DataError("predictions", f"{rule}, got {len(foreign)} others such as {foreign[0]!r}")
    return foreign


def _hints(matched: MatchedDetections, known: Truth) -> Iterator[str]:
    """What users of these files should look at before they believe the figures."""
    rows, rules = matched.counted, matched.rules
    if not len(rows):
        yield "there are no predictions in the evaluated videos"
    yield from look_like_frames(rows, known)
    if rules.duplicates == "kept":
        wanted = _evaluated(known, rules)
        again = len(wanted) - len(_without_duplicates(wanted))
        if again:
            yield f"{again} annotations are there twice and count twice; duplicates=dropped counts them once"


def look_like_frames(rows: Instances, known: Truth) -> Iterator[str]:
    """A sentence where most segments begin after their video ends."""
    rows = as_named_by(rows, known)
    length = dict(zip(known.instances.videos, known.duration.tolist(), strict=True))
    beyond = rows.start >= np.array([length.get(name, np.nan) for name in rows.videos])[rows.video]
    if 2 * np.count_nonzero(beyond) > len(rows):
        yield (
            f"{np.count_nonzero(beyond)} of {len(rows)} predictions begin after their video ends: segments must be in"
            " seconds, these look like frames or snippets"
        )


def _on_snippets(rows: Instances, rounding: Any, grids: SnippetGrids) -> Instances:
    start, end = (rounding(grids.places(rows.videos, rows.video, seconds)) for seconds in (rows.start, rows.end))
    return replace(rows, start=start, end=end)


def _unambiguous(rows: Instances, stretches: Intervals, grids: SnippetGrids | None) -> Instances:
    """The rows that share a snippet (or time) with no ambiguous stretch of their video."""
    clear = np.ones(len(rows), dtype=bool)
    for index, video in enumerate(rows.videos):
        if video not in stretches:
            continue
        pairs = np.array(stretches[video], dtype=np.float64).reshape(-1, 2)
        for start, end in pairs if grids is None else np.rint(grids[video].places(pairs)):
            touches = np.minimum(rows.end, end) > np.maximum(rows.start, start)
            clear &= ~(touches & (rows.video == index))
    return rows.where(clear)


def _match(predictions: Instances, truth: Instances, rules: Rules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows by rank, hits by rank and AP; a group is a pair of a class and a video that occurs."""
    if rules.matching == "official":
        # The kernel takes the first of equal IoUs and knows no empty segment: the truth goes in backwards, and empty
        # segments as one and the same stretch before every video.
        before = min(rows.start.min(initial=0) for rows in (predictions, truth))
        predictions, truth = (_with_like_empties(rows, before) for rows in (predictions, truth))
        truth = truth.where(np.arange(len(truth))[::-1])
    keys = [rows.label * len(truth.videos) + rows.video for rows in (predictions, truth)]
    occurs = np.zeros(len(truth.labels) * len(truth.videos), dtype=bool)
    for key in keys:
        occurs[key] = True
    groups = np.flatnonzero(occurs)
    ragged, orders = [], []
    for rows, key in zip((predictions, truth), keys, strict=True):
        order = np.argsort(key, kind="stable")
        start, end, score = (torch.from_numpy(column[order]) for column in (rows.start, rows.end, rows.score))
        offsets = torch.from_numpy(np.append(np.searchsorted(key[order], groups), len(rows)))
        ragged.append(Segments(start, end, score, score, offsets))
        orders.append(order)
    firsts = np.arange(len(truth.labels) + 1) * len(truth.videos)
    class_offsets = np.searchsorted(groups, firsts)
    matched = match_segments(ragged[0], ragged[1], torch.from_numpy(class_offsets), rules.tious)
    ranked, ap = matched.order.numpy(), matched.ap.numpy()
    rows_by_rank = orders[0][ranked]
    first = rules.matching == "first"
    hit = first_match(ragged[0], ragged[1], ranked, rules.tious) if first else matched.hit.numpy()
    if first or rules.precision != "envelope":
        carried = precision_of_hits(hit[ranked], predictions.label[rows_by_rank], len(truth.labels), rules.precision)
        positives = np.bincount(truth.label, minlength=len(truth.labels))
        ap = class_sums(carried, predictions.label[rows_by_rank], len(truth.labels)) / positives[:, None]
    return rows_by_rank, hit[ranked], ap


def _with_like_empties(rows: Instances, before: float) -> Instances:
    empty = rows.start == rows.end
    return replace(rows, start=np.where(empty, before - 2, rows.start), end=np.where(empty, before - 1, rows.end))
