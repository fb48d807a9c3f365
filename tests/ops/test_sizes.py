"""Numbers that only size memory: an error of the operation, whatever they are, and never one of the allocator."""

import importlib
import math

import pytest
import torch

from pyws import ops
from pyws.data.annotations.activitynet import read_detections, read_truth
from pyws.errors import DataError
from pyws.ops import _library, reference
from pyws.ops._library import _named, check_pixels
from pyws.ops.masks import background_patches
from pyws.ragged import Segments
from pyws.segments import label_videos

LABELS, MASK = torch.zeros(2, 4, 4, dtype=torch.int64), torch.ones(2, 4, 4, dtype=torch.bool)
ONE = Segments.of([[(0, 4, 0.9)]])
IDS = torch.zeros(4, dtype=torch.int64)
CALLS = {
    "superpixel_select": lambda n: ops.superpixel_select(LABELS, MASK, num_superpixels=n),
    "superpixel_vote": lambda n: ops.superpixel_vote(LABELS, LABELS, 1, num_superpixels=n),
    "superpixel_vote.": lambda n: ops.superpixel_vote(LABELS, LABELS, n, num_superpixels=1),
    "superpixel_confusion": lambda n: ops.superpixel_confusion(LABELS, LABELS, LABELS, 1, num_superpixels=n),
    "superpixel_confusion.": lambda n: ops.superpixel_confusion(LABELS, LABELS, LABELS, n),
    "otsu_masks": lambda n: ops.otsu_masks(torch.rand(1, 4, 4), (n, n)),
    "linpro": lambda n: ops.linpro(ONE, torch.tensor([n])),
    "snippet_classes": lambda n: ops.snippet_classes(ONE, torch.tensor([n])),
    "class_mean": lambda n: ops.class_mean(torch.rand(4, 3), IDS, n),
    "class_mean.": lambda n: ops.class_mean(torch.rand(4, 3), IDS, torch.tensor([0, n]), torch.tensor([0, 4])),
}


IMAGES, TCAM = torch.rand(1, 3, 12, 12), torch.rand(8, 2)
SUMS = ops.integral_image(torch.zeros(2, 6, 6, dtype=torch.bool))
AT, SIDE, RANK = torch.tensor([0]), torch.tensor([2]), torch.tensor([0])
OFFSETS, LENGTHS = torch.tensor([0, 8]), torch.tensor([8])
# Every number that an operation takes beside tensors.
NUMBERS = {
    ("slic", "n_segments"): lambda x: ops.slic(IMAGES, x),
    ("slic", "compactness"): lambda x: ops.slic(IMAGES, compactness=x),
    ("slic", "iterations"): lambda x: ops.slic(IMAGES, iterations=x),
    ("slic", "region_area"): lambda x: ops.slic(IMAGES, region_area=x),
    ("slic", "min_size_factor"): lambda x: ops.slic(IMAGES, min_size_factor=x),
    ("count_patches", "share"): lambda x: ops.count_patches(SUMS, AT, SIDE, x),
    ("find_patches", "share"): lambda x: ops.find_patches(SUMS, AT, SIDE, RANK, x),
    ("fuse_segments", "iou_threshold"): lambda x: ops.fuse_segments(ONE, x),
    ("fuse_segments", "temperature"): lambda x: ops.fuse_segments(ONE, temperature=x),
    ("fuse_segments", "dof"): lambda x: ops.fuse_segments(ONE, distribution="t", dof=x),
    ("suppress_segments", "iou_threshold"): lambda x: ops.suppress_segments(ONE, x),
    ("suppress_segments", "sigma"): lambda x: ops.suppress_segments(ONE, sigma=x),
    ("suppress_segments", "min_score"): lambda x: ops.suppress_segments(ONE, min_score=x),
    ("linpro", "margin"): lambda x: ops.linpro(ONE, LENGTHS, margin=x),
    ("linpro", "upper"): lambda x: ops.linpro(ONE, LENGTHS, upper=x),
    ("propose_segments", "min_length"): lambda x: ops.propose_segments(TCAM, OFFSETS, min_length=x),
    ("propose_segments", "margin"): lambda x: ops.propose_segments(TCAM, OFFSETS, margin=x),
    ("propose_segments", "thresholds"): lambda x: ops.propose_segments(TCAM, OFFSETS, [x]),
    ("score_segments", "margin"): lambda x: ops.score_segments(ONE, TCAM[:, :1], OFFSETS, margin=x),
    ("snippet_classes", "margin"): lambda x: ops.snippet_classes(ONE, LENGTHS, margin=x),
    ("match_segments", "thresholds"): lambda x: ops.match_segments(ONE, ONE, torch.tensor([0, 1]), [x]),
    ("superpixel_select", "alpha"): lambda x: ops.superpixel_select(LABELS, MASK, alpha=x),
    ("superpixel_select", "beta"): lambda x: ops.superpixel_select(LABELS, MASK, beta=x),
    ("superpixel_vote", "alpha"): lambda x: ops.superpixel_vote(LABELS, LABELS, 3, alpha=x),
    ("superpixel_vote", "ignore_index"): lambda x: ops.superpixel_vote(LABELS, LABELS, 3, ignore_index=x),
    ("superpixel_confusion", "alpha"): lambda x: ops.superpixel_confusion(LABELS, LABELS, LABELS, 3, alpha=x),
    ("superpixel_confusion", "beta"): lambda x: ops.superpixel_confusion(LABELS, LABELS, LABELS, 3, beta=x),
}
PLACES = {
    ("count_patches", "frames"): lambda x: ops.count_patches(SUMS, x, SIDE),
    ("count_patches", "sides"): lambda x: ops.count_patches(SUMS, AT, x),
    ("find_patches", "frames"): lambda x: ops.find_patches(SUMS, x, SIDE, RANK),
    ("find_patches", "sides"): lambda x: ops.find_patches(SUMS, AT, x, RANK),
    ("find_patches", "ranks"): lambda x: ops.find_patches(SUMS, AT, SIDE, x),
}


