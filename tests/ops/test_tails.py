"""Every width from 1 to 70 on every instruction set: what is left beside whole vectors and words is as the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pyws import Segments
from pyws.ops import (
    class_mean,
    fuse_segments,
    gradcam3d,
    integral_image,
    otsu,
    otsu_masks,
    reference,
    slic,
    superpixel_confusion,
    superpixel_select,
    superpixel_vote,
    suppress_segments,
)

pytestmark = pytest.mark.usefixtures("cpu_backend")
WIDTHS = range(1, 71)


def drawn(*shape: int, below: int = 1000) -> Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(shape[-1]))


def share(*shape: int) -> Tensor:
    return drawn(*shape).double() / 1000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_maps(dtype):
    for width in WIDTHS:
        activations, gradients = share(1, 5, width).to(dtype), share(1, 5, 2, width)[:, :, 1].to(dtype) - 0.2
        want = reference.gradcam3d(activations.double(), gradients.double())
        for layout in (lambda x: x, lambda x: x.mT.contiguous().mT):
            found = gradcam3d(layout(activations), layout(gradients))
            assert_close(
                found.double(), want, rtol=0, atol={torch.float32: 1e-6, torch.float64: 1e-14}.get(dtype, 1e-2)
            )
        maps = share(2, width).to(dtype)
        assert torch.equal(otsu(maps), reference.otsu(maps))
        small = share(1, 3, 4).to(dtype)
        assert torch.equal(otsu_masks(small, (5, width)).masks, reference.otsu_masks(small, (5, width))[0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_superpixels(dtype):
    for width in WIDTHS:
        labels, classes = drawn(1, 3, width, below=4).to(dtype), drawn(2, 1, 3, width, below=5).to(torch.uint8)
        mask = drawn(1, 3, width, below=2) > 0
        assert torch.equal(
            superpixel_select(labels, mask, 0.5, 0.9).mask, reference.superpixel_select(labels, mask, 0.5, 0.9)
        )
        assert torch.equal(
            superpixel_vote(labels, classes[0], 5, 0.3).classes, reference.superpixel_vote(labels, classes[0], 5, 0.3)
        )
        found = superpixel_confusion(labels, classes[0], classes[1], 5, alpha=0.3, beta=0.9)
        want = reference.superpixel_confusion(labels, classes[0], classes[1], 5, 0.3, 0.9)
        assert all(torch.equal(one, other) for one, other in zip(found, want, strict=True))


def test_pixels():
    for width in WIDTHS:
        mask = drawn(1, 4, width, below=2) > 0
        assert torch.equal(torch.ops.pyws.drop_components(mask, 0.1), reference.drop_components(mask, 0.1))
        assert torch.equal(integral_image(mask)[:, 1:, 1:].long(), mask.long().cumsum(1).cumsum(2))
        images = drawn(1, 3, 4, width, below=256).to(torch.uint8)
        assert torch.equal(slic(images, 2, iterations=2), reference.slic(images, 2, 10.0, 2))


def test_segments():
    for size in WIDTHS:
        start, length, score = share(3, size)
        start, offsets = start.round(decimals=1), torch.tensor([0, size])
        segments = Segments(start, start + length, score + torch.arange(size) * 1e-6, score, offsets)
        kept = suppress_segments(segments, 0.6, "iou")
        assert kept.score.tolist() == [found for _, found in reference.suppress_segments(segments, 0.6, "iou")[0]]
        for distribution in ("gaussian", "uniform", "exponential", "t"):
            fused = fuse_segments(segments, 0.1, 0.2, distribution=distribution)
            want = reference.fuse_segments(segments, 0.1, 0.2, "iou", distribution)[0][0]
            assert_close(fused.score, torch.tensor(want, dtype=torch.float64)[:, 2], rtol=1e-9, atol=1e-9)
        ids = drawn(size, below=3)
        assert_close(class_mean(score, ids, 3), reference.class_mean(score, ids, 3), rtol=0, atol=1e-12)
