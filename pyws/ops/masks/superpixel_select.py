"""superpixel_select: refine masks and class maps by whole superpixels (WS^2 Alg. 2)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyws.ops._library import (
    _C,
    changed,
    check_choice,
    check_count,
    check_entries,
    check_pixels,
    check_range,
    check_table,
    check_tensor,
    contents_are_readable,
    first_wrong,
    launch,
    register,
)

LABELS = (torch.int32, torch.int64)
CLASSES = (torch.uint8, torch.int32, torch.int64)
_OVERLAPS: tuple[str, ...] = _C.MASK_OVERLAPS
_BOUNDED = ("superpixel", "component")

# Without num_superpixels the counters hold this many labels a frame, and the kernel says whether they were enough.
# Looking for the largest label first would read all labels once more.
_FIRST_CAPACITY = 1024
_MAX_LABELS = 2**20


class SuperpixelSelection(NamedTuple):
    """What :func:`superpixel_select` returns."""

    mask: Tensor  # (B, H, W) bool, the union of the selected superpixels
    area: Tensor  # (B, K) int64, pixels of each superpixel; 0 where a label is not used
    intersection: Tensor  # (B, K) int64, those of them inside the mask


class SuperpixelVote(NamedTuple):
    """What :func:`superpixel_vote` returns."""

    classes: Tensor  # (B, H, W), the refined class map, dtype of the input
    area: Tensor  # (B, K) int64, pixels of each superpixel; 0 where a label is not used
    table: Tensor  # (B, K, C) int64, pixels of each superpixel and class
    winner: Tensor  # (B, K) int64, the class each superpixel takes, 0 where none is accepted


def superpixel_select(
    labels: Tensor,
    mask: Tensor,
    alpha: float = 0.5,
    beta: float = 0.4,
    overlap: str = "superpixel",
    num_superpixels: int | None = None,
    beta_on: str = "superpixel",
) -> SuperpixelSelection:
    """Replace masks by the superpixels that they cover: p is selected iff its overlap > alpha and |p|/(H W) < beta.

    Equivalent, for each frame, to ``area = bincount(labels)``, ``intersection = bincount(labels[mask])`` and
    ``((intersection / area > alpha) & (area / labels.numel() < beta))[labels]``.

    Parameters
    ----------
    labels : (B, H, W) int32 or int64 superpixel labels, from 0; some may be missing. A batch dimension is required
    mask : (B, H, W) bool, the initial masks M
    alpha : least overlap, in [0, 1]; the comparison is strict
    beta : bound on the share of the frame that what ``beta_on`` names may cover, >= 0; strict, ``math.inf`` for none
    overlap : "superpixel": |p & M| / |p|, the share of the superpixel that the mask covers.
        "iou": |p & M| / |p | M|, as the paper words it; superpixels are far smaller than objects, so that this
        selects nothing on ordinary frames, and then warns.
        "min": |p & M| / min(|p|, |M|), which also works for superpixels larger than the mask.
    num_superpixels : K of the statistics. None finds the largest label, which must then be below max(H*W, 2**20), and
        waits for the device. A number is needed under ``torch.compile``, where labels outside 0..K-1 are not reported
        but belong to no superpixel.
    beta_on : "superpixel": each superpixel, as the paper words it; ordinary superpixels never reach beta.
        "component": each connected part (8 neighbours) of the selected superpixels together; parts that cover beta or
        more are dropped. That leaves out overly large objects, the paper's reason for beta.

    Returns
    -------
    SuperpixelSelection with ``.mask`` (B, H, W) bool, ``.area`` and ``.intersection`` (B, K) int64. Not
    differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank, shape, device or parameter; a label that is negative, not below
        ``num_superpixels``, or too large for the memory to be spent on it

    Notes
    -----
    Decisions are taken on integer counts and float64 ratios: CPU and CUDA, any number of threads and any batch
    composition agree. Source: Chen et al., CVPR 2020, Algorithm 2; alpha = 0.5 and beta = 0.4 are the paper's.

    Examples
    --------
    >>> labels = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    >>> mask = torch.tensor([[[True, True, True, False, False, False]]])
    >>> refined = superpixel_select(labels, mask)
    >>> refined.mask
    tensor([[[ True,  True, False, False, False, False]]])
    >>> refined.intersection
    tensor([[2, 1, 0]])
    """
    op = "superpixel_select"
    _check_select(labels, mask, alpha, beta, overlap, _FIRST_CAPACITY if num_superpixels is None else num_superpixels)
    check_choice(op, "beta_on", beta_on, _BOUNDED)
    bound = beta if beta_on == "superpixel" else math.inf
    (refined, counts, _), k = _with_capacity(
        op, labels, num_superpixels, lambda capacity: _select(labels, mask, alpha, bound, overlap, capacity)
    )
    area, intersection = counts.narrow(2, 0, k).unbind()
    if overlap == "iou" and contents_are_readable() and mask.any() and not refined.any():
        warnings.warn(
            f'superpixel_select: overlap="iou" selected nothing at alpha={alpha}; superpixels are far smaller than '
            'masks, see overlap="superpixel"',
            stacklevel=2,
        )
    return SuperpixelSelection(refined if beta_on == "superpixel" else _drop(refined, beta), area, intersection)


def superpixel_vote(
    labels: Tensor,
    classes: Tensor,
    num_classes: int,
    alpha: float = 0.5,
    ignore_index: int = 255,
    num_superpixels: int | None = None,
) -> SuperpixelVote:
    """Refine class maps by superpixels: each takes its most frequent foreground class, if that covers more than alpha.

    Equivalent, for each frame, to ``table = bincount(labels * C + classes).reshape(K, C)``,
    ``winner = table[:, 1:].argmax(1) + 1`` (the lowest class of equals), background 0 unless
    ``table[k, winner] / area[k] > alpha``.

    Parameters
    ----------
    labels : (B, H, W) int32 or int64 superpixel labels, from 0; some may be missing. A batch dimension is required
    classes : (B, H, W) uint8, int32 or int64 class maps, 0 is background
    num_classes : C, background included, >= 1
    alpha : least share of the superpixel, in [0, 1]; the comparison is strict
    ignore_index : pixels of this class do not vote, but count in the area of their superpixel
    num_superpixels : as for :func:`superpixel_select`

    Returns
    -------
    SuperpixelVote with ``.classes`` (B, H, W) of the dtype given, ``.area`` (B, K), ``.table`` (B, K, C) and
    ``.winner`` (B, K), all int64. Not differentiable.

    Raises
    ------
    TypeError, ValueError : as :func:`superpixel_select`; a class that is neither in 0..C-1 nor ``ignore_index`` (under
        ``torch.compile`` such a pixel is treated like an ignored one)

    Examples
    --------
    >>> labels = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    >>> classes = torch.tensor([[[2, 2, 1, 0, 0, 3]]])
    >>> superpixel_vote(labels, classes, num_classes=4).classes
    tensor([[[2, 2, 2, 0, 0, 0]]])
    """
    op = "superpixel_vote"
    capacity = _FIRST_CAPACITY if num_superpixels is None else num_superpixels
    _check_vote(labels, classes, num_classes, alpha, ignore_index, capacity)

    def count(capacity: int) -> tuple[Tensor, ...]:
        outputs = _vote(labels, classes, num_classes, alpha, ignore_index, capacity)
        if contents_are_readable() and outputs[-1][:, _C.SUMMARY_UNKNOWN].any():
            strange = ((classes < 0) | (classes >= num_classes)) & (classes != ignore_index)
            wrong = first_wrong(op, "classes", classes, strange)
            rule = f"must be in 0..{num_classes - 1} or ignore_index {ignore_index}"
            raise ValueError(f"{op}: classes {rule}, got {wrong}")
        return outputs

    (refined, *statistics, _), k = _with_capacity(op, labels, num_superpixels, count)
    return SuperpixelVote(refined, *(statistic.narrow(1, 0, k).contiguous() for statistic in statistics))


def check_labels(op: str, labels: Tensor, alpha: float, num_superpixels: int) -> None:
    """Raise unless superpixels, their number and alpha are what the operations on superpixels take."""
    check_tensor(op, "labels", labels, LABELS, ndim=3)
    check_pixels(op, "labels", labels)
    check_count(op, "num_superpixels", num_superpixels, 0, 2**31 - 1)
    check_range(op, "alpha", alpha, "in [0, 1]", lambda: 0 <= alpha <= 1)


def _check_select(labels: Tensor, mask: Tensor, alpha: float, beta: float, overlap: str, num_superpixels: int) -> None:
    op = "superpixel_select"
    check_labels(op, labels, alpha, num_superpixels)
    check_tensor(op, "mask", mask, (torch.bool,), shape=tuple(labels.shape), device=labels.device)
    check_range(op, "beta", beta, ">= 0", lambda: beta >= 0)
    check_choice(op, "overlap", overlap, _OVERLAPS)
    check_entries(op, "frames * num_superpixels", len(labels) * num_superpixels)


def _check_vote(
    labels: Tensor, classes: Tensor, num_classes: int, alpha: float, ignore_index: int, num_superpixels: int
) -> None:
    op = "superpixel_vote"
    check_labels(op, labels, alpha, num_superpixels)
    check_tensor(op, "classes", classes, CLASSES, shape=tuple(labels.shape), device=labels.device)
    check_count(op, "num_classes", num_classes, 1, torch.iinfo(classes.dtype).max + 1)
    check_table(op, len(labels), num_superpixels, num_classes)
    check_count(op, "ignore_index", ignore_index, -(2**63), 2**63 - 1)


def _check_drop(masks: Tensor, beta: float) -> None:
    check_tensor("drop_components", "masks", masks, (torch.bool,), ndim=3)
    check_pixels("drop_components", "masks", masks)


def _with_capacity(
    op: str, labels: Tensor, num_superpixels: int | None, count: Callable[[int], tuple[Tensor, ...]]
) -> tuple[tuple[Tensor, ...], int]:
    """The outputs of ``count(capacity)``, and K. The last one is the summary (superpixel_select.h)."""
    if num_superpixels is None:
        need_readable(op)
    capacity = _FIRST_CAPACITY if num_superpixels is None else num_superpixels
    outputs = count(capacity)
    if not contents_are_readable():
        return outputs, capacity
    frames = outputs[-1].tolist()
    if any(frame[_C.SUMMARY_OUTSIDE] for frame in frames):
        capacity = largest_label(op, labels, num_superpixels) + 1
        outputs = count(capacity)
        if outputs[-1][:, _C.SUMMARY_OUTSIDE].any():
            raise changed(op, "labels")
        return outputs, capacity
    if num_superpixels is None:
        capacity = max((frame[_C.SUMMARY_USED] for frame in frames), default=0)
    return outputs, capacity


def need_readable(op: str) -> None:
    """Raise where the number of superpixels must be found and no label can be read."""
    if not contents_are_readable():
        raise ValueError(f"{op}: num_superpixels must be a number under torch.compile, vmap and capture, got None")


def largest_label(op: str, labels: Tensor, num_superpixels: int | None = None) -> int:
    """The largest label; ValueError names one below 0, or not below ``num_superpixels`` or what memory allows."""
    lowest, highest = (int(label) for label in labels.aminmax())
    limit = max(labels.shape[1] * labels.shape[2], _MAX_LABELS) if num_superpixels is None else num_superpixels
    if lowest >= 0 and highest < limit:
        return highest
    wrong, advice = lowest if lowest < 0 else highest, ""
    if num_superpixels is None and lowest >= 0:
        advice = "; renumber them (torch.unique(labels, return_inverse=True)) or give num_superpixels"
    raise ValueError(f"{op}: labels must be in 0..{limit - 1}, got {wrong}{advice}")


def _select_kernel(
    labels: Tensor, mask: Tensor, alpha: float, beta: float, overlap: str, num_superpixels: int
) -> tuple[Tensor, ...]:
    outputs = refined, counts, summary = _select_fake(labels, mask, num_superpixels)
    batch, height, width = labels.shape
    passes = labels.new_empty((batch, num_superpixels), dtype=torch.uint8)
    launch("superpixel_select", labels.device, {
        "labels": labels.contiguous(), "mask": mask.contiguous(), "batch": batch, "pixels": height * width,
        "superpixels": num_superpixels, "alpha": alpha, "beta": beta, "overlap": overlap, "counts": counts,
        "passes": passes, "refined": refined, "summary": summary,
    })  # fmt: skip
    return outputs


def _select_fake(labels: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    batch, num_superpixels = labels.shape[0], rest[-1]
    counts = labels.new_zeros((2, batch, num_superpixels), dtype=torch.int64)
    return mask.new_empty(mask.shape), counts, labels.new_zeros((batch, _C.SUMMARY_SIZE), dtype=torch.int64)


def _vote_kernel(
    labels: Tensor, classes: Tensor, num_classes: int, alpha: float, ignore_index: int, num_superpixels: int
) -> tuple[Tensor, ...]:
    outputs = _vote_fake(labels, classes, num_classes, num_superpixels)
    refined, area, table, winner, summary = outputs
    launch("superpixel_vote", labels.device, {
        "labels": labels.contiguous(), "classes": classes.contiguous(), "batch": len(labels),
        "pixels": labels.shape[1] * labels.shape[2], "superpixels": num_superpixels, "num_classes": num_classes,
        "ignored": ignore_index, "alpha": alpha, "area": area, "table": table, "winner": winner, "refined": refined,
        "summary": summary,
    })  # fmt: skip
    return outputs


def _vote_fake(labels: Tensor, classes: Tensor, num_classes: int, *rest: Any) -> tuple[Tensor, ...]:
    size = (len(labels), rest[-1])
    area = labels.new_zeros(size, dtype=torch.int64)
    table = labels.new_zeros((*size, num_classes), dtype=torch.int64)
    winner = labels.new_empty(size, dtype=torch.int64)
    summary = labels.new_zeros((len(labels), _C.SUMMARY_SIZE), dtype=torch.int64)
    return classes.new_empty(classes.shape), area, table, winner, summary


def _drop_kernel(masks: Tensor, beta: float) -> Tensor:
    kept = masks.clone(memory_format=torch.contiguous_format)
    parent, size = torch.empty((2, *masks.shape), dtype=torch.int32, device=masks.device)
    batch, height, width = masks.shape
    launch("drop_components", masks.device, {
        "masks": kept, "batch": batch, "height": height, "width": width, "beta": beta, "parent": parent, "size": size,
    })  # fmt: skip
    return kept


def _drop_fake(masks: Tensor, beta: float) -> Tensor:
    return masks.new_empty(masks.shape)


_select = register(
    "superpixel_select(Tensor labels, Tensor mask, float alpha, float beta, str overlap, SymInt num_superpixels) -> "
    "(Tensor, Tensor, Tensor)",
    _select_kernel,
    _select_fake,
    check=_check_select,
)
_vote = register(
    "superpixel_vote(Tensor labels, Tensor classes, SymInt num_classes, float alpha, int ignore_index, "
    "SymInt num_superpixels) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _vote_kernel,
    _vote_fake,
    check=_check_vote,
)
_drop = register("drop_components(Tensor masks, float beta) -> Tensor", _drop_kernel, _drop_fake, check=_check_drop)
