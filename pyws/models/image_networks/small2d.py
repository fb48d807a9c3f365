"""A small convolutional classifier of images that learns from a few hundred frames on a CPU in a minute."""

from __future__ import annotations

from torch import Tensor, nn


class Small2D(nn.Module):
    """Five 3x3 convolutions, a global average pool and a linear layer: Grad-CAM needs no backward pass here.

    At 96x96 pixels a step costs a thirtieth of EfficientNet-Lite0's. Group normalisation takes its statistics from each
    image alone, so that small batches, and single frames, are as good as large ones.

    Parameters
    ----------
    classes : number of outputs
    width : channels of the first convolution; the last has four times as many
    output_stride : pixels between two positions of the last feature map: 8 or 16

    Examples
    --------
    >>> import torch
    >>> model = Small2D(classes=5).eval()
    >>> images = torch.rand(2, 3, 48, 64)
    >>> model.layers(images).shape, model(images).shape
    (torch.Size([2, 64, 6, 8]), torch.Size([2, 5]))
    """

    def __init__(self, classes: int, width: int = 16, output_stride: int = 8) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise ValueError(f"Small2D: output_stride must be 8 or 16, got {output_stride}")
        last = output_stride // 8
        self.layers = nn.Sequential(
            _layer(3, width, stride=2),
            _layer(width, 2 * width, stride=2),
            _layer(2 * width, 4 * width, stride=2),
            _layer(4 * width, 4 * width, stride=last),
            _layer(4 * width, 4 * width, dilation=2 // last),
        )
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> logits (B, classes)."""
        return self.fc(self.layers(images).mean((2, 3)))


def _layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(outputs // 4, outputs), nn.ReLU())
