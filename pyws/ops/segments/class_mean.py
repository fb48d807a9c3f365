"""class_mean: the snippets that no segment tells apart, and the mean of values over them (GauFuse eq. 6)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyws.ops._library import (
    _C,
    check_choice,
    check_columns,
    check_count,
    check_entries,
    check_range,
    check_segments,
    check_tensor,
    in_capture,
    launch,
    refuse_capture,
    register,
)
from pyws.ragged import Segments, check_offsets

_GEOMETRIES: tuple[str, ...] = _C.ROW_GEOMETRIES
_MARGINS = {"paper": 0.25, "released": 0.0785}
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
    margin : factor of the margins' width, >= 0; None for the factor that ``geometry`` has
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
    check_range(op, "margin", margin, "finite and >= 0", lambda: 0 <= margin < float("inf"))
    if len(segments) >= _MAX_SEGMENTS:
        raise ValueError(f"{op}: segments must be fewer than 2**29, got {len(segments)}")
    if not torch.compiler.is_compiling():
        refuse_capture(op)
        snippets = lengths.tolist()
        if (shortest := min(snippets, default=0)) < 0:
            raise ValueError(f"{op}: lengths must be >= 0, got {shortest}")
        check_entries(op, "lengths", sum(snippets))
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
    readable = not torch.compiler.is_compiling() and not in_capture()
    if torch.compiler.is_compiling():  # ids of snippet_classes have a length that is known at run time only
        torch._check(class_ids.shape[0] == values.shape[0])
    if isinstance(class_offsets, int):
        _check_mean(values, class_ids, None, None, class_offsets)
        check_range(op, "class_offsets", class_offsets, ">= 0", lambda: class_offsets >= 0)
        check_entries(op, "class_offsets times columns", class_offsets * (values.shape[1] if values.ndim == 2 else 1))
        out, unknown = _class_mean(values, class_ids, None, None, class_offsets)
    else:
        if offsets is None:
            raise ValueError(f"{op}: offsets must be given where class_offsets is a tensor, got None")
        _check_mean(values, class_ids, class_offsets, offsets, 0)
        if readable:
            check_offsets(op, "class_offsets", class_offsets)
            check_entries(op, "class_offsets times columns", int(class_offsets[-1]) * values[:1].numel())
            check_offsets(op, "offsets", offsets, total=len(class_ids))
        out, unknown = _class_mean(values, class_ids, class_offsets, offsets, 0)
    if readable and out.numel() and max(unknown.tolist()) >= 0:
        _refuse_ids(op, class_ids, class_offsets, unknown)
    return out


def _refuse_ids(op: str, class_ids: Tensor, class_offsets: Tensor | int, unknown: Tensor) -> None:
    group = int((unknown >= 0).nonzero()[0])
    first, end = (0, class_offsets) if isinstance(class_offsets, int) else class_offsets[group : group + 2].tolist()
    at = int(unknown[group])
    raise ValueError(f"{op}: class_ids must be in {first}..{end - 1}, got {class_ids[at]} at {at}")


def _check_classes(start: Tensor, end: Tensor, offsets: Tensor, lengths: Tensor, geometry: int, margin: float) -> None:
    op = "snippet_classes"
    check_columns(op, offsets, start=start, end=end)
    check_tensor(op, "lengths", lengths, (torch.int64,), shape=(len(offsets) - 1,), device=start.device)
    check_count(op, "geometry", geometry, 0, len(_GEOMETRIES) - 1)
    check_range(op, "margin", margin, "finite and >= 0", lambda: 0 <= margin < float("inf"))


def _classes_kernel(
    start: Tensor, end: Tensor, offsets: Tensor, lengths: Tensor, geometry: int, margin: float
) -> tuple[Tensor, ...]:
    start, end, groups = start.contiguous(), end.contiguous(), len(lengths)
    lengths = lengths.clone()  # what sizes the answer is what the kernel reads, whoever writes meanwhile
    snippets = sum(max(0, length) for length in lengths.tolist())
    check_entries("snippet_classes", "lengths", snippets)
    ids = offsets.new_empty(snippets)
    starts, class_offsets = offsets.new_empty(3 * (groups + 1)), offsets.new_empty(groups + 1)
    slots = _C.snippet_classes_slots(len(start), groups)
    scratch = offsets.new_empty(_C.snippet_classes_scratch(len(start), groups))
    launch("snippet_classes", start.device, {
        "start": start, "end": end, "segments": len(start), "offsets": offsets.contiguous(),
        "lengths": lengths.contiguous(), "groups": groups, "geometry": _GEOMETRIES[geometry], "margin": float(margin),
        "slots": slots, "starts": starts, "class_offsets": class_offsets, "scratch": scratch, "ids": ids,
    })  # fmt: skip
    classes, entries = int(class_offsets[-1]), int(starts[-1])
    size, row_offsets, rows = offsets.new_empty(classes), offsets.new_zeros(classes + 1), offsets.new_empty(entries)
    signs = torch.empty_like(rows, dtype=torch.int8)
    launch("class_rows", start.device, {
        "starts": starts, "class_offsets": class_offsets, "groups": groups, "slots": slots, "scratch": scratch,
        "ids": ids, "size": size, "row_offsets": row_offsets, "rows": rows, "signs": signs,
    })  # fmt: skip
    return ids, class_offsets, size, row_offsets, rows, signs


def _classes_fake(start: Tensor, end: Tensor, offsets: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    context = torch.library.get_ctx()
    snippets, classes, entries = (context.new_dynamic_size() for _ in range(3))
    sizes = (snippets, len(offsets), classes, classes + 1, entries)
    return *(offsets.new_empty(size) for size in sizes), offsets.new_empty(entries, dtype=torch.int8)


def _check_mean(
    values: Tensor, class_ids: Tensor, class_offsets: Tensor | None, offsets: Tensor | None, classes: int
) -> None:
    op = "class_mean"
    check_tensor(op, "values", values, (torch.float32, torch.float64), ndim=(1, 2))
    check_tensor(op, "class_ids", class_ids, (torch.int64,), shape=(len(values),), device=values.device)
    if (class_offsets is None) != (offsets is None):
        raise ValueError(f"{op}: class_offsets and offsets must be given together")
    if class_offsets is not None and offsets is not None:
        check_tensor(op, "class_offsets", class_offsets, (torch.int64,), ndim=1, device=values.device)
        check_tensor(op, "offsets", offsets, (torch.int64,), shape=tuple(class_offsets.shape), device=values.device)
        if not len(offsets):
            raise ValueError(f"{op}: offsets must have shape (groups+1,), got (0,)")


def _mean_kernel(
    values: Tensor, class_ids: Tensor, class_offsets: Tensor | None, offsets: Tensor | None, classes: int
) -> tuple[Tensor, Tensor]:
    values, groups = values.contiguous(), 1
    if class_offsets is not None and offsets is not None:
        class_offsets, offsets, groups = class_offsets.contiguous(), offsets.contiguous(), len(offsets) - 1
        classes = max(0, int(class_offsets[-1]))
    out, unknown = torch.empty_like(values), class_ids.new_empty(groups)
    columns = values.shape[1] if values.ndim == 2 else 1
    check_entries("class_mean", "classes times columns", classes * columns)
    check_range("class_mean", "classes", classes, ">= 0", lambda: classes >= 0)
    sums = values.new_empty(2 * classes * columns, dtype=torch.float64)
    launch("class_mean", values.device, {
        "values": values, "ids": class_ids.contiguous(), "snippet_offsets": offsets, "class_offsets": class_offsets,
        "groups": groups, "total": len(values), "classes": classes, "columns": columns, "sums": sums, "out": out,
        "unknown": unknown,
    })  # fmt: skip
    return out, unknown


def _mean_fake(
    values: Tensor, class_ids: Tensor, class_offsets: Tensor | None, offsets: Tensor | None, classes: int
) -> tuple[Tensor, Tensor]:
    return values.new_empty(values.shape), class_ids.new_empty(1 if offsets is None else len(offsets) - 1)


def _mean_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[1:4])
    ctx.classes = inputs[4]


def _mean_backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    return _class_mean(grad, *ctx.saved_tensors, ctx.classes)[0], None, None, None, None


_snippet_classes = register(
    "snippet_classes(Tensor start, Tensor end, Tensor offsets, Tensor lengths, int geometry, float margin) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _classes_kernel,
    _classes_fake,
    check=_check_classes,
    reads_contents=True,
)
_class_mean = register(
    "class_mean(Tensor values, Tensor class_ids, Tensor? class_offsets, Tensor? offsets, SymInt classes) -> "
    "(Tensor, Tensor)",
    _mean_kernel,
    _mean_fake,
    _mean_backward,
    _mean_setup_context,
    _check_mean,
)