def are_finite(answer):
    if isinstance(answer, torch.Tensor):
        return not answer.is_floating_point() or bool(answer.isfinite().all())
    return all(map(are_finite, answer if isinstance(answer, (tuple, list)) else vars(answer).values()))


def outcome(call, value):
    """The answer to a call, and the error that it raised instead."""
    try:
        return call(value), ""
    except (TypeError, ValueError) as error:
        return None, str(error)


@pytest.mark.parametrize("place", NUMBERS, ids="-".join)
def test_any_number_is_taken_or_an_error_of_the_operation(place):
    numbers = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-320, -1, 0, 1.5, 2**31, 2**63 - 1, -(2**63), 2**64)
    for number in numbers:
        answer, said = outcome(NUMBERS[place], number)
        assert said.startswith(f"{place[0]}: ") or are_finite(answer), number


@pytest.mark.parametrize("strange", ["x", [1], 1j])
@pytest.mark.parametrize("place", NUMBERS, ids="-".join)
def test_what_is_no_number_is_an_error_of_the_operation(place, strange):
    with pytest.raises((TypeError, ValueError), match=f"^{place[0]}: .*must be"):
        NUMBERS[place](strange)


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_patches_of_any_place_and_size(place):
    for number in (-(2**63), -1, 0, 1, 7, 2**31, 2**62, 2**63 - 1):
        answer, said = outcome(PLACES[place], torch.tensor([number]))
        assert said.startswith(f"{place[0]}: ") or answer.abs().max() <= 36, number


@pytest.mark.parametrize("number", [2**31 - 1, 2**40, 2**63 - 1])
@pytest.mark.parametrize("name", CALLS)
def test_huge_counts_are_an_error_of_the_operation(name, number):
    with pytest.raises(ValueError, match=rf"^{name.rstrip('.')}: .*(must be|must have)"):
        CALLS[name](number)


def test_lack_of_memory_names_the_operation():
    def kernel():
        return torch.empty(2**61, dtype=torch.uint8)

    with pytest.raises(MemoryError, match="^linpro: needs more memory than there is"):
        _named("linpro", kernel, reads_contents=False)()
    with pytest.raises(RuntimeError, match="another"):
        _named("linpro", lambda: (_ for _ in ()).throw(RuntimeError("another")), reads_contents=True)()


@pytest.mark.parametrize("duration", [1e12, 1e300])
def test_durations_that_no_video_has(duration):
    truth = read_truth({"database": {"v": {"subset": "test", "duration": duration, "annotations": []}}})
    found = read_detections({"results": {"v": [{"label": "a", "score": 1, "segment": [0, duration]}]}})
    with pytest.raises(DataError, match=r"video 'v' must last at most 16777216 snippets, got a duration of 1e\+"):
        label_videos(found, truth, ["a"])


@pytest.mark.parametrize("large", [1e300, -1e300, 1e12])
def test_large_finite_values_stay_finite(large):
    times = Segments.of([[(0, abs(large), large), (abs(large) / 2, abs(large), large / 2)]])
    for method in ("gaussian", "uniform", "exponential", "t"):
        fused = ops.fuse_segments(times, 0.1, distribution=method)
        assert fused.start.isfinite().all()
        assert fused.score.isfinite().all()
    assert ops.suppress_segments(times, 0.3, sigma=0.5).score.isfinite().all()
    assert ops.linpro(times, torch.tensor([8])).labels.isfinite().all()
    assert ops.match_segments(times, times, torch.tensor([0, 1]), [0.5]).ap.tolist() == [[1.0]]


