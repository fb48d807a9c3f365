"""Networks that classify clips, by name: I3D, those of torchvision, and a small one for CPUs."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from pyws.models.video_networks.i3d import I3D
from pyws.models.video_networks.small3d import Small3D

VideoNetworkName = Literal[
    "i3d", "s3d", "r3d_18", "mc3_18", "r2plus1d_18", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b",
    "small3d",
]  # fmt: skip

_KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
_KINETICS_STD = (0.22803, 0.22145, 0.216989)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VideoNetwork:
    """How to build a network, and what it takes.

    Parameters
    ----------
    build : from the number of classes, and ``channels=`` where it takes more than RGB
    layer : dotted name of the last feature map before the pool
    mean, std : mean and standard deviation of RGB in 0..1: what goes in is (x - mean) / std
    frames : frames of a clip as trained
    short_side : short side of its frames, in pixels
    stride : input pixels between two positions of the last feature map; sides are rounded to multiples of it
    fps : frames a second of the clips that it was trained on
    resize, crop : how frames are scaled, and the side of the square that is cut out, where weights are evaluated
    fixed : whether it takes squares of ``short_side`` alone
    channels : numbers of channels that it can be built for: 3 of RGB, 2 of optical flow
    """

    build: Callable[..., nn.Module]
    layer: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int
    short_side: int
    stride: int
    fps: float
    resize: tuple[int, ...] = ()
    crop: int = 0
    fixed: bool = False
    channels: tuple[int, ...] = (3,)


def _torchvision(name: str) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        from torchvision import models

        model = models.get_model(name, weights=None, num_classes=classes)
        if name == "s3d":
            model.avgpool = nn.AdaptiveAvgPool3d(1)  # its own pool of 2x7x7 refuses smaller maps
        return model

    return build


def _convolutional(name: str, layer: str, frames: int, crop: int, resize: tuple[int, ...], stride: int) -> VideoNetwork:
    build = _torchvision(name)
    return VideoNetwork(build, layer, _KINETICS_MEAN, _KINETICS_STD, frames, crop, stride, 15, resize, crop)


def _resnet(name: str) -> VideoNetwork:
    return _convolutional(name, "layer4", 16, 112, (128, 171), 16)


def _mvit(name: str) -> VideoNetwork:
    # The last block but one: its output comes with the grid of its tokens, and the last block's attention reads it.
    return VideoNetwork(
        _torchvision(name), "blocks.14", (0.45,) * 3, (0.225,) * 3, 16, 224, 32, 7.5, (256,), 224, fixed=True
    )


def _swin3d(name: str) -> VideoNetwork:
    return VideoNetwork(_torchvision(name), "norm", IMAGENET_MEAN, IMAGENET_STD, 32, 224, 32, 15, (256,), 224)


VIDEO_NETWORKS = {
    "i3d": VideoNetwork(I3D, "Mixed_5c", (0.5,) * 3, (0.5,) * 3, 64, 224, 32, 25, (256,), 224, channels=(3, 2)),
    "s3d": _convolutional("s3d", "features", 64, 224, (256, 256), 32),
    "r3d_18": _resnet("r3d_18"),
    "mc3_18": _resnet("mc3_18"),
    "r2plus1d_18": _resnet("r2plus1d_18"),
    "mvit_v1_b": _mvit("mvit_v1_b"),
    "mvit_v2_s": _mvit("mvit_v2_s"),
    "swin3d_t": _swin3d("swin3d_t"),
    "swin3d_s": _swin3d("swin3d_s"),
    "swin3d_b": _swin3d("swin3d_b"),
    "small3d": VideoNetwork(Small3D, "layers", (0.0,) * 3, (1.0,) * 3, 16, 96, 8, 12),
}
"""i3d, s3d, r3d_18, r2plus1d_18 have a map for every 8 frames, small3d for 4, mvit, swin3d for 2, mc3_18 for each."""


def video_network(name: str) -> VideoNetwork:
    """The network of that name.

    Examples
    --------
    >>> video_network("i3d").layer
    'Mixed_5c'
    """
    if name not in VIDEO_NETWORKS:
        near = difflib.get_close_matches(name, VIDEO_NETWORKS, n=2, cutoff=0.4)
        known, nearest = ", ".join(VIDEO_NETWORKS), f" (near: {', '.join(near)})" if near else ""
        raise ValueError(f"network: must be one of {known}, got {name!r}{nearest}")
    return VIDEO_NETWORKS[name]


def replace_head(model: nn.Module, old: int, new: int) -> nn.Module:
    """Give a classifier of ``old`` classes a fresh last layer of ``new``; returns that layer.

    Raises
    ------
    ValueError : no linear layer or convolution of ``old`` outputs is found
    """
    name, layer = last_layer(model, old)
    fresh: nn.Module = (
        nn.Linear(layer.in_features, new)
        if isinstance(layer, nn.Linear)
        else type(layer)(layer.in_channels, new, layer.kernel_size)
    )
    model.set_submodule(name, fresh)
    return fresh


def last_layer(model: nn.Module, classes: int) -> tuple[str, Any]:
    """The name in the model of the last linear layer or convolution of ``classes`` outputs, and this layer.

    Raises
    ------
    ValueError : there is none
    """
    for name, layer in reversed(list(model.named_modules())):
        if isinstance(layer, nn.Linear) and layer.out_features == classes:
            return name, layer
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.out_channels == classes:
            return name, layer
    raise ValueError(f"network: found no last layer of {classes} classes")
