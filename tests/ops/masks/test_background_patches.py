"""integral_image, count_patches, find_patches: every square tried one by one, cases by hand, arbitrary contents."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws.ops import count_patches, find_patches, integral_image, reference

on_every_backend = pytest.mark.usefixtures("backend")


def some_masks(*shape, share=0.1, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


@on_every_backend
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 13), (3, 5, 40), (1, 9, 300)], ids=str)
def test_integral_image(shape):
    masks = some_masks(*shape, share=0.4)
    padded = torch.nn.functional.pad(masks.long(), (1, 0, 1, 0))
    integral = integral_image(masks)
    assert integral.dtype == torch.int32
    assert torch.equal(integral.long(), padded.cumsum(1).cumsum(2))


@on_every_backend
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 13), (1, 12, 37)], ids=str)
def test_every_square_is_counted_and_found(shape, share):
    masks = some_masks(*shape)
    integral = integral_image(masks)
    sides = torch.arange(1, shape[2] + 2)
    for side in sides.tolist():
        expected = reference.background_squares(masks, side, share)
        frames = torch.arange(shape[0])
        counts = count_patches(integral, frames, torch.full_like(frames, side), share)
        assert counts.tolist() == [len(squares) for squares in expected]
        queries = [(b, side, rank) for b, squares in enumerate(expected) for rank in range(len(squares) + 1)]
        queries = queries[:: max(1, len(queries) // 15)]
        found = find_patches(integral, *torch.tensor(queries).T, share)
        for (b, _, rank), corner in zip(queries, found.tolist(), strict=True):
            assert corner == (list(expected[b][rank]) if rank < len(expected[b]) else [-1, -1])


@on_every_backend
def test_the_last_squares_of_a_large_frame():
    masks = torch.ones(1, 90, 110, dtype=torch.bool)
    masks[0, -20:, -21:] = False
    integral = integral_image(masks)
    assert count_patches(integral, *torch.tensor([[0, 0, 0], [19, 20, 21]])).tolist() == [6, 2, 0]
    found = find_patches(integral, *torch.tensor([[0, 0, 0], [20, 20, 19], [0, 1, 5]]))
    assert found.tolist() == [[70, 89], [70, 90], [71, 91]]


@on_every_backend
def test_the_share_is_rounded_down():
    masks = torch.zeros(1, 10, 10, dtype=torch.bool)
    masks[0, 0, 0] = True
    integral = integral_image(masks)
    counts = [count_patches(integral, *torch.tensor([[0], [10]]), share).item() for share in (0.0, 0.00999, 0.01)]
    assert counts == [0, 0, 1]


@on_every_backend
@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_empty_input(shape):
    integral = integral_image(torch.zeros(shape, dtype=torch.bool))
    assert integral.shape == (shape[0], shape[1] + 1, shape[2] + 1)
    assert not integral.any()
    none = torch.empty(0, dtype=torch.int64)
    assert count_patches(integral, none, none).shape == (0,)
    assert find_patches(integral, none, none, none).shape == (0, 2)
    if shape[0]:
        assert count_patches(integral, *torch.tensor([[0, 1], [1, 2]])).tolist() == [0, 0]
        assert find_patches(integral, *torch.tensor([[1], [1], [0]])).tolist() == [[-1, -1]]


@on_every_backend
def test_strides_threads_and_batch_composition():
    masks = some_masks(4, 11, 15, share=0.05)
    integral = integral_image(masks)
    frames, sides = torch.tensor([[3, 2, 2, 0], [2, 3, 5, 1]])
    counts = count_patches(integral, frames, sides)
    assert torch.equal(integral_image(masks.mT.contiguous().mT), integral)
    assert torch.equal(count_patches(integral.mT.contiguous().mT, frames, sides), counts)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert torch.equal(integral_image(masks), integral)
    assert torch.equal(count_patches(integral, frames, sides), counts)
    torch.set_num_threads(threads)
    assert torch.equal(count_patches(integral_image(masks[2:3]), frames[1:3] - 2, sides[1:3]), counts[1:3])


def test_opcheck_and_compile():
    masks, sides = some_masks(2, 6, 9), torch.tensor([1, 2])
    integral = integral_image(masks)
    torch.library.opcheck(torch.ops.pyws.integral_image.default, (masks,))
    torch.library.opcheck(torch.ops.pyws.count_patches.default, (integral, sides - 1, sides, 0.01))
    torch.library.opcheck(torch.ops.pyws.find_patches.default, (integral, sides - 1, sides, sides, 0.0))

    def search(masks, sides):
        integral = integral_image(masks)
        return count_patches(integral, sides - 1, sides), find_patches(integral, sides - 1, sides, sides)

    compiled = torch.compile(search, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(masks, sides), search(masks, sides), strict=True):
        assert torch.equal(one, other)


INTEGRAL = torch.zeros(2, 4, 5, dtype=torch.int32)
ONES = torch.ones(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: integral_image(torch.zeros(2, 3, 4)), TypeError, "integral_image: masks must be bool, got float32"),
        (lambda: integral_image(torch.zeros(3, 4) > 0), ValueError, "integral_image: masks must have 3 dimensions"),
        (
            lambda: count_patches(INTEGRAL.long(), ONES, ONES),
            TypeError,
            "count_patches: integral must be int32, got int64",
        ),
        (
            lambda: count_patches(INTEGRAL[:, :0], ONES, ONES),
            ValueError,
            r"integral must have shape \(B, H \+ 1, W \+ 1\)",
        ),
        (lambda: count_patches(INTEGRAL, ONES, ONES.int()), TypeError, "count_patches: sides must be int64, got int32"),
        (lambda: count_patches(INTEGRAL, ONES, ONES - 1), ValueError, "count_patches: sides must be >= 1, got 0"),
        (lambda: count_patches(INTEGRAL, ONES, ONES, 1.5), ValueError, r"share must be in \[0, 1\], got 1.5"),
        (
            lambda: find_patches(INTEGRAL, ONES, ONES, ONES[:1]),
            ValueError,
            r"ranks must have shape \(3\), got \(1,\)",
        ),
        (lambda: find_patches(INTEGRAL, ONES + 1, ONES, ONES), ValueError, r"frames must be in 0..1, got 2"),
        (lambda: find_patches(INTEGRAL, ONES - 2, ONES, ONES), ValueError, r"frames must be in 0..1, got -1"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


ANY = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 12)


@on_every_backend
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(1, 20)),
    queries=st.lists(st.tuples(ANY, ANY, ANY), max_size=6),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_any_contents_are_safe(shape, queries, seed, share):
    generator = torch.Generator().manual_seed(seed)
    integral = torch.randint(-(2**31), 2**31 - 1, shape, generator=generator).to(torch.int32)
    frames, sides, ranks = torch.tensor(queries, dtype=torch.int64).reshape(-1, 3).T
    counts = torch.ops.pyws.count_patches(integral, frames, sides, share)
    found = torch.ops.pyws.find_patches(integral, frames, sides, ranks, share)
    for (frame, side, rank), count, corner in zip(queries, counts.tolist(), found.tolist(), strict=True):
        assert count == 0 or 0 <= frame < shape[0]
        known = 0 <= rank < count
        assert (corner != [-1, -1]) == known
        if known:
            assert 0 <= corner[0] <= shape[1] - 1 - side
            assert 0 <= corner[1] <= shape[2] - 1 - side
