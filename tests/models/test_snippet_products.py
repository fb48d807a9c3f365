"""Products with few rows whose gradients are one product, against autograd's own in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyws.models.backbones import linear
from pyws.models.backbones import snippet_products as module
from pyws.models.backbones.backbone import VideoBatch
from pyws.models.backbones.snippet_products import SnippetProducts

MASK = torch.arange(70) < torch.tensor([[70], [33], [1]])


@pytest.fixture(params=[True, False])
def by_video(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Small products video by video too, in spans of eight, by oneDNN and by torch."""
    monkeypatch.setattr(linear, "_has_avx512", lambda: request.param)
    monkeypatch.setattr(module, "_WORTH", 0)
    monkeypatch.setattr(module, "_STEP", 8)


def inputs(mask: Tensor = MASK, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    batch, length = mask.shape
    snippets = torch.rand(batch, length, 5, generator=draw) * mask.unsqueeze(2)
    tensors = [snippets, torch.rand(batch, 3, 5, generator=draw), torch.rand(batch, 2, length, generator=draw)]
    return [one.to(dtype).requires_grad_() for one in tensors]


def chained(products, sums, rows: Tensor, weights: Tensor) -> Tensor:
    """Products and sums of what came out of others, as in EM."""
    found = sums(products(rows).softmax(1))
    return (products(found + rows).square().sum(2) + sums(weights).sin().sum((1, 2), keepdim=True)[..., 0]).sum()


def expected(tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    snippets, rows, weights = (one.detach().double().requires_grad_() for one in tensors)
    made = chained(lambda one: one @ snippets.mT, lambda one: one @ snippets, rows, weights)
    return made, list(torch.autograd.grad(made, (snippets, rows, weights)))


def check(tensors: list[Tensor], mask: Tensor = MASK) -> SnippetProducts:
    snippets, rows, weights = tensors
    read = SnippetProducts(snippets, mask)
    made = chained(read.products, read.sums, rows, weights)
    found = torch.autograd.grad(made, (snippets, rows, weights), retain_graph=True)
    again = torch.autograd.grad(made, (snippets, rows, weights))  # nothing is left of the first time
    wanted, gradients = expected(tensors)
    torch.testing.assert_close(made.double(), wanted, atol=1e-4, rtol=1e-5)
    for one, other, right in zip(found, again, gradients, strict=True):
        assert torch.equal(one, other)
        real = mask.unsqueeze(2) if right.shape == snippets.shape else torch.ones((), dtype=torch.bool)
        torch.testing.assert_close((one * real).double(), right * real, atol=2e-4, rtol=1e-5)
    return read


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_one_product_of_all_videos(dtype: torch.dtype) -> None:
    assert check(inputs(dtype=dtype))._spans is None


@pytest.mark.usefixtures("by_video")
def test_video_by_video() -> None:
    assert check(inputs())._spans == [70, 40, 8]


@pytest.mark.usefixtures("by_video")
def test_snippets_after_a_gap_are_read() -> None:
    mask = torch.zeros(2, 30, dtype=torch.bool)
    mask[0, [0, 25]] = mask[1, :4] = True
    assert check(inputs(mask), mask)._spans == [30, 8]


@pytest.mark.usefixtures("by_video")
def test_snippets_that_need_no_gradient_and_are_read_plainly_too() -> None:
    snippets, rows, _ = inputs()
    still = SnippetProducts(snippets.detach(), MASK)
    (of_rows,) = torch.autograd.grad(still.products(rows).sum(), rows)
    torch.testing.assert_close(of_rows, snippets.detach().sum(1, keepdim=True).expand_as(rows))
    read = SnippetProducts(snippets, MASK)
    (found,) = torch.autograd.grad(read.snippets.square().sum() + read.products(rows).sum(), snippets)
    torch.testing.assert_close(
        found * MASK.unsqueeze(2), (2 * snippets + rows.sum(1, keepdim=True)) * MASK.unsqueeze(2)
    )


def test_weighted_means_are_those_of_each_video() -> None:
    batch, draw = VideoBatch(torch.zeros(3, 70, 1), MASK), torch.Generator().manual_seed(1)
    weights, rows = (torch.rand(104, width, generator=draw) for width in (1, 6))
    wanted = (batch.unpack(weights * rows)).sum(1) / torch.tensor([[70.0], [33.0], [1.0]])
    torch.testing.assert_close(batch.weighted_mean(weights, rows), wanted)
