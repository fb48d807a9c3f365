"""What keeps a mean average precision down: the kinds of false positives, and which instances are missed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyws.data.annotations.activitynet import Instances, Intervals, Source, Truth
from pyws.evaluation.detection import MatchedDetections, Rules, match_detections
from pyws.evaluation.precision import class_sums, precision_of_hits

KINDS = ("true positive", "double", "localisation", "wrong class", "confusion", "background")
_TOUCHES = 0.1  # a smaller IoU is none
_RANKED = 10  # predictions of a class that are looked at, times its instances


@dataclass(frozen=True)
class Misses:
    """The instances of a group: how many, how many are found, and of the missed ones those that a prediction of their
    class touches (IoU of 0.1 or more)."""

    instances: int
    found: int
    touched: int


@dataclass(frozen=True)
class Diagnosis:
    """Errors at one IoU threshold, by the taxonomy of DETAD (Alwassel et al., ECCV 2018).

    Parameters
    ----------
    tiou : the threshold
    map : mAP in percent
    kinds : number of each kind among the first 10 G predictions of each class with G instances
    gains : by how much mAP grows, in percent, where all predictions of a kind of error are left out
    lengths, counts, classes : recall by length in seconds, by number of instances in the video, and by class
    """

    tiou: float
    map: float
    kinds: dict[str, int]
    gains: dict[str, float]
    lengths: dict[str, Misses]
    counts: dict[str, Misses]
    classes: dict[str, Misses]

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as one JSON document."""
        groups = {name: getattr(self, name) for name in ("lengths", "counts", "classes")}
        rows = {name: {key: vars(row) for key, row in group.items()} for name, group in groups.items()}
        return {"tiou": self.tiou, "mAP": self.map, "kinds": self.kinds, "gains": self.gains, **rows}


def diagnose(
    truth: Source | Truth,
    predictions: Source | Instances,
    rules: Rules,
    tiou: float = 0.5,
    ambiguous: str | os.PathLike[str] | Intervals | None = None,
) -> Diagnosis:
    """Tell the errors of detections apart.

    A prediction that is no true positive is "double" if it reaches the threshold with an instance of its class,
    "localisation" if it touches one (IoU of 0.1 or more), "wrong class" and "confusion" if the same holds of an
    instance of another class, and otherwise "background".

    Parameters
    ----------
    truth, predictions, ambiguous : arguments of :func:`pyws.evaluation.detection_map`
    rules : rules of the evaluation, see :func:`pyws.evaluation.detection.rules_of`
    tiou : IoU threshold, in (0, 1]

    Raises
    ------
    DataError : as :func:`pyws.evaluation.detection_map`
    ValueError : a threshold outside (0, 1]

    Examples
    --------
    >>> from pyws.evaluation.detection import rules_of
    >>> entries = [{"label": "Diving", "segment": [0, 4]}, {"label": "Diving", "segment": [20, 28]}]
    >>> truth = {"database": {"v": {"subset": "test", "annotations": entries}}}
    >>> rows = [(0.9, [0, 4]), (0.8, [0, 5]), (0.7, [22, 40]), (0.6, [50, 60])]
    >>> found = {"results": {"v": [{"label": "Diving", "score": score, "segment": row} for score, row in rows]}}
    >>> why = diagnose(truth, found, rules_of("thumos14-seconds"))
    >>> {kind: count for kind, count in why.kinds.items() if count}
    {'true positive': 1, 'double': 1, 'localisation': 1, 'background': 1}
    >>> why.classes["Diving"]
    Misses(instances=2, found=1, touched=1)
    """
    if not 0 < tiou <= 1:
        raise ValueError(f"diagnose: tiou must be in (0, 1], got {tiou}")
    matched = match_detections(predictions, truth, replace(rules, tious=(tiou,)), ambiguous)
    ranked = matched.predictions.where(matched.rows)
    kind, touched, taken = _errors(ranked, matched.hit[:, 0], matched.truth, tiou)
    places = np.concatenate([np.arange(count) for count in np.bincount(ranked.label, minlength=len(ranked.labels))])
    instances = np.bincount(matched.truth.label, minlength=len(ranked.labels))
    first = places < _RANKED * instances[ranked.label]
    kinds = {name: int((kind[first] == index).sum()) for index, name in enumerate(KINDS)}
    whole = _map(matched, ranked, np.ones(len(ranked), dtype=bool))
    gains = {name: _map(matched, ranked, kind != index) - whole for index, name in enumerate(KINDS) if index}
    return Diagnosis(tiou, whole, kinds, gains, *_misses(matched.truth, rules, taken, touched))


