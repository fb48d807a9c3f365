"""Videos of different rates, and a stream that starts late: seconds from prediction to labels are their own."""

import json
from dataclasses import replace

import feature_sets
import numpy as np
import pytest
from safetensors.torch import load_file

from pyws import cli
from pyws.data.annotations.activitynet import read_detections
from pyws.data.features.files import write_features, write_snippets
from pyws.data.features.time_base import SnippetGrids
from pyws.errors import DataError
from pyws.files import read_json, write_json

FPS = 25
VIDEOS = {"slow": (25, 0.0), "late": (5, 7.3)}  # frames from snippet to snippet, seconds at which the stream starts
LENGTH, FIRST, LAST = 40, 12, 20  # number of snippets; first and last snippet of the action


def write_video(folder, name):
    """Snippets of steady frames that do not overlap; those of the action are three."""
    stride, start = VIDEOS[name]
    begins = start + np.arange(LENGTH) * stride / FPS
    features = np.zeros((LENGTH, 8), np.float32)
    features[FIRST:LAST] = 3
    note = {"fps": FPS, "window": stride, "stride": stride, "offset": 0, "first": start, "start": start,
            "end": start + LENGTH * stride / FPS}  # fmt: skip
    spans = np.stack([begins, begins + stride / FPS], axis=1)
    write_snippets(folder / f"{name}.safetensors", {"features": features, "seconds": spans}, note)
    return note["end"], [float(begins[FIRST]), float(begins[LAST])]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network that sees the action, and what it proposes."""
    folder = tmp_path_factory.mktemp("times")
    database = {}
    for name in VIDEOS:
        end, segment = write_video(folder / "set" / "features", name)
        database[name] = {"subset": "test", "duration": end, "tags": ["a"],
                          "annotations": [{"label": "a", "segment": segment}]}  # fmt: skip
    for place in range(4):
        write_features(folder / "set" / "features" / f"train{place}.npy",
                       np.repeat(np.float32([[0] * 8, [3] * 8, [0] * 8]), 13, axis=0) * (place % 2))  # fmt: skip
        database[f"train{place}"] = {"subset": "training", "duration": 39.0, "tags": ["ab"[1 - place % 2]],
                                     "annotations": []}  # fmt: skip
    write_json(folder / "set" / "truth.json", {"database": database})
    write_json(folder / "set" / "dataset.json", {"snippets_per_second": 1.0, "classes": ["a", "b"]})
    run("train", folder / "set", "-o", folder / "run", "--subset", "training", "--epochs", 2, "--batch", 2)
    run("predict", folder / "set", "--checkpoint", folder / "run" / "last.safetensors", "-o",
        folder / "predicted.json", "--subset", "test", "--method", "none")  # fmt: skip
    document = read_json(folder / "predicted.json")
    for name in VIDEOS:  # what a perfect network would propose, two that overlap
        start, end = database[name]["annotations"][0]["segment"]
        step = VIDEOS[name][0] / FPS
        document["results"][name] = [{"label": "a", "score": 0.5, "segment": [start - step, end]},
                                     {"label": "a", "score": 0.5, "segment": [start + step, end]}]  # fmt: skip
    write_json(folder / "proposals.json", document)
    return folder


def run(command, *words):
    assert cli.main(["segments", command, *map(str, words), "--quiet"]) == 0


def test_segments_and_labels_are_at_their_own_times(files, capsys):
    noted = read_json(files / "predicted.json")["external_data"]["times"]
    for name, (stride, start) in VIDEOS.items():
        assert noted[name]["snippets_per_second"] == pytest.approx(FPS / stride)
        assert (noted[name]["start"], noted[name]["snippets"]) == (start, LENGTH)
    run("fuse", files / "proposals.json", files / "fused.json")
    run("labels", files / "proposals.json", files / "set" / "truth.json", files / "labels.safetensors")
    assert "ASSUMED" not in capsys.readouterr().err
    fused, labels = read_detections(files / "fused.json"), load_file(files / "labels.safetensors")
    for name, (stride, start) in VIDEOS.items():
        rows = fused.of_videos([name])
        expected = start + np.array([FIRST, LAST]) * stride / FPS
        np.testing.assert_allclose([rows.start[0], rows.end[0]], expected, atol=1e-6)
        (places,) = labels[name][:, 0].numpy().nonzero()
        assert (len(labels[name]), places.min(), places.max() + 1) == (LENGTH, FIRST, LAST)
    assert read_json(files / "fused.json")["external_data"]["times"] == noted


def without_note(files):
    """The proposals as another tool would have written them."""
    write_json(files / "foreign.json", {"results": read_json(files / "proposals.json")["results"]})
    return files / "foreign.json"


@pytest.mark.parametrize("data", ["snippets", "rates"])
def test_foreign_proposals_have_the_times_of_their_features(data, files, tmp_path, capsys):
    """As files of pyws features say them, or dataset.json the rate of each video."""
    features = files / "set"
    if data == "rates":
        features = tmp_path
        rates = {f"v_{name}": FPS / stride for name, (stride, _) in VIDEOS.items()}
        write_json(features / "dataset.json", {"snippets_per_second": rates})
        for name in VIDEOS:
            write_features(features / "features" / f"{name}.npy", np.ones((60, 8)))
    foreign = without_note(files)
    words = ("--features", features)
    run("fuse", foreign, tmp_path / "fused.json", *words)
    run("labels", foreign, files / "set" / "truth.json", tmp_path / "labels.safetensors", *words)
    run("evaluate", tmp_path / "fused.json", files / "set" / "truth.json")
    run("evaluate", foreign, files / "set" / "truth.json", *words)
    assert "ASSUMED" not in capsys.readouterr().err
    grids = SnippetGrids.read("fused", read_json(tmp_path / "fused.json")["external_data"], assumed=0.1)
    fused, labels = read_detections(tmp_path / "fused.json"), load_file(tmp_path / "labels.safetensors")
    for name, (stride, start) in VIDEOS.items():
        rows, late = fused.of_videos([name]), start if data == "snippets" else 0.0
        assert grids[name].snippets_per_second == pytest.approx(FPS / stride)
        np.testing.assert_allclose(
            [rows.start[0], rows.end[0]], start + np.array([FIRST, LAST]) * stride / FPS, atol=1e-6
        )
        (places,) = labels[name][:, 0].numpy().nonzero()
        expected = FIRST + (start - late) / (stride / FPS)
        assert places.min() == int(expected)


@pytest.mark.parametrize(
    ("change", "options", "rule"),
    [
        ({}, ("--snippets-per-second", "2"), "says when snippets are: leave out --snippets-per-second"),
        ({"external_data": {"snippets_per_second": 2}}, (), "notes when its snippets are: leave out --features"),
        ({"results": {"slow": [], "other": []}}, (), "features of all 2 videos, got none of 1, such as 'other'"),
    ],
)
def test_features_that_say_nothing_new_are_refused(change, options, rule, files, tmp_path, capsys):
    write_json(tmp_path / "foreign.json", {**read_json(without_note(files)), **change})
    words = [tmp_path / "foreign.json", tmp_path / "out.json", "--features", files / "set", *options]
    assert cli.main(["segments", "fuse", *map(str, words)]) == 1
    assert rule in " ".join(capsys.readouterr().err.split())


def test_a_time_base_for_seconds_is_refused(files, capsys):
    words = [str(without_note(files)), str(files / "set" / "truth.json"), "--protocol", "activitynet"]
    assert cli.main(["segments", "evaluate", *words, "--features", str(files / "set")]) == 1
    assert "--features: only with --protocol thumos14, wtalc" in " ".join(capsys.readouterr().err.split())


def test_files_made_from_labels_keep_the_times(files):
    run("labels", files / "proposals.json", files / "set" / "truth.json", files / "kept.safetensors")
    run("propose", files / "kept.safetensors", files / "again.json", "--thresholds", 0.01)
    found = read_detections(files / "again.json")
    for name, (stride, start) in VIDEOS.items():
        rows = found.of_videos([name])
        expected = start + np.array([FIRST, LAST]) * stride / FPS
        assert abs(rows.start.min() - expected[0]) <= stride / FPS
        assert abs(rows.end.max() - expected[1]) <= stride / FPS
    assert set(read_json(files / "again.json")["external_data"]["times"]) == set(VIDEOS)


def test_evaluation_is_on_the_own_grid(files, capsys):
    """A segment that misses two of the fast video's eight snippets: at one snippet a second it would be empty."""
    document = read_json(files / "predicted.json")
    step = VIDEOS["late"][0] / FPS
    start = 7.3 + FIRST * step
    document["results"] = {"late": [{"label": "a", "score": 1.0, "segment": [start + 2 * step, start + 8 * step]}]}
    write_json(files / "late.json", document)
    truth = read_json(files / "set" / "truth.json")
    del truth["database"]["slow"]
    write_json(files / "late_truth.json", truth)
    paths = [str(files / "late.json"), str(files / "late_truth.json")]
    assert cli.main(["segments", "evaluate", *paths, "--tious", "0.74", "0.76", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["mAP"].values()) == [100.0, 0.0]


@pytest.mark.parametrize("command", ["fuse", "labels", "evaluate"])
def test_another_rate_than_is_noted_is_an_error(files, command, capsys):
    inputs = {"fuse": ["out.json"], "labels": ["set/truth.json", "out.safetensors"], "evaluate": ["set/truth.json"]}
    paths = [str(files / name) for name in inputs[command]]
    assert cli.main(["segments", command, str(files / "proposals.json"), *paths, "--snippets-per-second", "3"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "snippets a second of video '" in said
    assert "--snippets-per-second says 3" in said


@pytest.mark.parametrize(
    "change", [{"end": 0}, {"snippets": 0}, {"snippets_per_second": -1}, {"offset": float("nan")}, {"start": None}]
)
def test_times_that_cannot_be_are_named(change):
    said = {"snippets_per_second": 1, "offset": 0, "start": 0, "end": 4, "snippets": 4} | change
    with pytest.raises(DataError, match="file: video 'v' must have snippets_per_second > 0"):
        SnippetGrids.read("file", {"times": {"v": said}}, assumed=1.0)


def test_rescaled_sets_note_the_rate_of_each_video():
    data = feature_sets.draw(2)
    data = replace(data, durations=np.array([100.0, 7.0]))
    grids = SnippetGrids.read("file", json.loads(json.dumps(data.grids.note())), assumed=1.0)
    for name, length, seconds in zip(data.names, data.lengths, data.durations, strict=True):
        np.testing.assert_allclose(grids[name].edges, np.linspace(0, seconds, length + 1))
