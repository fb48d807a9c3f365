"""Instances, tracks and the vote on actions; masks as run lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from pyws.data.tagged.label_space import LabelSpace, a2d, actor_actions, object_labels
from pyws.data.tagged.rle import decode_mask, encode_mask
from pyws.errors import DataError
from pyws.masks.prediction.action_alignment import (
    ActionAligner,
    AlignedFrame,
    AlignmentConfig,
    ClassProbabilities,
    Instance,
    find_instances,
)
from pyws.masks.prediction.predict import CocoVideo

# Ids 1 cat-running, 2 cat-eating, 3 dog-running, 4 dog-walking.
SPACE = actor_actions([("cat", "running"), ("cat", "eating"), ("dog", "running"), ("dog", "walking")])
SMALL = AlignmentConfig(min_area=4)


class Aligned(NamedTuple):
    """The masks of all frames, and their instances in the order of the frames."""

    masks: list[np.ndarray]
    instances: list[Instance]


def align_actions(
    masks: list[np.ndarray],
    space: LabelSpace,
    config: AlignmentConfig,
    gap: int = 1,
    instances: list[Instance] | None = None,
) -> Aligned:
    """All frames of a video by one aligner; the instances are found where none are given."""
    if instances is None:
        instances = [one for index, mask in enumerate(masks) for one in find_instances(index, mask, space, config)]
    aligner, frames = ActionAligner(space, config, gap), list[AlignedFrame]()
    for index, mask in enumerate(masks):
        frames += aligner.add(mask, [one for one in instances if one.frame == index])
    frames += aligner.finish()
    return Aligned([one.mask for one in frames], [one for several in frames for one in several.instances])


def frame(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Ids of boxes (id, top, left, bottom, right) on a frame of 30x40."""
    mask = np.zeros((30, 40), np.uint8)
    for label, top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = label
    return mask


def test_one_wrong_frame_is_mended() -> None:
    masks = [frame((label, 5, 5 + k, 20, 20 + k)) for k, label in enumerate((1, 1, 2, 1, 1))]
    aligned = align_actions(masks, SPACE, SMALL)
    assert [int(mask.max()) for mask in aligned.masks] == [1] * 5
    assert all(np.array_equal(new > 0, old > 0) for new, old in zip(aligned.masks, masks, strict=True))
    assert {one.track for one in aligned.instances} == {0}


def test_the_radius_bounds_the_vote() -> None:
    masks = [frame((label, 5, 5, 20, 20)) for label in (1, 1, 2, 2, 2, 2)]
    near = align_actions(masks, SPACE, replace(SMALL, radius=1)).masks
    assert [int(mask.max()) for mask in near] == [1, 1, 2, 2, 2, 2]
    assert [int(mask.max()) for mask in align_actions(masks, SPACE, SMALL).masks] == [2] * 6


def test_ties_go_to_the_own_frame_then_to_pixels() -> None:
    masks = [frame((label, 5, 5, 20, 20)) for label in (1, 2)]
    assert [int(mask.max()) for mask in align_actions(masks, SPACE, SMALL).masks] == [1, 2]
    mixed = frame((2, 5, 5, 20, 20), (1, 5, 5, 10, 20))  # 150 pixels eat, 75 run
    assert set(np.unique(align_actions([mixed], SPACE, SMALL).masks[0])) == {0, 2}


def test_pixels_may_vote() -> None:
    masks = [frame((1, 5, 5, 25, 25)), frame((2, 5, 5, 18, 18)), frame((2, 5, 5, 18, 18))]
    assert [int(mask.max()) for mask in align_actions(masks, SPACE, SMALL).masks] == [2] * 3
    by_pixel = align_actions(masks, SPACE, replace(SMALL, vote="pixel")).masks
    assert [int(mask.max()) for mask in by_pixel] == [1] * 3


def test_probabilities_may_vote() -> None:
    """Two frames barely see running, one is sure of eating; probabilities outside the instance do not count."""
    masks = [frame((label, 5, 5, 20, 20)) for label in (1, 1, 2)]
    instances = []
    for index, (mask, running) in enumerate(zip(masks, (0.5, 0.5, 0.0), strict=True)):
        probabilities = np.zeros((3, 30, 40), np.float32)
        probabilities[1], probabilities[2] = running, 0.9 - running
        probabilities[1, mask == 0] = 1
        instances += find_instances(index, mask, SPACE, SMALL, ClassProbabilities(np.array([0, 1, 2]), probabilities))
    assert instances[0].action_sums == pytest.approx([0, 0.5 * 225, 0.4 * 225, 0])
    by_probability = replace(SMALL, vote="prob")
    assert [int(mask.max()) for mask in align_actions(masks, SPACE, SMALL).masks] == [1, 1, 1]
    assert [int(mask.max()) for mask in align_actions(masks, SPACE, by_probability, 1, instances).masks] == [2, 2, 2]
    with pytest.raises(ValueError, match="vote 'prob' needs instances that were found with class probabilities"):
        align_actions(masks, SPACE, by_probability)


