"""Products of the snippets of videos with a few rows of each video's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyws.models.backbones.linear import is_large, product

_STEP = 32  # spans are multiples of it: oneDNN makes code for each shape, which takes as long as five products
_WORTH = 1 << 18  # numbers of a video; below it a call costs more than what is gained


class SnippetProducts:
    """The snippets (B, L, D) of a batch, zeros at padding, for products with few rows that read all of them.

    The gradient of each such product with respect to the snippets is a product as large as they are. They are kept as
    their factors and made as one product when all are there, where autograd makes and adds up one after another. Large
    float32 products on the CPU are :func:`~.linear.product`'s, video by video and without most of the padding.

    Parameters
    ----------
    snippets : (B, L, D)
    mask : (B, L) bool, True at real snippets

    Examples
    --------
    >>> snippets = SnippetProducts(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.ones(1, 2, dtype=torch.bool))
    >>> snippets.products(torch.tensor([[[1.0, 10.0]]])), snippets.sums(torch.tensor([[[1.0, 10.0]]]))
    (tensor([[[21., 43.]]]), tensor([[[31., 42.]]]))
    """

    def __init__(self, snippets: Tensor, mask: Tensor) -> None:
        self._factors: list[tuple[Tensor, Tensor]] = []
        self._spans: list[int] | None = None
        if is_large(snippets, snippets, snippets[0].numel(), _WORTH):
            ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1)
            self._spans = [min(-(-end // _STEP) * _STEP, mask.shape[1]) for end in ends.tolist()]
        self.snippets: Tensor = _Collected.apply(snippets, self._factors, self._spans)

    def products(self, rows: Tensor) -> Tensor:
        """(B, R, D) -> (B, R, L): dot products of rows and snippets."""
        return _Read.apply(rows, self.snippets, False, self._factors, self._spans)

    def sums(self, weights: Tensor) -> Tensor:
        """(B, R, L) -> (B, R, D): weighted sums of snippets."""
        return _Read.apply(weights, self.snippets, True, self._factors, self._spans)


def _products(rows: Tensor, snippets: Tensor, spans: list[int] | None) -> Tensor:
    if spans is None:
        return rows @ snippets.mT
    made = rows.new_zeros(*rows.shape[:2], snippets.shape[1])
    for video, span in enumerate(spans):
        made[video, :, :span] = product(rows[video], snippets[video, :span])
    return made


def _sums(weights: Tensor, snippets: Tensor, spans: list[int] | None) -> Tensor:
    if spans is None:
        return weights @ snippets
    each = (product(weights[video, :, :span], snippets[video, :span].T) for video, span in enumerate(spans))
    return torch.stack(list(each))


class _Collected(torch.autograd.Function):
    """The snippets themselves; backward, where all that read them have left their factors, their gradient."""

    @staticmethod
    def forward(ctx: Any, snippets: Tensor, factors: list[tuple[Tensor, Tensor]], spans: list[int] | None) -> Tensor:
        ctx.factors, ctx.spans = factors, spans
        return snippets.view_as(snippets)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.factors:
            weights, rows = (torch.cat(several, 1) for several in zip(*ctx.factors, strict=True))
            ctx.factors.clear()
            if ctx.spans is None:
                return gradient + weights.mT @ rows, None, None
            gradient = gradient.clone()
            for video, span in enumerate(ctx.spans):
                gradient[video, :span] += product(weights[video, :, :span].T, rows[video].T)
        return gradient, None, None


class _Read(torch.autograd.Function):
    """Products of snippets with rows, or their sums by weights: each is how the gradient of the other goes back."""

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, snippets: Tensor, sums: bool, factors: list[tuple[Tensor, Tensor]],
        spans: list[int] | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(given, snippets)
        ctx.sums, ctx.factors, ctx.spans = sums, factors, spans
        return (_sums if sums else _products)(given, snippets, spans)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        given, snippets = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.factors.append((given, gradient) if ctx.sums else (gradient, given))
        back = _products if ctx.sums else _sums
        return back(gradient, snippets, ctx.spans) if ctx.needs_input_grad[0] else None, None, None, None, None
