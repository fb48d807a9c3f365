"""class_mean: the snippets that no segment tells apart, and the mean of values over them (GauFuse eq. 6)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyws.ops._library import DTYPE_CODES, check_choice, check_range, check_tensor, launch, refuse_grad, register
from pyws.ragged import Segments, check_offsets

_GEOMETRIES = ("paper", "released")  # in the order of csrc/snippet_rows.h: RowGeometry
_MARGINS = {"paper": 0.25, "released": 0.0785}
_SCRATCH = 7  # csrc/class_mean.h: kClassScratch
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
    if not isinstance(segments, Segments):
        raise TypeError(f"{op}: segments must be Segments, got {type(segments).__name__}")
    check_tensor(op, "lengths", lengths, (torch.int64,), shape=(segments.groups,), device=segments.start.device)
    check_choice(op, "geometry", geometry, _GEOMETRIES)
    margin = _MARGINS[geometry] if margin is None else margin
    check_range(op, "margin", margin, "finite and >= 0", 0 <= margin < float("inf"))
    refuse_grad(op, start=segments.start, end=segments.end)
    if len(segments) >= _MAX_SEGMENTS:
        raise ValueError(f"{op}: segments must be fewer than 2**29, got {len(segments)}")
    if lengths.numel() > 0 and int(lengths.min()) < 0:
        raise ValueError(f"{op}: lengths must be >= 0, got {int(lengths.min())}")
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rule = _GEOMETRIES.index(geometry)
    bounds = (segments.start, segments.end, segments.offsets, offsets, rule, float(margin))
    ids, classes, table = _snippet_classes(*bounds, int(offsets[-1]))
    class_offsets = torch.cat([lengths.new_zeros(1), classes.cumsum(0)])
    slots = 4 * segments.offsets[:-1] + 2 * torch.arange(segments.groups, device=lengths.device)
    used = torch.repeat_interleave(slots - class_offsets[:-1], classes)
    used += torch.arange(len(used), device=lengths.device)
    first, size, entries = table[:, used].unbind()
    row_offsets = torch.cat([lengths.new_zeros(1), entries.cumsum(0)])
    rows, signs = _class_rows(*bounds, first.contiguous(), class_offsets, row_offsets, int(row_offsets[-1]))
    ids += torch.repeat_interleave(class_offsets[:-1], lengths)
    return SnippetClasses(ids, class_offsets, size, row_offsets, rows, signs)


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
    check_tensor(op, "class_ids", class_ids, (torch.int64,), shape=(len(values),), device=values.device)
    if isinstance(class_offsets, int):
        check_range(op, "class_offsets", class_offsets, ">= 0", class_offsets >= 0)
        class_offsets = torch.tensor([0, class_offsets], device=values.device)
        offsets = torch.tensor([0, len(values)], device=values.device)
    elif offsets is None:
        raise ValueError(f"{op}: offsets must be given where class_offsets is a tensor, got None")
    check_tensor(op, "class_offsets", class_offsets, (torch.int64,), ndim=1, device=values.device)
    check_tensor(op, "offsets", offsets, (torch.int64,), shape=tuple(class_offsets.shape), device=values.device)
    if not torch.compiler.is_compiling():
        _check_classes(op, class_ids, class_offsets, offsets)
    return _class_mean(values, class_ids, class_offsets, offsets, int(class_offsets[-1]))


def _check_classes(op: str, class_ids: Tensor, class_offsets: Tensor, offsets: Tensor) -> None:
    check_offsets(op, "class_offsets", class_offsets)
    check_offsets(op, "offsets", offsets, total=len(class_ids))
    if len(offsets) == 2 and len(class_ids):  # one group, the usual case: two numbers tell
        low, high = class_ids.aminmax()
        if int(low) >= 0 and int(high) < int(class_offsets[1]):
            return
    first, last = (torch.repeat_interleave(bound, offsets.diff()) for bound in (class_offsets[:-1], class_offsets[1:]))
    wrong = ((class_ids < first) | (class_ids >= last)).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(f"{op}: class_ids must be in {first[at]}..{last[at] - 1}, got {class_ids[at]} at {at}")


def _classes_kernel(
    start: Tensor, end: Tensor, offsets: Tensor, snippet_offsets: Tensor, geometry: int, margin: float, total: int
) -> tuple[Tensor, Tensor, Tensor]:
    ids, classes, table = _classes_fake(start, end, offsets, snippet_offsets, geometry, margin, total)
    slots = table.shape[1]
    scratch = table.new_empty((_SCRATCH, slots))
    launch(
        "snippet_classes", start.device, start.contiguous(), end.contiguous(), offsets.contiguous(),
        snippet_offsets.contiguous(), len(classes), geometry, margin, slots, scratch, ids, classes, table[0],
        table[1], table[2],
    )  # fmt: skip
    return ids, classes, table


def _classes_fake(
    start: Tensor, end: Tensor, offsets: Tensor, snippet_offsets: Tensor, geometry: int, margin: float, total: int
) -> tuple[Tensor, Tensor, Tensor]:
    groups = offsets.shape[0] - 1
    table = offsets.new_zeros((3, 4 * start.shape[0] + 2 * groups))  # of csrc/class_mean.h: first, size, entries
    return offsets.new_empty(total), offsets.new_empty(groups), table


def _rows_kernel(
    start: Tensor, end: Tensor, offsets: Tensor, snippet_offsets: Tensor, geometry: int, margin: float, first: Tensor,
    class_offsets: Tensor, row_offsets: Tensor, entries: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    rows, signs = offsets.new_empty(entries), offsets.new_empty(entries, dtype=torch.int8)
    launch(
        "class_rows", start.device, start.contiguous(), end.contiguous(), offsets.contiguous(),
        snippet_offsets.contiguous(), len(offsets) - 1, geometry, margin, first.contiguous(),
        class_offsets.contiguous(), row_offsets.contiguous(), rows, signs,
    )  # fmt: skip
    return rows, signs


def _rows_fake(
    start: Tensor, end: Tensor, offsets: Tensor, snippet_offsets: Tensor, geometry: int, margin: float, first: Tensor,
    class_offsets: Tensor, row_offsets: Tensor, entries: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return offsets.new_empty(entries), offsets.new_empty(entries, dtype=torch.int8)


def _mean_kernel(values: Tensor, class_ids: Tensor, class_offsets: Tensor, offsets: Tensor, num_classes: int) -> Tensor:
    values = values.contiguous()
    out = torch.empty_like(values)
    columns = values.shape[1] if values.ndim == 2 else 1
    sums = values.new_zeros((num_classes, columns), dtype=torch.float64)
    sizes = values.new_zeros((num_classes, columns), dtype=torch.int64)
    launch(
        "class_mean", values.device, DTYPE_CODES[values.dtype], values, class_ids.contiguous(), offsets.contiguous(),
        class_offsets.contiguous(), len(offsets) - 1, columns, sums, sizes, out,
    )  # fmt: skip
    return out


def _mean_fake(values: Tensor, class_ids: Tensor, class_offsets: Tensor, offsets: Tensor, num_classes: int) -> Tensor:
    return values.new_empty(values.shape)


def _mean_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, class_ids, class_offsets, offsets, ctx.num_classes = inputs
    ctx.save_for_backward(class_ids, class_offsets, offsets)


def _mean_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return _class_mean(grad, *ctx.saved_tensors, ctx.num_classes), None, None, None, None


_BOUNDS = "Tensor start, Tensor end, Tensor offsets, Tensor snippet_offsets, int geometry, float margin"
_snippet_classes = register(
    f"snippet_classes({_BOUNDS}, SymInt total) -> (Tensor, Tensor, Tensor)", _classes_kernel, _classes_fake
)
_class_rows = register(
    f"class_rows({_BOUNDS}, Tensor first, Tensor class_offsets, Tensor row_offsets, SymInt entries) -> "
    "(Tensor, Tensor)",
    _rows_kernel,
    _rows_fake,
)
_class_mean = register(
    "class_mean(Tensor values, Tensor class_ids, Tensor class_offsets, Tensor offsets, SymInt num_classes) -> Tensor",
    _mean_kernel,
    _mean_fake,
    _mean_backward,
    _mean_setup_context,
)
