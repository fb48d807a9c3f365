"""AVA: its files, boxes of maps, frame mAP and the pointing game by hand, and the command over a tiny set."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyws import DataError
from pyws.cli import main
from pyws.data.annotations.ava import AVA10, Attention, KeyFrame, read_action_list, read_ava
from pyws.data.video.frames import write_picture
from pyws.evaluation.boxes import box_iou, evaluate_boxes
from pyws.masks.prediction import ava_boxes
from pyws.masks.prediction.ava_boxes import boxes_of_map
from pyws.models.classifiers import build_classifier, save_classifier

ROWS = "v,0902,0.1,0.2,0.5,0.8,15,0\nv,902,0.1,0.2,0.5,0.8,80,0\nv,0903,0.2,0.2,0.4,0.4,27,1\nw,0900,0.5,0.5,1,1,27,2\n"


def test_files_of_ava(tmp_path):
    (tmp_path / "a.csv").write_text(ROWS + "w,0901,,,,,,\n")
    (tmp_path / "x.csv").write_text("w,0900\n")
    keys = read_ava(tmp_path / "a.csv")
    assert [(key.video, key.second, key.frame, key.actions.tolist()) for key in keys] == [
        ("v", 902, 60, [15, 80]),
        ("v", 903, 90, [27]),
        ("w", 900, 0, [27]),
    ]
    assert [key.actions.tolist() for key in read_ava(tmp_path / "a.csv", tmp_path / "x.csv", set(AVA10))] == [
        [15],
        [27],
    ]
    (tmp_path / "l.pbtxt").write_text('item {\n  name: "drink"\n  id: 27\n}\nlabel { name: "read" label_id: 48 }')
    assert read_action_list(tmp_path / "l.pbtxt") == {27: "drink", 48: "read"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v,902,0.1\n", "line 1: must have at least 7 columns, got 3"),
        ("v,x,0,0,1,1,15,0\n", "line 1: the second must be a whole number, got 'x'"),
        ("v,902,a,0,1,1,15,0\n", "line 1: must hold numbers"),
        ("v,902,0.5,0,0.4,1,15,0\n", "line 1: a box must be 0 <= x1 < x2 <= 1"),
        ("v,902,nan,0,0.4,1,15,0\n", "line 1: a box must be"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_ava(tmp_path / "a.csv")
    with pytest.raises(DataError, match="must hold blocks with name"):
        read_action_list(tmp_path / "a.csv")


def test_boxes_of_maps():
    scores = np.zeros((20, 20))
    scores[2:6, 3:9], scores[10:14, 12:14], scores[19, 19] = 0.9, 0.7, 1.0  # the last is too small
    boxes, means = boxes_of_map(scores)
    assert boxes.tolist() == [[0.15, 0.1, 0.45, 0.3], [0.6, 0.5, 0.7, 0.7]]
    assert means.tolist() == pytest.approx([0.9, 0.7])
    assert len(boxes_of_map(np.zeros((4, 4)))[0]) == 0
    assert box_iou(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0], [5, 5, 6, 6]])).tolist() == [[1 / 3, 0]]


def test_frame_map_by_hand():
    """Two true boxes of action 15; ranked: right, the same box again, wrong frame, right: AP = (1 + 2/4) / 2."""
    box = np.array([[0.0, 0.0, 0.5, 0.5]])
    keys = [KeyFrame("v", 902, box, np.array([15])), KeyFrame("v", 903, box, np.array([15]))]
    keys.append(KeyFrame("v", 904, box, np.array([27])))
    found = [
        Attention(0, 15, np.repeat(box, 2, 0), np.array([0.9, 0.8]), (0.1, 0.1)),
        Attention(2, 15, box, np.array([0.7]), (0.1, 0.1)),
        Attention(1, 15, box * 0.8, np.array([0.6]), (0.6, 0.1)),
    ]
    scores = evaluate_boxes(found, keys)
    assert scores["average_precision"]["0.5"] == {15: 0.75, 27: 0.0}
    assert scores["frame_map"]["0.5"] == 0.375
    assert scores["pointing_of_action"] == {15: 0.5, 27: 0.0}
    assert evaluate_boxes(found, keys, [0.7])["average_precision"]["0.7"][15] == 0.5  # the last has IoU 0.64
    assert evaluate_boxes([], keys)["frame_map"] == {"0.5": 0.0, "0.2": 0.0}
    without = evaluate_boxes(found, [])  # no action is in the truth: there is nothing to be right or wrong about
    assert (without["frame_map"], without["pointing"]) == ({"0.5": None, "0.2": None}, None)


@pytest.mark.parametrize(
    ("peak", "inside"),
    [((0.25, 0.25), 1), ((0.5, 0.4), 0), ((0.4, 0.75), 0), ((0.24, 0.4), 0), ((0.4, 0.24), 0), ((0.4, 0.7), 1)],
)
def test_a_peak_hits_a_box_from_its_first_edges_up_to_its_last(peak, inside):
    box = np.array([[0.25, 0.25, 0.5, 0.75]])
    found = [Attention(0, 15, box, np.array([0.9]), peak)]
    assert evaluate_boxes(found, [KeyFrame("v", 902, box, np.array([15]))])["pointing"] == inside


def test_attention_command(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    for index in range(33):
        write_picture(tmp_path / "videos/v" / f"{index:03d}.png", rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    torch.manual_seed(0)
    made = replace(build_classifier("small3d", 2), labels=("drink", "read"), frames=8, short_side=24)
    save_classifier(made, tmp_path / "c.safetensors")
    (tmp_path / "a.csv").write_text("v,900,0,0,1,1,27,0\nv,901,0,0,1,1,48,0\nv,901,0,0,1,1,80,0\n")
    words = ["masks", "attention", tmp_path / "videos", "--truth", tmp_path / "a.csv", "--device", "cpu"]
    words = [str(word) for word in [*words, "--classifier", tmp_path / "c.safetensors", "--min-probability", "0"]]
    sizes, usual = set(), ava_boxes.boxes_of_map
    monkeypatch.setattr(ava_boxes, "boxes_of_map", lambda scores: sizes.add(scores.shape) or usual(scores))
    assert main([*words, "--json"]) == 0
    assert sizes == {(24, 32)}  # height and width, as the frames have them
    scores = json.loads(capsys.readouterr().out)
    assert scores["actions"] == [27, 48]
    assert scores["pointing"] == 1.0  # the boxes are whole frames
    assert scores["key_frames"] == 2
    assert main(words) == 0
    assert "frame mAP at IoU 0.5 over 2 actions" in capsys.readouterr().out
    (tmp_path / "a.csv").write_text("v,905,0,0,1,1,27,0\n")
    assert main(words) == 1
    assert "has 33 frames, the key frame is 150" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("u,900,0,0,1,1,27,0\n")
    assert main(words) == 1
    assert "u: is in the truth, but not among the videos" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("v,900,0,0,1,1,80,0\n")
    assert main(words) == 1
    assert "has no key frame of these actions: drink, read" in capsys.readouterr().err
    save_classifier(replace(made, labels=("fly", "swim")), tmp_path / "c.safetensors")
    assert main(words) == 1
    assert "--classifier: must know one of answer phone, " in capsys.readouterr().err
    save_classifier(replace(build_classifier("small2d", 2), labels=("drink", "read")), tmp_path / "c.safetensors")
    (tmp_path / "a.csv").write_text("v,900,0,0,1,1,27,0\n")
    assert main(words) == 1
    assert "attention: the network must classify clips, small2d classifies images" in capsys.readouterr().err


def test_the_ten_actions_have_the_ids_of_ava():
    words = "answer phone, drink, eat, play musical instrument, read, ride, smoke, write, fight/hit, give/serve"
    ids = (15, 27, 29, 41, 48, 49, 54, 63, 64, 65)
    assert list(zip(ids, words.split(", "), strict=True)) == list(AVA10.items())
