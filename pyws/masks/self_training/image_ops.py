"""Operations on batches of images that the steps of self-training share."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.data.video.frames import Pixels


def as_images(frames: Iterable[Pixels]) -> Tensor:
    """Frames (H, W, 3) uint8 of one size as a batch (B, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2).float() / 255


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images by a Gaussian; pixels of the border are repeated beyond it.

    Parameters
    ----------
    images : (B, C, H, W) float
    sigma : standard deviation in pixels; 0 leaves the images as they are

    Returns
    -------
    (B, C, H, W)

    Examples
    --------
    >>> gaussian_blur(torch.tensor([[[[0.0, 0.0, 1.0, 0.0, 0.0]]]]), 0.3)[0, 0, 0]
    tensor([0.0000, 0.0038, 0.9923, 0.0038, 0.0000])
    """
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return images
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    channels = images.shape[1]
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel, groups=channels)
    return functional.conv2d(rows, kernel.transpose(2, 3), groups=channels)


def resample(patches: Tensor, size: int) -> Tensor:
    """Patches (B, 3, S, S) at another size, antialiased.

    Real patches and composites must both pass through here; otherwise a discriminator learns the traces of resampling.
    """
    return functional.interpolate(patches, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def as_patches(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, S, S) float in [0, 1] as the discriminator is given them: (B, 3, size, size) uint8."""
    return (resample(images, size) * 255).round().clamp(0, 255).to(torch.uint8)
