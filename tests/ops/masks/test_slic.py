"""slic: its definition, every superpixel connected and numbered, the same on all paths, edges, bad and any contents."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2lab
from torch import Tensor

from pyws.ops import reference, slic
from pyws.ops.masks.slic import grid_of

SHAPES = [(1, 1), (1, 13), (11, 1), (2, 3), (7, 11), (16, 23)]


def scene(batch: int, height: int, width: int, seed: int = 0, noise: float = 20.0) -> Tensor:
    """Smooth colours with an edge and noise, as pictures have, (B, 3, H, W) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(a * y / 9 + b * x / 7 + c) for a, b, c in rng.uniform(0, 3, (batch * 3, 3))]
    images = 127 + 60 * np.stack(waves).reshape(batch, 3, height, width) + 40 * (x + y > (height + width) / 2)
    return torch.from_numpy(np.clip(images + rng.normal(size=images.shape) * noise, 0, 255).astype(np.uint8))


def check_superpixels(labels: Tensor, mask: Tensor | None = None) -> None:
    """0..K-1 in raster order of the first pixel, each 4-connected, -1 exactly outside the mask."""
    for b, one in enumerate(labels.numpy()):
        inside = np.ones(one.shape, bool) if mask is None else mask[b].numpy()
        assert np.array_equal(one >= 0, inside)
        found, first = np.unique(one[inside], return_index=True)
        assert found.tolist() == list(range(len(found)))
        assert (np.diff(first) > 0).all()
        for k in found:
            assert ndimage.label(one == k)[1] == 1


# ---- the definition


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("segments", [1, 2, 6])
def test_equals_the_definition(backend: str, shape: tuple[int, int], segments: int) -> None:
    images = scene(2, *shape)
    count = min(segments, shape[0] * shape[1])
    labels = slic(images, count, compactness=20.0, iterations=4)
    assert labels.dtype == torch.int32
    assert torch.equal(labels, reference.slic(images, count, 20.0, 4))
    check_superpixels(labels)


@pytest.mark.parametrize("compactness", [1e-3, 1.0, 10.0, 500.0, 1e30])
@pytest.mark.parametrize("min_size_factor", [0.0, 0.5, 3.0])
def test_parameters(backend: str, compactness: float, min_size_factor: float) -> None:
    images = scene(1, 15, 17, noise=60.0)
    labels = slic(images, 8, compactness, 3, min_size_factor=min_size_factor)
    assert torch.equal(labels, reference.slic(images, 8, compactness, 3, min_size_factor))
    check_superpixels(labels)


def test_a_least_size_of_more_pixels_than_there_are(backend: str) -> None:
    """Everything joins, in as many rounds as the size has bits."""
    images = scene(2, 9, 14, noise=90.0)
    labels = slic(images, 4, iterations=2, min_size_factor=1e7)
    assert torch.equal(labels, reference.slic(images, 4, 10.0, 2, 1e7))
    assert labels.max() == 0


@pytest.mark.parametrize(("seed", "segments"), [(8, 6), (13, 20), (19, 20), (28, 6)])
def test_means_of_greens_and_blues_are_rounded_down(backend: str, seed: int, segments: int) -> None:
    """Their a and b are below 0; noise lets a 1/32 of a unit decide."""
    images = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 3, 12, 16)).astype(np.uint8))
    images[:, 0] //= 4
    assert torch.equal(slic(images, segments, 5.0, 5), reference.slic(images, segments, 5.0, 5))


@pytest.mark.parametrize("iterations", [1, 2, 9])
def test_mask(backend: str, iterations: int) -> None:
    images = scene(2, 14, 18)
    mask = torch.zeros(2, 14, 18, dtype=torch.bool)
    mask[0, 2:9, 3:5] = mask[0, 11:, 9:] = mask[0, 0, 17] = True  # islands, one of a single pixel, and empty cells
    labels = slic(images, 12, iterations=iterations, mask=mask)
    assert torch.equal(labels, reference.slic(images, 12, 10.0, iterations, mask=mask))
    check_superpixels(labels, mask)
    assert torch.equal(slic(images, 12, mask=torch.ones_like(mask)), slic(images, 12))


