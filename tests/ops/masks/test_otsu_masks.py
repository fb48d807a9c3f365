"""otsu_masks: the same bits as its definition, and the masks of interpolation, scaling and scikit-image's threshold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from pyws.ops import otsu, otsu_masks, reference

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SIZES = [
    ((1, 1), (1, 1)),
    ((1, 5), (1, 11)),
    ((4, 3), (9, 10)),
    ((7, 5), (7, 5)),
    ((9, 11), (4, 3)),
    ((3, 2), (13, 31)),
]


def activation_maps(*shape, seed=0):
    return torch.relu(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("small", "size"), SIZES, ids=str)
def test_the_same_bits_as_the_definition(backend, small, size, dtype):
    maps = activation_maps(3, *small).to(dtype)
    found = otsu_masks(maps, size)
    masks, thresholds = reference.otsu_masks(maps, size)
    assert found.thresholds.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(found.thresholds, thresholds)
    assert torch.equal(found.masks, masks)


def test_by_hand(backend):
    # One row of 0 and 4 at four times its width: 0 0 .5 1.5 2.5 3.5 4 4. Otsu parts it in the middle.
    masks, thresholds = otsu_masks(torch.tensor([[[0.0, 4.0]]]), (2, 8))
    assert masks.tolist() == [[[False] * 4 + [True] * 4] * 2]
    assert 1.5 / 4 <= thresholds.item() < 2.5 / 4


def test_agrees_with_the_steps_one_by_one():
    """With float64 maps a last bit is far from changing a mask: PyTorch, min-max and scikit-image give the same."""
    maps = activation_maps(4, 6, 9)
    masks, thresholds = otsu_masks(maps, (40, 61))
    scaled = torch.nn.functional.interpolate(maps[:, None], (40, 61), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(torch.stack([reference.scale_map(one, (40, 61)) for one in maps]), scaled)
    low, high = scaled.amin((1, 2), keepdim=True), scaled.amax((1, 2), keepdim=True)
    scaled = (scaled - low) / (high - low)
    for mask, one in zip(masks, scaled, strict=True):
        expected = one.numpy() > threshold_otsu(one.numpy())
        np.testing.assert_array_equal(mask.numpy(), expected)
        assert 0 < expected.mean() < 1
    torch.testing.assert_close(thresholds, otsu(scaled), rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.3, -7.0])
def test_a_constant_map_has_an_empty_mask(backend, value):
    masks, thresholds = otsu_masks(torch.full((2, 3, 4), value), (9, 11))
    assert not masks.any()
    assert not thresholds.any()


def test_leading_dimensions_strides_and_empty_batches(backend):
    maps = activation_maps(2, 3, 4, 5)
    together = otsu_masks(maps, (6, 8))
    assert together.masks.shape == (2, 3, 6, 8)
    assert torch.equal(together.masks[1, 2], otsu_masks(maps[1, 2][None], (6, 8)).masks[0])
    strided = maps.permute(1, 0, 3, 2).contiguous().permute(1, 0, 3, 2)
    assert torch.equal(otsu_masks(strided, (6, 8)).masks, together.masks)
    assert otsu_masks(maps[:0], (6, 8)).masks.shape == (0, 3, 6, 8)


def test_threads_and_batch_do_not_matter(backend):
    size = (12, 17) if backend.startswith("emulated") else (120, 170)
    maps = activation_maps(9, 7, 8).float()
    together = otsu_masks(maps, size)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for one, other in zip(otsu_masks(maps, size), together, strict=True):
            assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(otsu_masks(maps[5:7], size).masks, together.masks[5:7])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_values_that_are_not_finite_are_rejected(backend, bad):
    maps = activation_maps(2, 4, 5).float()
    maps[1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"otsu_masks: maps must be finite and at most 1.7e\+38 in magnitude, got "):
        otsu_masks(maps, (8, 9))
    unchecked = otsu_masks(maps, (8, 9), check_finite=False)
    assert unchecked.thresholds.isnan().tolist() == [False, True]
    assert not unchecked.masks[1].any()


MAPS = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("maps", "size", "error", "message"),
    [
        ([[0.0]], (2, 2), TypeError, "otsu_masks: maps must be a tensor, got list"),
        (MAPS.long(), (2, 2), TypeError, "otsu_masks: maps must be float32 or .*, got int64"),
        (MAPS[0], (2, 2), ValueError, r"otsu_masks: maps must have shape \(..., h, w\)"),
        (MAPS[:, :0], (2, 2), ValueError, r"otsu_masks: maps must have shape \(..., h, w\)"),
        (MAPS, 7, TypeError, r"otsu_masks: size must be \(H, W\), got 7"),
        (MAPS, (2, 0), ValueError, r"otsu_masks: size\[1\] must be in 1..2147483647, got 0"),
        (MAPS, (2.0, 3), TypeError, r"otsu_masks: size\[0\] must be an integer, got float"),
        (MAPS, (2**20, 2**20), ValueError, r"otsu_masks: size must have less than 2\^31 pixels"),
        (MAPS.clone().requires_grad_(), (2, 2), RuntimeError, "otsu_masks: not differentiable, but maps requires"),
    ],
)
def test_bad_input(maps, size, error, message):
    with pytest.raises(error, match=message):
        otsu_masks(maps, size)


def test_opcheck_and_compile():
    for dtype in FLOATS:
        torch.library.opcheck(torch.ops.pyws.otsu_masks.default, (torch.rand(2, 3, 4).to(dtype), 5, 6))
    compiled = torch.compile(lambda maps: otsu_masks(maps, (9, 7)).masks, fullgraph=True, backend="aot_eager")
    maps = torch.rand(4, 3, 5)
    assert torch.equal(compiled(maps), otsu_masks(maps, (9, 7)).masks)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=20),
    width=st.integers(1, 5),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    dtype=st.sampled_from(FLOATS),
)
def test_any_contents(values, width, size, dtype):
    width = min(width, len(values))
    maps = torch.tensor(values[: len(values) // width * width]).reshape(1, -1, width).to(dtype)
    found = otsu_masks(maps, size, check_finite=False)
    masks, thresholds = reference.otsu_masks(maps, size)
    assert np.array_equal(found.thresholds.numpy(), thresholds.numpy(), equal_nan=True)
    assert torch.equal(found.masks, masks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pixel_at_the_threshold_itself_is_not_above_it(backend, dtype):
    maps = torch.cat([torch.linspace(0, 0.3, 50, dtype=dtype), torch.linspace(0.7, 1, 50, dtype=dtype)]).view(1, 10, 10)
    threshold = otsu_masks(maps, (10, 10)).thresholds
    maps[0, 4, 9] = threshold[0]
    assert torch.equal(otsu_masks(maps, (10, 10)).thresholds, threshold)
    assert int(otsu_masks(maps, (10, 10)).masks.sum()) == 50
    maps[0, 4, 9] = threshold[0].nextafter(torch.ones((), dtype=dtype))
    assert int(otsu_masks(maps, (10, 10)).masks.sum()) == 51
