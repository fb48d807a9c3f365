"""superpixel_select and superpixel_vote: their definition, cases by hand, edges, bad and arbitrary contents."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyws.ops import reference, superpixel_select, superpixel_vote

pytestmark = pytest.mark.usefixtures("backend")

OVERLAPS = ("superpixel", "iou", "min")
SHAPES = [(1, 1, 1), (2, 7, 13), (3, 8, 8), (1, 5, 101), (1, 16, 33)]
BLOCKS = (1, 83, 101)  # more pixels than a block counts


def blocks(batch: int, height: int, width: int, side: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """Labels of a grid of squares, as coherent as those of SLIC."""
    rows = torch.arange(height)[:, None] // side
    columns = torch.arange(width)[None] // side
    labels = rows * (-(-width // side)) + columns
    return labels.to(dtype).expand(batch, height, width).contiguous()


def disc(batch: int, height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return ((x - 0.2) ** 2 + y**2 < 0.5).expand(batch, height, width).contiguous()


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


# ---- the definition


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [*SHAPES, BLOCKS])
@pytest.mark.parametrize("kind", ["blocks", "random"])
def test_select_equals_the_definition(shape: tuple[int, int, int], dtype: torch.dtype, kind: str, overlap: str) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = blocks(*shape, 3, dtype) if kind == "blocks" else torch.randint(0, 9, shape, generator=generator).to(dtype)
    mask = disc(*shape) ^ (torch.rand(shape, generator=generator) < 0.1)
    alpha = 0.05 if overlap == "iou" else 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that IoU selects nothing
        refined = superpixel_select(labels, mask, alpha, 0.3, overlap)
    same(refined.mask, reference.superpixel_select(labels, mask, alpha, 0.3, overlap))
    for b in range(len(labels)):
        k = refined.area.shape[1]
        same(refined.area[b], torch.bincount(labels[b].flatten(), minlength=k))
        same(refined.intersection[b], torch.bincount(labels[b][mask[b]], minlength=k))


@pytest.mark.parametrize("classes_dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["blocks", "random"])
def test_vote_equals_the_definition(
    shape: tuple[int, int, int], dtype: torch.dtype, classes_dtype: torch.dtype, kind: str
) -> None:
    generator = torch.Generator().manual_seed(2)
    labels = blocks(*shape, 3, dtype) if kind == "blocks" else torch.randint(0, 9, shape, generator=generator).to(dtype)
    classes = (blocks(*shape, 5) % 4).to(classes_dtype)
    classes[torch.rand(shape, generator=generator) < 0.2] = 255
    vote = superpixel_vote(labels, classes, num_classes=4, alpha=0.4)
    same(vote.classes, reference.superpixel_vote(labels, classes, 4, 0.4))
    k = vote.area.shape[1]
    for b in range(len(labels)):
        same(vote.area[b], torch.bincount(labels[b].flatten(), minlength=k))
        counted = classes[b] != 255
        pairs = labels[b][counted].long() * 4 + classes[b][counted].long()
        same(vote.table[b], torch.bincount(pairs, minlength=4 * k).reshape(k, 4))


@pytest.mark.parametrize("first", [1, 20, 33])
def test_classes_of_all_lanes_are_one_vote(first: int) -> None:
    """The pixels of each superpixel are of many classes, below and above half a warp and a whole one."""
    generator = torch.Generator().manual_seed(first)
    labels = torch.randint(0, 30, (1, 20, 33), generator=generator)
    classes = first + torch.randint(0, 36, labels.shape, generator=generator)
    vote = superpixel_vote(labels, classes, num_classes=70, alpha=0.01)
    same(vote.classes, reference.superpixel_vote(labels, classes, 70, 0.01))
    assert len(vote.classes.unique()) > 5


def test_by_hand() -> None:
    labels = torch.tensor([[[5, 5, 2], [5, 7, 7]]])
    mask = torch.tensor([[[True, True, False], [False, True, False]]])
    refined = superpixel_select(labels, mask, beta=1)
    assert refined.mask.tolist() == [[[True, True, False], [True, False, False]]]  # 2 of 3; 0 of 1; 1 of 2 is not more
    assert refined.area.tolist() == [[0, 0, 1, 0, 0, 3, 0, 2]]
    assert refined.intersection.tolist() == [[0, 0, 0, 0, 0, 2, 0, 1]]


@pytest.mark.parametrize("superpixels", [1024, 1025, 2**15 - 1, 2**15])  # where the kernels change tables and types
def test_highest_labels(superpixels: int) -> None:
    labels = torch.arange(superpixels - 70, superpixels).repeat(2).reshape(1, 2, 70)
    mask = (torch.arange(140) % 3 > 0).reshape(1, 2, 70)
    refined = superpixel_select(labels, mask, num_superpixels=superpixels)
    same(refined.mask, reference.superpixel_select(labels, mask))
    same(refined.area[0], torch.bincount(labels.flatten()))
    same(refined.intersection[0], torch.bincount(labels[mask], minlength=superpixels))


def test_vote_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1, 3, 3]]])
    classes = torch.tensor([[[2, 1, 2, 1, 3, 3, 3, 0, 0, 255]]])
    vote = superpixel_vote(labels, classes, num_classes=4, alpha=0.4)
    assert vote.classes.tolist() == [[[1, 1, 1, 1, 3, 3, 3, 3, 0, 0]]]  # a tie goes to the lower class
    assert vote.winner.tolist() == [[1, 3, 0, 0]]
    assert superpixel_vote(labels, classes, num_classes=4, alpha=0.5).winner.tolist() == [[0, 3, 0, 0]]


# ---- properties


def test_thresholds_are_strict_and_exact() -> None:
    labels = torch.zeros(1, 10, 10, dtype=torch.int64)
    mask = (torch.arange(100) < 55).reshape(1, 10, 10)  # 0.55 * 100 rounds up, 0.29 * 100 down: ratios do not
    assert not superpixel_select(labels, mask, alpha=0.55, beta=2).mask.any()
    assert superpixel_select(labels, mask, alpha=0.5499999, beta=2).mask.all()
    mask = (torch.arange(100) < 29).reshape(1, 10, 10)
    assert not superpixel_select(labels, mask, alpha=0.29, beta=2).mask.any()
    halves = blocks(1, 10, 20, 10)
    full = torch.ones(1, 10, 20, dtype=torch.bool)
    assert not superpixel_select(halves, full, beta=0.5).mask.any()
    assert superpixel_select(halves, full, beta=math.nextafter(0.5, 1)).mask.all()


def test_refining_twice_changes_nothing_and_labels_are_names() -> None:
    labels = blocks(2, 20, 30, 4)
    mask = disc(2, 20, 30)
    once = superpixel_select(labels, mask).mask
    assert 0 < once.sum() < once.numel()
    same(superpixel_select(labels, once).mask, once)
    names = torch.randperm(int(labels.max()) + 1, generator=torch.Generator().manual_seed(0))
    same(superpixel_select(names[labels], mask).mask, once)


def test_empty_and_full_masks() -> None:
    labels = blocks(2, 9, 9, 3)
    assert not superpixel_select(labels, torch.zeros_like(labels, dtype=torch.bool)).mask.any()
    assert superpixel_select(labels, torch.ones_like(labels, dtype=torch.bool)).mask.all()


def test_the_paper_s_iou_selects_nothing_and_warns() -> None:
    labels, mask = blocks(1, 40, 40, 4), disc(1, 40, 40)
    with pytest.warns(UserWarning, match='overlap="iou" selected nothing'):
        assert not superpixel_select(labels, mask, overlap="iou").mask.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        superpixel_select(labels, torch.zeros_like(mask), overlap="iou")
        superpixel_select(torch.zeros_like(labels), mask, overlap="iou", alpha=0.1, beta=2)


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_empty_input(shape: tuple[int, int, int]) -> None:
    labels = torch.zeros(shape, dtype=torch.int32)
    refined = superpixel_select(labels, torch.zeros(shape, dtype=torch.bool))
    assert refined.mask.shape == shape
    assert refined.area.shape == refined.intersection.shape == (shape[0], 0)
    vote = superpixel_vote(labels, labels.to(torch.uint8), 3)
    assert vote.classes.shape == shape
    assert vote.table.shape == (shape[0], 0, 3)


def test_strides_threads_and_batch_composition() -> None:
    labels, mask = blocks(3, 22, 31, 4), disc(3, 22, 31)
    mask[1] = ~mask[1]
    whole = superpixel_select(labels, mask)
    turned = superpixel_select(labels.mT.contiguous().mT, mask.mT.contiguous().mT)
    expanded = superpixel_select(labels[:1].expand(3, -1, -1), mask)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    more = superpixel_select(labels, mask)
    torch.set_num_threads(threads)
    for other in (turned, expanded, more):
        for a, b in zip(whole, other, strict=True):
            same(a, b)
    for b in range(3):
        same(superpixel_select(labels[b : b + 1], mask[b : b + 1]).mask[0], whole.mask[b])


def test_large_labels_and_a_given_number_of_superpixels() -> None:
    labels = torch.tensor([[[0, 1500, 1500, 3]]], dtype=torch.int32)  # beyond the first capacity
    mask = torch.tensor([[[False, True, True, False]]])
    refined = superpixel_select(labels, mask, beta=1)
    assert refined.mask.tolist() == [[[False, True, True, False]]]
    assert refined.area.shape == (1, 1501)
    assert refined.area[0, 1500] == 2
    given_k = superpixel_select(labels, mask, beta=1, num_superpixels=5000)  # too many to share memory on a GPU
    same(given_k.mask, refined.mask)
    assert given_k.area.shape == (1, 5000)
    assert superpixel_vote(labels, mask.to(torch.uint8), 2).winner[0, 1500] == 1


# ---- beta of connected parts


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 70), (3, 8, 8), (1, 33, 7), (1, 40, 1), (2, 1, 45)])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_dropped_components_equal_the_definition(shape: tuple[int, int, int], share: float) -> None:
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < share
    for beta in (0.0, 0.1, 0.4, math.inf):
        same(torch.ops.pyws.drop_components(masks, beta), reference.drop_components(masks, beta))


def test_a_spiral_is_one_component() -> None:
    rows = [
        "#########",
        "........#",
        "#######.#",
        "#.....#.#",
        "#.###.#.#",
        "#.#...#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    ]
    mask = torch.tensor([[[cell == "#" for cell in row] for row in rows]])
    share = mask.sum().item() / mask.numel()
    assert not torch.ops.pyws.drop_components(mask, share).any()
    same(torch.ops.pyws.drop_components(mask, math.nextafter(share, 1)), mask)


def test_beta_on_components_leaves_out_large_objects() -> None:
    # Superpixels of 4 pixels: three that meet at corners cover 12 of 64, a fourth one is alone.
    labels, mask = blocks(1, 8, 8, 2), torch.zeros(1, 8, 8, dtype=torch.bool)
    for y, x in ((0, 0), (2, 2), (4, 0), (6, 6)):
        mask[:, y : y + 2, x : x + 2] = True
    same(superpixel_select(labels, mask, beta=12 / 64).mask, mask)
    refined = superpixel_select(labels, mask, beta=12 / 64, beta_on="component")
    assert refined.mask.sum() == 4
    assert refined.mask[:, 6:, 6:].all()
    same(refined.intersection, superpixel_select(labels, mask).intersection)
    same(superpixel_select(labels, mask, beta=0.2, beta_on="component").mask, mask)
    single = torch.zeros_like(labels)
    assert not superpixel_select(single, torch.ones_like(mask), beta=1, beta_on="component").mask.any()
    assert superpixel_select(labels[:0], mask[:0], beta_on="component").mask.shape == (0, 8, 8)


# ---- torch


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_tables_of_every_size(dtype: torch.dtype) -> None:
    # Runs of 1 to 9 pixels over several words of 64, labels on both sides of what a table of bits holds.
    generator = torch.Generator().manual_seed(1)
    for superpixels in (1, 31, 64, 65, 1024, 1025):
        lengths = torch.randint(1, 10, (60,), generator=generator)
        names = torch.randint(-2, superpixels + 2, (60,), generator=generator)
        labels = torch.repeat_interleave(names, lengths)[:192].to(dtype)
        mask = torch.repeat_interleave(torch.rand(60, generator=generator) < 0.6, lengths)[:192]
        known = (labels >= 0) & (labels < superpixels)
        area = torch.bincount(labels[known].long(), minlength=superpixels)
        inside = torch.bincount(labels[known & mask].long(), minlength=superpixels)
        passes = inside / area.clamp(min=1) > 0.5
        expected = torch.where(known, passes[labels.long().clamp(0, superpixels - 1)], False)
        refined, counts, summary = torch.ops.pyws.superpixel_select(
            labels[None, None], mask[None, None], 0.5, 2.0, "superpixel", superpixels
        )
        assert torch.equal(counts, torch.stack([area[None], inside[None]]))
        assert torch.equal(refined[0, 0], expected)
        assert summary[0, 1] == int((~known).sum())


def test_opcheck() -> None:
    labels, mask = blocks(2, 6, 9, 2), disc(2, 6, 9)
    torch.library.opcheck(torch.ops.pyws.superpixel_select, (labels, mask, 0.5, 0.4, "superpixel", 20))
    torch.library.opcheck(torch.ops.pyws.superpixel_vote, (labels.int(), mask.long(), 3, 0.5, 255, 20))
    torch.library.opcheck(torch.ops.pyws.drop_components, (mask, 0.4))


def test_compile() -> None:
    labels, mask = blocks(2, 6, 9, 2), disc(2, 6, 9)

    def both(labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        refined = superpixel_select(labels, mask, num_superpixels=15, beta_on="component")
        return refined.mask, superpixel_vote(labels, refined.mask.long(), 2, num_superpixels=15).classes

    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    for a, b in zip(compiled(labels, mask), both(labels, mask), strict=True):
        same(a, b)


# ---- bad input

LABELS = torch.zeros(1, 2, 2, dtype=torch.int64)
MASK = torch.zeros(1, 2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0]], MASK), TypeError, "superpixel_select: labels must be a tensor, got list"),
        ((LABELS.float(), MASK), TypeError, "superpixel_select: labels must be int32 or int64, got float32"),
        ((LABELS[0], MASK), ValueError, r"superpixel_select: labels must have 3 dimensions, got shape \(2, 2\)"),
        ((LABELS, MASK.long()), TypeError, "superpixel_select: mask must be bool, got int64"),
        ((LABELS, MASK[:, :1]), ValueError, r"superpixel_select: mask must have shape \(1, 2, 2\), got \(1, 1, 2\)"),
        ((LABELS, MASK, 1.5), ValueError, r"superpixel_select: alpha must be in \[0, 1\], got 1.5"),
        ((LABELS, MASK, math.nan), ValueError, r"superpixel_select: alpha must be in \[0, 1\], got nan"),
        ((LABELS, MASK, 0.5, -0.1), ValueError, "superpixel_select: beta must be >= 0, got -0.1"),
        ((LABELS, MASK, 0.5, 0.4, "dice"), ValueError, "superpixel_select: overlap must be one of 'superpixel'"),
        ((LABELS, MASK, 0.5, 0.4, "min", None, "all"), ValueError, "beta_on must be one of 'superpixel', 'component'"),
        ((LABELS, MASK, 0.5, 0.4, "min", 2.0), TypeError, "num_superpixels must be an integer, got float"),
        ((LABELS, MASK, 0.5, 0.4, "min", -1), ValueError, "num_superpixels must be in 0..2147483647, got -1"),
        ((LABELS - 3, MASK), ValueError, "superpixel_select: labels must be in 0..1048575, got -3"),
        ((LABELS + 2**40, MASK), ValueError, "labels must be in 0..1048575, got 1099511627776; renumber them"),
        ((LABELS + 4, MASK, 0.5, 0.4, "min", 4), ValueError, "superpixel_select: labels must be in 0..3, got 4"),
    ],
)
def test_select_refuses(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        superpixel_select(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((LABELS, MASK, 2), TypeError, "superpixel_vote: classes must be uint8 or int32 or int64, got bool"),
        ((LABELS, LABELS, 0), ValueError, "superpixel_vote: num_classes must be in 1..9223372036854775808, got 0"),
        ((LABELS, LABELS.to(torch.uint8), 300), ValueError, "superpixel_vote: num_classes must be in 1..256, got 300"),
        ((LABELS, LABELS, 2.0), TypeError, "superpixel_vote: num_classes must be an integer, got float"),
        ((LABELS, LABELS + 7, 5), ValueError, "classes must be in 0..4 or ignore_index 255, got 7"),
        ((LABELS, LABELS - 1, 5), ValueError, "classes must be in 0..4 or ignore_index 255, got -1"),
        ((LABELS, LABELS, 5, -0.5), ValueError, r"superpixel_vote: alpha must be in \[0, 1\], got -0.5"),
        ((LABELS - 1, LABELS, 5), ValueError, "superpixel_vote: labels must be in 0..1048575, got -1"),
    ],
)
def test_vote_refuses(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        superpixel_vote(*arguments)


# ---- arbitrary contents

ANY_INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 12)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(ANY_INT64, min_size=1, max_size=9),
    shape=st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 40)),
    seed=st.integers(0, 99),
    capacity=st.integers(0, 12),
    narrow=st.booleans(),
)
def test_any_contents_are_safe(values: list[int], shape: tuple, seed: int, capacity: int, narrow: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(values)[torch.randint(0, len(values), shape, generator=generator)]
    labels = labels.to(torch.int32) if narrow else labels
    mask = torch.rand(shape, generator=generator) < 0.5
    known = (labels >= 0) & (labels < capacity)
    refined, counts, summary = torch.ops.pyws.superpixel_select(labels, mask, 0.5, 0.4, "superpixel", capacity)
    assert not refined[~known].any()
    assert summary[:, 1].sum() == (~known).sum()
    assert counts[0].sum() == known.sum()
    dropped = torch.ops.pyws.drop_components(refined, 0.2)
    same(dropped, reference.drop_components(refined, 0.2))
    classes = torch.tensor([0, 1, 2, *values])[torch.randint(0, len(values) + 3, shape, generator=generator)]
    vote, area, table, winner, _ = torch.ops.pyws.superpixel_vote(labels, classes, 3, 0.5, 255, capacity)
    same(area, counts[0])
    assert table.sum() == (known & (classes >= 0) & (classes < 3)).sum()
    assert not vote[~known].any()
    assert ((winner >= 0) & (winner < 3)).all()
