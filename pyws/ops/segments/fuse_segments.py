"""fuse_segments: weighted fusion of temporal segments (GauFuse eq. 1-4), and suppression from the same walk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from pyws.ops._library import _C, check_choice, check_columns, check_range, check_segments, launch, register
from pyws.ragged import Segments

OVERLAPS: tuple[str, ...] = _C.OVERLAPS
_LEAST_DOF = 1e-6  # below, squared distances over it overflow
DISTRIBUTIONS: tuple[str, ...] = tuple(name for name in _C.DISTRIBUTIONS if name != "signed")


@overload
def fuse_segments(
    segments: Segments, iou_threshold: float = ..., temperature: float = ..., overlap: str = ...,
    distribution: str = ..., dof: float = ..., return_membership: Literal[False] = ..., sign_weights: bool = ...,
) -> Segments: ...  # fmt: skip
@overload
def fuse_segments(
    segments: Segments, iou_threshold: float = ..., temperature: float = ..., overlap: str = ...,
    distribution: str = ..., dof: float = ..., *, return_membership: Literal[True], sign_weights: bool = ...,
) -> tuple[Segments, Tensor]: ...  # fmt: skip


def fuse_segments(
    segments: Segments,
    iou_threshold: float = 0.25,
    temperature: float = 0.1,
    overlap: str = "iou",
    distribution: str = "gaussian",
    dof: float = 3.0,
    return_membership: bool = False,
    sign_weights: bool = False,
) -> Segments | tuple[Segments, Tensor]:
    """Fuse overlapping segments instead of suppressing all but the best.

    In each group the best segment left (the highest score, the first of equals) is a seed; it leaves together with all
    that overlap it by more than ``iou_threshold``, and they become one segment: start, end, score and weight are each
    the location of ``distribution`` fitted to the members under the weights ``softmax(weight / temperature)``.

    Parameters
    ----------
    segments : the candidates. ``score`` orders them, ``weight`` weighs them (for the paper's equation 3 put the score
        there: ``dataclasses.replace(segments, weight=segments.score)``)
    iou_threshold : in [0, 1]; a member overlaps the seed by more than this
    temperature : > 0; small temperatures follow the largest weight, large ones weigh all members alike
    overlap : "iou", intersection over union of the half-open intervals (an empty union counts as no overlap); "own",
        the released rule: intersection over the candidate's own length, both one longer as on inclusive ends
    distribution : "gaussian" (weighted mean), "uniform" (middle of the range, whatever the weights), "exponential"
        (two-sided: weighted median, the middle of all medians), "t" (Student's t by reweighting, ``dof`` degrees of
        freedom)
    dof : > 0, degrees of freedom of "t"
    return_membership : also return which fused segment took each candidate
    sign_weights : divide by the sum of ``sign(weight) * exp(weight / temperature)``, as the released code does, instead
        of by the sum of the exponentials; with "gaussian" only. Both are the same where all weights are positive. Where
        some are not, a fused segment may lie outside its members, a single segment of negative weight is mirrored at 0,
        and the plain sum divides only where the signs cancel to 0. Exponentials and sums are taken as in the released
        code to the last bit, since ends that ``int()`` cuts afterwards depend on it.

    Returns
    -------
    Segments of the same groups, each group by falling fused score, equal scores in the order of their seeds.
    With ``return_membership`` also (N,) int64: the index of the fused segment that took each candidate.

    Raises
    ------
    TypeError, ValueError : not Segments, an argument outside its range, an unknown name
    RuntimeError : a field requires grad; the fusion is not differentiable

    Notes
    -----
    All in float64; the maximum is subtracted before exponentials, so that no temperature overflows. Same answer for any
    number of threads, any batch composition, on CPU and CUDA. One group costs O(candidates x clusters).
    Source: Zhou et al., Improving Weakly Supervised Temporal Action Localization by Bridging Train-Test Gap in Pseudo
    Labels, CVPR 2023, eq. 1-4 and table 3; the estimators other than the Gaussian are reconstructed from their names.

    Examples
    --------
    >>> import pyws
    >>> segments = pyws.Segments.of([[(0, 4, 0.9), (1, 5, 0.9), (20, 30, 0.3)]])
    >>> fused, membership = fuse_segments(segments, return_membership=True)
    >>> fused.start.tolist(), fused.end.tolist(), fused.score.tolist()
    ([0.5, 20.0], [4.5, 30.0], [0.9, 0.3])
    >>> membership.tolist()
    [0, 0, 1]
    """
    op = "fuse_segments"
    check_segments(op, "segments", segments)
    check_range(op, "iou_threshold", iou_threshold, "in [0, 1]", lambda: 0 <= iou_threshold <= 1)
    check_range(op, "temperature", temperature, "> 0", lambda: 0 < temperature < math.inf)
    check_choice(op, "overlap", overlap, OVERLAPS)
    check_choice(op, "distribution", distribution, DISTRIBUTIONS)
    check_range(op, "dof", dof, "1e-6 or more, and finite", lambda: _LEAST_DOF <= dof < math.inf)
    if sign_weights and distribution != "gaussian":
        raise ValueError(f"{op}: sign_weights is of the distribution 'gaussian', got it with {distribution!r}")
    rows, offsets, membership = _fuse(
        segments.start, segments.end, segments.score, segments.weight, segments.offsets, overlap,
        iou_threshold, "signed" if sign_weights else distribution, temperature, dof,
    )  # fmt: skip
    fused = Segments.unchecked(rows, offsets)
    return (fused, membership) if return_membership else fused


@overload
def suppress_segments(
    segments: Segments, iou_threshold: float = ..., overlap: str = ..., sigma: float | None = ...,
    min_score: float = ..., return_indices: Literal[False] = ...,
) -> Segments: ...  # fmt: skip
@overload
def suppress_segments(
    segments: Segments, iou_threshold: float = ..., overlap: str = ..., sigma: float | None = ...,
    min_score: float = ..., *, return_indices: Literal[True],
) -> tuple[Segments, Tensor]: ...  # fmt: skip


def suppress_segments(
    segments: Segments,
    iou_threshold: float = 0.5,
    overlap: str = "own",
    sigma: float | None = None,
    min_score: float = 0.001,
    return_indices: bool = False,
) -> Segments | tuple[Segments, Tensor]:
    """Non-maximum suppression of temporal segments, hard or soft.

    In each group the best segment left (the highest score, the first of equals) is kept. Hard: what overlaps it by more
    than ``iou_threshold`` is dropped. Soft (``sigma`` given): the scores left fall by ``exp(-overlap^2 / sigma)``, and
    those that reach ``min_score`` or less are dropped.

    Parameters
    ----------
    segments : the candidates; ``weight`` is carried along
    iou_threshold : in [0, 1], for the hard form
    overlap : "own" (the released rule of the literature's baseline) or "iou", as in :func:`fuse_segments`
    sigma : None for the hard form, or > 0
    min_score : score that the soft form drops, and all below
    return_indices : also return where the kept segments stood in the input

    Returns
    -------
    Segments of the same groups, each in the order picked; with ``sigma`` a score is the one at which its segment
    was picked. With ``return_indices`` also (n,) int64.

    Raises
    ------
    TypeError, ValueError : not Segments, an argument outside its range, an unknown name
    RuntimeError : a field requires grad; suppression is not differentiable

    Notes
    -----
    Source of the soft form: Bodla et al., Soft-NMS - Improving Object Detection With One Line of Code, ICCV 2017.

    Examples
    --------
    >>> import pyws
    >>> segments = pyws.Segments.of([[(0, 4, 0.5), (1, 5, 0.9), (20, 30, 0.3)]])
    >>> kept, indices = suppress_segments(segments, return_indices=True)
    >>> kept.start.tolist(), indices.tolist()
    ([1.0, 20.0], [1, 2])
    """
    op = "suppress_segments"
    check_segments(op, "segments", segments)
    check_range(op, "iou_threshold", iou_threshold, "in [0, 1]", lambda: 0 <= iou_threshold <= 1)
    check_choice(op, "overlap", overlap, OVERLAPS)
    if sigma is not None:
        check_range(op, "sigma", sigma, "> 0", lambda: 0 < sigma < math.inf)
    check_range(op, "min_score", min_score, "a number", lambda: min_score == min_score)
    rows, offsets, indices = _suppress(
        segments.start, segments.end, segments.score, segments.weight, segments.offsets,
        overlap, iou_threshold, 0.0 if sigma is None else sigma, min_score,
    )  # fmt: skip
    kept = Segments.unchecked(rows, offsets)
    return (kept, indices) if return_indices else kept


def _check(op: str, start: Tensor, end: Tensor, score: Tensor, weight: Tensor, offsets: Tensor, overlap: str) -> None:
    check_columns(op, offsets, start=start, end=end, score=score, weight=weight)
    check_choice(op, "overlap", overlap, OVERLAPS)


def _check_fuse(*arguments: Any) -> None:
    *fields, _, distribution, _, _ = arguments
    _check("fuse_segments", *fields)
    check_choice("fuse_segments", "distribution", distribution, _C.DISTRIBUTIONS)


def _check_suppress(*arguments: Any) -> None:
    _check("suppress_segments", *arguments[:6])


def _walk(
    op: str, columns: Sequence[Tensor], numbers: str, options: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Launch ``op``: rows and offsets of its answer, the ``numbers`` it writes beside, and how many segments there are.

    That number is the only one read back: the answer is written without gaps into tensors that are cut to it.
    """
    start, end, score, weight, offsets = columns
    total, groups = start.numel(), offsets.numel() - 1
    scratch = start.new_empty(_C.fuse_segments_scratch(total, groups))
    rows, beside, packed_offsets = start.new_empty(4 * total), offsets.new_empty(total), offsets.new_empty(groups + 1)
    launch(op, start.device, {
        **options, "start": start.contiguous(), "end": end.contiguous(), "score": score.contiguous(),
        "weight": weight.contiguous(), "offsets": offsets.contiguous(), "groups": groups, "total": total,
        "scratch": scratch, "packed": rows, "packed_offsets": packed_offsets, numbers: beside,
    })  # fmt: skip
    found = int(packed_offsets[-1])
    return rows.resize_(4, found), packed_offsets, beside, found


def _fuse_kernel(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *columns, overlap, iou_threshold, distribution, temperature, dof = arguments
    return _walk("fuse_segments", columns, "membership", {
        "overlap": overlap, "iou_threshold": iou_threshold, "distribution": distribution, "temperature": temperature,
        "dof": dof,
    })[:3]  # fmt: skip


def _fuse_fake(start: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    total, offsets = torch.library.get_ctx().new_dynamic_size(), rest[3]
    return start.new_empty((4, total)), torch.empty_like(offsets), torch.empty_like(start, dtype=torch.int64)


def _suppress_kernel(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *columns, overlap, iou_threshold, sigma, min_score = arguments
    rows, kept_offsets, indices, kept = _walk("suppress_segments", columns, "index", {
        "overlap": overlap, "iou_threshold": iou_threshold, "sigma": sigma, "min_score": min_score,
    })  # fmt: skip
    return rows, kept_offsets, indices.resize_(kept)


def _suppress_fake(start: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    total, offsets = torch.library.get_ctx().new_dynamic_size(), rest[3]
    return start.new_empty((4, total)), torch.empty_like(offsets), start.new_empty(total, dtype=torch.int64)


_FIELDS = "Tensor start, Tensor end, Tensor score, Tensor weight, Tensor offsets, str overlap, float iou_threshold"
_fuse = register(
    f"fuse_segments({_FIELDS}, str distribution, float temperature, float dof) -> (Tensor, Tensor, Tensor)",
    _fuse_kernel, _fuse_fake, check=_check_fuse, reads_contents=True,
)  # fmt: skip
_suppress = register(
    f"suppress_segments({_FIELDS}, float sigma, float min_score) -> (Tensor, Tensor, Tensor)",
    _suppress_kernel, _suppress_fake, check=_check_suppress, reads_contents=True,
)  # fmt: skip
