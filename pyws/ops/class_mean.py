"""class_mean: the snippets that no segment tells apart, and the mean of values over them (GauFuse eq. 6)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyws.ops._library import (
    DTYPE_CODES,
    check_choice,
    check_range,
    check_segments,
    check_tensor,
    launch,
    register,
)
from pyws.ragged import Segments, check_offsets

_GEOMETRIES = ("paper", "released")  # in the order of csrc/snippet_rows.h: RowGeometry
_MARGINS = {"paper": 0.25, "released": 0.0785}
_SCRATCH = 10  # csrc/class_mean.h: kClassScratch
_MAX_SEGMENTS = 2**29  # intervals of a group are numbered in 32 bits


class SnippetClasses(NamedTuple):
    """What :func:`snippet_classes` returns: classes of all groups, one after the other; K of them."""

    ids: Tensor  # (sum of lengths,) int64, the class of each snippet, in 0..K-1
    class_offsets: Tensor  # (groups+1,) int64; the first class of each group holds the snippets no segment touches
    size: Tensor  # (K,) int64, snippets of each class
    row_offsets: Tensor  # (K+1,) int64; class c has the entries row_offsets[c] .. row_offsets[c+1]-1
    rows: Tensor  # (entries,) int64, the segments that touch the class, rising
    signs: Tensor  # (entries,) int8, +1 inside the segment, -1 in its margin


def snippet_classes(
    segments: Segments, lengths: Tensor, margin: float | None = None, geometry: str = "paper"
) -> SnippetClasses:
    """Equivalence classes of snippets: two share one iff their columns of W, the rows of LinPro, are equal.

    Equivalent, for each group, to ``np.unique(W, axis=1, return_inverse=True)`` without W, up to the numbering: the
    first class of a group holds the snippets outside all rows (it may be empty), the others follow in the order of
    their first snippets. Snippets of one class need not be neighbours. The time is linear in snippets and entries.

    Parameters
    ----------
    segments : bounds in snippets, truncated towards zero, one group a video and class; scores are not used
    lengths : (groups,) int64, snippets of each group's video
    margin : factor of the margins' width, >= 0; None for that of ``geometry``
    geometry : "paper": inner [s, e) and margins of 0.25 (e-s) on each side.
        "released": margins h = 0.0785 (e-s)^0.9, left [int(s-h), s), right [e, min(l-1, int(e+h+1))).

    Returns
    -------
    SnippetClasses ``.ids``, ``.class_offsets``, ``.size`` and the signs of W by class, ``.row_offsets``, ``.rows``,
    ``.signs``. Not differentiable.

    Raises
    ------
    TypeError, ValueError : lengths of a wrong type, dtype, shape, device or below 0; a margin that is negative or not
        finite; an unknown geometry

    Notes
    -----
    Exact: columns are compared entry by entry, no hash decides. Source: Zhou et al., Improving Weakly Supervised
    Temporal Action Localization by Bridging Train-Test Gap in Pseudo Labels, CVPR 2023, eq. 5 and 6.

    Examples
    --------
    >>> segments = Segments.of([[(4, 8, 0.9)]])
    >>> found = snippet_classes(segments, torch.tensor([12]))
    >>> found.ids
    tensor([0, 0, 0, 1, 2, 2, 2, 2, 1, 0, 0, 0])
    >>> found.size, found.rows, found.signs
    (tensor([6, 2, 4]), tensor([0, 0]), tensor([-1,  1], dtype=torch.int8))
    """
    op = "snippet_classes"
    check_segments(op, "segments", segments)
    check_tensor(op, "lengths", lengths, (torch.int64,), shape=(segments.groups,), device=segments.start.device)
    check_choice(op, "geometry", geometry, _GEOMETRIES)
    margin = _MARGINS[geometry] if margin is None else margin
    check_range(op, "margin", margin, "finite and >= 0", 0 <= margin < float("inf"))
    if len(segments) >= _MAX_SEGMENTS:
        raise ValueError(f"{op}: segments must be fewer than 2**29, got {len(segments)}")
    if not torch.compiler.is_compiling() and lengths.numel() > 0 and int(lengths.min()) < 0:
        raise ValueError(f"{op}: lengths must be >= 0, got {int(lengths.min())}")
    rule = _GEOMETRIES.index(geometry)
    return SnippetClasses(
        *_snippet_classes(segments.start, segments.end, segments.offsets, lengths, rule, float(margin))
    )


def class_mean(values: Tensor, class_ids: Tensor, class_offsets: Tensor | int, offsets: Tensor | None = None) -> Tensor:
    """Replace each value by the mean over its class.

    Equivalent to ``(bincount(class_ids, values) / bincount(class_ids))[class_ids]``.

    Parameters
    ----------
    values : (L,) or (L, D) float32 or float64, one row a snippet; D columns are averaged apart
    class_ids : (L,) int64, as :func:`snippet_classes` gives them
    class_offsets : the number of classes, or (groups+1,) int64: group g has the classes from class_offsets[g] up to
        class_offsets[g+1]-1
    offsets : (groups+1,) int64, the snippets of each group; needed where ``class_offsets`` is a tensor. Groups are
        worked on side by side.

    Returns
    -------
    like ``values``. Differentiable any number of times: the gradient of a class mean is a class mean.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, shape, device, bad offsets, or an id outside its group's classes (under
        ``torch.compile`` such a snippet keeps its value)

    Notes
    -----
    Sums are taken in float64 in a fixed order: the same bits for any number of threads and any batch composition. NaN
    and infinities stay within their class.

    Examples
    --------
    >>> class_mean(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 1, 0, 1]), 2)
    tensor([2., 3., 2., 3.])
    """
    op = "class_mean"
    check_tensor(op, "values", values, (torch.float32, torch.float64), ndim=(1, 2))
    compiling = torch.compiler.is_compiling()
    if compiling:  # ids of snippet_classes have a length that is known at run time only
        torch._check(class_ids.shape[0] == values.shape[0])
    check_tensor(op, "class_ids", class_ids, (torch.int64,), shape=(len(values),), device=values.device)
    if isinstance(class_offsets, int):
        check_range(op, "class_offsets", class_offsets, ">= 0", class_offsets >= 0)
        if not compiling:
            _check_ids(op, class_ids, class_offsets)
        class_offsets, offsets = (torch.tensor([0, end], device=values.device) for end in (class_offsets, len(values)))
        return _class_mean(values, class_ids, class_offsets, offsets)
    if offsets is None:
        raise ValueError(f"{op}: offsets must be given where class_offsets is a tensor, got None")
    check_tensor(op, "class_offsets", class_offsets, (torch.int64,), ndim=1, device=values.device)
    check_tensor(op, "offsets", offsets, (torch.int64,), shape=tuple(class_offsets.shape), device=values.device)
    if not compiling:
        check_offsets(op, "class_offsets", class_offsets)
        check_offsets(op, "offsets", offsets, total=len(class_ids))
        _check_ids_of_groups(op, class_ids, class_offsets, offsets)
    return _class_mean(values, class_ids, class_offsets, offsets)


def _check_ids(op: str, class_ids: Tensor, classes: int) -> None:
    if len(class_ids):
        low, high = (int(extreme) for extreme in class_ids.aminmax())  # two numbers tell in the usual case
        if low < 0 or high >= classes:
            at = int(((class_ids < 0) | (class_ids >= classes)).nonzero()[0])
            raise ValueError(f"{op}: class_ids must be in 0..{classes - 1}, got {class_ids[at]} at {at}")


def _check_ids_of_groups(op: str, class_ids: Tensor, class_offsets: Tensor, offsets: Tensor) -> None:
    first, last = (torch.repeat_interleave(bound, offsets.diff()) for bound in (class_offsets[:-1], class_offsets[1:]))
    wrong = ((class_ids < first) | (class_ids >= last)).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(f"{op}: class_ids must be in {first[at]}..{last[at] - 1}, got {class_ids[at]} at {at}")


def _offsets_of(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def _classes_kernel(
    start: Tensor, end: Tensor, offsets: Tensor, lengths: Tensor, geometry: int, margin: float
) -> tuple[Tensor, ...]:
    start, end, groups = start.contiguous(), end.contiguous(), len(lengths)
    offsets = offsets.clamp(0, len(start)).cummax(0).values  # kernels rely on it, and torch.compile skips the checks
    lengths = lengths.clamp(min=0)
    snippet_offsets = _offsets_of(lengths)
    bounds = (start, end, offsets, snippet_offsets, groups, geometry, margin)
    slots = 4 * len(start) + 2 * groups
    ids, classes = offsets.new_empty(int(snippet_offsets[-1])), torch.empty_like(lengths)
    table = offsets.new_zeros((3, slots))  # of csrc/class_mean.h: first, size, entries
    scratch = offsets.new_empty((_SCRATCH, slots))
    launch("snippet_classes", start.device, *bounds, slots, scratch, ids, classes, table[0], table[1], table[2])

    class_offsets = _offsets_of(classes)
    slot_of_group = 4 * offsets[:-1] + 2 * torch.arange(groups, device=start.device)
    used = torch.repeat_interleave(slot_of_group - class_offsets[:-1], classes)
    used += torch.arange(len(used), device=start.device)
    first, size, entries = (row[used] for row in table)
    row_offsets = _offsets_of(entries)
    rows = offsets.new_empty(int(row_offsets[-1]))
    signs = torch.empty_like(rows, dtype=torch.int8)
    launch("class_rows", start.device, *bounds, first, class_offsets, row_offsets, torch.empty_like(first), rows, signs)
    ids += torch.repeat_interleave(class_offsets[:-1], lengths, output_size=len(ids))
    return ids, class_offsets, size, row_offsets, rows, signs


def _classes_fake(
    start: Tensor, end: Tensor, offsets: Tensor, lengths: Tensor, geometry: int, margin: float
) -> tuple[Tensor, ...]:
    context = torch.library.get_ctx()
    snippets, classes, entries = (context.new_dynamic_size() for _ in range(3))
    sizes = (snippets, len(offsets), classes, classes + 1, entries)
    return *(offsets.new_empty(size) for size in sizes), offsets.new_empty(entries, dtype=torch.int8)


def _mean_kernel(values: Tensor, class_ids: Tensor, class_offsets: Tensor, offsets: Tensor) -> Tensor:
    values = values.contiguous()
    out = torch.empty_like(values)
    classes, columns = max(0, int(class_offsets[-1])), values.shape[1] if values.ndim == 2 else 1
    sums = values.new_zeros((classes, columns), dtype=torch.float64)
    sizes = values.new_zeros((classes, columns), dtype=torch.int64)
    launch(
        "class_mean", values.device, DTYPE_CODES[values.dtype], values, class_ids.contiguous(), offsets.contiguous(),
        class_offsets.contiguous(), len(offsets) - 1, len(values), classes, columns, sums, sizes, out,
    )  # fmt: skip
    return out


def _mean_fake(values: Tensor, class_ids: Tensor, class_offsets: Tensor, offsets: Tensor) -> Tensor:
    return values.new_empty(values.shape)


def _mean_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _mean_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return _class_mean(grad, *ctx.saved_tensors), None, None, None


_snippet_classes = register(
    "snippet_classes(Tensor start, Tensor end, Tensor offsets, Tensor lengths, int geometry, float margin) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _classes_kernel,
    _classes_fake,
)
_class_mean = register(
    "class_mean(Tensor values, Tensor class_ids, Tensor class_offsets, Tensor offsets) -> Tensor",
    _mean_kernel,
    _mean_fake,
    _mean_backward,
    _mean_setup_context,
)
