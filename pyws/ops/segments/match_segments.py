"""match_segments: detections against ground truth for all IoU thresholds at once, and their average precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyws.ops._library import _C, check_range, check_segments, check_tensor, launch, register
from pyws.ragged import Segments, check_offsets

_MAX_THRESHOLDS: int = _C.MAX_MATCH_THRESHOLDS
_MAX_ROWS = 2**31 - 1  # predictions or groups of one call: ranks are 32-bit


class MatchedSegments(NamedTuple):
    """What :func:`match_segments` returns.

    Parameters
    ----------
    hit : (P, K) bool, whether a prediction is a true positive at a threshold
    order : (P,) int64, the predictions of class 0 by falling score, then those of class 1, and so on
    ap : (classes, K) float64 in [0, 1]; 0 without predictions, NaN without ground truth
    """

    hit: Tensor
    order: Tensor
    ap: Tensor


def match_segments(
    predictions: Segments, truth: Segments, class_offsets: Tensor, thresholds: Sequence[float]
) -> MatchedSegments:
    """Match predicted segments with ground truth greedily by score, at every temporal IoU threshold in one pass.

    Within a class the predictions of all videos are taken by falling score (equal scores: the lower index first). At
    each threshold, each takes the free truth segment of its own group with the largest IoU >= the threshold (equal
    IoU: the lower index), which is then no longer free. Two empty segments have IoU 0.

    Parameters
    ----------
    predictions, truth : Segments on one device with the same groups, one group for each pair of a class and a video in
        which the class is predicted or present; only start, end and, of the predictions, score are used
    class_offsets : (classes+1,) int64, class c owns the groups class_offsets[c] .. class_offsets[c+1]-1
    thresholds : up to 64 temporal IoU thresholds, each in (0, 1]

    Returns
    -------
    MatchedSegments(hit, order, ap) on that device, the same bits on each. Average precision is the area under the
    precision envelope (PASCAL VOC 2010 and later), as both the THUMOS14 and the ActivityNet evaluation have
    it. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, device, threshold, or offsets that do not fit

    Examples
    --------
    One class in one video; the second prediction finds its truth already taken.

    >>> predictions = Segments.of([[(0, 4, 0.9), (0, 5, 0.8), (9, 12, 0.7)]])
    >>> truth = Segments.of([[(0, 4, 1), (9, 11, 1)]])
    >>> matched = match_segments(predictions, truth, torch.tensor([0, 1]), [0.5, 0.7])
    >>> matched.hit.tolist()
    [[True, True], [False, False], [True, False]]
    >>> matched.ap
    tensor([[0.8333, 0.5000]], dtype=torch.float64)
    """
    op = "match_segments"
    for name, segments in (("predictions", predictions), ("truth", truth)):
        check_segments(op, name, segments)
    if predictions.groups != truth.groups:
        raise ValueError(f"{op}: predictions and truth must have the same groups, got {predictions.groups} and "
                         f"{truth.groups}")  # fmt: skip
    for threshold in thresholds:
        check_range(op, "thresholds", threshold, "in (0, 1]", partial(_is_share, threshold))
    arguments = (
        predictions.start, predictions.end, predictions.score, predictions.offsets, truth.start, truth.end,
        truth.offsets, class_offsets, list(thresholds),
    )  # fmt: skip
    _check(*arguments)
    hit, order, ap = _match_segments(*arguments)
    return MatchedSegments(hit, order, ap)


def _is_share(value: float) -> bool:
    return 0 < value <= 1


class _Arguments(NamedTuple):
    start: Tensor
    end: Tensor
    score: Tensor
    offsets: Tensor
    truth_start: Tensor
    truth_end: Tensor
    truth_offsets: Tensor
    class_offsets: Tensor
    thresholds: list[float]


def _check(*given: Any) -> None:
    a, op = _Arguments(*given), "match_segments"
    device = a.start.device
    check_tensor(op, "predictions.start", a.start, (torch.float64,), ndim=1)
    check_tensor(op, "truth.start", a.truth_start, (torch.float64,), ndim=1, device=device)
    for name, field, first in (
        ("predictions.end", a.end, a.start),
        ("predictions.score", a.score, a.start),
        ("truth.end", a.truth_end, a.truth_start),
    ):
        check_tensor(op, name, field, (torch.float64,), shape=tuple(first.shape), device=device)
    check_tensor(op, "predictions.offsets", a.offsets, (torch.int64,), ndim=1, device=device)
    check_tensor(op, "truth.offsets", a.truth_offsets, (torch.int64,), shape=tuple(a.offsets.shape), device=device)
    check_tensor(op, "class_offsets", a.class_offsets, (torch.int64,), ndim=1, device=device)
    if len(a.thresholds) > _MAX_THRESHOLDS:
        raise ValueError(f"{op}: thresholds must be at most {_MAX_THRESHOLDS}, got {len(a.thresholds)}")


def _kernel(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, op = _Arguments(*given), "match_segments"
    predictions, truths, groups = len(a.start), len(a.truth_start), len(a.offsets) - 1
    check_offsets(op, "predictions.offsets", a.offsets, total=predictions)
    check_offsets(op, "truth.offsets", a.truth_offsets, total=truths)
    check_offsets(op, "class_offsets", a.class_offsets, total=groups)
    if max(predictions, groups + 1) > _MAX_ROWS:
        raise ValueError(
            f"{op}: predictions and groups must be at most {_MAX_ROWS}, got {predictions} and {groups + 1}"
        )
    hit, order, ap = _fake(*given)
    tensors = {name: value.contiguous() for name, value in a._asdict().items() if isinstance(value, Tensor)}
    launch(op, a.start.device, {
        **tensors, "thresholds": torch.tensor(a.thresholds, dtype=torch.float64, device=a.start.device),
        "predictions": predictions, "truths": truths, "groups": groups, "classes": len(a.class_offsets) - 1,
        "threshold_count": len(a.thresholds),
        "scratch": a.offsets.new_empty(_C.match_segments_scratch(predictions, truths)), "hit": hit, "order": order,
        "ap": ap,
    })  # fmt: skip
    return hit, order, ap


def _fake(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    a = _Arguments(*given)
    hit = a.start.new_empty(a.start.shape[0], len(a.thresholds), dtype=torch.bool)
    ap = a.start.new_empty(a.class_offsets.shape[0] - 1, len(a.thresholds))
    return hit, a.offsets.new_empty(a.start.shape[0]), ap


_match_segments = register(
    "match_segments(Tensor predictions_start, Tensor predictions_end, Tensor predictions_score, Tensor offsets, "
    "Tensor truth_start, Tensor truth_end, Tensor truth_offsets, Tensor class_offsets, float[] thresholds) -> "
    "(Tensor hit, Tensor order, Tensor ap)",
    _kernel,
    _fake,
    check=_check,
)
