"""The demo on a tiny configuration: same numbers every time, whole files, folders respected."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load

from pyws import DataError
from pyws.cli import main
from pyws.commands.common import Common
from pyws.commands.demo import WRITTEN, _remove_earlier_demo, run_demo
from pyws.commands.demo.config import DemoConfig
from pyws.commands.demo.masks import _mean_iou
from pyws.commands.demo.report import _about, write_report
from pyws.commands.demo.segments import CLASSES, TIOUS, _inside, _share
from pyws.commands.demo.train import draw_clips
from pyws.data.synthetic.clips import ACTIONS, Stream
from pyws.data.synthetic.rendering import SceneConfig
from pyws.data.video.frames import read_mask
from pyws.evaluation import detection_map
from pyws.files import read_json
from pyws.folders import only_writer

TINY = DemoConfig(
    clips=12,
    held_out=4,
    annotated=3,
    epochs=1,
    batch=4,
    width=4,
    streams=2,
    stream_seconds=20.0,
    class_threshold=0.0,
    scene=SceneConfig(height=48, width=64, actor_size=(20.0, 26.0), pan=2.0),
)
QUIET = Common(quiet=True, device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    threads = torch.get_num_threads()
    manifest = run_demo(TINY, out, QUIET)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    return out, manifest


def test_manifest_holds_what_was_run_and_found(finished):
    out, manifest = finished
    assert read_json(out / "manifest.json") == json.loads(json.dumps(manifest))
    assert (manifest["status"], manifest["data"], manifest["parameters"]["seed"]) == ("done", "synthetic", 0)
    assert manifest["parameters"]["config"]["clips"] == 12
    assert manifest["results"]["masks"]["frames"] == 3 * 4


def test_the_files_of_a_real_run_are_there(finished):
    out, manifest = finished
    masks = {kind: sorted((out / kind).rglob("*.png")) for kind in ("clips/truth", "masks/init", "masks/pa/v0")}
    assert {len(paths) for paths in masks.values()} == {12}
    assert {path.name for path in masks["clips/truth"]} == {"00002.png", "00006.png", "00010.png", "00014.png"}
    assert read_mask(masks["clips/truth"][0]).shape == (48, 64)
    assert (out / "clips/tags.csv").read_text().splitlines()[:4] == [
        "video,tag",
        "clip_0000,ball",
        f"clip_0000,{ACTIONS[0]}",
        "clip_0001,ball",
    ]
    assert {path.name for path in out.iterdir() if path.name[0] != "."} - {"manifest.json"} <= {*WRITTEN}
    for method, average in manifest["results"]["segments"]["average_map"].items():
        found, truth = out / f"segments/{method}.json", out / "streams/truth.json"
        scores = detection_map(found, truth, "activitynet", TIOUS, subset="test")
        assert scores.average == pytest.approx(average, abs=1e-5)
    for name in ("tcam", "labels"):
        curves = load((out / f"segments/{name}.safetensors").read_bytes())
        assert {video: tuple(one.shape) for video, one in curves.items()} == dict.fromkeys(
            ("stream_00", "stream_01"), (40, len(CLASSES))
        )
    assert len(list((out / "segments/timelines").iterdir())) == 2
    page = (out / "report.html").read_text()
    assert "ynthetic" in page
    assert page.count("<img ") == 2 + 3 + 2
    (out / "report.html").unlink()
    assert main(["report", str(out), "--quiet"]) == 0
    assert (out / "report.html").read_text() == page


def test_same_seed_same_numbers_and_files(finished, tmp_path):
    out, manifest = finished
    again = run_demo(TINY, tmp_path / "again", QUIET)
    assert again["results"] == manifest["results"]
    for name in ("classifier.safetensors", "segments/gaussian.json", "streams/truth.json", "clips/tags.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    other = run_demo(replace(TINY, annotated=1), tmp_path / "again", replace(QUIET, seed=1))
    assert other["results"]["classifier"]["losses"] != manifest["results"]["classifier"]["losses"]
    assert len(list((tmp_path / "again/masks/init").iterdir())) == 1  # the former demo's files are gone


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="must be new, empty or of an earlier `pyws demo`"):
        run_demo(TINY, tmp_path, QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_another_run_writes_is_left_alone(tmp_path):
    with only_writer(tmp_path):
        with pytest.raises(DataError, match="is being written by another run"):
            run_demo(TINY, tmp_path, QUIET)
        assert [path.name for path in tmp_path.iterdir()] == [".run"]


def test_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "-o", str(tmp_path / "file"), "--quiet"]) == 1
    assert capsys.readouterr().err == f"pyws demo: {tmp_path / 'file'}: must be a folder, but is a file\n"


def test_interrupt_leaves_whole_files_and_a_folder_that_can_be_used_again(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyws.commands.demo.segments.find_segments", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_demo(TINY, tmp_path / "out", QUIET)
    assert read_json(tmp_path / "out/manifest.json")["status"] == "started"
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.undo()
    assert run_demo(TINY, tmp_path / "out", QUIET)["status"] == "done"


def test_truth_of_snippets():
    stream = Stream("s", np.zeros((16, 1, 1, 3), np.uint8), 8.0, "ball", ((0.5, 1.5, CLASSES[1]),))
    assert _inside(stream, 4, 0.5)[:, 1].tolist() == [False, True, True, False]
    assert not _inside(stream, 4, 0.5)[:, [0, 2]].any()


def test_shares_means_and_facts_of_the_report() -> None:
    inside = torch.tensor([[True, False], [False, False]])
    assert _share([torch.tensor([[3.0, 1.0], [0.0, 0.0]])], [inside]) == 0.75
    scores = {"videos": {"a": {"iou": 0.5}, "b": {"iou": 0.9}}}
    clips = [SimpleNamespace(name="a", actor="cat"), SimpleNamespace(name="b", actor="car")]
    assert [_mean_iou(scores, clips, actor) for actor in ("cat", "car", "ball")] == [0.5, 0.9, None]  # type: ignore[arg-type]
    manifest = {"packages": {}, "parameters": {"seed": 5, "device": "cpu"}}
    rows = [row for table in _about(manifest).tables for row in table.rows]
    assert [list(row) for row in rows if row[0] in ("seed", "device")] == [["seed", "5"], ["device", "cpu"]]


def test_what_a_link_in_the_folder_leads_to_is_left_alone(finished, tmp_path):
    """A link in the place of a folder of the demo goes away; the folder that it leads to stays."""
    (tmp_path / "out").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    (tmp_path / "out" / "manifest.json").write_bytes((finished[0] / "manifest.json").read_bytes())
    (tmp_path / "out" / "clips").symlink_to(tmp_path / "own")
    _remove_earlier_demo(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]
    assert (tmp_path / "own" / "thesis.txt").read_text() == "mine"


def test_a_demo_that_has_not_ended_has_no_report(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="holds a demo that has not ended; run pyws demo again"):
        write_report(tmp_path)


def test_each_clip_is_drawn_of_the_seed_and_its_number(monkeypatch):
    monkeypatch.setattr("pyws.commands.demo.train.make_clip", lambda *given: given)
    clips = draw_clips(TINY, 5, quiet=True)
    assert clips == [(5, index, TINY.frames, TINY.scene) for index in range(16)]
