"""snippet_classes against np.unique of the dense W, class_mean against its definition, edges, arbitrary contents."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyws import Segments
from pyws.ops import SnippetClasses, class_mean, reference, snippet_classes

pytestmark = pytest.mark.usefixtures("backend")


def random_segments(lengths: list[int], counts: list[int], seed: int) -> Segments:
    generator = np.random.default_rng(seed)
    groups = []
    for length, count in zip(lengths, counts, strict=True):
        starts = generator.uniform(-3, length, count)
        groups.append([(s, s + generator.exponential(6), 1.0) for s in starts])
    return Segments.of(groups)


def check(segments: Segments, lengths: list[int], found: SnippetClasses, margin: float, geometry: str) -> None:
    """Everything that the classes promise, from the dense matrix."""
    assert found.class_offsets[0] == found.row_offsets[0] == 0
    assert len(found.size) == found.class_offsets[-1]
    assert len(found.rows) == len(found.signs) == found.row_offsets[-1]
    at = 0
    for g, length in enumerate(lengths):
        matrix = reference.snippet_rows(segments.group(g), length, margin, geometry)
        low, high = (int(found.class_offsets[g + i]) for i in (0, 1))
        ids = found.ids[at : at + length].numpy() - low
        at += length
        _, inverse = np.unique(matrix, axis=1, return_inverse=True) if length else (None, np.zeros(0, np.int64))
        names = [0, *dict.fromkeys(inverse[(matrix != 0).any(0)].tolist())]
        assert high - low == len(names)
        for k, name in enumerate(names[1:], 1):
            assert ((ids == k) == (inverse == name)).all()
        assert ((ids == 0) == ~(matrix != 0).any(0)).all()
        assert found.size[low:high].tolist() == np.bincount(ids, minlength=len(names)).tolist()
        for k in range(len(names)):
            entries = slice(int(found.row_offsets[low + k]), int(found.row_offsets[low + k + 1]))
            column = matrix[:, ids == k][:, 0] if (ids == k).any() else np.zeros(len(matrix), np.int8)
            assert (found.rows[entries].numpy() - int(segments.offsets[g])).tolist() == column.nonzero()[0].tolist()
            assert found.signs[entries].tolist() == column[column != 0].tolist()


@pytest.mark.parametrize(("geometry", "margin"), [("paper", 0.25), ("paper", 0.0), ("released", 0.0785)])
@pytest.mark.parametrize(
    ("lengths", "counts"),
    [([40], [5]), ([0, 1, 7], [2, 3, 0]), ([301, 97], [13, 40]), ([60], [0]), ([0], [0]), ([17, 0, 23], [1, 0, 20]),
     ([900], [300]), ([5] * 32, [1] * 32), ([3] * 300, [1] * 300)],
)  # fmt: skip
def test_classes_are_the_equal_columns(lengths: list[int], counts: list[int], geometry: str, margin: float) -> None:
    segments = random_segments(lengths, counts, seed=len(counts))
    found = snippet_classes(segments, torch.tensor(lengths), margin, geometry)
    check(segments, lengths, found, margin, geometry)


def test_classes_by_hand() -> None:
    segments = Segments.of([[(4, 8, 1.0), (6, 10, 1.0)], []])
    found = snippet_classes(segments, torch.tensor([12, 3]))
    #        snippet  0  1  2   3   4   5   6   7   8   9  10 11
    #          row 0  .  .  .   -   +   +   +   +   -   .   .  .
    #          row 1  .  .  .   .   .   -   +   +   +   +   -  .
    assert found.ids.tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 0, 8, 8, 8]
    assert found.class_offsets.tolist() == [0, 8, 9]
    assert found.size.tolist() == [4, 1, 1, 1, 2, 1, 1, 1, 3]
    assert found.row_offsets.tolist() == [0, 0, 1, 2, 4, 6, 8, 9, 10, 10]
    assert found.rows.tolist() == [0, 0, 0, 1, 0, 1, 0, 1, 1, 1]
    assert found.signs.tolist() == [-1, 1, 1, -1, 1, 1, -1, 1, 1, -1]


def test_equal_columns_that_are_not_neighbours_share_a_class() -> None:
    found = snippet_classes(Segments.of([[(4, 12, 1.0), (4, 12, 0.5)]]), torch.tensor([20]))
    assert found.ids.tolist() == [0] * 2 + [1] * 2 + [2] * 8 + [1] * 2 + [0] * 6


def test_full_cover_leaves_class_0_empty() -> None:
    found = snippet_classes(Segments.of([[(0, 9, 1.0)]]), torch.tensor([9]))
    assert found.ids.tolist() == [1] * 9
    assert found.size.tolist() == [0, 9]


@pytest.mark.parametrize("groups", [31, 32, 70])
def test_offsets_that_fall_count_as_their_running_maximum(groups: int) -> None:
    generator = torch.Generator().manual_seed(groups)
    whole = random_segments([9] * groups, [3] * groups, seed=5)
    fallen = torch.randint(-3, len(whole) + 3, (groups + 1,), generator=generator).sort().values
    fallen[0], fallen[-1], fallen[4 : groups - 4 : 5] = 0, len(whole) - 2, -1
    fallen[3], fallen[4 : groups - 4] = fallen[groups // 2].item(), -1  # for as long as a warp looks back
    risen = fallen.cummax(0).values.clamp(0, len(whole))
    lengths = torch.full((groups,), 9)
    found = torch.ops.pyws.snippet_classes(whole.start, whole.end, fallen, lengths, 0, 0.25)
    expected = torch.ops.pyws.snippet_classes(whole.start, whole.end, risen, lengths, 0, 0.25)
    for left, right in zip(found, expected, strict=True):
        assert torch.equal(left, right)


def test_threads_and_batch_composition() -> None:
    lengths, counts = [90, 41, 0, 130], [12, 3, 2, 30]
    segments = random_segments(lengths, counts, seed=3)
    whole = snippet_classes(segments, torch.tensor(lengths))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    for a, b in zip(whole, snippet_classes(segments, torch.tensor(lengths)), strict=True):
        assert torch.equal(a, b)
    torch.set_num_threads(threads)
    at = 0
    for g, length in enumerate(lengths):
        alone = snippet_classes(segments.group(g), torch.tensor([length]))
        assert torch.equal(alone.ids + whole.class_offsets[g], whole.ids[at : at + length])
        assert torch.equal(alone.size, whole.size[whole.class_offsets[g] : whole.class_offsets[g + 1]])
        at += length


# ---- the mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (67,), (67, 3), (130, 1), (0,), (0, 4), (5, 0)])
def test_mean_equals_the_definition(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator, dtype=dtype)
    ids = torch.randint(0, 7, shape[:1], generator=generator)
    torch.testing.assert_close(class_mean(values, ids, 7), reference.class_mean(values, ids, 7))


def test_mean_of_more_classes_than_a_warp_has_lanes() -> None:
    generator = torch.Generator().manual_seed(7)
    values, ids = torch.rand(400, generator=generator), torch.randint(0, 100, (400,), generator=generator)
    torch.testing.assert_close(class_mean(values, ids, 100), reference.class_mean(values, ids, 100))


def test_mean_over_groups_is_the_paper_s_averaging() -> None:
    lengths = [50, 33, 0, 70]
    segments = random_segments(lengths, [6, 0, 0, 9], seed=1)
    classes = snippet_classes(segments, torch.tensor(lengths))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    values = torch.rand(sum(lengths), 2, dtype=torch.float64)
    found = class_mean(values, classes.ids, classes.class_offsets, offsets)
    torch.testing.assert_close(found, reference.class_mean(values, classes.ids, len(classes.size)))
    for g in range(len(lengths)):  # averaging keeps what every row sums to
        group = slice(int(offsets[g]), int(offsets[g + 1]))
        rows = torch.from_numpy(reference.snippet_rows(segments.group(g), lengths[g], 0.25, "paper")).double()
        torch.testing.assert_close(rows @ found[group], rows @ values[group])
    strided = torch.rand(2, sum(lengths), dtype=torch.float64).T
    torch.testing.assert_close(
        class_mean(strided, classes.ids, classes.class_offsets, offsets),
        class_mean(strided.contiguous(), classes.ids, classes.class_offsets, offsets),
    )


def test_nan_and_infinities_stay_within_their_class() -> None:
    found = class_mean(torch.tensor([math.nan, 1.0, 2.0, math.inf, 4.0]), torch.tensor([0, 1, 0, 2, 1]), 3)
    torch.testing.assert_close(found, torch.tensor([math.nan, 2.5, math.nan, math.inf, 2.5]), equal_nan=True)


def test_gradients() -> None:
    ids, offsets = torch.tensor([0, 1, 0, 2, 2, 1]), torch.tensor([0, 3])
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: class_mean(v, ids, 3), values)
    assert torch.autograd.gradgradcheck(lambda v: class_mean(v, ids, 3).square(), values)
    assert class_mean(values.detach(), ids, offsets, torch.tensor([0, 6])).shape == (6, 2)


# ---- torch


def test_opcheck() -> None:
    segments = Segments.of([[(4, 8, 1.0), (6, 10, 1.0)]])
    fields = (segments.start, segments.end, segments.offsets)
    torch.library.opcheck(torch.ops.pyws.snippet_classes, (*fields, torch.tensor([12]), 0, 0.25))
    values = torch.randn(12, dtype=torch.float64, requires_grad=True)
    ids = torch.arange(12) % 4
    torch.library.opcheck(torch.ops.pyws.class_mean, (values, ids, torch.tensor([0, 4]), torch.tensor([0, 12]), 0))
    torch.library.opcheck(torch.ops.pyws.class_mean, (values, ids, None, None, 4))


def test_compile() -> None:
    def average(values: Tensor, start: Tensor, end: Tensor, offsets: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        segments = Segments.unchecked(torch.stack([start, end, start, start]), offsets)
        found = snippet_classes(segments, lengths)
        whole = class_mean(values, found.ids % 3, 3)
        snippets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        return class_mean(values, found.ids, found.class_offsets, snippets) + whole, found.size, found.signs

    segments, lengths = random_segments([12, 9], [3, 2], seed=0), torch.tensor([12, 9])
    arguments = (torch.randn(21, 2), segments.start, segments.end, segments.offsets, lengths)
    compiled = torch.compile(average, backend="aot_eager", fullgraph=True)
    for own, other in zip(compiled(*arguments), average(*arguments), strict=True):
        torch.testing.assert_close(own, other)


# ---- bad input

ONE = Segments.of([[(1, 3, 1.0)]])
IDS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([(1, 2)], torch.tensor([4])), TypeError, "snippet_classes: segments must be pyws.Segments, got list"),
        ((ONE, torch.tensor([4.0])), TypeError, "snippet_classes: lengths must be int64, got float32"),
        ((ONE, torch.tensor([4, 4])), ValueError, r"snippet_classes: lengths must have shape \(1\), got \(2,\)"),
        ((ONE, torch.tensor([-1])), ValueError, "snippet_classes: lengths must be >= 0, got -1"),
        ((ONE, torch.tensor([4]), -0.1), ValueError, "snippet_classes: margin must be finite and >= 0, got -0.1"),
        ((ONE, torch.tensor([4]), math.nan), ValueError, "snippet_classes: margin must be finite and >= 0, got nan"),
        ((ONE, torch.tensor([4]), math.inf), ValueError, "snippet_classes: margin must be finite and >= 0, got inf"),
        ((ONE, torch.tensor([4]), None, "official"), ValueError, "snippet_classes: geometry must be one of 'paper'"),
    ],
)
def test_classes_refuse(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        snippet_classes(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(2).long(), IDS, 2), TypeError, "class_mean: values must be float32 or float64, got int64"),
        ((torch.ones(2), IDS.int(), 2), TypeError, "class_mean: class_ids must be int64, got int32"),
        ((torch.ones(3), IDS, 2), ValueError, r"class_mean: class_ids must have shape \(3\), got \(2,\)"),
        ((torch.ones(2), IDS, 1), ValueError, "class_mean: class_ids must be in 0..0, got 1 at 1"),
        ((torch.ones(2), IDS - 1, 1), ValueError, "class_mean: class_ids must be in 0..0, got -1 at 0"),
        (
            (torch.ones(4), torch.tensor([0, 1, 2, 4]), torch.tensor([0, 2, 4]), torch.tensor([0, 2, 4])),
            ValueError,
            "class_mean: class_ids must be in 2..3, got 4 at 3",
        ),
        ((torch.ones(2), IDS, -1), ValueError, "class_mean: class_offsets must be >= 0, got -1"),
        ((torch.ones(2), IDS, torch.tensor([0, 2])), ValueError, "class_mean: offsets must be given"),
        ((torch.ones(2), IDS, torch.tensor([0, 2]), torch.tensor([0, 1])), ValueError, "offsets must end at"),
        ((torch.ones(2), IDS, torch.tensor([0, 2, 1]), torch.tensor([0, 1, 2])), ValueError, "must never fall"),
    ],
)
def test_mean_refuses(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        class_mean(*arguments)


# ---- arbitrary contents

BOUND = st.floats(-5, 45) | st.sampled_from([-1e300, 1e300, 0.0, 40.0]) | st.integers(0, 40).map(float)


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.lists(st.tuples(BOUND, BOUND), max_size=9), max_size=3),
    lengths=st.lists(st.integers(0, 40), min_size=3, max_size=3),
    released=st.booleans(),
)
def test_any_segments(groups: list, lengths: list[int], released: bool) -> None:
    segments = Segments.of([[(min(pair), max(pair), 1.0) for pair in group] for group in groups])
    lengths = lengths[: len(groups)]
    found = snippet_classes(
        segments, torch.tensor(lengths, dtype=torch.int64), None, "released" if released else "paper"
    )
    assert found.ids.shape == (sum(lengths),)
    assert found.size.sum() == sum(lengths)
    if all(abs(x) < 1e6 for group in groups for pair in group for x in pair):
        margin, geometry = (0.0785, "released") if released else (0.25, "paper")
        check(segments, lengths, found, margin, geometry)


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 4), max_size=40))
def test_any_ids_are_safe(ids: list[int]) -> None:
    values, class_ids = torch.arange(float(len(ids))), torch.tensor(ids, dtype=torch.int64)
    known = (class_ids >= 0) & (class_ids < 3)
    for groups in ((torch.tensor([0, 3]), torch.tensor([0, len(ids)])), (None, None)):
        out, unknown = torch.ops.pyws.class_mean(values, class_ids, *groups, 3)
        torch.testing.assert_close(out[~known], values[~known])
        torch.testing.assert_close(out[known], reference.class_mean(values[known], class_ids[known], 3))
        assert unknown.tolist() == [-1 if known.all() else known.tolist().index(False)]


def test_the_first_unknown_id_is_named_beyond_a_warp() -> None:
    class_ids = torch.arange(200) % 3
    class_ids[[41, 75, 76, 199]] = torch.tensor([3, -1, 7, 3])
    for groups in ((torch.tensor([0, 3]), torch.tensor([0, 200])), (None, None)):
        _, unknown = torch.ops.pyws.class_mean(torch.rand(200), class_ids, *groups, 3)
        assert unknown.tolist() == [41]


OFFSETS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 9), min_size=3, max_size=3)


@pytest.mark.garbage
@settings(max_examples=30, deadline=None)
@given(
    bounds=st.lists(st.tuples(st.floats(), st.floats()), max_size=6),
    offsets=OFFSETS,
    lengths=st.lists(st.integers(-9, 9), min_size=2, max_size=2),
    others=OFFSETS,
    last=st.integers(0, 9),
)
def test_raw_operators_survive_anything(
    bounds: list, offsets: list[int], lengths: list[int], others: list[int], last: int
) -> None:
    start, end = torch.tensor(bounds, dtype=torch.float64).reshape(-1, 2).T
    found = torch.ops.pyws.snippet_classes(start, end, torch.tensor(offsets), torch.tensor(lengths), 0, 0.25)
    assert len(found[0]) == int(found[2].sum()) == sum(max(0, length) for length in lengths)
    groups = (torch.tensor([*others[:2], last]), torch.tensor(offsets))
    out, unknown = torch.ops.pyws.class_mean(torch.rand(6), torch.arange(6), *groups, 0)
    assert out.shape == (6,)
    assert ((unknown >= -1) & (unknown < 6)).all()


def test_lengths_that_change_meanwhile_are_those_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer has been sized, and then a caller's thread makes a video longer than all memory."""
    segments, lengths = random_segments([20, 20], [3, 3], 0), torch.tensor([20, 20])
    expected = snippet_classes(segments, lengths)
    module = sys.modules[snippet_classes.__module__]
    launch = module.launch

    def late(name: str, device: torch.device, fields: dict[str, Any]) -> None:
        lengths[0] = 2**40
        launch(name, device, fields)

    monkeypatch.setattr(module, "launch", late)
    found = snippet_classes(segments, lengths)
    assert all(map(torch.equal, found, expected))
