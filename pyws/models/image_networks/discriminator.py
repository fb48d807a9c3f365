"""The network that tells patches of frames from cut-and-paste composites."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

Norm = Literal["none", "spectral", "instance"]

CHANNELS = (1, 2, 4, 8, 8)  # channels of each layer, in units of the first
STRIDES = (1, 2, 2, 2, 2)


class PatchDiscriminator(nn.Module):
    """RGB patches (B, 3, size, size) in [0, 1] to logits (B,), high for patches of untouched frames.

    Five 3x3 convolutions without padding, each followed by a leaky ReLU of slope 0.2, and a linear layer. (The paper
    states the five layers; shapes follow Remez et al., Learning to Segment via Cut-and-Paste, ECCV 2018. At the
    default size: 66, 64, 31, 15, 7, 3 positions a side; 3.92 million parameters.)

    Parameters
    ----------
    size : side of a patch in pixels, at least 36
    width : channels of the first layer
    norm : "none", as the paper; "spectral" bounds each layer's largest singular value by 1, so that a discriminator
        that is trained long does not saturate; "instance" takes mean and scale of each channel out of each patch, so
        that colour casts count less than seams

    Examples
    --------
    >>> import torch
    >>> PatchDiscriminator()(torch.zeros(2, 3, 66, 66)).shape
    torch.Size([2])
    """

    def __init__(self, size: int = 66, width: int = 64, norm: Norm = "none") -> None:
        super().__init__()
        if size < 36 or width < 1:
            raise ValueError(f"PatchDiscriminator: size must be >= 36 and width >= 1, got {size} and {width}")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs, side = 3, size
        for number, (channels, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True), start=1):
            layers[f"conv{number}"] = _normed(nn.Conv2d(inputs, width * channels, 3, stride=stride), norm)
            inputs, side = width * channels, (side - 3) // stride + 1
            if norm == "instance" and side > 1:  # a single position has no scale
                layers[f"norm{number}"] = nn.InstanceNorm2d(inputs, affine=True)
            layers[f"relu{number}"] = nn.LeakyReLU(0.2)
        self.features = nn.Sequential(layers)
        self.score = _normed(nn.Linear(inputs * side * side, 1), norm)

    def forward(self, patches: Tensor) -> Tensor:
        return self.score(self.features(patches * 2 - 1).flatten(1))[:, 0]


def _normed(layer: nn.Module, norm: Norm) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(layer) if norm == "spectral" else layer
