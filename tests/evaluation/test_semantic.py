"""mIoU and accuracies over classes, the protocols of YouTube-Objects, and the command that prints them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws import DataError
from pyws.cli import main
from pyws.data.tagged.layouts import open_mask_set
from pyws.data.video.frames import write_mask, write_picture
from pyws.evaluation.segmentation import check_missing, evaluate_masks, mask_iou
from pyws.evaluation.semantic import Confusion, _in_words, evaluate_classes
from pyws.evaluation.youtube_objects import evaluate_youtube_objects

NAMES = ("background", "cat", "dog", "cow")
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 255])
GUESS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 0, 3])  # cow is neither true nor, where truth is known, predicted


def test_three_classes_by_hand():
    """IoU: background 3/5, cat 2/4, dog 1/3. Accuracy: 3/4, 2/3, 1/2."""
    confusion = Confusion(NAMES)
    confusion.add(GUESS, TRUTH)
    scores = confusion.scores()
    assert scores["classes"] == "background and cat, dog"
    assert scores["iou"] == pytest.approx({"background": 3 / 5, "cat": 2 / 4, "dog": 1 / 3})
    assert scores["miou"] == pytest.approx((3 / 5 + 2 / 4 + 1 / 3) / 3)
    assert scores["cls_acc"] == pytest.approx((3 / 4 + 2 / 3 + 1 / 2) / 3)
    assert scores["glo_acc"] == pytest.approx(6 / 9)
    alone = confusion.scores(include_background=False)
    assert alone["classes"] == "cat, dog"
    assert alone["miou"] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert alone["cls_acc"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert alone["glo_acc"] == pytest.approx(3 / 5)


def test_absent_classes():
    confusion = Confusion(NAMES)
    confusion.add(GUESS, TRUTH)
    known = 3 / 5 + 2 / 4 + 1 / 3
    assert confusion.scores(absent="zero")["miou"] == pytest.approx(known / 4)
    assert confusion.scores(absent="gt_only")["miou"] == pytest.approx(known / 3)
    confusion.add(np.array([3]), np.array([1]))  # a cow where none is: cat 2/5
    known = 3 / 5 + 2 / 5 + 1 / 3
    assert confusion.scores(absent="skip")["miou"] == pytest.approx(known / 4)
    assert confusion.scores(absent="gt_only")["miou"] == pytest.approx(known / 3)
    assert confusion.scores()["iou"]["cow"] == 0
    with pytest.raises(ValueError, match="absent must be one of skip, zero, gt_only, got 'no'"):
        confusion.scores(absent="no")


def test_predictions_that_are_no_class_are_wrong():
    confusion = Confusion(NAMES)
    confusion.add(np.array([255, 9, 1]), np.array([1, 1, 1]))
    assert confusion.scores()["accuracy"] == {"cat": pytest.approx(1 / 3)}
    assert Confusion(NAMES).scores(include_background=False)["miou"] is None
    with pytest.raises(ValueError, match="masks must have one shape"):
        confusion.add(np.zeros(2), np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 2, 3, 255])), min_size=1), st.booleans())
def test_accuracy_is_never_below_iou(pixels, background):
    confusion = Confusion(NAMES)
    confusion.add(*np.array(pixels).T)
    scores = confusion.scores(background, "gt_only")
    assert scores["iou"].keys() == scores["accuracy"].keys()
    assert all(scores["accuracy"][name] >= iou for name, iou in scores["iou"].items())
    if scores["iou"]:
        assert scores["cls_acc"] >= scores["miou"] - 1e-12


def plain_set(root):
    """Two labels of one actor: what merges to the right actor may be the wrong action."""
    write_picture(root / "videos/a/0.png", np.zeros((1, 4, 3), np.uint8))
    write_picture(root / "videos/a/1.png", np.zeros((1, 4, 3), np.uint8))
    (root / "tags.csv").write_text("video,actor,action\na,cat,eating\na,cat,running\n")
    write_mask(root / "truth/a/0.png", np.array([[0, 1, 1, 255]], np.uint8))
    return root


def test_merged_views(tmp_path, capsys):
    data = open_mask_set(plain_set(tmp_path / "set"))
    with pytest.raises(DataError, match=r"of each of the 1 annotated frames, 1 are missing, such as a/0.png"):
        evaluate_classes(tmp_path / "guess", data)
    write_mask(tmp_path / "guess/a/0.png", np.array([[0, 2, 1, 1]], np.uint8))
    views = evaluate_classes(tmp_path / "guess", data)["views"]
    assert views["joint"]["with background"]["iou"] == {"background": 1, "cat-eating": 0.5, "cat-running": 0}
    assert views["actor"]["without background"]["miou"] == 1
    assert views["action"]["without background"]["cls_acc"] == 0.5
    words = ["masks", "evaluate", str(tmp_path / "guess"), str(tmp_path / "set")]
    assert main([*words, "--json", "--absent", "gt_only"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["views"]["joint"]["without background"]["miou"] == 0.5
    assert (scores["frames"], scores["missing"]) == (1, 0)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "background and cat-eating, cat-running" in said
    for view, both in views.items():
        for title, row in both.items():
            line = f"{'actor-action' if view == 'joint' else view}, {title}: mIoU {row['miou']:.3f} ("
            assert sum(one.startswith(line) for one in said.splitlines()) == 1
    write_mask(tmp_path / "set/truth/a/1.png", np.array([[1, 1, 1, 1]], np.uint8))  # without a prediction
    data = open_mask_set(tmp_path / "set")
    joint = {
        rule: evaluate_classes(tmp_path / "guess", data, missing=rule)["views"]["joint"]["with background"]["accuracy"]
        for rule in ("background", "skip")
    }
    assert joint == {
        "background": {"background": 1, "cat-eating": pytest.approx(1 / 6)},
        "skip": {"background": 1, "cat-eating": 0.5},
    }
    assert main(words) == 1
    assert "1 are missing, such as a/1.png" in capsys.readouterr().err
    words += ["--missing", "background"]
    write_mask(tmp_path / "guess/a/0.png", np.array([[0, 7, 1, 1]], np.uint8))
    assert main(words) == 1
    assert "ids must be 0..2 or 255, got 7" in capsys.readouterr().err
    write_mask(tmp_path / "guess/a/0.png", np.zeros((3, 4), np.uint8))
    assert main(words) == 1
    assert "0.png: must have the shape of the frame 3x4, got 1x4" in capsys.readouterr().err


def test_frames_without_a_mask_are_passed_over_and_those_behind_them_count(tmp_path):
    for stem in "012":
        write_mask(tmp_path / f"truth/a/{stem}.png", np.array([[1, 1, 0]], np.uint8))
    write_mask(tmp_path / "guess/a/1.png", np.array([[1, 0, 0]], np.uint8))
    (video,) = evaluate_masks(tmp_path / "guess", tmp_path / "truth", missing="skip")["videos"].values()
    assert video == {"frames": 3, "missing": 2, "iou": 0.5}


def test_masks_that_cannot_be_compared(tmp_path):
    for one, other in ((np.zeros((2, 3)), np.zeros((3, 2))), (np.zeros(3), np.zeros(3))):
        with pytest.raises(ValueError, match=r"mask_iou: masks must have one shape \(..., H, W\), got"):
            mask_iou(one, other)
    guess, truth = tmp_path / "guess", tmp_path / "truth"
    for found, here in ((guess, "guess"), (truth, "truth")):
        with pytest.raises(DataError, match=f"{here}: must be a folder of <video>/<frame>.png, found none"):
            evaluate_masks(guess, truth)
        found.mkdir()
    (guess / "a").mkdir()
    with pytest.raises(DataError, match="guess: has no video in common with"):
        evaluate_masks(guess, truth)
    (truth / "a").mkdir()
    with pytest.raises(DataError, match="truth/a: has no png masks"):
        evaluate_masks(guess, truth)
    with pytest.raises(ValueError, match="missing must be one of error, background, skip, got 'none'"):
        check_missing(guess, ["a/0.png"], "none")


def test_data_without_truth_cannot_be_compared_with(tmp_path):
    write_picture(tmp_path / "set/videos/a/0.png", np.zeros((1, 4, 3), np.uint8))
    (tmp_path / "set/tags.csv").write_text("video,tag\na,cat\n")
    with pytest.raises(DataError, match="has no true masks to compare with"):
        evaluate_classes(tmp_path, open_mask_set(tmp_path / "set"))


def youtube_set(root):
    for shot, frames in (("motorbike/data/0007/shots/001", [1]), ("dog/data/0001/shots/002", [1, 11])):
        for frame in frames:
            write_picture(root / shot / "images" / f"frame{frame:04d}.png", np.zeros((2, 4, 3), np.uint8))
            label = np.zeros((2, 4, 3), np.uint8)
            label[:, :2] = 255 if frame == 1 else 0
            write_picture(root / shot / "labels" / f"{frame:05d}.png", label)
    return root


def test_overlap_of_youtube_objects_is_a_double(tmp_path):
    data = open_mask_set(youtube_set(tmp_path / "yto"))
    guess = np.zeros((2, 4), np.uint8)
    guess[:, 1:3] = data.space.id_of("dog")
    write_mask(tmp_path / "guess/dog_0001_002/frame0001.png", guess)
    scores = evaluate_youtube_objects(tmp_path / "guess", data, missing="background")
    assert scores["classes"]["dog"] == {"frames": 2, "iou": (1 / 3 + 1) / 2, "pooled": 2 / 6}


def test_protocols_of_youtube_objects(tmp_path, capsys):
    data = open_mask_set(youtube_set(tmp_path / "yto"))
    dog, bike = data.space.id_of("dog"), data.space.id_of("motorbike")
    half = np.zeros((2, 4), np.uint8)
    half[:, 0] = dog
    half[:, 1] = bike
    write_mask(tmp_path / "guess/dog_0001_002/frame0001.png", half)
    with pytest.raises(DataError, match="2 are missing, such as dog_0001_002/frame0011.png"):
        evaluate_youtube_objects(tmp_path / "guess", data)
    skipped = evaluate_youtube_objects(tmp_path / "guess", data, missing="skip")
    assert skipped["classes"] == {"dog": {"frames": 1, "iou": 0.5, "pooled": 0.5}}
    scores = evaluate_youtube_objects(tmp_path / "guess", data, missing="background")
    assert scores["classes"]["dog"] == {"frames": 2, "iou": 0.75, "pooled": 0.5}  # 1/2, and 1 for empty of empty
    assert scores["classes"]["motorbike"] == {"frames": 1, "iou": 0, "pooled": 0}
    assert scores["mean_iou"] == 0.375
    assert scores["missing"] == 2
    assert (
        evaluate_youtube_objects(tmp_path / "guess", data, foreground="any", missing="background")["classes"]["dog"][
            "iou"
        ]
        == 1
    )
    with pytest.raises(DataError, match="of each of the 1 annotated frames"):
        evaluate_youtube_objects(tmp_path / "guess", data, semi_protocol=True, missing="background")
    write_mask(tmp_path / "guess/dog_0001_002/frame0011.png", np.zeros((2, 4), np.uint8))
    semi = evaluate_youtube_objects(tmp_path / "guess", data, semi_protocol=True)
    assert semi["classes"] == {"dog": {"frames": 1, "iou": 1, "pooled": 1}}
    assert main(["masks", "evaluate", str(tmp_path / "guess"), str(tmp_path / "yto"), "--semi-protocol"]) == 0
    assert "semi-supervised: without first frames" in capsys.readouterr().out
    assert main(["masks", "evaluate", str(tmp_path / "guess"), str(tmp_path / "yto"), "--absent", "zero"]) == 1
    assert "--absent: only with data sets of classes" in capsys.readouterr().err
    assert main(["masks", "evaluate", str(tmp_path / "guess"), str(tmp_path / "guess"), "--semi-protocol"]) == 1
    assert "--semi-protocol: only with a data set as TRUTH" in capsys.readouterr().err


@pytest.mark.parametrize(("names", "words"), [("abc", "a, b, c"), ("abcd", "4 of 9 classes"), ("", "no class")])
def test_up_to_three_classes_are_named(names, words):
    assert _in_words(list(names), False, 10) == words
    assert _in_words(["background", *names], True, 10) == f"background and {words}"
