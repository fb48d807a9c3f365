"""otsu equals scikit-image, its definition, bit for bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from pyws.ops import otsu, reference

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def of_skimage(one: torch.Tensor) -> float:
    """scikit-image's threshold; where it finds 256 bins too many, the rule of pyws: the maximum."""
    values = one.flatten() if one.dtype == torch.float64 else one.flatten().float()
    try:
        with np.errstate(over="ignore"):
            return float(threshold_otsu(values.numpy()))
    except ValueError:  # "Too many bins for data range"
        return float(values.max())


def relu_noise(rng, size):
    return np.maximum(rng.normal(size=size), 0)


def blobs(rng, size):
    """A bright bump on a dim ground, as a class activation map has."""
    at = np.linspace(-1, 1, size)
    return np.exp(-((at - rng.uniform(-0.5, 0.5)) ** 2) / 0.05) + 0.1 * rng.random(size)


KINDS = {
    "uniform": lambda rng, size: rng.random(size),
    "relu": relu_noise,
    "blobs": blobs,
    "few values": lambda rng, size: rng.integers(0, 4, size) * 0.3,
    "two values": lambda rng, size: (rng.random(size) < 0.2).astype(float),
    "on bin edges": lambda rng, size: rng.integers(0, 257, size) / 256,
    "large": lambda rng, size: rng.normal(size=size) * 1e30,
    "tiny": lambda rng, size: rng.normal(size=size) * 1e-30,
    "far from zero": lambda rng, size: 1000 + rng.random(size),
    "few rounding steps": lambda rng, size: 1000 + rng.random(size) * 1e-2,
    "few rounding steps a bin": lambda rng, size: 1000 + rng.random(size) * 0.05,
    "few rounding steps a bin of doubles": lambda rng, size: 1000 + rng.random(size) * 1e-10,
    "bins whose inverse is infinite": lambda rng, size: rng.random(size) * 1e-37,
    "bins of doubles whose inverse is infinite": lambda rng, size: rng.random(size) * 1e-307,
    "outlier": lambda rng, size: np.where(np.arange(size) == 0, 1e6, rng.random(size)),
}


bins_as_numpy_2 = pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 has other edges of bins in float32")


@bins_as_numpy_2
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_scikit_image(backend, kind, dtype):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 31, 97, 196, 521):
        maps = torch.from_numpy(np.stack([KINDS[kind](rng, size) for _ in range(4)])).to(dtype)
        got = otsu(maps)
        assert got.dtype == dtype
        assert got.tolist() == [of_skimage(one) for one in maps]
        assert got.tolist() == reference.otsu(maps).tolist()


@bins_as_numpy_2
def test_the_last_bin_ends_at_the_highest_value(backend):
    """256 steps from the lowest value end a rounding away from it, which decides between two splits here."""
    thirds = torch.tensor([[1.0, -3.0, 0.0, 4.0]]) * torch.tensor(1 / 3)
    assert otsu(thirds).tolist() == [of_skimage(thirds[0])]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 14, 14), (2, 3, 7, 5), (1, 37, 53)], ids=str)
def test_batches_of_maps(backend, dtype, shape):
    maps = torch.from_numpy(relu_noise(np.random.default_rng(1), shape)).to(dtype)
    got = otsu(maps)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert got.tolist() == [of_skimage(one) for one in maps]


def test_a_bin_of_more_values_than_16_bits_count(backend):
    """4,964 zeros, which is what is left of 70,500, would be split from the ones behind the halves."""
    one = torch.cat([torch.zeros(70500), torch.full((1500,), 0.5), torch.ones(18000)])
    assert otsu(one[None]).item() == of_skimage(one) < 0.5
    assert otsu(one[None, 65536:]).item() > 0.5


def test_by_hand(backend):
    # Ten zeros, five ones and one 4 fall into bins 0, 64 and 255, whose centres are 0.008, 1.008 and 3.992. A split
    # after one of the bins 0 .. 63 gives 10 * 6 * (0.008 - 1.505)^2 = 134.5, one after 64 .. 254 gives
    # 15 * 1 * (0.341 - 3.992)^2 = 199.9. The first of the latter is bin 64.
    one = torch.tensor([0.0] * 10 + [1.0] * 5 + [4.0])
    assert otsu(one[None]).item() == 64.5 / 64


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.3, -7.0, 1e-30])
def test_a_constant_map_has_an_empty_foreground(backend, dtype, value):
    maps = torch.full((2, 5, 7), value, dtype=dtype)
    threshold = otsu(maps)
    assert torch.equal(threshold, maps[:, 0, 0].to(threshold.dtype))
    assert not (maps > threshold[:, None, None]).any()