def test_actors_stay_and_pairs_are_valid() -> None:
    """A dog never eats here, whatever its neighbours do."""
    masks = [frame((2, 2, 2, 12, 12), (3, 15, 20, 28, 38)), frame((1, 2, 3, 12, 13), (4, 15, 20, 28, 38))]
    aligned = align_actions(masks, SPACE, SMALL)
    for new, old in zip(aligned.masks, masks, strict=True):
        assert np.array_equal(SPACE.merge(new, "actor"), SPACE.merge(old, "actor"))
    assert len({one.track for one in aligned.instances}) == 2


def test_two_cats_keep_their_tracks() -> None:
    masks = [frame((1, 2, 2 + k, 12, 12 + k), (2, 15, 25 - k, 25, 35 - k)) for k in range(3)]
    masks.append(frame((2, 2, 5, 12, 15), (2, 15, 22, 25, 32)))
    aligned = align_actions(masks, SPACE, SMALL).masks
    assert [int(mask[5, 8]) for mask in aligned] == [1] * 4
    assert [int(mask[20, 28]) for mask in aligned] == [2] * 4


def test_a_missed_frame_is_bridged() -> None:
    masks = [frame((1, 5, 5, 20, 20)), frame(), frame((2, 5, 5, 20, 20)), frame((1, 5, 5, 20, 20))]
    assert [int(mask.max()) for mask in align_actions(masks, SPACE, SMALL).masks] == [1, 0, 1, 1]
    apart = align_actions(masks, SPACE, replace(SMALL, max_missing=0))
    assert [one.track for one in apart.instances] == [0, 1, 1]


def test_far_frames_are_linked_by_boxes() -> None:
    ring = frame((1, 5, 5, 25, 25), (0, 8, 8, 22, 22))
    moved = frame((2, 8, 8, 28, 28), (0, 11, 11, 25, 25))
    for gap, tracks in ((1, 2), (5, 1)):
        aligned = align_actions([ring, moved], SPACE, SMALL, gap)
        assert len({one.track for one in aligned.instances}) == tracks


def test_small_pieces_and_plain_objects() -> None:
    masks = [frame((1, 5, 5, 20, 20), (2, 25, 30, 26, 31))]
    assert align_actions(masks, SPACE, SMALL).masks[0][25, 30] == 2
    aligned = align_actions(masks, object_labels(["cat", "dog"]), SMALL)
    assert np.array_equal(aligned.masks[0], masks[0])
    assert align_actions([], SPACE, SMALL).masks == []


@given(arrays(np.uint8, (3, 12, 15), elements=st.sampled_from([0, 1, 12, 40, 255])))
@settings(max_examples=30, deadline=None)
def test_any_masks(masks: np.ndarray) -> None:
    space = a2d()
    for new, old in zip(align_actions(list(masks), space, SMALL).masks, masks, strict=True):
        assert np.array_equal(space.merge(new, "actor"), space.merge(old, "actor"))


def test_coco() -> None:
    masks = [frame((1, 5, 5, 20, 20)), frame((1, 5, 6, 20, 21), (3, 22, 30, 28, 38))]
    coco, aligned = CocoVideo(SPACE, ["v/00001.jpg", "v/00002.jpg"]), align_actions(masks, SPACE, SMALL)
    for index, mask in enumerate(aligned.masks):
        coco.add(AlignedFrame(index, mask, [one for one in aligned.instances if one.frame == index]))
    found = coco.document()
    assert [image["file_name"] for image in found["images"]] == ["v/00001.jpg", "v/00002.jpg"]
    assert [row["category_id"] for row in found["annotations"]] == [1, 1, 3]
    assert found["annotations"][0]["track_id"] == found["annotations"][1]["track_id"]
    assert found["annotations"][2]["bbox"] == [30, 22, 8, 6]
    for row in found["annotations"]:
        mask = decode_mask(row["segmentation"])
        assert mask.sum() == row["area"]
        assert np.array_equal(mask, masks[row["image_id"]] == row["category_id"])


