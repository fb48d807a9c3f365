"""background_patches: squares of frames without foreground, counted and found by integral images (WS^2 section 3.2)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyws.ops._library import check_range, check_tensor, contents_are_readable, launch, register


def integral_image(masks: Tensor) -> Tensor:
    """Foreground pixels above and left of each pixel: what :func:`count_patches` and :func:`find_patches` read.

    Parameters
    ----------
    masks : (B, H, W) bool; H * W < 2^31

    Returns
    -------
    (B, H + 1, W + 1) int32: entry (y, x) is ``masks[:y, :x].sum()``. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank or size

    Examples
    --------
    >>> integral_image(torch.tensor([[[True, False], [True, True]]]))
    tensor([[[0, 0, 0],
             [0, 1, 1],
             [0, 2, 3]]], dtype=torch.int32)
    """
    _check_masks(masks)
    return _integrate(masks)


def count_patches(integral: Tensor, frames: Tensor, sides: Tensor, share: float = 0.0) -> Tensor:
    """How many squares of a side lie in a frame and hold no foreground, or little.

    Equivalent to counting, over all places where the square lies in the frame,
    ``masks[frame, y : y + side, x : x + side].sum() <= int(share * side**2)``.

    Parameters
    ----------
    integral : (B, H + 1, W + 1) int32, see :func:`integral_image`
    frames : (N,) int64, the frame of each query, 0..B-1
    sides : (N,) int64, its side in pixels, >= 1; a square larger than the frame fits nowhere
    share : share of the square that may be foreground, in [0, 1]

    Returns
    -------
    (N,) int64. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank, shape, device or parameter; a frame or side out of range (under
        ``torch.compile`` it has no squares)

    Examples
    --------
    >>> masks = torch.tensor([[[False, False, False], [False, False, True]]])
    >>> count_patches(integral_image(masks), torch.tensor([0, 0, 0]), torch.tensor([1, 2, 3]))
    tensor([5, 1, 0])
    """
    _check_queries("count_patches", integral, frames, sides, share)
    _check_contents("count_patches", integral, frames, sides)
    return _count(integral, frames, sides, share)


def find_patches(integral: Tensor, frames: Tensor, sides: Tensor, ranks: Tensor, share: float = 0.0) -> Tensor:
    """The squares that :func:`count_patches` counts, by their rank: rows from the top, columns from the left.

    A rank drawn at random below the count gives a square drawn at random, all places equally likely.

    Parameters
    ----------
    integral, frames, sides, share : as for :func:`count_patches`
    ranks : (N,) int64

    Returns
    -------
    (N, 2) int64: top row and left column, -1 where the frame has no square of that rank. Not differentiable.

    Raises
    ------
    TypeError, ValueError : as :func:`count_patches`

    Examples
    --------
    >>> masks = torch.tensor([[[False, False, False], [False, False, True]]])
    >>> frames, sides, ranks = torch.tensor([[0, 0, 0], [1, 2, 2], [4, 0, 1]])
    >>> find_patches(integral_image(masks), frames, sides, ranks)
    tensor([[ 1,  1],
            [ 0,  0],
            [-1, -1]])
    """
    _check_find(integral, frames, sides, ranks, share)
    _check_contents("find_patches", integral, frames, sides)
    return _find(integral, frames, sides, ranks, share)


def _check_masks(masks: Tensor) -> None:
    check_tensor("integral_image", "masks", masks, (torch.bool,), ndim=3)
    if masks.shape[1] * masks.shape[2] >= 2**31:
        raise ValueError(f"integral_image: masks must have less than 2^31 pixels each, got {tuple(masks.shape)}")


def _check_queries(op: str, integral: Tensor, frames: Tensor, sides: Tensor, share: float) -> None:
    check_tensor(op, "integral", integral, (torch.int32,), ndim=3)
    if 0 in integral.shape[1:] or integral.shape[1] * integral.shape[2] >= 2**31:
        raise ValueError(f"{op}: integral must have shape (B, H + 1, W + 1), got {tuple(integral.shape)}")
    check_tensor(op, "frames", frames, (torch.int64,), ndim=1, device=integral.device)
    check_tensor(op, "sides", sides, (torch.int64,), shape=tuple(frames.shape), device=integral.device)
    check_range(op, "share", share, "in [0, 1]", lambda: 0 <= share <= 1)


def _check_find(integral: Tensor, frames: Tensor, sides: Tensor, ranks: Tensor, share: float) -> None:
    _check_queries("find_patches", integral, frames, sides, share)
    check_tensor("find_patches", "ranks", ranks, (torch.int64,), shape=tuple(frames.shape), device=integral.device)


def _check_contents(op: str, integral: Tensor, frames: Tensor, sides: Tensor) -> None:
    if not contents_are_readable() or not len(frames):
        return
    lowest, highest, smallest = (int(x) for x in (*frames.aminmax(), sides.min()))
    if lowest < 0 or highest >= len(integral):
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{op}: frames must be in 0..{len(integral) - 1}, got {wrong}")
    if smallest < 1:
        raise ValueError(f"{op}: sides must be >= 1, got {smallest}")


def _queries(integral: Tensor, frames: Tensor, sides: Tensor, share: float) -> dict[str, Any]:
    batch, rows, columns = integral.shape
    return {
        "integral": integral.contiguous(), "batch": batch, "height": rows - 1, "width": columns - 1,
        "frames": frames.contiguous(), "sides": sides.contiguous(), "queries": frames.numel(), "share": share,
    }  # fmt: skip


def _integrate_kernel(masks: Tensor) -> Tensor:
    integral = _integrate_fake(masks)
    batch, height, width = masks.shape
    launch("integral_image", masks.device, {
        "masks": masks.contiguous(), "batch": batch, "height": height, "width": width, "integral": integral,
    })  # fmt: skip
    return integral


def _integrate_fake(masks: Tensor) -> Tensor:
    batch, height, width = masks.shape
    return masks.new_empty((batch, height + 1, width + 1), dtype=torch.int32)


def _count_kernel(integral: Tensor, frames: Tensor, sides: Tensor, share: float) -> Tensor:
    counts = _count_fake(integral, frames)
    launch("count_patches", integral.device, {**_queries(integral, frames, sides, share), "counts": counts})
    return counts


def _count_fake(integral: Tensor, frames: Tensor, *rest: Any) -> Tensor:
    return integral.new_zeros(frames.shape, dtype=torch.int64)


def _find_kernel(integral: Tensor, frames: Tensor, sides: Tensor, ranks: Tensor, share: float) -> Tensor:
    corners = _find_fake(integral, frames)
    fields = _queries(integral, frames, sides, share)
    launch("find_patches", integral.device, {**fields, "ranks": ranks.contiguous(), "corners": corners})
    return corners


def _find_fake(integral: Tensor, frames: Tensor, *rest: Any) -> Tensor:
    return integral.new_empty((frames.shape[0], 2), dtype=torch.int64)


_integrate = register("integral_image(Tensor masks) -> Tensor", _integrate_kernel, _integrate_fake, check=_check_masks)
_count = register(
    "count_patches(Tensor integral, Tensor frames, Tensor sides, float share) -> Tensor",
    _count_kernel,
    _count_fake,
    check=partial(_check_queries, "count_patches"),
)
_find = register(
    "find_patches(Tensor integral, Tensor frames, Tensor sides, Tensor ranks, float share) -> Tensor",
    _find_kernel,
    _find_fake,
    check=_check_find,
)
