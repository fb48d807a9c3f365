"""pyws data check of tagged videos and masks: what is said of bad ones."""

import json

import numpy as np
import pytest

from pyws.cli import main
from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d
from pyws.data.tagged import check
from pyws.data.tagged.check import check_mask_set
from pyws.data.video.frames import read_image, write_mask, write_picture

pytest.importorskip("h5py")


@pytest.fixture
def a2d(tmp_path):
    sizes = {"frames": 2, "height": 24, "width": 32, "actor_size": (12.0, 16.0), "pan": 1.0}
    write_generated_a2d(tmp_path, 0, GeneratedConfig(**sizes, train=3, validation=1, test=1, several=0), quiet=True)
    return tmp_path


def test_a_good_data_set(a2d, capsys):
    assert main(["data", "check", str(a2d), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["layout"] == "a2d"
    assert report["videos"] == {"train": 3, "val": 1, "test": 1}
    assert (report["frames"], report["annotated"]) == (10, 10)
    assert report["single"] == {"actor": 3, "action": 3}  # those of train: what masks classify learns from
    assert report["problems"] == []


def test_the_whole_of_a2d_is_counted(a2d, monkeypatch):
    monkeypatch.setattr(check, "A2D_VIDEOS", 5)
    monkeypatch.setattr(check, "A2D_SINGLE", {"actor": 3, "action": 4})
    (problem,) = check_mask_set(a2d).problems
    assert problem.rule == "3 training videos of one action, the paper counts 4"
    assert not problem.fatal
    monkeypatch.setattr(check, "A2D_VIDEOS", 6)
    assert check_mask_set(a2d).problems == ()


def test_a_bad_data_set(a2d, capsys):
    frames = a2d / "Release" / "pngs320H"
    cut = frames / "synthetic_0000" / "00002.png"
    cut.write_bytes(cut.read_bytes()[:100])
    write_picture(frames / "synthetic_0001" / "00002.png", np.zeros((20, 20, 3), np.uint8))
    write_picture(frames / "synthetic_0002" / "00003.png", read_image(frames / "synthetic_0002" / "00001.png"))
    (frames / "synthetic_0003" / "00002.png").unlink()
    for path in sorted((frames / "synthetic_0004").iterdir()):
        write_picture(path, np.zeros((24, 40, 3), np.uint8))
    problems = {one.video: (one.fatal, one.rule) for one in check_mask_set(a2d).problems if "csv" not in one.rule}
    rules = {
        "synthetic_0000": "cannot be read as a jpg or png picture",
        "synthetic_0001": "frame 00002 must be 24x32 as the first, is 20x20",
        "synthetic_0003": "is the mask of frame 00002, which the video has not",
        "synthetic_0004": "must have the shape of the frame 24x40, got 24x32",
    }
    assert problems.keys() == rules.keys()
    for name, rule in rules.items():
        assert problems[name][0]
        assert rule in problems[name][1]
    assert main(["data", "check", str(a2d)]) == 1
    said = capsys.readouterr().out
    assert "odd: video 'synthetic_0002': videoset.csv says 2 frames, found 3" in said
    assert "unusable: video 'synthetic_0000'" in said


def test_own_videos(tmp_path):
    write_picture(tmp_path / "videos/a/0.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "videos/b.mp4").write_bytes(b"junk")
    (tmp_path / "tags.csv").write_text("video,tag\na,cat\nb,dog\n")
    write_mask(tmp_path / "truth/a/0.png", np.full((4, 4), 9, np.uint8))
    report = check_mask_set(tmp_path)
    assert report.single == {"actor": 2}
    assert [(one.video, one.fatal) for one in report.problems] == [("a", True), ("b", True)]
    assert "ids must be 0..2 or 255, got 9" in report.problems[0].rule