def test_instances_are_the_large_parts_of_each_actor() -> None:
    """As one part after the other is found in the whole frame; 255 and ids that the space has not are nobody's."""
    rng = np.random.default_rng(0)
    config = AlignmentConfig(min_area=4, min_share=0)
    for _ in range(30):
        small = rng.choice([0, 0, 1, 2, 3, len(SPACE) - 1, 200, 255], (9, 12)).astype(np.uint8)
        mask = np.repeat(np.repeat(small, rng.integers(1, 3), 0), rng.integers(1, 3), 1)
        actors, expected = SPACE.merge(mask, "actor"), []
        for actor in range(1, len(SPACE.actors)):
            labels, count = ndimage.label(actors == actor, np.ones((3, 3)))
            expected += [(actor, labels == part) for part in range(1, count + 1) if (labels == part).sum() >= 4]
        found = find_instances(3, mask, SPACE, config)
        assert [one.actor for one in found] == [actor for actor, _ in expected]
        for one, (_, inside) in zip(found, expected, strict=True):
            assert np.array_equal(one.mask, inside)
            counts = np.bincount(SPACE.merge(mask, "action")[inside], minlength=len(SPACE.actions))
            assert one.pixels.tolist() == counts.tolist()
            rows, columns = np.nonzero(inside)
            assert one.box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


@given(arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30))))
@settings(max_examples=60, deadline=None)
def test_run_lengths(mask: np.ndarray) -> None:
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)


def test_run_lengths_by_hand() -> None:
    """40 needs two letters; 1, the fourth, is written as 1 - 40."""
    flat = np.repeat([False, True, False, True], [3, 40, 5, 1])
    assert encode_mask(flat.reshape(7, 7).T)["counts"] == "3X15iN"
    assert encode_mask(np.zeros((2, 2), bool)) == {"size": [2, 2], "counts": "4"}
    assert encode_mask(np.ones((2, 2), bool)) == {"size": [2, 2], "counts": "04"}
    with pytest.raises(ValueError, match="runs must fill 2x3 pixels, got 4"):
        decode_mask({"size": [2, 3], "counts": "4"})
    with pytest.raises(ValueError, match="mask must be"):
        encode_mask(np.zeros(3, bool))


@pytest.mark.parametrize(
    ("counts", "size", "said"),
    [
        ("", (2, 3), "runs must fill 2x3 pixels, got 0"),
        ("6P", (2, 3), "runs must fill 2x3 pixels"),  # the next letter of a length is missing
        ("60", (2, 3), None),  # a last run of nothing
        ("60000000", (2, 3), "runs must fill 2x3 pixels"),  # more runs than pixels
        ("8N", (2, 3), "runs must fill 2x3 pixels"),  # less than nothing, and the sum is right
        ("0700O", (2, 3), "runs must fill 2x3 pixels"),
        ("PPPPPPPPPPP0" * 3 + "6", (2, 3), None),  # zeros of twelve letters
        ("PPPPPPPPPPPPP", (2, 3), "counts must be run lengths in letters"),
        ("6p", (2, 3), "got 'p'"),
        ("\ud800", (2, 3), "got '.ud800'"),
        ("oooooooooooO6", (2, 3), "runs must fill 2x3 pixels"),
        ("", (0, 7), None),
    ],
)
def test_run_lengths_that_fill_the_size_or_not(counts: str, size: tuple[int, int], said: str | None) -> None:
    document = {"size": list(size), "counts": counts}
    if said is None:
        assert decode_mask(document).shape == size
    else:
        with pytest.raises(DataError, match=said):
            decode_mask(document)


def test_pycocotools_reads_it() -> None:
    """Empty columns before and behind, rows that are full, and runs of up to 24 bits of either sign."""
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    masks = [rng.random((37, 53)) < density for density in (0.0, 0.01, 0.5, 0.99, 1.0)]
    for left, right in ((7, 53), (0, 40), (7, 40), (52, 53), (0, 1)):
        masks += [np.zeros((37, 53), bool) for _ in range(2)]
        masks[-1][:, left:right] = rng.random((37, right - left)) < 0.5
        masks[-2][:, left:right] = True
    masks += [np.zeros((3000, 4000), bool) for _ in range(2)]
    masks[-1][[5, 2999], [0, 3999]] = True
    masks[-2][:, 1000:3999] = True
    masks[-2][7, 2000] = False
    for mask in masks:
        expected = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert encode_mask(mask) == {"size": list(mask.shape), "counts": expected["counts"].decode()}
        assert np.array_equal(decode_mask(encode_mask(mask)), mask)


def test_memory_is_flat_in_the_length_of_the_video() -> None:
    """Frames come out ``radius`` frames later, and nothing older is kept, whatever the length."""
    aligner, kept, out = ActionAligner(SPACE, replace(SMALL, radius=3)), set(), []
    for index in range(60):
        mask = frame((1 + index % 2, 5, 5, 20, 20))
        out += aligner.add(mask, find_instances(index, mask, SPACE, SMALL))
        kept.add((len(aligner._masks), len(aligner._instances)))
    assert [one.number for one in out] == list(range(57))
    assert max(kept) <= (4, 8)
    assert [one.number for one in aligner.finish()] == [57, 58, 59]
    assert aligner.tracks == 1
