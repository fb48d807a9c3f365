"""Linear layers over many rows, by the library whose float32 products are the fastest on this processor."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_LARGE = 1 << 26  # multiplications; below it a call costs more than what is gained


def linear(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    relu: bool = False,
    kept: tuple[Tensor, float] | None = None,
) -> Tensor:
    """``rows @ weight.T + bias``, and what is below zero cut off where ``relu`` asks for it, then dropout.

    Large float32 products on the CPU are :func:`product`'s, forward and backward. Equal to torch's but for rounding.

    Parameters
    ----------
    rows : (N, D)
    weight : (E, D)
    bias : (E,)
    kept : (N, E) random numbers in [0, 1) and a share: where the number is not below the share there are zeros, and the
        rest grows by 1 / share. Only with ``relu``: what grows is the weight, for ReLU and growth may change places

    Returns
    -------
    (N, E)

    Examples
    --------
    >>> rows, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [-5.0, 0.0]])
    >>> linear(rows, weight, relu=True), linear(rows, weight, relu=True, kept=(torch.tensor([[0.3, 0.3]]), 0.5))
    (tensor([[11.,  0.]]), tensor([[22.,  0.]]))
    """
    noise, share = (None, 1.0) if kept is None else kept
    if kept is not None:
        weight, bias = weight / share, None if bias is None else bias / share
    if is_large(rows, weight, len(rows) * weight.numel(), _LARGE):
        return _Linear.apply(rows, weight, bias, relu, noise, share)
    made = functional.linear(rows, weight, bias)
    made = made.relu_() if relu else made
    return made if noise is None else made * (noise < share)


def is_large(a: Tensor, b: Tensor, size: int, least: int) -> bool:
    """Whether :func:`product` makes these products: float32 on the CPU, of at least so many multiplications."""
    return (
        a.device.type == b.device.type == "cpu"
        and a.dtype == b.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and size >= least
    )


def product(a: Tensor, b: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """(N, K) and (M, K) -> (N, M), ``a @ b.T + bias``, and what is below zero cut off.

    By oneDNN where the processor has AVX-512, which MKL, by which torch multiplies, uses on Intel's alone: there oneDNN
    takes half of the time. With AVX2 it takes a tenth to a third more than MKL.
    """
    if _by_onednn():
        return _of_onednn(a, b, bias, relu)
    made = functional.linear(a, b, bias)
    return made.relu_() if relu else made


def laid_out(factor: Tensor) -> Tensor:
    """A transposed factor as :func:`product` reads it the fastest; oneDNN takes longer to read it than to copy it."""
    return factor.contiguous() if _by_onednn() else factor


def _by_onednn() -> bool:
    return _has_avx512() and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled) and _works()


@cache
def _has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@cache
def _works() -> bool:
    """Whether this torch has the operation and takes it as it is called here: it is not part of torch's interface."""
    ones = torch.ones(2, 2)
    try:
        return torch.equal(_of_onednn(ones, ones, ones[0], True), 3 * ones)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _of_onednn(a: Tensor, b: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "relu" if relu else "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, noise: Tensor | None, share: float
    ) -> Tensor:
        made = product(rows, weight, bias, relu)
        if noise is not None:  # the one operation that reads a tensor and cuts another in one pass
            made = torch.ops.aten.hardtanh_backward(made, noise, -1, share)
        ctx.save_for_backward(rows, weight, made if relu else None)
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        rows, weight, made = ctx.saved_tensors
        if made is not None:  # zero where it was cut off, and where it was dropped
            gradient = torch.ops.aten.threshold_backward(gradient, made, 0)
        of_rows, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            product(gradient, laid_out(weight.T)) if of_rows else None,
            product(laid_out(gradient.T), rows.T) if of_weight else None,
            gradient.sum(0) if of_bias else None,
            None,
            None,
            None,
        )