@bins_as_numpy_2
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_noise_around_one_value_has_an_empty_foreground(backend, dtype):
    value = torch.tensor(0.3, dtype=dtype)
    maps = torch.stack([value, torch.nextafter(value, value + 1)]).repeat(1, 8)
    with pytest.raises(ValueError, match="Too many bins"):
        threshold_otsu(maps.numpy())
    assert not (maps > otsu(maps)).any()


def test_rows_of_one_position(backend):
    maps = torch.tensor([[3.0], [-2.0]])
    assert otsu(maps).tolist() == [3.0, -2.0]


def test_empty_batch(backend):
    assert otsu(torch.empty(0, 4, 4)).shape == (0,)


def test_strided_maps(backend):
    whole = torch.rand(5, 6, 8)
    maps = whole.permute(2, 0, 1)[::2, 1:, ::3]
    assert torch.equal(otsu(maps), otsu(maps.contiguous()))
    assert torch.equal(otsu(whole[:1].expand(3, 6, 8)), otsu(whole[:1]).expand(3))
    unaligned = torch.rand(1 + 2 * 33)[1:].view(2, 33)
    assert torch.equal(otsu(unaligned), otsu(unaligned.clone()))


def test_threads_and_batch_do_not_matter(backend):
    maps = torch.rand(64, 21) if backend.startswith("emulated") else torch.rand(3000, 147)
    together = otsu(maps)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(otsu(maps), together)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(otsu(maps[5:9]), together[5:9])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 3e38])
@pytest.mark.parametrize("position", [0, 17, 39])
def test_values_that_are_not_finite_are_rejected(backend, bad, position):
    maps = torch.rand(3, 40)
    maps[1, position] = bad
    with pytest.raises(
        ValueError, match=r"otsu: maps must be finite and at most 1.7e\+38 in magnitude, got .* in map 1"
    ):
        otsu(maps)
    unchecked = otsu(maps, check_finite=False)
    assert unchecked.isnan().tolist() == [False, True, False]
    assert not (maps[1] > unchecked[1]).any()


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        ([[0.0]], TypeError, "otsu: maps must be a tensor, got list"),
        (torch.zeros(2, 3, dtype=torch.int64), TypeError, "otsu: maps must be float32 or .*, got int64"),
        (torch.zeros(3), ValueError, r"otsu: maps must have shape \(B, ...\), got shape \(3,\)"),
        (torch.zeros(2, 0), ValueError, "otsu: maps must have 1 to .* positions each"),
        (torch.zeros(1).expand(1, 2**31), ValueError, "otsu: maps must have 1 to .* positions each"),
        (torch.zeros(2, 3, device="meta"), ValueError, "otsu: maps must be a dense tensor on cpu or cuda"),
        (torch.zeros(2, 3, requires_grad=True), RuntimeError, "otsu: not differentiable, but maps requires grad"),
    ],
)
def test_bad_input(maps, error, message):
    with pytest.raises(error, match=message):
        otsu(maps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_opcheck(dtype):
    torch.library.opcheck(torch.ops.pyws.otsu.default, (torch.rand(2, 3, 4).to(dtype),))


def test_compile():
    compiled = torch.compile(lambda maps: maps > otsu(maps)[:, None], fullgraph=True, backend="aot_eager")
    maps = torch.rand(4, 30)
    assert torch.equal(compiled(maps), maps > otsu(maps)[:, None])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    st.sampled_from(FLOATS),
)
def test_any_contents(values, dtype):
    maps = torch.tensor([values], dtype=torch.float32).to(dtype)
    got = otsu(maps, check_finite=False).item()
    assert np.array_equal(got, reference.otsu(maps).item(), equal_nan=True)


def test_the_value_that_is_too_large_is_named() -> None:
    limit = torch.finfo(torch.float32).max / 2
    with pytest.raises(ValueError, match="got inf in map 0"):
        otsu(torch.tensor([[limit, -limit, math.inf]]))
