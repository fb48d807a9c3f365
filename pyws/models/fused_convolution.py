"""A convolution and its activation in one pass of oneDNN, for inference on the CPU."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.image_networks.efficientnet_lite import SameConv2d


def activation_of(module: nn.Module) -> tuple[str, list[float]] | None:
    """What oneDNN calls an activation, and its numbers; None of one that it does not make.

    Examples
    --------
    >>> activation_of(nn.ReLU6()), activation_of(nn.PReLU())
    (('hardtanh', [0.0, 6.0]), None)
    """
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return "hardtanh", [float(module.min_val), float(module.max_val)]
    return {nn.ReLU: ("relu", []), nn.SiLU: ("swish", [])}.get(type(module))


def can_fuse(layer: nn.Module) -> bool:
    """Whether oneDNN makes this convolution: of images, float32 on the CPU, with zeros around them."""
    return (
        type(layer) in (nn.Conv2d, SameConv2d)
        and cast(nn.Conv2d, layer).padding_mode == "zeros"
        and not isinstance(cast(nn.Conv2d, layer).padding, str)
        and cast(nn.Conv2d, layer).weight.dtype == torch.float32
        and cast(nn.Conv2d, layer).weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and _can_pad(layer)
        and _has_convolution(torch.float32)
    )


def _can_pad(layer: nn.Module) -> bool:
    """Whether a row of zeros in the weight can make odd padding even: it moves pictures by the dilation, not by 1."""
    if not isinstance(layer, SameConv2d):
        return True
    axes = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    return all(apart == 1 or (step == 1 and (size - 1) * apart % 2 == 0) for size, step, apart in axes)


@cache
def _has_convolution(dtype: torch.dtype) -> bool:
    """Whether this torch has the operation and takes it as it is called here: it is not part of torch's interface.

    In bfloat16 it is a matter of the processor too.
    """
    ones = torch.ones(1, 1, 2, 2, dtype=dtype)
    try:
        made = _convolution(ones, ones[..., :1, :1], ones.flatten()[:1], ((0, 0), (1, 1), (1, 1), 1), ("relu", []))
        return torch.equal(made, 2 * ones)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, shape: Any, activation: Any) -> Tensor:
    """``shape`` is padding, stride, dilation and groups; ``activation`` a name and numbers of :func:`activation_of`."""
    padding, stride, dilation, groups = shape
    words, numbers = activation
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, words, numbers, ""
    )


class FusedConvolution(nn.Conv2d):
    """A convolution of images and the activation after it.

    In autocast it computes in bfloat16, as the plain convolution would. Where a gradient is asked for, or on another
    device, it is the plain convolution and activation.

    Parameters
    ----------
    layer : one that :func:`can_fuse`
    activation : one that :func:`activation_of` knows; None for none

    Examples
    --------
    >>> layer, images = nn.Conv2d(3, 4, 3, padding=1), torch.rand(2, 3, 9, 8)
    >>> with torch.no_grad():
    ...     torch.allclose(FusedConvolution(layer, nn.ReLU())(images), layer(images).relu(), atol=1e-6)
    True
    """

    def __init__(self, layer: nn.Conv2d, activation: nn.Module | None = None) -> None:
        size, stride, padding, dilation = cast(Any, (layer.kernel_size, layer.stride, layer.padding, layer.dilation))
        super().__init__(
            layer.in_channels, layer.out_channels, size, stride, padding, dilation, layer.groups,
            bias=layer.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias, self.activation = layer.weight, layer.bias, activation
        self._plain = (layer,)  # in a tuple, so that its weights are not counted twice
        self._about = ("none", []) if activation is None else activation_of(activation)
        self._weights: dict[tuple[bool, bool, torch.dtype], tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor) -> Tensor:
        (layer,) = self._plain
        dtype = _computed_in(x)
        if dtype is None:
            made: Tensor = layer(x)
            return made if self.activation is None else self.activation(made)
        odd, padding = (False, False), cast(Any, self.padding)
        if isinstance(layer, SameConv2d):
            missing = [layer.missing(x.shape[2 + axis], axis) for axis in (0, 1)]
            odd, padding = (missing[0] % 2 == 1, missing[1] % 2 == 1), [-(-n // 2) for n in missing]
        shape = padding, self.stride, self.dilation, self.groups
        return _convolution(x.to(dtype), *self._made_ready(*odd, dtype), shape, self._about)

    def _made_ready(self, rows: bool, columns: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The weight, after a row or a column of zeros: padding that is odd becomes even, and images need no copy; and
        the bias."""
        key = rows, columns, dtype
        if key not in self._weights:
            weight = self.weight.detach()
            if rows or columns:  # else there is no need of a copy
                weight = functional.pad(weight, (int(columns), 0, int(rows), 0))
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            self._weights[key] = weight.to(dtype), bias
        return self._weights[key]


def _computed_in(x: Tensor) -> torch.dtype | None:
    """What oneDNN computes in; None where it is the plain convolution's turn."""
    if x.device.type != "cpu" or (torch.is_grad_enabled() and x.requires_grad):
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if x.dtype == torch.float32 else None
    same = torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)
    return torch.bfloat16 if same and _has_convolution(torch.bfloat16) else None
