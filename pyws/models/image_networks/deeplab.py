"""DeepLab-v2: a classifier's body at a fine output stride, and four dilated convolutions whose sum scores each class.

Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected
CRFs, 2016 (without the CRF, as WS^2 uses it).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.classifiers import LITE0, SMALL2D, load_weights, read_state
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.models.image_networks.motion_stream import CHANNELS, MotionStream
from pyws.models.image_networks.small2d import Small2D
from pyws.models.video_networks.catalogue import IMAGENET_MEAN, IMAGENET_STD

BACKBONES = ("resnet101", "resnet50", "resnet18", LITE0, SMALL2D)
RATES = (6, 12, 18, 24)

Factors = tuple[Sequence[int], Sequence[int]]  # the actor and the action of each class


class DeepLabV2(nn.Module):
    """RGB images (B, 3, H, W) in [0, 1] to scores (B, classes, H, W); H, W of any size.

    With ``clip_frames`` T above 1 it takes clips (B, 3 T, H, W), frame after frame, and scores their middle frame: the
    body sees that one, a :class:`~.motion_stream.MotionStream` all, and the head both.

    Parameters
    ----------
    body : images to features (B, channels, ceil(H / output_stride), ceil(W / output_stride))
    channels : channels of the features
    classes : background, which is class 0, included
    output_stride : pixels between two positions of the features
    mean, std : subtracted from RGB, then divided by
    rates : dilations of the summed 3x3 convolutions, at least 1 each; None: a single 1x1 convolution instead
    frozen_norm : batch norm keeps its statistics and its scale, in train mode too: batches of crops are too small to
        estimate them
    factors : the actor and the action of each class, (classes,) each from 0: actors and actions are scored instead of
        classes, and a class has the sum of its two scores, so that what is learned of an actor holds for all its
        actions; None scores each class by itself
    frozen_body : nothing of the body learns
    clip_frames : T, odd

    Examples
    --------
    >>> model = build_deeplab("resnet18", classes=4)
    >>> model(torch.rand(1, 3, 30, 45)).shape
    torch.Size([1, 4, 30, 45])
    """

    factors: Tensor | None

    def __init__(
        self,
        body: nn.Module,
        channels: int,
        classes: int,
        output_stride: int = 8,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        rates: Sequence[int] | None = RATES,
        frozen_norm: bool = True,
        factors: Factors | None = None,
        frozen_body: bool = False,
        clip_frames: int = 1,
    ) -> None:
        super().__init__()
        self.body = body
        self.clip_frames = clip_frames
        self.motion = MotionStream(clip_frames, output_stride) if clip_frames > 1 else None
        channels += CHANNELS if self.motion is not None else 0
        pairs = None if factors is None else torch.tensor(factors)
        outputs = classes if pairs is None else int((pairs.amax(1) + 1).sum())
        if pairs is not None:  # actions come after actors
            pairs[1] += pairs[0].max() + 1
        self.register_buffer("factors", pairs, persistent=False)
        # Each keeps the size of the features.
        branches = [
            nn.Conv2d(channels, outputs, 1)
            if rate is None
            else nn.Conv2d(channels, outputs, 3, padding=rate, dilation=rate)
            for rate in ((None,) if rates is None else rates)
        ]
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.01)
            branch.bias = nn.Parameter(torch.zeros(outputs))
        self.branches = nn.ModuleList(branches)
        self.output_stride = output_stride
        self.frozen_norm = frozen_norm or frozen_body
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        for norm in self._norms():
            norm.requires_grad_(not frozen_norm)
        if frozen_body:
            self.body.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> DeepLabV2:
        super().train(mode)
        for norm in self._norms():
            norm.train(mode and not self.frozen_norm)
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.body.modules() if isinstance(module, nn.BatchNorm2d)]

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        # Zeros after normalisation, as the convolutions pad; the scores of the border are cut off again.
        bottom, right = -height % self.output_stride, -width % self.output_stride
        middle = images if self.motion is None else images[:, 3 * (self.clip_frames // 2) :][:, :3]
        padded = functional.pad((middle - self.mean) / self.std, (0, right, 0, bottom))
        clips = None if self.motion is None else functional.pad(images, (0, right, 0, bottom), mode="replicate")
        scores = self.coarse(padded, clips).to(images.dtype)
        scores = functional.interpolate(scores, size=padded.shape[2:], mode="bilinear", align_corners=False)
        return scores[:, :, :height, :width]

    def coarse(self, normalized: Tensor, clips: Tensor | None = None) -> Tensor:
        """Scores at the resolution of the features, of a normalised frame and, where clips are seen, its clip."""
        features = self.body(normalized)
        if self.motion is not None:
            features = torch.cat([features, self.motion(clips)], 1)
        scores = self.branches[0](features)
        for branch in self.branches[1:]:
            scores = scores + branch(features)
        return scores if self.factors is None else scores[:, self.factors].sum(1)


def build_deeplab(
    backbone: str,
    classes: int,
    weights: str | os.PathLike[str] | None = None,
    output_stride: int = 8,
    frozen_norm: bool = True,
    factors: Factors | None = None,
    frozen_body: bool = False,
    rates: Sequence[int] | None = RATES,
    clip_frames: int = 1,
) -> DeepLabV2:
    """DeepLab-v2 over a known classifier.

    Parameters
    ----------
    backbone : one of BACKBONES: "resnet101" (the paper's family), "resnet50", "resnet18", "efficientnet-lite0",
        "small2d" (learns a small set on a CPU)
    classes : background included
    weights : state dict of the classifier, a local file; its last layer is left out. None: random weights
    output_stride : 8 or 16; strides beyond it become dilations
    frozen_norm, factors, frozen_body, rates, clip_frames : see :class:`DeepLabV2`

    Raises
    ------
    DataError : the file of weights is missing, damaged, or of another network
    ValueError : no such backbone or output stride
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone: must be one of {', '.join(BACKBONES)}, got {backbone!r}")
    if output_stride not in (8, 16):
        raise ValueError(f"output_stride: must be 8 or 16, got {output_stride}")
    state = None if weights is None else read_state(weights)
    labels = 1000 if state is None else len(state[next(reversed(state))])
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if backbone == LITE0:
        classifier: nn.Module = EfficientNetLite(labels, output_stride)
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    elif backbone == SMALL2D:
        classifier, mean, std = Small2D(labels, output_stride=output_stride), (0.5,) * 3, (0.25,) * 3
    else:
        from torchvision import models

        classifier = models.get_model(backbone, weights=None, num_classes=labels)
    if state is not None and weights is not None:
        load_weights(classifier, state, backbone, weights)
    body, channels = _body(classifier, output_stride)
    return DeepLabV2(
        body, channels, classes, output_stride, mean, std, rates, frozen_norm, factors, frozen_body, clip_frames
    )


def _body(classifier: Any, output_stride: int) -> tuple[nn.Module, int]:
    """What comes before the pool, and the number of its channels."""
    if isinstance(classifier, EfficientNetLite):
        stem = (classifier._conv_stem, classifier._bn0, nn.ReLU6())
        top = (classifier._conv_head, classifier._bn1, classifier.features)
        return nn.Sequential(*stem, classifier._blocks, *top), classifier._fc.in_features
    if isinstance(classifier, Small2D):
        return classifier.layers, classifier.fc.in_features
    if output_stride == 8:
        _dilate(classifier.layer3, 1)
    _dilate(classifier.layer4, 16 // output_stride)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(*(getattr(classifier, name) for name in names)), classifier.fc.in_features


def _dilate(stage: nn.Module, spacing: int) -> None:
    """Turn a stage's stride of 2 into dilation, in place: the same features, and new ones between them.

    Parameters
    ----------
    stage : blocks of a ResNet
    spacing : positions between two taps of what the stage reads; it is doubled after the strided convolution
    """
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            strided = layer.stride != (1, 1)
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (spacing, spacing) if strided else (2 * spacing, 2 * spacing)
