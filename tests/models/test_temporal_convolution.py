"""The convolution by fewer products against torch's, video by video."""

import pytest
import torch
from torch.nn import functional

from pyws.models.backbones.temporal_convolution import temporal_convolution

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 1, 31]


def drawn(width, outputs, dtype=torch.float64):
    generator = torch.Generator().manual_seed(width)
    shapes = (sum(SIZES), width), (outputs, width, 3), (outputs,)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def plain(rows, sizes, weight, bias):
    videos = [functional.conv1d(part.T[None], weight, bias, padding=1)[0].T for part in rows.split(sizes)]
    return torch.cat(videos)


@pytest.mark.parametrize("sizes", [SIZES, SIZES[::-1], [sum(SIZES)], [1] * sum(SIZES)])
@pytest.mark.parametrize(("width", "outputs"), [(1, 1), (6, 4), (17, 23)])
def test_equals_torch(sizes, width, outputs):
    inputs = drawn(width, outputs)
    found, expected = (function(inputs[0], sizes, *inputs[1:]) for function in (temporal_convolution, plain))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    gradients = (torch.autograd.grad((one * weights).sum(), inputs) for one in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_rounding_of_float32():
    """No more than ten times that of torch's own."""
    rows, weight, bias = drawn(512, 256)
    exact = plain(rows, SIZES, weight, bias)
    single = [tensor.detach().float() for tensor in (rows, weight, bias)]
    far, usual = (
        float((function(single[0], SIZES, *single[1:]) - exact).detach().square().mean().sqrt())
        for function in (temporal_convolution, plain)
    )
    assert 0 < far < 10 * usual < 1e-3


def test_what_is_far_away_changes_nothing():
    rows, weight, bias = drawn(3, 2)
    before = temporal_convolution(rows, SIZES, weight, bias)
    changed = rows.detach().clone()
    changed[0] += 1
    after = temporal_convolution(changed, SIZES, weight, bias)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1:], after[1:])