def test_cells_wider_than_a_chunk_of_the_loops(backend: str) -> None:
    images = scene(1, 5, 150)
    mask = torch.rand(1, 5, 150, generator=torch.Generator().manual_seed(0)) < 0.9
    for at in (None, mask):
        assert torch.equal(slic(images, 2, 30.0, 3, mask=at), reference.slic(images, 2, 30.0, 3, mask=at))


def test_more_pixels_than_a_block_scans_at_once(backend: str) -> None:
    """A scan takes 256 blocks of 256 pixels: here are 261, and superpixels begin in all of them."""
    image = scene(1, 600, 111)
    assert torch.equal(slic(image, 700, iterations=1), reference.slic(image, 700, 10.0, 1))


def chessboard(height: int) -> tuple[Tensor, int]:
    """An image of 32 columns with columns of cells that are darker or lighter, so that no two neighbours are of one
    cluster, and how many cells it has."""
    even, odd = (torch.tensor(x).repeat_interleave(4).repeat(2) for x in ([0, 0, 155, 0], [100, 255, 255, 255]))
    fields = (torch.arange(height)[:, None] + torch.arange(32)) % 2 > 0
    return torch.where(fields, odd, even).to(torch.uint8).expand(1, 3, height, 32), 2 * height


def test_every_pixel_a_part_of_its_own(backend: str) -> None:
    images, cells = chessboard(8)
    assert slic(images, cells, 1e-3, 3, min_size_factor=0.0).max() + 1 == images[0, 0].numel()
    labels = slic(images, cells, 1e-3, 3, min_size_factor=1.0)
    assert torch.equal(labels, reference.slic(images, cells, 1e-3, 3, 1.0))


