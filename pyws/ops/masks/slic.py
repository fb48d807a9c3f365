"""slic: superpixels of batches of images (Achanta et al. 2012)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyws.ops._library import (
    _C,
    FLOATS,
    check_count,
    check_range,
    check_tensor,
    contents_are_readable,
    launch,
    register,
)

_MAX_SIDE = 65535
_SCRATCH = 2**30  # bytes on a GPU


def slic(
    images: Tensor,
    n_segments: int = 200,
    compactness: float = 10.0,
    iterations: int = 10,
    *,
    region_area: float | None = None,
    min_size_factor: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """Superpixels: k-means in colour (CIELAB) and position around a grid, then connected components.

    Pixels take the cluster of least |Lab - Lab_k|^2 + (compactness / step)^2 |xy - xy_k|^2 among the clusters of the
    3x3 grid cells around them. Each connected part of a cluster becomes a superpixel; parts smaller than
    ``min_size_factor`` cells join the neighbour whose mean colour is nearest.

    Parameters
    ----------
    images : (B, 3, H, W) sRGB, uint8 in 0..255, or float16, bfloat16, float32 or float64 in [0, 1]; frames
        (B, H, W, 3) that are permuted, or channels last, are read as they lie, others are made contiguous
    n_segments : about how many superpixels an image gets, in 1..H*W: the cells of the grid. There may be fewer or more
        in the end, see Notes
    compactness : weight of position against colour, > 0, in units of CIELAB at the distance of one grid step
    iterations : >= 1; the first is the grid itself, as in scikit-image, whose centres start without a colour
    region_area : mean pixels of a superpixel, in place of ``n_segments``; at least 1
    min_size_factor : least area of a superpixel, in grid cells, >= 0; 0 keeps every connected part
    mask : (B, H, W) bool, pixels to divide; the grid covers the frame all the same, so that ``n_segments`` counts it
        whole. None divides all

    Returns
    -------
    (B, H, W) int32: 0..K-1 in raster order of the first pixel of each, every superpixel 4-connected, K differs
    between images; -1 outside the mask. Not differentiable.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, rank, shape, device or parameter; a float image with NaN or values
        outside [0, 1] (under ``torch.compile`` these are clamped, NaN to 0)

    Notes
    -----
    All decisions are taken on integers: CPU and CUDA, any number of threads and any batch composition agree bit for
    bit. Colours are rounded to 1/32 of a unit of CIELAB; a constant image gives the grid.

    Differences from scikit-image: images are not stretched to [0, 1] first; a pixel looks at 9 clusters, not at all
    within two steps; small parts join the nearest colour, not the last label seen, and large ones are not cut;
    K may exceed the grid where clusters fall into several large parts.

    Examples
    --------
    >>> images = torch.zeros(1, 3, 4, 6)
    >>> images[..., 3:] = 1
    >>> slic(images, n_segments=2)
    tensor([[[0, 0, 0, 1, 1, 1],
             [0, 0, 0, 1, 1, 1],
             [0, 0, 0, 1, 1, 1],
             [0, 0, 0, 1, 1, 1]]], dtype=torch.int32)
    """
    op = "slic"
    _check_images(images, mask)
    height, width = images.shape[2:]
    pixels = height * width
    if region_area is not None:
        check_range(op, "region_area", region_area, ">= 1 and finite", lambda: 1 <= region_area < math.inf)
        segments = max(1.0, pixels / region_area)
    else:
        check_count(op, "n_segments", n_segments, 1, pixels, f"in 1..{pixels}, the pixels")
        segments = float(n_segments)
    _check(images, mask, segments, compactness, iterations, min_size_factor)
    if images.is_floating_point() and images.numel() and contents_are_readable():
        _check_contents(images)
    return _slic(images, mask, segments, compactness, iterations, min_size_factor)


def _check_images(images: Tensor, mask: Tensor | None) -> None:
    op = "slic"
    check_tensor(op, "images", images, (*FLOATS, torch.uint8), ndim=4)
    channels, height, width = images.shape[1:]
    if channels != 3:
        raise ValueError(f"{op}: images must have 3 channels, red, green and blue, got shape {tuple(images.shape)}")
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE and height * width < 2**31):
        raise ValueError(
            f"{op}: images must have sides of 1 to {_MAX_SIDE} and less than 2**31 pixels, got {tuple(images.shape)}"
        )
    if mask is not None:
        check_tensor(op, "mask", mask, (torch.bool,), shape=(len(images), height, width), device=images.device)


def _check(
    images: Tensor, mask: Tensor | None, segments: float, compactness: float, iterations: int, min_size_factor: float
) -> None:
    _check_images(images, mask)
    pixels = images.shape[2] * images.shape[3]
    check_range("slic", "segments", segments, f"in 1..{pixels}, the pixels", lambda: 1 <= segments <= pixels)
    check_range("slic", "compactness", compactness, "> 0 and finite", lambda: 0 < compactness < math.inf)
    check_count("slic", "iterations", iterations, 1, 2**31 - 1, ">= 1")
    check_range("slic", "min_size_factor", min_size_factor, ">= 0 and finite", lambda: 0 <= min_size_factor < math.inf)


def _check_contents(images: Tensor) -> None:
    low, high = (float(value) for value in images.detach().aminmax())
    if not (low >= 0 and high <= 1):
        wrong = high if high > 1 or math.isnan(high) else low
        raise ValueError(f"slic: float images must be in [0, 1], got {wrong:g}; divide by 255 or pass uint8")


def grid_of(height: int, width: int, segments: float) -> tuple[int, int]:
    """Rows and columns of the grid: nearly square cells, about ``segments`` of them, none without a pixel."""
    side = math.sqrt(height * width / segments)
    if height < side:
        return 1, min(width, max(1, round(segments)))
    if width < side:
        return min(height, max(1, round(segments))), 1
    return min(height, max(1, round(height / side))), min(width, max(1, round(width / side)))


@functools.cache
def tables() -> Tensor:
    """The numbers of csrc/slic/slic.h: linear light of each level, then (f(t) << 8) + rise, all in 15 bits."""
    level = np.arange(_C.SLIC_LEVELS + 1) / _C.SLIC_LEVELS
    linear = np.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
    t = np.arange(_C.SLIC_CUBE_STEPS + 1) / _C.SLIC_CUBE_STEPS
    root = np.rint(np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116) * 32768).astype(np.int64)
    rise = np.append(np.diff(root), 0)
    return torch.from_numpy(np.concatenate([np.rint(linear * 32768).astype(np.int64), (root << 8) + rise])).int()


def _kernel(
    images: Tensor, mask: Tensor | None, segments: float, compactness: float, iterations: int, min_size_factor: float
) -> Tensor:
    labels = _fake(images)
    if not len(images):
        return labels
    height, width = images.shape[2:]
    grid = grid_of(height, width, segments)
    min_size = math.floor(min(min_size_factor * (height * width / (grid[0] * grid[1])), height * width))
    words = _C.slic_scratch(height, width, *grid)
    max_slots = torch.get_num_threads() if images.device.type == "cpu" else max(1, _SCRATCH // (8 * words))
    slots = min(len(images), max_slots)
    interleaved = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
    launch("slic", images.device, {
        "images": images if interleaved else images.contiguous(), "interleaved": interleaved,
        "mask": None if mask is None else mask.contiguous(), "batch": len(images), "height": height, "width": width,
        "rows": grid[0], "columns": grid[1], "compactness": compactness, "iterations": iterations,
        "min_size": min_size, "tables": tables().to(images.device), "slots": slots,
        "scratch": torch.empty(slots * words, dtype=torch.int64, device=images.device), "labels": labels,
    })  # fmt: skip
    return labels


def _fake(images: Tensor, *rest: Any) -> Tensor:
    return images.new_empty((images.shape[0], images.shape[2], images.shape[3]), dtype=torch.int32)


_slic = register(
    "slic(Tensor images, Tensor? mask, float segments, float compactness, int iterations, float min_size_factor)"
    " -> Tensor",
    _kernel,
    _fake,
    check=_check,
)