def test_counts_of_more_than_16_bits(device_backend):
    pixels = torch.arange(300 * 300).view(1, 300, 300)
    labels, masks = (pixels >= 89000).int(), pixels % 3 == 0
    classes, maps = masks.to(torch.uint8), 0.1 + 0.8 * masks
    assert torch.equal(ops.superpixel_select(labels, masks, 0.5).mask, reference.superpixel_select(labels, masks, 0.5))
    found, want = (
        ops.superpixel_vote(labels, classes, 2, 0.7).classes,
        reference.superpixel_vote(labels, classes, 2, 0.7),
    )
    assert torch.equal(found, want)
    found, want = (
        each(labels, classes, classes, 2) for each in (ops.superpixel_confusion, reference.superpixel_confusion)
    )
    assert all(map(torch.equal, found, want))
    large = pixels < 70000
    assert not torch.ops.pyws.drop_components(large, 0.7).any()
    assert torch.equal(torch.ops.pyws.drop_components(large, 0.8), large)
    assert torch.equal(ops.otsu(maps), reference.otsu(maps))
    assert ops.integral_image(large)[0, -1, -1] == 70000


@pytest.mark.parametrize("count", [4095, 4096, 4097, 2**15 - 1, 2**15, 2**16 - 1, 2**16])
def test_as_many_superpixels_as_a_block_counts_itself_and_as_codes_tell(device_backend, count):
    labels = torch.arange(2 * count).view(1, 2, count) // 2
    masks = labels % 3 == 0  # whole superpixels
    assert torch.equal(ops.superpixel_select(labels, masks, 0.5).mask, masks)


def test_a_frame_has_less_than_2_to_the_31_pixels():
    """The memory is one number; a frame of one pixel less is let through."""
    whole = torch.zeros(1, 1, 1, dtype=torch.bool).expand(3, 2**16, 2**15)
    for check in (lambda frames: check_pixels("op", "masks", frames), background_patches._check_masks):
        check(whole[:, :-1])
        check(torch.zeros(1, 1, 1, dtype=torch.bool).expand(3, 2**31 - 1, 1))
        with pytest.raises(ValueError, match="masks must have less than 2.+31 pixels .*65536, 32768"):
            check(whole)
    with pytest.raises(ValueError, match="less than 2.+31 pixels"):
        ops.integral_image(whole)


@pytest.mark.parametrize("module", ["linpro", "class_mean"])
def test_segments_are_fewer_than_their_bounds_have_numbers(module, monkeypatch):
    place = importlib.import_module(f"pyws.ops.segments.{module}")
    solve = ops.linpro if module == "linpro" else ops.snippet_classes
    assert place._MAX_SEGMENTS == 2**29
    monkeypatch.setattr(place, "_MAX_SEGMENTS", 3)
    rows = [(0, 2, 1.0), (1, 3, 1.0), (2, 4, 1.0)]
    solve(Segments.of([rows[:2]]), torch.tensor([4]))
    with pytest.raises(ValueError, match=r"segments must be fewer than 2\*\*29, got 3"):
        solve(Segments.of([rows]), torch.tensor([4]))


def test_predictions_and_groups_have_ranks_of_32_bits(monkeypatch):
    place = importlib.import_module("pyws.ops.segments.match_segments")
    assert place._MAX_ROWS == 2**31 - 1
    monkeypatch.setattr(place, "_MAX_ROWS", 3)
    rows = [(0, 2, 1.0)]
    two, three = Segments.of([rows, rows]), Segments.of([rows, [], []])
    ops.match_segments(two, two, torch.tensor([0, 1, 2]), [0.5])
    with pytest.raises(ValueError, match="predictions and groups must be at most 3, got 1 and 4"):
        ops.match_segments(three, three, torch.tensor([0, 3]), [0.5])
    with pytest.raises(ValueError, match="predictions and groups must be at most 3, got 4 and 2"):
        ops.match_segments(Segments.of([rows * 4]), Segments.of([rows]), torch.tensor([0, 1]), [0.5])


@pytest.mark.skipif(bool(_library._C.cuda), reason="the build has CUDA kernels")
def test_tensors_of_a_card_need_a_build_with_its_kernels():
    with pytest.raises(RuntimeError, match="otsu: got CUDA tensors, but pyws was built without CUDA kernels"):
        _library.launch("otsu", torch.device("cuda"), {})


def test_columns_of_segments_are_on_one_device():
    columns = [torch.zeros(2, dtype=torch.float64)] * 4
    with pytest.raises(ValueError, match="Segments: offsets must be on cpu, got meta|on cpu"):
        Segments(*columns, torch.tensor([0, 2], device="meta"))
