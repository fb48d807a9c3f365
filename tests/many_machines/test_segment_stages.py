"""Segments by shards: one file of all videos, the bytes of one process."""

import json
from dataclasses import replace

import feature_sets
import numpy as np
import pytest
import torch

from pyws import cli
from pyws.data.features.dataset import open_features
from pyws.files import read_json
from pyws.segments.config import PRESETS
from pyws.segments.pseudo_labels import VideoLabels
from pyws.segments.training.train import train

QUIET = ("--device", "cpu", "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set with proposals, and a network that was trained for a moment."""
    root = tmp_path_factory.mktemp("data")
    feature_sets.write(root / "set", feature_sets.draw(5), feature_sets.draw(7, "test", seed=1, longest=500))
    train("rskp", replace(PRESETS["baseline"], epochs=1), open_features(root / "set", "training"), out=root / "run")
    assert (
        cli.main(["segments", "predict", *predict(root), "-o", str(root / "proposals.json"), "--method", "none"]) == 0
    )
    return root


def predict(root):
    words = ("--checkpoint", str(root / "run/last.safetensors"), "--subset", "test", "--quiet", "--device", "cpu")
    return [str(root / "set"), *words]


def commands(root):
    truth, found = str(root / "set/truth.json"), str(root / "proposals.json")
    return {
        "predict": (["segments", "predict", *predict(root), "-o", "OUT.json"], "OUT.json"),
        "fuse": (["segments", "fuse", found, "OUT.json.gz", "--iou", "0.4"], "OUT.json.gz"),
        "labels": (["segments", "labels", found, truth, "OUT.safetensors"], "OUT.safetensors"),
    }


def run(root, stage, out, *words):
    command, name = commands(root)[stage]
    out.mkdir(exist_ok=True)
    path = out / name
    return cli.main([word.replace("OUT", str(out / "OUT")) for word in [*command, *QUIET, *words]]), path


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("stage", ["predict", "fuse", "labels"])
def test_shards_write_the_bytes_of_one_process(stage, count, folder, tmp_path, capsys):
    status, whole = run(folder, stage, tmp_path / "whole")
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    for index in range(count, 0, -1):
        status, path = run(folder, stage, tmp_path / "parts", "--shard", f"{index}/{count}")
        said = json.loads(capsys.readouterr().out)
        assert status == 0
        assert path.exists() == (index == 1)
    assert path.read_bytes() == whole.read_bytes()
    assert {**said, "out": ""} == {**document, "out": ""}
    assert {one.name for one in path.parent.iterdir()} == {one.name for one in whole.parent.iterdir()}


def test_shards_without_a_part_that_start_late_leave_nothing(folder, tmp_path):
    assert run(folder, "fuse", tmp_path / "whole")[0] == 0
    for index in range(1, 10):  # there are seven videos
        status, path = run(folder, "fuse", tmp_path / "parts", "--shard", f"{index}/9")
        assert status == 0
    assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    assert not path.with_name(f"{path.name}.parts").exists()


def test_a_shard_is_done_once_and_of_one_run(folder, tmp_path, capsys):
    """What a shard found stays, for any number of shards, but not for other parameters."""
    assert run(folder, "fuse", tmp_path, "--shard", "1/2")[0] == 0
    assert run(folder, "fuse", tmp_path, "--shard", "1/2", "--temperature", "0.5")[0] == 1
    assert "holds a run with temperature None, not 0.5" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "OUT.json.gz.parts/manifest.json").read_text())
    first = set(manifest["videos"])
    assert 0 < len(first) < 7
    marked = {name: [{"label": "mark", "score": 1.0, "segment": [0.0, 1.0]}] for name in first}
    (tmp_path / "OUT.json.gz.parts/manifest.json").write_text(json.dumps({**manifest, "videos": marked}))
    for shard in ("3/3", "1/3", "2/3"):
        assert run(folder, "fuse", tmp_path, "--shard", shard)[0] == 0
    capsys.readouterr()
    results = read_json(tmp_path / "OUT.json.gz")["results"]
    assert {name for name, found in results.items() if found and found[0]["label"] == "mark"} == first


def test_labels_survive_json(folder):
    labels = torch.tensor(np.array([[0.1, -0.0], [1e-42, 3.4e38]], np.float32))
    one = VideoLabels("v", labels, 3, {"optimal": 2}, 1e-17)
    back = VideoLabels.read("v", json.loads(json.dumps(one.document())))
    assert back.labels.numpy().tobytes() == labels.numpy().tobytes()
    assert (back.video, back.segments, back.statuses, back.residual) == ("v", 3, {"optimal": 2}, 1e-17)
