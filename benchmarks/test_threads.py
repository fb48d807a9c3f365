"""Two threads against one: the same bits, and how much sooner."""

import pytest
import torch
from harness import with_threads

import pyws


def gradcam3d():
    activations, gradients = torch.rand(16, 1024, 8, 14, 14), torch.rand(16, 1024, 8, 14, 14)
    return lambda: pyws.ops.gradcam3d(activations, gradients)


def otsu():
    maps = torch.rand(32, 320, 480)
    return lambda: pyws.ops.otsu(maps)


def superpixel_select():
    labels = (torch.arange(320)[:, None] // 16 * 30 + torch.arange(480) // 16).int().expand(64, -1, -1).contiguous()
    mask = torch.rand(64, 320, 480) > 0.4
    return lambda: pyws.ops.superpixel_select(labels, mask).mask


def slic():
    images = torch.rand(8, 3, 40, 60)
    images = torch.nn.functional.interpolate(images, (320, 480), mode="bilinear")
    return lambda: pyws.ops.slic(images)


def slic_of_one_frame():
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 60, 100), (480, 854), mode="bilinear")
    return lambda: pyws.ops.slic(images)


def propose_segments():
    tcam, offsets = torch.rand(16 * 750, 20) * 0.06, torch.arange(17) * 750
    return lambda: pyws.ops.propose_segments(tcam, offsets).score


def fuse_segments():
    tcam, offsets = torch.rand(16 * 750, 20) * 0.06, torch.arange(17) * 750
    proposals = pyws.ops.propose_segments(tcam, offsets)
    return lambda: pyws.ops.fuse_segments(proposals).score


def linpro():
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(0, 700, (64 * 40,), generator=generator).double()
    length = torch.randint(5, 50, (64 * 40,), generator=generator)
    score = torch.rand(64 * 40, generator=generator, dtype=torch.float64)
    segments = pyws.Segments(start, start + length, score, score, torch.arange(65) * 40)
    lengths = torch.full((64,), 750)
    return lambda: pyws.ops.linpro(segments, lengths).labels


def small_gradcam3d():
    activations, gradients = torch.rand(1, 256, 2, 7, 7), torch.rand(1, 256, 2, 7, 7)
    return lambda: pyws.ops.gradcam3d(activations, gradients)


LARGE = [gradcam3d, otsu, slic, slic_of_one_frame, superpixel_select, propose_segments, fuse_segments, linpro]


@pytest.mark.parametrize("build", [*LARGE, small_gradcam3d], ids=lambda build: build.__name__)
def test_two_threads(race, device, build):
    if device.type != "cpu":
        pytest.skip("threads are the CPU's")
    torch.manual_seed(0)
    run = build()
    race(
        build.__name__,
        "two threads against one",
        {"two threads": with_threads(2, run), "one thread": with_threads(1, run)},
        agree=lambda two, one: torch.testing.assert_close(two, one, rtol=0, atol=0),
        goals={"one thread": 1.7 if build in LARGE else 0.95},
    )
