"""Precision of ranked detections, and the matching rule of W-TALC."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pyws.ragged import Segments


def precision_of_hits(hit: np.ndarray, label: np.ndarray, classes: int, rule: str) -> np.ndarray:
    """What each true positive carries of the average precision of its class, before division by the truth's count.

    Parameters
    ----------
    hit : (P, thresholds) bool, the predictions of class 0 by rank, then those of class 1, and so on
    label : (P,) their classes, never falling
    classes : number of classes
    rule : "plain", the precision at its own rank, or "envelope", the largest precision from that rank on

    Returns
    -------
    (P, thresholds) float64, 0 at false positives.

    Examples
    --------
    >>> hit = np.array([[True], [False], [False], [True], [True]])
    >>> precision_of_hits(hit, np.zeros(5, int), 1, "plain")[:, 0].tolist()
    [1.0, 0.0, 0.0, 0.5, 0.6]
    >>> precision_of_hits(hit, np.zeros(5, int), 1, "envelope")[:, 0].tolist()
    [1.0, 0.0, 0.0, 0.6, 0.6]
    """
    carried = np.zeros(hit.shape)
    bounds = np.searchsorted(label, np.arange(classes + 1))
    for first, last in pairwise(bounds):
        ranks = np.arange(1, last - first + 1)[:, None]
        precision = np.cumsum(hit[first:last], axis=0) / ranks
        if rule == "envelope":
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        carried[first:last] = precision * hit[first:last]
    return carried


def class_sums(values: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """(classes, columns) sums of the rows of each class."""
    return np.stack([np.bincount(label, column, classes) for column in values.T], axis=1)


def first_match(predictions: Segments, truth: Segments, ranked: np.ndarray, tious: Sequence[float]) -> np.ndarray:
    """W-TALC's matching: by falling score, each prediction takes the first free truth segment that passes.

    Parameters
    ----------
    predictions, truth : with the same groups, as for :func:`pyws.ops.match_segments`
    ranked : the predictions by falling score
    tious : IoU thresholds

    Returns
    -------
    (P, tious) bool, whether a prediction is a true positive.

    Examples
    --------
    At 0.55 both truth segments pass for the first prediction: it takes the first, and none passes for the second.

    >>> predictions, truth = Segments.of([[(0, 10, 0.9), (0, 5, 0.8)]]), Segments.of([[(0, 6, 1), (0, 10, 1)]])
    >>> first_match(predictions, truth, np.array([0, 1]), [0.55, 0.7]).tolist()
    [[True, True], [False, True]]
    """
    candidates = _candidates(predictions, truth, min(tious))
    hit = np.zeros((len(predictions), len(tious)), dtype=bool)
    for column, tiou in enumerate(tious):
        taken: set[int] = set()
        for row in ranked.tolist():
            for segment, iou in candidates.get(row, ()):
                if iou >= tiou and segment not in taken:
                    taken.add(segment)
                    hit[row, column] = True
                    break
    return hit


def _candidates(predictions: Segments, truth: Segments, min_iou: float) -> dict[int, list[tuple[int, float]]]:
    """For each prediction the truth segments of its group with IoU >= min_iou, in their order."""
    columns = [column.numpy() for column in (predictions.start, predictions.end, truth.start, truth.end)]
    found: dict[int, list[tuple[int, float]]] = {}
    offsets = zip(predictions.offsets.tolist(), truth.offsets.tolist(), strict=True)
    for (first, first_truth), (last, last_truth) in pairwise(offsets):
        start, end = (column[first:last, None] for column in columns[:2])
        truth_start, truth_end = (column[None, first_truth:last_truth] for column in columns[2:])
        shared = np.maximum(0, np.minimum(end, truth_end) - np.maximum(start, truth_start))
        union = (end - start) + (truth_end - truth_start) - shared
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        for row, segment in zip(*np.nonzero(iou >= min_iou), strict=True):
            found.setdefault(first + int(row), []).append((first_truth + int(segment), float(iou[row, segment])))
    return found
