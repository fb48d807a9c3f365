"""EfficientNet-Lite: ImageNet classifiers of 4.7 to 6.1 million weights, for class activation maps on any machine.

Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019; the Lite variants drop
squeeze-and-excitation, use ReLU6 for swish, and keep the widths of stem and head. Parameters are named as in the
published weights, so that those load strictly.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

# kernel, stride, expansion, channels, repeats of each stage of Lite0
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


# How Lite0, 1, 2 widen and repeat its stages, and the side of the squares that they were trained on, in pixels.
SCALES = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260)}


class EfficientNetLite(nn.Module):
    """RGB images (B, 3, H, W), scaled by (x - 127) / 128 from 0..255, to class scores (B, classes); H, W of any size.

    The layer for class activation maps is ``"features"``: (B, 1280, ceil(H / stride), ceil(W / stride)), after ReLU6.

    Parameters
    ----------
    classes : number of classes
    variant : 0, 1 or 2
    output_stride : 32 as trained, or 16 or 8: the last stages with a stride keep their resolution and kernels are
        dilated instead, so that the last feature map is finer under the same weights

    Examples
    --------
    >>> import torch
    >>> model = EfficientNetLite(classes=10).eval()
    >>> model(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 10])
    """

    def __init__(self, classes: int = 1000, output_stride: int = 32, variant: int = 0) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"EfficientNetLite: output_stride must be 8, 16 or 32, got {output_stride}")
        if variant not in SCALES:
            raise ValueError(f"EfficientNetLite: variant must be 0, 1 or 2, got {variant}")
        stages = _stages(*SCALES[variant][:2])
        self._conv_stem = SameConv2d(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._act0 = nn.ReLU6(inplace=True)
        self._blocks = nn.Sequential(*_blocks(stages, output_stride))
        self._conv_head = SameConv2d(stages[-1][3], 1280, 1)
        self._bn1 = _norm(1280)
        self.features = nn.ReLU6()
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(1280, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self._act0(self._bn0(self._conv_stem(images)))
        x = self._blocks(x)
        x = self.features(self._bn1(self._conv_head(x)))
        return self._fc(self._dropout(x.mean((2, 3))))


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": ceil(size / stride) outputs, an odd pixel at the end.

    The published weights were trained so; symmetric padding shifts every strided layer by half a pixel.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        missing = [self.missing(x.shape[2 + axis], axis) for axis in (0, 1)]
        padding = [count // 2 for count in missing]
        if any(count % 2 for count in missing):  # the odd pixel at the end takes a copy
            (top, left), (height, width) = padding, missing
            x, padding = functional.pad(x, (left, width - left, top, height - top)), [0, 0]
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def missing(self, size: int, axis: int) -> int:
        """Pixels of padding along an axis of this size, at both ends together."""
        stride, span = self.stride[axis], (self.kernel_size[axis] - 1) * self.dilation[axis]
        return max((-(-size // stride) - 1) * stride + span + 1 - size, 0)


class InvertedBottleneck(nn.Module):
    """Widen by a 1x1 convolution, filter each channel, narrow linearly; add the input where the shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, dilation: int, residual: bool
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.residual = residual
        self._expand_conv = SameConv2d(inputs, wide, 1) if expansion > 1 else None
        self._bn0 = _norm(wide) if expansion > 1 else None
        self._act0 = nn.ReLU6(inplace=True) if expansion > 1 else None
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, dilation=dilation)
        self._bn1 = _norm(wide)
        self._act1 = nn.ReLU6(inplace=True)
        self._project_conv = SameConv2d(wide, outputs, 1)
        self._bn2 = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        wide = x
        if self._expand_conv is not None and self._bn0 is not None and self._act0 is not None:
            wide = self._act0(self._bn0(self._expand_conv(x)))
        filtered = self._act1(self._bn1(self._depthwise_conv(wide)))
        out = self._bn2(self._project_conv(filtered))
        return x + out if self.residual else out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _stages(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Stages with channels scaled to the nearest eight that loses no tenth, and repeats of all but the outer two."""
    scaled = []
    for place, (kernel, stride, expansion, channels, repeats) in enumerate(STAGES):
        eights = max(8, int(channels * width + 4) // 8 * 8)
        eights += 8 if eights < 0.9 * channels * width else 0
        inner = 0 < place < len(STAGES) - 1
        scaled.append((kernel, stride, expansion, eights, math.ceil(repeats * depth) if inner else repeats))
    return scaled


def _blocks(stages: list[tuple[int, int, int, int, int]], output_stride: int) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    inputs, reached, dilation = 32, 2, 1
    for kernel, stage_stride, expansion, outputs, repeats in stages:
        for repeat in range(repeats):
            stride = stage_stride if repeat == 0 else 1
            residual = stride == 1 and inputs == outputs
            block_dilation = dilation
            if stride * reached > output_stride:
                # This kernel still reads its input at the old spacing; those after it must skip.
                stride, dilation = 1, dilation * stride
            reached *= stride
            blocks.append(InvertedBottleneck(inputs, outputs, kernel, stride, expansion, block_dilation, residual))
            inputs = outputs
    return blocks
