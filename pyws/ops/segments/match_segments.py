"""match_segments: detections against ground truth for all IoU thresholds at once, and their average precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

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


def _check(
    start: Tensor,
    end: Tensor,
    score: Tensor,
    offsets: Tensor,
    truth_start: Tensor,
    truth_end: Tensor,
    truth_offsets: Tensor,
    class_offsets: Tensor,
    thresholds: list[float],
) -> None:
    op = "match_segments"
    check_tensor(op, "predictions.start", start, (torch.float64,), ndim=1)
    check_tensor(op, "truth.start", truth_start, (torch.float64,), ndim=1, device=start.device)
    for name, field, first in (
        ("predictions.end", end, start),
        ("predictions.score", score, start),
        ("truth.end", truth_end, truth_start),
    ):
        check_tensor(op, name, field, (torch.float64,), shape=tuple(first.shape), device=start.device)
    check_tensor(op, "predictions.offsets", offsets, (torch.int64,), ndim=1, device=start.device)
    check_tensor(op, "truth.offsets", truth_offsets, (torch.int64,), shape=tuple(offsets.shape), device=start.device)
    check_tensor(op, "class_offsets", class_offsets, (torch.int64,), ndim=1, device=start.device)
    if len(thresholds) > _MAX_THRESHOLDS:
        raise ValueError(f"{op}: thresholds must be at most {_MAX_THRESHOLDS}, got {len(thresholds)}")


def _kernel(
    start: Tensor,
    end: Tensor,
    score: Tensor,
    offsets: Tensor,
    truth_start: Tensor,
    truth_end: Tensor,
    truth_offsets: Tensor,
    class_offsets: Tensor,
    thresholds: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    op = "match_segments"
    check_offsets(op, "predictions.offsets", offsets, total=len(start))
    check_offsets(op, "truth.offsets", truth_offsets, total=len(truth_start))
    check_offsets(op, "class_offsets", class_offsets, total=len(offsets) - 1)
    if max(len(start), len(offsets)) > _MAX_ROWS:
        raise ValueError(
            f"{op}: predictions and groups must be at most {_MAX_ROWS}, got {len(start)} and {len(offsets)}"
        )
    hit, order, ap = _fake(start, end, score, offsets, truth_start, truth_end, truth_offsets, class_offsets, thresholds)
    predictions, truths = start.numel(), truth_start.numel()
    launch(op, start.device, {
        "start": start.contiguous(), "end": end.contiguous(), "score": score.contiguous(),
        "offsets": offsets.contiguous(), "truth_start": truth_start.contiguous(), "truth_end": truth_end.contiguous(),
        "truth_offsets": truth_offsets.contiguous(), "class_offsets": class_offsets.contiguous(),
        "thresholds": torch.tensor(thresholds, dtype=torch.float64, device=start.device), "predictions": predictions,
        "truths": truths, "groups": offsets.numel() - 1, "classes": class_offsets.numel() - 1,
        "threshold_count": len(thresholds),
        "scratch": offsets.new_empty(_C.match_segments_scratch(predictions, truths)), "hit": hit, "order": order,
        "ap": ap,
    })  # fmt: skip
    return hit, order, ap


def _fake(
    start: Tensor,
    end: Tensor,
    score: Tensor,
    offsets: Tensor,
    truth_start: Tensor,
    truth_end: Tensor,
    truth_offsets: Tensor,
    class_offsets: Tensor,
    thresholds: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    hit = start.new_empty(start.shape[0], len(thresholds), dtype=torch.bool)
    ap = start.new_empty(class_offsets.shape[0] - 1, len(thresholds))
    return hit, offsets.new_empty(start.shape[0]), ap


_match_segments = register(
    "match_segments(Tensor predictions_start, Tensor predictions_end, Tensor predictions_score, Tensor offsets, "
    "Tensor truth_start, Tensor truth_end, Tensor truth_offsets, Tensor class_offsets, float[] thresholds) -> "
    "(Tensor hit, Tensor order, Tensor ap)",
    _kernel,
    _fake,
    check=_check,
)
