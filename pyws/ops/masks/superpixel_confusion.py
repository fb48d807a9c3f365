"""superpixel_confusion: the two histograms behind RII and mIoU_PA (WS^2 eq. 1-3) in one walk over the pixels."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from pyws.ops._library import (
    _C,
    changed,
    check_count,
    check_range,
    check_table,
    check_tensor,
    contents_are_readable,
    first_wrong,
    launch,
    register,
)
from pyws.ops.masks.superpixel_select import CLASSES, check_labels, largest_label, need_readable

_OP = "superpixel_confusion"


class SuperpixelConfusion(NamedTuple):
    """What :func:`superpixel_confusion` returns."""

    consistency: Tensor  # (B, C, C) int64, pixels of each frame predicted c and refined to r
    agreement: Tensor  # (B, C, C) int64, pixels of each frame refined to r and annotated a


def superpixel_confusion(
    labels: Tensor,
    prediction: Tensor,
    annotation: Tensor,
    num_classes: int,
    alpha: float = 0.5,
    beta: float = 0.4,
    ignore_index: int = 255,
    num_superpixels: int | None = None,
) -> SuperpixelConfusion:
    """Refine predictions by superpixels and count, frame by frame, prediction against refined and refined against
    annotation.

    Equivalent to ``refined = superpixel_vote(labels, prediction, C, alpha).classes``, background where a superpixel
    covers the share beta of the frame or more, and two ``bincount(one * C + other)``; the refined map is never made.

    Parameters
    ----------
    labels : (B, H, W) int32 or int64 superpixel labels, from 0; some may be missing
    prediction : (B, H, W) uint8, int32 or int64 classes, 0 is background
    annotation : (B, H, W) likewise
    num_classes : C, background included, >= 1
    alpha : least share of a superpixel that its most frequent foreground class must have; strict
    beta : bound on the part of the frame that one superpixel may cover, >= 0; strict, ``math.inf`` for no bound
    ignore_index : annotated pixels of this class are left out of ``agreement``
    num_superpixels : K of the counters. None looks for the largest label, which must be below max(H*W, 2**20). A number
        is needed under ``torch.compile``, where pixels of labels or classes out of range are left out, not reported.

    Returns
    -------
    SuperpixelConfusion with ``.consistency`` and ``.agreement``, (B, C, C) int64. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank, shape, device or parameter; labels or classes out of range

    Notes
    -----
    Counts are exact, decisions those of :func:`superpixel_vote`: CPU and CUDA, any number of threads and any batch
    composition agree. Source: Chen et al., CVPR 2020, eq. 1-3 and Algorithm 2.

    Examples
    --------
    >>> labels = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    >>> prediction = torch.tensor([[[1, 1, 0, 0, 0, 0]]])
    >>> annotation = torch.tensor([[[1, 1, 1, 1, 0, 0]]])
    >>> counts = superpixel_confusion(labels, prediction, annotation, num_classes=2, beta=0.6)
    >>> counts.consistency  # one background pixel was filled up
    tensor([[[3, 1],
             [0, 2]]])
    >>> counts.agreement
    tensor([[[2, 1],
             [0, 3]]])
    """
    known = 0 if num_superpixels is None else num_superpixels
    _check(labels, prediction, annotation, num_classes, alpha, beta, ignore_index, known)
    common = torch.promote_types(prediction.dtype, annotation.dtype)
    readable = contents_are_readable()
    if num_superpixels is None:
        need_readable(_OP)
        num_superpixels = largest_label(_OP, labels) + 1 if labels.numel() else 0
    consistency, agreement, invalid = _confusion(
        labels, prediction.to(common), annotation.to(common), num_classes, alpha, beta, ignore_index, num_superpixels
    )
    if readable and any(map(any, invalid.tolist())):
        _raise_invalid(labels, prediction, annotation, num_classes, ignore_index, num_superpixels)
    return SuperpixelConfusion(consistency, agreement)


def _check(
    labels: Tensor, prediction: Tensor, annotation: Tensor, num_classes: int, alpha: float, beta: float,
    ignore_index: int, num_superpixels: int,
) -> None:  # fmt: skip
    check_labels(_OP, labels, alpha, num_superpixels)
    for name, classes in (("prediction", prediction), ("annotation", annotation)):
        check_tensor(_OP, name, classes, CLASSES, shape=tuple(labels.shape), device=labels.device)
    common = torch.promote_types(prediction.dtype, annotation.dtype)
    check_count(_OP, "num_classes", num_classes, 1, torch.iinfo(common).max + 1)
    check_count(_OP, "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    check_range(_OP, "beta", beta, ">= 0", lambda: beta >= 0)
    check_table(_OP, len(labels), max(num_superpixels, num_classes), num_classes)


def _check_same(*arguments: Any) -> None:
    _check(*arguments)
    check_tensor(_OP, "annotation", arguments[2], (arguments[1].dtype,))


def _raise_invalid(
    labels: Tensor, prediction: Tensor, annotation: Tensor, num_classes: int, ignore_index: int, num_superpixels: int
) -> NoReturn:
    rules = (
        ("labels", labels, num_superpixels, None),
        ("prediction", prediction, num_classes, None),
        ("annotation", annotation, num_classes, ignore_index),
    )
    for name, values, bound, allowed in rules:
        wrong = (values < 0) | (values >= bound)
        if allowed is not None:
            wrong &= values != allowed
        if wrong.any():
            also = "" if allowed is None else f" or ignore_index {allowed}"
            got = first_wrong(_OP, name, values, wrong)
            raise ValueError(f"{_OP}: {name} must be in 0..{bound - 1}{also}, got {got}")
    raise changed(_OP, "labels or classes")


def _kernel(
    labels: Tensor,
    prediction: Tensor,
    annotation: Tensor,
    num_classes: int,
    alpha: float,
    beta: float,
    ignore_index: int,
    num_superpixels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    consistency, agreement, invalid = outputs = _fake(labels, prediction, annotation, num_classes)
    area = labels.new_zeros((len(labels), num_superpixels), dtype=torch.int32)
    tables = labels.new_zeros((2, len(labels), num_superpixels, num_classes), dtype=torch.int32)
    launch(_OP, labels.device, {
        "labels": labels.contiguous(), "prediction": prediction.contiguous(), "annotation": annotation.contiguous(),
        "batch": len(labels), "pixels": labels.shape[1] * labels.shape[2], "superpixels": num_superpixels,
        "num_classes": num_classes, "ignored": ignore_index, "alpha": alpha, "beta": beta, "area": area,
        "votes": tables[0], "annotated": tables[1], "consistency": consistency, "agreement": agreement,
        "invalid": invalid,
    })  # fmt: skip
    return outputs


def _fake(
    labels: Tensor, prediction: Tensor, annotation: Tensor, num_classes: int, *rest: float
) -> tuple[Tensor, Tensor, Tensor]:
    size = (labels.shape[0], num_classes, num_classes)
    consistency, agreement = (labels.new_zeros(size, dtype=torch.int64) for _ in range(2))
    return consistency, agreement, labels.new_zeros((labels.shape[0], _C.INVALID_KINDS), dtype=torch.int64)


_confusion = register(
    "superpixel_confusion(Tensor labels, Tensor prediction, Tensor annotation, SymInt num_classes, float alpha, "
    "float beta, int ignore_index, SymInt num_superpixels) -> (Tensor, Tensor, Tensor)",
    _kernel,
    _fake,
    check=_check_same,
)
