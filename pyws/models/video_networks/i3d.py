"""I3D, the inflated Inception-v1 of action recognition, for clips of any length and size.

Carreira and Zisserman, Quo Vadis, Action Recognition?, CVPR 2017. Parameters have the names of the public PyTorch
weights (``Conv3d_1a_7x7.conv3d.weight``, ``Mixed_3b.b1a.bn.running_mean``, ..., ``logits.conv3d.bias``), so that those
load strictly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Channels of the branches of each mixed block: 1x1 | 1x1 -> 3x3x3 | 1x1 -> 3x3x3 | pool -> 1x1
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class I3D(nn.Module):
    """Clips (B, 3, T, H, W) in [-1, 1], of any T, H, W >= 1, to class scores (B, classes).

    The pool before the scores is global, where the original has one of 2x7x7: for clips of 64 frames of 224x224 the
    two differ in the weight of the first and the last map alone, and any other clip works as well.

    The layer for class activation maps is ``"Mixed_5c"``: (B, 1024, ceil(T / 8), ceil(H / 32), ceil(W / 32)). What
    follows is a global pool and a 1x1x1 convolution, so that Grad-CAM needs no backward pass.

    Parameters
    ----------
    classes : number of outputs
    channels : channels of the input, 3 for RGB, 2 for flow

    Examples
    --------
    >>> model = I3D(classes=9).eval()
    >>> with torch.inference_mode():
    ...     model(torch.zeros(1, 3, 9, 33, 40)).shape
    torch.Size([1, 9])
    """

    def __init__(self, classes: int = 400, channels: int = 3) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(channels, 64, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, (3, 3, 3))
        self.MaxPool3d_3a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        width = 192
        for name, parts in MIXED.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = SamePool3d((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = SamePool3d((2, 2, 2), (2, 2, 2))
            self.add_module(name, Mixed(width, parts))
            width = parts[0] + parts[2] + parts[4] + parts[5]
        self.dropout = nn.Dropout(0.5)
        self.logits = Unit3D(width, classes, plain=True)
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight)  # torch's default shrinks the signal in every one of 57 layers

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for name, module in self.named_children():
            if name not in ("dropout", "logits"):
                x = module(x)
        return self.logits(self.dropout(x.mean((2, 3, 4), keepdim=True))).flatten(1)


class Unit3D(nn.Module):
    """A 3D convolution padded as TensorFlow's "SAME", batch norm, ReLU; ``plain``: the convolution alone, with bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=plain)
        self.bn = None if plain else nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv3d.kernel_size, self.conv3d.stride
        x = self.conv3d(_same(x, kernel, stride))
        return x if self.bn is None else functional.relu(self.bn(x))


class SamePool3d(nn.Module):
    """Max pool padded as TensorFlow's "SAME". Its input follows a ReLU: padding with zeros changes no maximum."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """Four branches side by side, their channels joined."""

    def __init__(self, inputs: int, parts: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit3D(inputs, parts[0])
        self.b1a = Unit3D(inputs, parts[1])
        self.b1b = Unit3D(parts[1], parts[2], (3, 3, 3))
        self.b2a = Unit3D(inputs, parts[3])
        self.b2b = Unit3D(parts[3], parts[4], (3, 3, 3))
        self.b3a = SamePool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(inputs, parts[5])

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, 1)


def _same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around x so that ceil(size / stride) positions come out, an odd one at the end."""
    edges: list[int] = []
    for axis in (2, 1, 0):  # functional.pad counts from the last dimension
        size = x.shape[2 + axis]
        missing = max((-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size, 0)
        edges += [missing // 2, missing - missing // 2]
    return functional.pad(x, edges) if any(edges) else x
