"""superpixel_confusion: its definition, cases by hand, edges, bad and arbitrary contents."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws.ops import reference, superpixel_confusion

on_every_backend = pytest.mark.usefixtures("backend")


def frames(shape, num_classes, coherent=True):
    """Superpixels, and two class maps that mostly agree; one class in ten annotated pixels is ignored."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.arange(shape[1])[:, None], torch.arange(shape[2])[None]
    labels = (rows // 3 * (shape[2] // 4 + 1) + columns // 4).expand(shape).clone()
    prediction = ((rows // 5 + columns // 7) % num_classes).expand(shape).clone()
    if not coherent:
        labels, prediction = (torch.randint(0, k, shape, generator=generator) for k in (6, num_classes))
    annotation = torch.where(torch.rand(shape, generator=generator) < 0.3, 0, prediction)
    annotation[torch.rand(shape, generator=generator) < 0.1] = 255
    return labels, prediction, annotation


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@on_every_backend
@pytest.mark.parametrize(
    ("dtype", "classes_dtype"),
    [(torch.int32, torch.uint8), (torch.int32, torch.int64), (torch.int64, torch.int32), (torch.int64, torch.int64)],
)
@pytest.mark.parametrize("coherent", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 13), (1, 16, 33)], ids=str)
def test_equals_the_definition(shape, coherent, dtype, classes_dtype):
    labels, prediction, annotation = frames(shape, 5, coherent)
    found = superpixel_confusion(
        labels.to(dtype), prediction.to(classes_dtype), annotation.to(classes_dtype), 5, alpha=0.3, beta=0.9
    )
    same(found, reference.superpixel_confusion(labels, prediction, annotation, 5, 0.3, 0.9))


@on_every_backend
def test_by_hand():
    # Superpixel 4: classes 1 and 2 tie with two of five pixels, the lower one wins. Superpixel 2: class 3 has one of
    # two, more than 0.39 of it, but not more than half. Superpixel 0: background.
    labels = torch.tensor([[[4, 4, 4, 4, 4, 2, 2, 0, 0, 0]]])
    prediction = torch.tensor([[[1, 2, 2, 1, 0, 3, 0, 0, 0, 0]]])
    annotation = torch.tensor([[[1, 1, 1, 0, 255, 3, 3, 0, 3, 0]]])
    consistency, agreement = superpixel_confusion(labels, prediction, annotation, 4, alpha=0.39, beta=1)
    assert consistency.tolist() == [[[3, 1, 0, 1], [0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]]
    assert agreement.tolist() == [[[2, 0, 0, 1], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]]
    consistency, agreement = superpixel_confusion(labels, prediction, annotation, 4, alpha=0.5, beta=1)
    assert consistency[0].sum(0).tolist() == [10, 0, 0, 0]
    assert agreement[0].sum(1).tolist() == [9, 0, 0, 0]
    consistency, _ = superpixel_confusion(labels, prediction, annotation, 4, alpha=0.39, beta=0.5)  # 5 of 10
    assert consistency[0].sum(0).tolist() == [8, 0, 0, 2]


@on_every_backend
def test_many_classes_and_superpixels():
    labels = torch.arange(3000).reshape(1, 50, 60) // 2
    classes = (labels * 7 % 70).to(torch.uint8)
    consistency, agreement = superpixel_confusion(labels, classes, classes, 70)
    same([consistency], [torch.diag(torch.bincount(classes.flatten(), minlength=70))[None]])
    same([agreement], [consistency])


@on_every_backend
def test_classes_of_all_lanes_are_one_vote():
    """The pixels of each superpixel are of many classes, below and above half a warp and a whole one."""
    labels, prediction, annotation = frames((1, 16, 33), 70, coherent=False)
    found = superpixel_confusion(labels, prediction, annotation, 70, alpha=0.01, beta=0.9)
    same(found, reference.superpixel_confusion(labels, prediction, annotation, 70, 0.01, 0.9))
    assert (found[0].sum(1) > 0).sum() > 1  # several classes won


@on_every_backend
@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_empty_input(shape):
    labels = torch.zeros(shape, dtype=torch.int32)
    for histogram in superpixel_confusion(labels, labels, labels, 3):
        assert histogram.shape == (shape[0], 3, 3)
        assert not histogram.any()


@on_every_backend
def test_strides_threads_and_batch_composition():
    labels, prediction, annotation = frames((3, 22, 31), 5)
    whole = superpixel_confusion(labels, prediction, annotation, 5)
    same(superpixel_confusion(*(x.mT.contiguous().mT for x in (labels, prediction, annotation)), 5), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    same(superpixel_confusion(labels, prediction, annotation, 5), whole)
    torch.set_num_threads(threads)
    same(superpixel_confusion(labels, prediction.to(torch.uint8), annotation, 5, num_superpixels=200), whole)
    for b in range(3):
        parts = (x[b : b + 1] for x in (labels, prediction, annotation))
        same([histogram[0] for histogram in superpixel_confusion(*parts, 5)], [histogram[b] for histogram in whole])


def test_opcheck_and_compile():
    labels, prediction, annotation = frames((2, 6, 9), 3)
    torch.library.opcheck(torch.ops.pyws.superpixel_confusion, (labels, prediction, annotation, 3, 0.5, 0.4, 255, 30))

    def agreement(labels, prediction, annotation):
        return superpixel_confusion(labels, prediction, annotation, 3, num_superpixels=30).agreement

    compiled = torch.compile(agreement, backend="aot_eager", fullgraph=True)
    same([compiled(labels, prediction, annotation)], [agreement(labels, prediction, annotation)])


ZEROS = torch.zeros(1, 2, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0], ZEROS, ZEROS, 2), TypeError, "superpixel_confusion: labels must be a tensor, got list"),
        ((ZEROS[0], ZEROS, ZEROS, 2), ValueError, "labels must have 3 dimensions"),
        ((ZEROS, ZEROS.float(), ZEROS, 2), TypeError, "prediction must be uint8 or int32 or int64, got float32"),
        ((ZEROS, ZEROS, ZEROS[:, :1], 2), ValueError, r"annotation must have shape \(1, 2, 2\), got \(1, 1, 2\)"),
        ((ZEROS, ZEROS, ZEROS, 0), ValueError, "num_classes must be in 1..9223372036854775808, got 0"),
        ((ZEROS, ZEROS.to(torch.uint8), ZEROS.to(torch.uint8), 257), ValueError, "must be in 1..256, got 257"),
        ((ZEROS, ZEROS, ZEROS, 2, 1.5), ValueError, r"alpha must be in \[0, 1\], got 1.5"),
        ((ZEROS, ZEROS, ZEROS, 2, 0.5, math.nan), ValueError, "beta must be >= 0, got nan"),
        ((ZEROS, ZEROS, ZEROS, 2, 0.5, 0.4, 255, -1), ValueError, "num_superpixels must be in 0..2147483647, got -1"),
        ((ZEROS - 1, ZEROS, ZEROS, 2), ValueError, "labels must be in 0..1048575, got -1"),
        ((ZEROS + 5, ZEROS, ZEROS, 2, 0.5, 0.4, 255, 5), ValueError, "labels must be in 0..4, got 5"),
        ((ZEROS, ZEROS + 255, ZEROS, 2), ValueError, "prediction must be in 0..1, got 255"),
        ((ZEROS, ZEROS, ZEROS - 1, 2), ValueError, "annotation must be in 0..1 or ignore_index 255, got -1"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        superpixel_confusion(*arguments)


ANY_INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 12)


@on_every_backend
@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(ANY_INT64, min_size=1, max_size=9),
    shape=st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 40)),
    seed=st.integers(0, 99),
    capacity=st.integers(0, 12),
)
def test_any_contents_are_safe(values, shape, seed, capacity):
    generator = torch.Generator().manual_seed(seed)
    pool = torch.tensor([0, 1, 2, *values])
    labels, prediction, annotation = pool[torch.randint(0, len(pool), (3, *shape), generator=generator)]
    consistency, agreement, invalid = torch.ops.pyws.superpixel_confusion(
        labels, prediction, annotation, 3, 0.5, 0.4, 255, capacity
    )
    known = (labels >= 0) & (labels < capacity)
    inside = [(x >= 0) & (x < 3) for x in (prediction, annotation)]
    assert consistency.sum() == (known & inside[0]).sum()
    assert agreement.sum() == (known & inside[1]).sum()
    wrong = (~known, ~inside[0], ~inside[1] & (annotation != 255))
    assert invalid.sum(0).tolist() == [int(x.sum()) for x in wrong]
