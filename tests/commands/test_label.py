"""pyws label: the stages of both systems in sequence, with random networks; each writes what its own command would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from video_files import write_timed_video

from pyws import cli
from pyws.data.video.frames import read_mask
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.models.video_networks.small3d import Small3D

LABELS = ("red fox, Vulpes vulpes", "running shoe", "black swan")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 1.6 seconds, a table of their tags, and random networks of three classes."""
    folder = tmp_path_factory.mktemp("label")
    (folder / "videos" / "deep").mkdir(parents=True)
    for name in ("one.mkv", "deep/two.mkv", "three.mkv"):
        write_timed_video(folder / "videos" / name, [k / 10 for k in range(16)])
    (folder / "tags.csv").write_text("Video;Tags\nONE.mkv;red fox, running\ntwo;waving\nthree;running|waving\n")
    torch.manual_seed(0)
    torch.save(Small3D(3).state_dict(), folder / "clips.pth")
    torch.save(EfficientNetLite(classes=3).state_dict(), folder / "images.pth")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    (folder / "actions.txt").write_text("clapping\nwaving, greeting\nhopping\n")
    return folder


def words(world: Path, out: Path, *more: object) -> list[str]:
    given = [
        "label", world / "videos", "--tags", world / "tags.csv", "-o", out, "--network", "small3d", "--weights",
        world / "clips.pth", "--classifier-weights", world / "images.pth", "--classifier-labels", world / "labels.txt",
        "--network-labels", world / "actions.txt", "--mask-frames", 2, "--epochs", 2, "--json", *more,
    ]  # fmt: skip
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def done(world: Path) -> Path:
    assert cli.main(words(world, world / "out")) == 0
    return world / "out"


def test_tags_go_where_they_are_found(done: Path) -> None:
    plan = json.loads((done / "plan.json").read_text())
    assert {one["tag"]: one["kind"] for one in plan["tags"]} == {
        "red fox": "object",
        "running": "action",  # no running shoe
        "waving": "known action",
    }
    assert sorted(path.name for path in (done / "masks/pa/v0").iterdir()) == ["one"]
    known = json.loads((done / "segments/known-classes.json").read_text())["results"]
    assert {label["label"] for found in known.values() for label in found} <= {"waving"}
    assert sorted(path.name for path in (done / "maps").iterdir()) == ["three", "two"]
    learned = json.loads((done / "segments/detections.json").read_text())["results"]
    tags = {"one": {"running"}, "two": {"waving"}, "three": {"running", "waving"}}
    for video, found in learned.items():
        assert {one["label"] for one in found} <= tags[video]
        assert all(0 <= one["segment"][0] < one["segment"][1] <= 1.7 for one in found)
    assert "running" in (done / "report.html").read_text()


def test_masks_are_those_of_their_own_command(world: Path, done: Path, tmp_path: Path) -> None:
    alone = [
        "masks", "init", world / "videos/one.mkv", "-o", tmp_path, "--classifier", "efficientnet-lite0", "--weights",
        world / "images.pth", "--labels", world / "labels.txt", "--tag", "red fox", "--max-frames", 2, "--quiet",
    ]  # fmt: skip
    assert cli.main([str(word) for word in alone]) == 0
    found = sorted((tmp_path / "pa/v0/one").iterdir())
    assert len(found) == 2
    for path in found:
        assert read_mask(path).tolist() == read_mask(done / "masks/pa/v0/one" / path.name).tolist()


def test_the_same_command_goes_on(world: Path, done: Path) -> None:
    before = {path: path.read_bytes() for path in done.rglob("*.safetensors")}
    assert before
    assert cli.main(words(world, done)) == 0
    assert {path: path.read_bytes() for path in done.rglob("*.safetensors")} == before


def test_a_dry_run_writes_nothing(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(world, tmp_path / "out", "--dry-run", "--budget", "2h")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["videos"], plan["mask_frames_a_video"], plan["epochs"]) == (3, 2, 2)
    assert plan["total_minutes"] > 0
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tags.csv").write_text("video,tag\none,red fox\nnowhere,red fox\n")
    for more, said in (
        (["--budget", "0.001s"], "--budget: 1.66667e-05 minutes are too few"),
        (["--budget", "soon"], "--budget: must be a time such as 30m"),
        (["--tags", tmp_path / "tags.csv"], "row 3: nowhere is none of the videos; "),
        (["--mask-frames", 0], "must be >= 1"),
    ):
        assert cli.main(words(world, tmp_path / "out", "--dry-run", *more)) == 1
        assert said in capsys.readouterr().err
