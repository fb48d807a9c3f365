"""Mean average precision of temporal detections, by the rules of THUMOS14 and of ActivityNet."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyws.data.temporal import Instances, Intervals, Source, Truth, read_ambiguous, read_detections, read_truth
from pyws.errors import DataError
from pyws.ops import match_segments
from pyws.ragged import Segments

THUMOS14_TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ACTIVITYNET_TIOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PROTOCOLS = {"thumos14": ("test", THUMOS14_TIOUS), "activitynet": ("validation", ACTIVITYNET_TIOUS)}
MISSING_CLASS = ("zero", "released")


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Average precision (percent) of every class at every IoU threshold, and what it was computed from."""

    protocol: str
    subset: str
    tious: tuple[float, ...]
    classes: tuple[str, ...]
    ap: np.ndarray
    """(classes, tious)."""
    map: np.ndarray
    """(tious,), the mean over classes."""
    video_hash: str
    """SHA-256 of the sorted names of the evaluated videos, one a line."""
    ignored_videos: tuple[str, ...]
    """Videos that have predictions but are not evaluated."""
    counts: dict[str, int]
    rules: dict[str, str]

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
        }


def detection_map(
    predictions: Source | Instances,
    truth: Source | Truth,
    protocol: str = "thumos14",
    tious: Sequence[float] | None = None,
    subset: str | None = None,
    ambiguous: str | os.PathLike[str] | Intervals | None = None,
    missing_class: str = "zero",
    snippets_per_second: float = 25 / 16,
) -> DetectionScores:
    """Mean average precision of temporal detections.

    Both protocols match greedily by falling score (:func:`pyws.ops.match_segments`) and take the area under the
    precision envelope. Equal scores rank in the order of the videos in the ground truth, then of the predictions.

    ================== ==================================================== ========================================
    rule               ``"thumos14"``                                       ``"activitynet"``
    ================== ==================================================== ========================================
    IoU                of snippet sets: truth ``round`` (half to even),     of intervals in seconds
                       predictions ``int`` (towards 0), end exclusive
    videos             of the subset, with at least one annotation          of the subset
    classes            annotated in the subset, by name                     annotated in the subset, as they come
    ambiguous          predictions that touch such a segment do not count   -
    default subset     ``test``                                             ``validation``
    default thresholds 0.1:0.1:0.7                                          0.5:0.05:0.95
    ================== ==================================================== ========================================

    Predictions in other videos do not count, and the videos are listed; a class of the ground truth file that is not
    annotated in the subset does not count either. A label that the ground truth does not know is an error. Two empty
    segments have IoU 0.

    Parameters
    ----------
    predictions : detections in ActivityNet form, see :func:`pyws.data.temporal.read_detections`
    truth : ground truth in ActivityNet form, see :func:`pyws.data.temporal.read_truth`
    protocol : "thumos14" or "activitynet"
    tious : IoU thresholds, each in (0, 1]
    subset : which subset of the ground truth to evaluate
    ambiguous : of "thumos14": a file of ``VIDEO START END`` lines or a mapping; if not given, what ``truth`` lists
    missing_class : AP of a class without predictions is 0 ("zero"), or makes every mAP 0, as the code does that most
        work on THUMOS14 reports from ("released")
    snippets_per_second : of "thumos14": frames a second / frames a snippet

    Raises
    ------
    DataError : an unknown label, no prediction in any evaluated video, an empty or unknown subset, a bad file
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
    _check_arguments(protocol, tious, ambiguous, missing_class, snippets_per_second)
    subset = PROTOCOLS[protocol][0] if subset is None else subset
    thresholds = PROTOCOLS[protocol][1] if tious is None else tuple(map(float, tious))
    known, found = read_truth(truth), read_detections(predictions)
    wanted = _evaluated(known, subset, protocol)
    counted, ignored_videos = _counted(found, known, wanted)
    kept = counted
    if protocol == "thumos14":
        stretches = known.ambiguous if ambiguous is None else read_ambiguous(ambiguous)
        wanted = _on_snippets(wanted, np.rint, snippets_per_second)
        kept = _on_snippets(counted, np.trunc, snippets_per_second)
        kept = _unambiguous(kept, stretches, snippets_per_second)
    ap = 100 * _average_precision(kept, wanted, thresholds)
    without = len(wanted.labels) - len(np.flatnonzero(np.bincount(kept.label)))
    zero = missing_class == "released" and without > 0
    counts = {
        "videos": len(wanted.videos),
        "videos_without_predictions": len(wanted.videos) - len(np.flatnonzero(np.bincount(counted.video))),
        "classes": len(wanted.labels),
        "classes_without_predictions": without,
        "instances": len(wanted),
        "predictions": len(kept),
        "predictions_ignored": len(found) - len(counted),
        "predictions_ambiguous": len(counted) - len(kept),
    }
    names_hash = hashlib.sha256("\n".join(sorted(wanted.videos)).encode()).hexdigest()
    rules = _rules(protocol, missing_class, snippets_per_second)
    return DetectionScores(protocol, subset, thresholds, wanted.labels, ap, 0 * ap.mean(0) if zero else ap.mean(0),
                           names_hash, ignored_videos, counts, rules)  # fmt: skip


def _check_arguments(
    protocol: str, tious: Sequence[float] | None, ambiguous: Any, missing_class: str, snippets_per_second: float
) -> None:
    for name, value, choices in (("protocol", protocol, PROTOCOLS), ("missing_class", missing_class, MISSING_CLASS)):
        if value not in choices:
            raise ValueError(f"detection_map: {name} must be one of {', '.join(choices)}, got {value!r}")
    if not 0 < snippets_per_second < np.inf:
        raise ValueError(f"detection_map: snippets_per_second must be > 0, got {snippets_per_second}")
    if tious is not None and not (len(tious) and all(0 < tiou <= 1 for tiou in tious)):
        raise ValueError(f"detection_map: tious must be one or more numbers in (0, 1], got {list(tious)}")
    if ambiguous is not None and protocol != "thumos14":
        raise ValueError(f"detection_map: ambiguous segments are a rule of thumos14, got protocol {protocol!r}")


def _rules(protocol: str, missing_class: str, snippets_per_second: float) -> dict[str, str]:
    """What was done, for the record that goes with the numbers."""
    zero = "AP 0 for that class" if missing_class == "zero" else "every mAP 0, as released"
    rules = {"ranking": "falling score, equal scores in file order", "class without predictions": zero}
    if protocol == "thumos14":
        return {
            "IoU": f"snippet sets at {snippets_per_second:g} a second, truth rounded, predictions truncated",
            "ambiguous segments": "predictions that touch one do not count",
            "videos": "of the subset, with annotations",
            **rules,
        }
    return {"IoU": "intervals in seconds", "videos": "of the subset", **rules}


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


def _evaluated(known: Truth, subset: str, protocol: str) -> Instances:
    """The ground truth of the videos and classes that the protocol evaluates."""
    rows = known.instances
    if subset not in known.subset:
        raise DataError("ground truth", f"subset must be one of {', '.join(sorted(set(known.subset)))}, got {subset!r}")
    inside = np.array([name == subset for name in known.subset])
    annotated = np.bincount(rows.video, minlength=len(inside)) > 0
    if not (inside & annotated).any():
        raise DataError("ground truth", f"subset {subset!r} must have annotations, got none")
    kept = inside & annotated if protocol == "thumos14" else inside
    present, first = np.unique(rows.label[inside[rows.video]], return_index=True)
    labels = [rows.labels[label] for label in present[np.argsort(first)]]
    videos = [rows.videos[index] for index in np.flatnonzero(kept)]
    return _select(rows, videos, sorted(labels) if protocol == "thumos14" else labels)


def _counted(found: Instances, known: Truth, wanted: Instances) -> tuple[Instances, tuple[str, ...]]:
    """The predictions in evaluated videos and classes, and the other videos that have predictions."""
    for label in found.labels:
        if label not in known.instances.labels:
            video = found.videos[found.video[found.label == found.labels.index(label)][0]]
            raise DataError("predictions", f"label must occur in the ground truth, got {label!r} (video {video!r})")
    evaluated = set(wanted.videos)
    predicted = [found.videos[index] for index in np.flatnonzero(np.bincount(found.video))]
    ignored = tuple(name for name in predicted if name not in evaluated)
    if len(ignored) == len(predicted):
        rule = f"some video must be among the {len(evaluated)} evaluated such as {wanted.videos[0]!r}"
        raise DataError("predictions", f"{rule}, got {len(ignored)} others such as {ignored[0]!r}")
    return _select(found, wanted.videos, wanted.labels), ignored


def _on_snippets(rows: Instances, rounding: Any, snippets_per_second: float) -> Instances:
    start, end = (rounding(seconds * snippets_per_second) for seconds in (rows.start, rows.end))
    return dataclasses.replace(rows, start=start, end=end)


def _unambiguous(rows: Instances, stretches: Intervals, snippets_per_second: float) -> Instances:
    """The rows that share no snippet with an ambiguous stretch of their video."""
    clear = np.ones(len(rows), dtype=bool)
    for index, video in enumerate(rows.videos):
        if video not in stretches:
            continue
        for start, end in np.rint(np.array(stretches[video], dtype=np.float64).reshape(-1, 2) * snippets_per_second):
            touches = np.minimum(rows.end, end) > np.maximum(rows.start, start)
            clear &= ~(touches & (rows.video == index))
    return rows.where(clear)


def _average_precision(predictions: Instances, truth: Instances, tious: Sequence[float]) -> np.ndarray:
    """AP in [0, 1] of every class at every threshold; a group is a pair of a class and a video that occurs."""
    keys = [rows.label * len(truth.videos) + rows.video for rows in (predictions, truth)]
    occurs = np.zeros(len(truth.labels) * len(truth.videos), dtype=bool)
    for key in keys:
        occurs[key] = True
    groups = np.flatnonzero(occurs)
    ragged = []
    for rows, key in zip((predictions, truth), keys, strict=True):
        order = np.argsort(key, kind="stable")
        start, end, score = (torch.from_numpy(column[order]) for column in (rows.start, rows.end, rows.score))
        offsets = torch.from_numpy(np.append(np.searchsorted(key[order], groups), len(rows)))
        ragged.append(Segments(start, end, score, score, offsets))
    firsts = np.arange(len(truth.labels) + 1) * len(truth.videos)
    class_offsets = torch.from_numpy(np.searchsorted(groups, firsts))
    return match_segments(ragged[0], ragged[1], class_offsets, tious).ap.numpy()
