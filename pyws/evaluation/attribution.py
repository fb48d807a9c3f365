"""Why two average mAPs differ: by rules, by classes and by videos, each adding up to the difference."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyws.data.annotations.activitynet import Instances, Intervals, Source, Truth, read_detections, read_truth
from pyws.evaluation.detection import MatchedDetections, Rules, match_detections
from pyws.evaluation.precision import class_sums, precision_of_hits

_NAMES = {
    "subset": "subset", "unannotated": "videos", "grid": "IoU", "ambiguous": "ambiguous segments",
    "matching": "matching", "precision": "AP", "missing_class": "class without predictions", "tious": "IoU thresholds",
    "foreign": "predictions in other videos", "duplicates": "duplicate annotations",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One change on the way from the one evaluation to the other.

    Parameters
    ----------
    average : average mAP, in percent, with this change and all before it
    """

    what: str
    before: str
    after: str
    average: float
    change: float


@dataclass(frozen=True)
class Attribution:
    """What the difference of two average mAPs, ``other - this``, is made of. All numbers are in percent.

    Parameters
    ----------
    steps : rules one by one, then the predictions; the changes add up to the difference. What a rule costs can depend
        on the rules before it.
    classes : what each class puts into either average: its AP over all thresholds, divided by the number of classes
    videos : what each video puts in: the precision that its true positives carry. A false positive shows at the true
        positives that it precedes, in whichever videos these are.
    """

    this: float
    other: float
    steps: tuple[Step, ...]
    classes: dict[str, tuple[float, float]]
    videos: dict[str, tuple[float, float]]

    @property
    def difference(self) -> float:
        """``other - this``."""
        return self.other - self.this

    def to_dict(self) -> dict[str, Any]:
        """The attribution as one JSON document."""
        sides = ("this", "other")
        return {
            "this": self.this,
            "other": self.other,
            "difference": self.difference,
            "steps": [vars(step) for step in self.steps],
            "classes": {name: dict(zip(sides, pair, strict=True)) for name, pair in self.classes.items()},
            "videos": {name: dict(zip(sides, pair, strict=True)) for name, pair in self.videos.items()},
        }


def explain_difference(
    truth: Source | Truth,
    predictions: Source | Instances,
    rules: Rules,
    other_predictions: Source | Instances | None = None,
    other_rules: Rules | None = None,
    ambiguous: str | os.PathLike[str] | Intervals | None = None,
) -> Attribution:
    """Attribute the difference of two average mAPs to rules, predictions, classes and videos.

    Parameters
    ----------
    truth, predictions, ambiguous : arguments of :func:`pyws.evaluation.detection_map`
    rules : rules of the one evaluation, see :func:`pyws.evaluation.detection.rules_of`
    other_predictions, other_rules : predictions and rules of the other evaluation; the same if not given

    Raises
    ------
    DataError : as :func:`pyws.evaluation.detection_map`, for either evaluation and those between them

    Examples
    --------
    >>> from pyws.evaluation.detection import rules_of
    >>> entries = [{"label": "Diving", "segment": [0, 4]}, {"label": "Diving", "segment": [6, 8]}]
    >>> truth = {"database": {"v": {"subset": "test", "annotations": entries}}}
    >>> one = {"results": {"v": [{"label": "Diving", "score": 0.9, "segment": [0, 4]}]}}
    >>> two = {"results": {"v": [*one["results"]["v"], {"label": "Diving", "score": 0.8, "segment": [6, 8]}]}}
    >>> why = explain_difference(truth, one, rules_of("thumos14", [0.5]), two)
    >>> why.difference, [(step.what, step.change) for step in why.steps], why.videos
    (50.0, [('predictions', 50.0)], {'v': (50.0, 100.0)})
    """
    known, found = read_truth(truth), read_detections(predictions)
    others = found if other_predictions is None else read_detections(other_predictions)
    wanted = rules if other_rules is None else other_rules
    first = last = match_detections(found, known, rules, ambiguous)
    steps = []
    for name, label in _NAMES.items():
        before, after = getattr(last.rules, name), getattr(wanted, name)
        if before != after:
            changed = match_detections(found, known, replace(last.rules, **{name: after}), ambiguous)
            steps.append(_step(label, name, last, changed))
            last = changed
    if others is not found:
        changed = match_detections(others, known, wanted, ambiguous)
        steps.append(Step("predictions", "this", "other", _average(changed), _average(changed) - _average(last)))
        last = changed
    sides = [(_class_shares(side), _video_shares(side)) for side in (first, last)]
    classes, videos = (_paired(*shares) for shares in zip(*sides, strict=True))
    return Attribution(_average(first), _average(last), tuple(steps), classes, videos)


def _step(label: str, name: str, before: MatchedDetections, after: MatchedDetections) -> Step:
    said = [_said(side.rules, name) for side in (before, after)]
    average = _average(after)
    return Step(label, said[0], said[1], average, average - _average(before))


def _said(rules: Rules, name: str) -> str:
    """The rule in words."""
    if name == "subset":
        return rules.subset
    if name == "tious":
        return ", ".join(f"{tiou:g}" for tiou in rules.tious)
    return rules.describe()[_NAMES[name]]


def _average(matched: MatchedDetections) -> float:
    return float(100 * matched.factor * matched.ap.mean(0).mean())


def _class_shares(matched: MatchedDetections) -> dict[str, float]:
    shares = 100 * matched.factor * matched.ap.mean(1) / len(matched.ap)
    return dict(zip(matched.truth.labels, shares.tolist(), strict=True))


def _video_shares(matched: MatchedDetections) -> dict[str, float]:
    """The precision that the true positives of each video carry, as a part of the average mAP."""
    truth, rows = matched.truth, matched.predictions.where(matched.rows)
    classes = len(truth.labels)
    carried = precision_of_hits(matched.hit, rows.label, classes, matched.rules.precision)
    positives = np.bincount(truth.label, minlength=classes)
    shares = carried / (positives[rows.label, None] * classes * len(matched.rules.tious))
    of_videos = 100 * matched.factor * class_sums(shares, rows.video, len(truth.videos)).sum(1)
    return dict(zip(truth.videos, of_videos.tolist(), strict=True))


def _paired(this: dict[str, float], other: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Both sides of every name, the largest difference first."""
    pairs = {name: (this.get(name, 0.0), other.get(name, 0.0)) for name in {**this, **other}}
    return dict(sorted(pairs.items(), key=lambda item: -abs(item[1][1] - item[1][0])))