def _errors(
    ranked: Instances, hit: np.ndarray, truth: Instances, tiou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kind of each prediction by rank; of each instance whether a prediction of its class touches it, and whether
    one is its true positive."""
    kind = np.full(len(ranked), KINDS.index("background"))
    touched, taken = np.zeros(len(truth), dtype=bool), np.zeros(len(truth), dtype=bool)
    for video in np.unique(ranked.video):
        rows, columns = np.flatnonzero(ranked.video == video), np.flatnonzero(truth.video == video)
        if not len(columns):
            continue
        iou = _iou(ranked.where(rows), truth.where(columns))
        same = ranked.label[rows, None] == truth.label[columns]
        own, other = np.where(same, iou, 0).max(1), np.where(same, 0, iou).max(1)
        conditions = [hit[rows], own >= tiou, own >= _TOUCHES, other >= tiou, other >= _TOUCHES]
        kind[rows] = np.select(conditions, range(len(conditions)), KINDS.index("background"))
        touched[columns] = (np.where(same, iou, 0) >= _TOUCHES).any(0)
        for row in np.flatnonzero(hit[rows]):  # by rank, as the evaluation matched them
            free = np.where(same[row] & ~taken[columns], iou[row], -1.0)
            taken[columns[free.argmax()]] = True
    return kind, touched, taken


def _iou(predictions: Instances, truth: Instances) -> np.ndarray:
    """(P, T) IoU of intervals; 1 of two empty ones."""
    start, end = np.maximum(predictions.start[:, None], truth.start), np.minimum(predictions.end[:, None], truth.end)
    shared = np.maximum(end - start, 0)
    union = (predictions.end - predictions.start)[:, None] + (truth.end - truth.start) - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)


def _map(matched: MatchedDetections, ranked: Instances, kept: np.ndarray) -> float:
    """mAP in percent of the predictions that are kept, true positives as they were matched."""
    classes = len(ranked.labels)
    label = ranked.label[kept]
    carried = precision_of_hits(matched.hit[kept], label, classes, matched.rules.precision)
    positives = np.bincount(matched.truth.label, minlength=classes)
    return float(100 * matched.factor * (class_sums(carried, label, classes)[:, 0] / positives).mean())


def _misses(
    truth: Instances, rules: Rules, taken: np.ndarray, touched: np.ndarray
) -> tuple[dict[str, Misses], dict[str, Misses], dict[str, Misses]]:
    """By length, by instances in the video, by class."""
    start, end = truth.start, truth.end
    if rules.grid is not None:
        start, end = (rules.grid.seconds(truth.videos, truth.video, places) for places in (start, end))
    seconds = end - start
    bounds = np.quantile(seconds, [0.25, 0.5, 0.75])
    quarter = np.searchsorted(bounds, seconds, side="left")
    edges = [seconds.min(), *bounds, seconds.max()]
    lengths = [f"{edges[part]:.1f} to {edges[part + 1]:.1f} s" for part in range(4)]
    many = np.bincount(truth.video, minlength=len(truth.videos))[truth.video]
    amount = np.searchsorted([1, 4, 16], many, side="left")
    groups = ((quarter, lengths), (amount, ["1", "2 to 4", "5 to 16", "more than 16"]), (truth.label, truth.labels))
    by_length, by_count, by_class = (_grouped(index, names, taken, touched) for index, names in groups)
    return by_length, by_count, by_class


def _grouped(index: np.ndarray, names: Sequence[str], taken: np.ndarray, touched: np.ndarray) -> dict[str, Misses]:
    rows = [(index == group, name) for group, name in enumerate(names)]
    return {
        name: Misses(int(inside.sum()), int(taken[inside].sum()), int((touched & ~taken)[inside].sum()))
        for inside, name in rows
        if inside.any()
    }
