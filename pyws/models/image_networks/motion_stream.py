"""What moves in a clip, as features beside those of its middle frame: the second stream of a segmentation network.

Simonyan and Zisserman, Two-Stream Convolutional Networks, NIPS 2014, with differences of frames in place of flow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = 64  # width of the features


class MotionStream(nn.Module):
    """Differences of neighbouring frames to features, by four convolutions that start from random weights.

    Parameters
    ----------
    frames : T, frames of a clip
    output_stride : pixels between two positions of the features: 8 or 16

    Examples
    --------
    >>> MotionStream(5)(torch.rand(2, 15, 48, 64)).shape
    torch.Size([2, 64, 6, 8])
    """

    def __init__(self, frames: int, output_stride: int = 8) -> None:
        super().__init__()
        width, last = CHANNELS // 2, output_stride // 8
        self.layers = nn.Sequential(
            _layer(frames - 1, width, 5, stride=2),
            _layer(width, width, 3, stride=2),
            _layer(width, CHANNELS, 3, stride=2),
            _layer(CHANNELS, CHANNELS, 3, stride=last, dilation=2 // last),
        )

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3 T, H, W) in [0, 1], frame after frame -> (B, CHANNELS, H / output_stride, W / output_stride)."""
        grey = clips.unflatten(1, (-1, 3)).mean(2)
        return self.layers(8 * torch.diff(grey, dim=1))  # differences are small beside the range of a frame


def _layer(inputs: int, outputs: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(outputs // 8, outputs), nn.ReLU())
