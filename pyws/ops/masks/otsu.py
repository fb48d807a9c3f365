"""otsu: the threshold that splits each map into two classes, equal to scikit-image's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyws.ops._library import FLOATS, check_tensor, contents_are_readable, first_wrong, launch, register

_MAX_POSITIONS = 2**31 - 1


def otsu(maps: Tensor, check_finite: bool = True) -> Tensor:
    """Otsu's threshold of each map over 256 bins between its minimum and maximum; the foreground is ``map > t``.

    Equivalent to ``[skimage.filters.threshold_otsu(m) for m in maps]``, bit for bit for float32 and float64.

    Parameters
    ----------
    maps : (B, ...) float32, float64, float16 or bfloat16; each map is flattened. Narrow types count as float32.
    check_finite : look for NaN and infinities and raise. On CUDA the check waits for the kernel; without it, and
        under ``torch.compile``, the threshold of such a map is NaN, and so its foreground empty.

    Returns
    -------
    (B,) float32, float64 for float64 maps: the centre of the last bin of the background. A constant map has its value
    as the threshold; so has, with its maximum, a map whose 256 bins cannot be told apart in its dtype (rounding noise
    around one value, where scikit-image raises). Both have an empty foreground. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank or device, maps without positions or with 2^31 or more, values
        that are not finite or exceed half the largest float
    RuntimeError : ``maps`` requires grad

    Notes
    -----
    Source: Otsu, A threshold selection method from gray-level histograms, 1979; Chen et al., CVPR 2020, section 3.1.

    Examples
    --------
    >>> maps = torch.tensor([[0.0, 0.2, 0.9, 1.0], [0.5, 0.5, 0.5, 0.5]])
    >>> thresholds = otsu(maps)
    >>> maps > thresholds[:, None]
    tensor([[False, False,  True,  True],
            [False, False, False, False]])
    """
    _check(maps)
    thresholds = _otsu(maps)
    if check_finite and contents_are_readable():
        _raise_unless_finite(maps, thresholds)
    return thresholds


def _check(maps: Tensor) -> None:
    check_tensor("otsu", "maps", maps, FLOATS)
    if maps.ndim < 2:
        raise ValueError(f"otsu: maps must have shape (B, ...), got shape {tuple(maps.shape)}")
    if not 1 <= maps.shape[1:].numel() <= _MAX_POSITIONS:
        raise ValueError(f"otsu: maps must have 1 to 2^31 - 1 positions each, got shape {tuple(maps.shape)}")


def _raise_unless_finite(maps: Tensor, thresholds: Tensor) -> None:
    if math.isfinite(sum(thresholds.tolist())):  # not so where a threshold is NaN, and seldom else
        return
    bad = thresholds.isnan()
    if bad.any():
        at = int(bad.nonzero()[0])
        values = maps[at].flatten().to(thresholds.dtype)
        limit = torch.finfo(values.dtype).max / 2
        value = first_wrong("otsu", "maps", values, ~(values.abs() <= limit))
        raise ValueError(f"otsu: maps must be finite and at most {limit:.3g} in magnitude, got {value} in map {at}")


def _summing(maps: Tensor) -> torch.dtype:
    return torch.float64 if maps.dtype == torch.float64 else torch.float32


def _kernel(maps: Tensor) -> Tensor:
    batch, positions = len(maps), maps.shape[1:].numel()
    thresholds = maps.new_empty(batch, dtype=_summing(maps))
    launch("otsu", maps.device, {
        "maps": maps.contiguous(), "batch": batch, "positions": positions, "thresholds": thresholds,
    })  # fmt: skip
    return thresholds


def _fake(maps: Tensor) -> Tensor:
    return maps.new_empty(maps.shape[0], dtype=_summing(maps))


_otsu = register("otsu(Tensor maps) -> Tensor", _kernel, _fake, check=_check)