def test_more_parts_than_16_bits_number(cpu_backend: str) -> None:
    """A plain band keeps the last ones apart from those whose numbers have the same 16 bits."""
    images, cells = chessboard(2112)
    images = images.clone()
    images[:, :, 1024:1040] = 30
    assert slic(images, cells, 1e-3, 3, min_size_factor=0.0).max() > 2**16
    labels = slic(images, cells, 1e-3, 3, min_size_factor=1.0)
    assert labels.max() < 100
    check_superpixels(labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_frames_are_read_as_they_lie(backend: str, dtype: torch.dtype) -> None:
    for width in (1, 15, 16, 17, 47, 70, 131):
        images = scene(2, 3, width)
        images = images if dtype == torch.uint8 else (images.double() / 255).to(dtype)
        frames = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        assert frames.stride(1) == 1
        labels = slic(images.contiguous(), 3, iterations=3)
        assert torch.equal(slic(frames, 3, iterations=3), labels)
        assert torch.equal(slic(frames[1:], 3, iterations=3), labels[1:])


def test_every_pixel_its_own_cell(backend: str) -> None:
    images = scene(1, 6, 9)
    labels = slic(images, 54, 1.0, 5, min_size_factor=0.0)
    assert torch.equal(labels, reference.slic(images, 54, 1.0, 5, 0.0))


def test_by_hand(backend: str) -> None:
    # Two cells of 2 x 3, of which the left one has a red column: it takes the red centre unless position counts more.
    images = torch.zeros(1, 3, 2, 6, dtype=torch.uint8)
    images[0, 0, :, 2:] = 255
    assert slic(images, 2, compactness=1.0).tolist() == [[[0, 0, 1, 1, 1, 1]] * 2]
    assert slic(images, 2, compactness=1000.0).tolist() == [[[0, 0, 0, 1, 1, 1]] * 2]
    assert slic(images, 2, compactness=1.0, iterations=1).tolist() == [[[0, 0, 0, 1, 1, 1]] * 2]


def test_small_parts_join_the_nearest_colour(backend: str) -> None:
    # One cell a pixel. Grey 100, alone, joins 90, not the larger 200 beside it, and the last pixel its equals.
    row = torch.tensor([90, 90, 100, 200, 200, 200], dtype=torch.uint8)
    images = row.expand(1, 3, 1, 6)
    assert slic(images, 6, 1e-3, 3, min_size_factor=0.0).tolist() == [[[0, 0, 1, 2, 2, 3]]]
    assert slic(images, 6, 1e-3, 3, min_size_factor=2.0).tolist() == [[[0, 0, 0, 1, 1, 1]]]


def test_small_parts_of_few_colours_join_the_first_of_equals(backend: str) -> None:
    """Many neighbours have the same colour to the last digit, in columns longer than a thread takes."""
    colours = torch.tensor([0, 90, 180], dtype=torch.uint8)
    images = colours[torch.randint(3, (1, 1, 40, 9), generator=torch.Generator().manual_seed(5))].repeat(1, 3, 1, 1)
    labels = slic(images, 90, 1e-3, 2, min_size_factor=1.0)
    assert torch.equal(labels, reference.slic(images, 90, 1e-3, 2, 1.0))
    check_superpixels(labels)


def test_a_constant_image_gives_the_grid(backend: str) -> None:
    images = torch.full((1, 3, 12, 18), 77, dtype=torch.uint8)
    labels = slic(images, 6)
    y, x = torch.meshgrid(torch.arange(12), torch.arange(18), indexing="ij")
    assert torch.equal(labels[0], (y // 6 * 3 + x // 6).int())


def test_colours_are_those_of_cielab() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8))
    images[:, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    ours = reference._lab_of_one(images, 32.0) / 32
    assert np.abs(ours - rgb2lab(images.permute(1, 2, 0).numpy())).max() < 0.15
    assert (ours[0, :2] == [[0, 0, 0], [100, 0, 0]]).all()


@pytest.mark.parametrize(
    ("size", "segments", "grid"),
    [((320, 480), 200, (12, 17)), ((1, 1000), 10, (1, 10)), ((1000, 2), 1, (1, 1)), ((3, 3), 9, (3, 3))],
)
def test_grid(size: tuple[int, int], segments: int, grid: tuple[int, int]) -> None:
    assert grid_of(*size, segments) == grid


# ---- the same on all paths


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats(backend: str, dtype: torch.dtype) -> None:
    images = scene(1, 10, 12)
    exact = images.to(torch.float64) / 255
    assert torch.equal(slic(exact.to(dtype), 6), reference.slic(exact.to(dtype), 6))
    if dtype in (torch.float32, torch.float64):
        assert torch.equal(slic(exact.to(dtype), 6), slic(images, 6))


def test_threads_and_batch_do_not_matter(backend: str) -> None:
    size = (12, 17) if backend.startswith("emulated") else (97, 203)
    images = scene(5, *size)
    together = slic(images, 12)
    before = torch.get_num_threads()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(slic(images, 12), together)
            assert torch.equal(slic(images[3:4], 12), together[3:4])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(slic(images[1:3], 12), together[1:3])


def test_strides(backend: str) -> None:
    frames = scene(2, 9, 14).permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3), as decoders give them
    images = frames.permute(0, 3, 1, 2)
    assert torch.equal(slic(images, 4), slic(images.contiguous(), 4))
    assert torch.equal(slic(images[..., ::2], 4), slic(images[..., ::2].contiguous(), 4))


def test_empty_batch(backend: str) -> None:
    assert slic(torch.zeros(0, 3, 4, 5), 2).shape == (0, 4, 5)


def test_region_area() -> None:
    images = scene(1, 30, 40)
    assert torch.equal(slic(images, region_area=100), slic(images, 12))
    assert slic(images, region_area=1e9).max() == slic(images, 1).max()


def test_real_frames(shared: Path) -> None:
    from PIL import Image

    path = shared / "data/davis/JPEGImages/480p/dog/00010.jpg"
    frame = torch.from_numpy(np.array(Image.open(path).convert("RGB").resize((240, 136))))
    labels = slic(frame.permute(2, 0, 1)[None], 100)
    check_superpixels(labels)
    assert 60 <= labels.max() <= 120
    assert torch.bincount(labels.flatten()).min() >= 0.5 * 240 * 136 / 104 - 1


# ---- bad input


NAN = torch.full((1, 3, 4, 4), math.nan)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ([[0.0]], {}, TypeError, "slic: images must be a tensor, got list"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), {}, TypeError, "slic: images must be .*uint8, got int64"),
        (torch.zeros(3, 4, 4), {}, ValueError, "slic: images must have 4 dimensions"),
        (torch.zeros(1, 4, 4, 4), {}, ValueError, r"slic: images must have 3 channels.*\(1, 4, 4, 4\)"),
        (torch.zeros(1, 3, 0, 4), {}, ValueError, "slic: images must have sides of 1 to 65535"),
        (torch.zeros(1).expand(1, 3, 1, 65536), {}, ValueError, "slic: images must have sides of 1 to 65535"),
        (torch.zeros(1, 3, 4, 4, device="meta"), {}, ValueError, "slic: images must be a dense tensor"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 17}, ValueError, "slic: n_segments must be in 1..16, .* got 17"),
        (torch.zeros(1, 3, 4, 4), {}, ValueError, "slic: n_segments must be in 1..16, the pixels, got 200"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 0}, ValueError, "slic: n_segments must be in 1..16"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 2.0}, TypeError, "slic: n_segments must be an integer, got float"),
        (torch.zeros(1, 3, 4, 4), {"region_area": 0.5}, ValueError, "slic: region_area must be >= 1 and finite"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 2, "compactness": 0}, ValueError, "slic: compactness must be > 0"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 2, "compactness": math.nan}, ValueError, "slic: compactness must be"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 2, "iterations": 0}, ValueError, "slic: iterations must be >= 1"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 2, "min_size_factor": -1}, ValueError, "slic: min_size_factor must"),
        (
            torch.zeros(1, 3, 4, 4),
            {"n_segments": 2, "min_size_factor": math.inf},
            ValueError,
            "slic: min_size_factor must",
        ),
        (NAN, {"n_segments": 2}, ValueError, r"slic: float images must be in \[0, 1\], got nan"),
        (torch.full((1, 3, 4, 4), 255.0), {"n_segments": 2}, ValueError, "got 255; divide by 255 or pass uint8"),
        (torch.full((1, 3, 4, 4), -0.5), {"n_segments": 2}, ValueError, "got -0.5"),
        (torch.zeros(1, 3, 4, 4), {"n_segments": 2, "mask": torch.ones(1, 4, 4)}, TypeError, "slic: mask must be bool"),
        (
            torch.zeros(1, 3, 4, 4),
            {"n_segments": 2, "mask": torch.ones(4, 4, dtype=torch.bool)},
            ValueError,
            r"slic: mask must have shape \(1, 4, 4\)",
        ),
        (torch.zeros(1, 3, 4, 4, requires_grad=True), {"n_segments": 2}, RuntimeError, "slic: not differentiable"),
    ],
)
def test_bad_input(images: Tensor, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        slic(images, **options)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40), st.data())
def test_any_contents(seed: int, height: int, width: int, data: st.DataObject) -> None:
    segments = data.draw(st.integers(1, height * width))
    factor = data.draw(st.sampled_from([0.0, 0.5, 1.0, 50.0]))
    compactness = data.draw(st.sampled_from([1e-300, 0.1, 10.0, 1e4, 1e300]))
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.choice([0, 0, 255, 128, 1], (1, 3, height, width)).astype(np.uint8))
    mask = torch.from_numpy(rng.random((1, height, width)) < rng.random()) if data.draw(st.booleans()) else None
    labels = slic(images, segments, compactness, 4, min_size_factor=factor, mask=mask)
    check_superpixels(labels, mask)
    assert torch.equal(labels, reference.slic(images, segments, compactness, 4, factor, mask))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -1.0])
def test_kernels_clamp_what_they_are_given(backend: str, value: float) -> None:
    images = scene(1, 6, 7).float() / 255
    images[0, 1, 2, 3] = value
    arguments = (images, None, 4.0, 10.0, 3, 0.5)
    clamped = torch.nan_to_num(images, nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    assert torch.equal(torch.ops.pyws.slic(*arguments), slic(clamped, 4, iterations=3))


# ---- torch


@pytest.mark.parametrize("masked", [False, True])
def test_opcheck(masked: bool) -> None:
    mask = torch.rand(2, 6, 7) < 0.8 if masked else None
    torch.library.opcheck(torch.ops.pyws.slic.default, (scene(2, 6, 7), mask, 4.0, 10.0, 3, 0.5))


def test_compile() -> None:
    compiled = torch.compile(lambda images: slic(images, 4) + 1, fullgraph=True, backend="aot_eager")
    images = scene(1, 8, 9).float() / 255
    assert torch.equal(compiled(images), slic(images, 4) + 1)
