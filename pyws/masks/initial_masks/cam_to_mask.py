"""Activation maps to masks, masks to superpixels: Otsu's threshold and Algorithm 2 (WS^2 section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pyws import ops
from pyws.data.video.frames import HEAT_SIDE

Scope = Literal["frame", "clip"]
Scale = Literal["frame", "map"]


def cut_maps(maps: Tensor, size: tuple[int, int], scale: Scale = "frame") -> Tensor:
    """Threshold maps by Otsu's method at the size of their frame.

    Parameters
    ----------
    maps : (..., h, w) float
    size : (H, W) size of the frame
    scale : values that the threshold is computed from: "frame", those of the map scaled to the frame, as in the paper;
        "map", those of the map itself. Scaling adds values between object and background, and so
        moves the threshold

    Returns
    -------
    (..., H, W) bool

    Examples
    --------
    >>> maps = torch.tensor([[[0.0, 0.0, 0.0, 4.0]]])
    >>> cut_maps(maps, (1, 8)).tolist()
    [[[False, False, False, False, False, False, True, True]]]
    >>> cut_maps(maps, (1, 8), "map").tolist()
    [[[False, False, False, False, False, True, True, True]]]
    """
    if scale == "frame":
        return ops.otsu_masks(maps, size).masks
    flat = maps.float().flatten(0, -3)
    scaled = functional.interpolate(flat[None], size=size, mode="bilinear", align_corners=False)[0]
    return (scaled > ops.otsu(flat)[:, None, None]).reshape(*maps.shape[:-2], *size)


def initial_masks(maps: Tensor, size: tuple[int, int], scale: Scale = "frame") -> Tensor:
    """Activation maps of the tags of a video to M_init.

    Each map is scaled to the frame (bilinear, ``align_corners=False``) and cut at Otsu's threshold. Where the masks of
    several tags overlap, a pixel takes the tag whose map, scaled to [0, 1], is larger there, the first of equals.

    Parameters
    ----------
    maps : (B, K, h, w) float, not negative, one map for each of K tags, at most 255
    size : (H, W) size of the frames
    scale : see :func:`cut_maps`

    Returns
    -------
    (B, H, W) uint8, 0 for background, k + 1 for tag k; a constant map gives an empty mask

    Examples
    --------
    >>> maps = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0, 0.0]]]])
    >>> initial_masks(maps, (1, 4))
    tensor([[[2, 0, 0, 1]]], dtype=torch.uint8)
    """
    _check_maps("initial_masks", maps)
    if maps.shape[1] > 255:
        raise ValueError(f"initial_masks: maps must be of at most 255 tags, got {maps.shape[1]}")
    foreground = cut_maps(maps, size, scale)
    if maps.shape[1] == 1:
        return foreground[:, 0].byte()
    best, tag = torch.where(foreground, scaled_maps(maps, size), -1).max(1)
    return torch.where(best >= 0, tag + 1, 0).byte()


def scaled_maps(maps: Tensor, size: tuple[int, int], scope: Scope = "frame") -> Tensor:
    """Maps (B, K, h, w) scaled to frames of ``size`` (bilinear, ``align_corners=False``), then to [0, 1].

    Parameters
    ----------
    scope : what is scaled to [0, 1] together: the values of each map ("frame"), or those of a class over all B ("clip")

    Returns
    -------
    (B, K, H, W) float; a constant map becomes 0
    """
    _check_maps("scaled_maps", maps)
    scores = functional.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)
    axes = (2, 3) if scope == "frame" else (0, 2, 3)
    low, high = scores.amin(axes, keepdim=True), scores.amax(axes, keepdim=True)
    return (scores - low) / torch.where(high > low, high - low, 1)


def heat_of(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Where any class is seen, for pictures: the highest of maps (B, K, h, w), each scaled to [0, 1]; (B, h, w) small.

    Examples
    --------
    >>> heat_of([torch.tensor([[[[0.0, 4.0]], [[1.0, 0.0]]]])], (1, 2))
    tensor([[[1., 1.]]])
    """
    share = min(1.0, HEAT_SIDE / min(size))
    small = (max(1, round(size[0] * share)), max(1, round(size[1] * share)))
    return torch.stack([scaled_maps(one, small).amax(1) for one in maps]).amax(0)


def _check_maps(name: str, maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(f"{name}: maps must be (B, K, h, w) float, got {tuple(maps.shape)} {maps.dtype}")


def class_masks(scores: Tensor, scope: Scope = "frame") -> Tensor:
    """Where scores exceed Otsu's threshold, class by class.

    Parameters
    ----------
    scores : (B, K, H, W) float of :func:`scaled_maps`
    scope : one threshold for each frame and class ("frame"), or for each class over all B frames ("clip")

    Returns
    -------
    (B, K, H, W) bool
    """
    if scope == "clip":
        return (
            class_masks(scores.transpose(0, 1).flatten(1, 2)[None]).view(scores.transpose(0, 1).shape).transpose(0, 1)
        )
    flat = scores.flatten(0, 1)
    return (flat > ops.otsu(flat)[:, None, None]).reshape(scores.shape)


def refine_masks(
    superpixels: Tensor,
    masks: Tensor,
    alpha: float = 0.5,
    beta: float = 0.4,
    overlap: str = "superpixel",
    beta_on: str = "superpixel",
) -> Tensor:
    """Replace masks by the superpixels that their union covers (Alg. 2); each takes the tag with most of its pixels.

    Parameters
    ----------
    superpixels : (B, H, W) int32 or int64 labels
    masks : (B, H, W) integers, 0 for background
    alpha, beta, overlap, beta_on : see :func:`pyws.ops.superpixel_select`

    Returns
    -------
    (B, H, W) of the dtype of ``masks``
    """
    selected = ops.superpixel_select(superpixels, masks > 0, alpha, beta, overlap, beta_on=beta_on).mask
    tags = int(masks.max()) if masks.numel() else 0
    if tags > 1:
        masks = ops.superpixel_vote(superpixels, masks, num_classes=tags + 1, alpha=0.0).classes
        return torch.where(selected, masks, 0)
    return selected.to(masks.dtype)
