"""otsu_masks: maps at the size of the frame, cut by Otsu's threshold, in one pass that keeps only the masks."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyws.ops._library import FLOATS, check_count, check_tensor, contents_are_readable, launch, register

_OP = "otsu_masks"
_LARGEST = 2**31 - 1


class OtsuMasks(NamedTuple):
    """What :func:`otsu_masks` returns."""

    masks: Tensor  # (..., H, W) bool
    thresholds: Tensor  # (...) in [0, 1], on the way from the least to the greatest value of the scaled map


def otsu_masks(maps: Tensor, size: tuple[int, int], check_finite: bool = True) -> OtsuMasks:
    """Scale maps to the frame and cut each by Otsu's threshold of its scaled values.

    Equivalent to ``scaled = interpolate(maps, size, mode="bilinear", align_corners=False)``, its min-max scaling to
    [0, 1], and ``scaled > otsu(scaled)``, without the scaled maps. Values follow PyTorch's formulas, rounded after
    each step; PyTorch's own kernels may fuse a product and a sum, so that pixels within a last bit of the threshold,
    and rarely the threshold, can differ.

    Parameters
    ----------
    maps : (..., h, w) float32, float64, float16 or bfloat16, at least one map dimension in front; narrow types count as
        float32
    size : (H, W) size of the frame
    check_finite : look for NaN and infinities and raise. On CUDA the check waits for the kernel; without it, and
        under ``torch.compile``, the threshold of such a map is NaN and its mask empty.

    Returns
    -------
    OtsuMasks with ``.masks`` (..., H, W) bool and ``.thresholds`` (...) float32, float64 for float64 maps. A constant
    map has the threshold 0 and an empty mask. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank or device, an empty map or frame, a frame of 2^31 pixels or more,
        values that are not finite or exceed half the largest float
    RuntimeError : ``maps`` requires grad

    Notes
    -----
    The same bits on CPU and CUDA, for any number of threads and any batch composition. Source: Chen et al., CVPR 2020,
    section 3.1; Otsu 1979, see :func:`otsu`.

    Examples
    --------
    >>> maps = torch.tensor([[[0.0, 1.0]], [[2.0, 2.0]]])
    >>> masks, thresholds = otsu_masks(maps, (1, 6))
    >>> masks
    tensor([[[False, False, False,  True,  True,  True]],
    <BLANKLINE>
            [[False, False, False, False, False, False]]])
    """
    check_tensor(_OP, "maps", maps, FLOATS)
    if not isinstance(size, tuple | list | torch.Size) or len(size) != 2:
        raise TypeError(f"{_OP}: size must be (H, W), got {size!r}")
    _check(maps, *size)
    masks, thresholds = _cut(maps, *size)
    if check_finite and contents_are_readable() and math.isnan(sum(thresholds.flatten().tolist())):
        limit = torch.finfo(thresholds.dtype).max / 2
        value = maps.flatten()[maps.abs().nan_to_num(nan=torch.inf).argmax()].item()
        raise ValueError(f"{_OP}: maps must be finite and at most {limit:.3g} in magnitude, got {value}")
    return OtsuMasks(masks, thresholds)


def _check(maps: Tensor, height: int, width: int) -> None:
    check_tensor(_OP, "maps", maps, FLOATS)
    if maps.ndim < 3 or 0 in maps.shape[-2:] or maps.shape[-2] * maps.shape[-1] > _LARGEST:
        raise ValueError(f"{_OP}: maps must have shape (..., h, w) with 1 to 2^31 - 1 values, got {tuple(maps.shape)}")
    for name, side in zip(("size[0]", "size[1]"), (height, width), strict=True):
        check_count(_OP, name, side, 1, _LARGEST)
    if height * width > _LARGEST:
        raise ValueError(f"{_OP}: size must have less than 2^31 pixels, got {(height, width)}")


def _kernel(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    masks, thresholds = _fake(maps, height, width)
    launch(_OP, maps.device, {
        "maps": maps.contiguous(), "batch": thresholds.numel(), "height": maps.shape[-2], "width": maps.shape[-1],
        "rows": height, "columns": width, "masks": masks, "thresholds": thresholds,
    })  # fmt: skip
    return masks, thresholds


def _fake(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    batch = maps.shape[:-2]
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return maps.new_empty((*batch, height, width), dtype=torch.bool), maps.new_empty(batch, dtype=dtype)


_cut = register(
    "otsu_masks(Tensor maps, SymInt height, SymInt width) -> (Tensor, Tensor)", _kernel, _fake, check=_check
)
