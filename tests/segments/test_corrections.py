"""Corrections of people: tags, pseudo labels and training obey them."""

import json
import math

import numpy as np
import pytest
import torch
from feature_sets import CLASSES, RATE, draw, write

from pyws import DataError, cli
from pyws.data.annotations.activitynet import read_detections, read_truth
from pyws.data.annotations.corrections import Corrected, read_corrections, write_corrections
from pyws.data.features.dataset import open_features
from pyws.segments import label_videos
from pyws.segments.pseudo_labels import known_columns

TRUTH = read_truth({"database": {"v": {"subset": "validation", "duration": 10.0, "tags": ["a", "b"]},
                                 "w": {"subset": "validation", "duration": 10.0, "tags": ["a"]}}})  # fmt: skip
PROPOSALS = {
    "v": [
        {"label": "a", "score": 0.8, "segment": [1.0, 9.0]},
        {"label": "a", "score": 0.6, "segment": [6.0, 10.0]},
        {"label": "b", "score": 0.5, "segment": [0.0, 4.0]},
    ],
    "w": [{"label": "a", "score": 0.7, "segment": [2.0, 5.0]}],
}


def labelled(corrections, rows="sum", proposals=PROPOSALS):
    found = label_videos(read_detections({"results": proposals}), TRUTH, ["a", "b"], snippets_per_second=1, rows=rows,
                         corrections=corrections)  # fmt: skip
    return {one.video: one for one in found}


@pytest.mark.parametrize("rows", ["sum", "mean"])
def test_labels_obey(rows):
    said = {"v": Corrected((("a", 2.0, 6.0),), (("a", 8.0, 10.0), ("b", 0.0, 10.0)))}
    found = labelled(said, rows)
    one = found["v"].labels.numpy()
    assert one[2:6, 0] == pytest.approx(1.0 if rows == "mean" else 0.25)  # the segment that is fixed
    assert not one[8:, 0].any()  # not here
    assert one[6:8, 0].sum() > 0  # the second proposal has what is left of it, and keeps its score there
    assert not one[:, 1].any()  # b is nowhere, though it was proposed
    assert torch.equal(found["w"].labels, labelled({}, rows)["w"].labels)


def test_what_people_fixed_needs_no_proposal():
    found = labelled({"w": Corrected((("b", 3.0, 4.6),))}, proposals={"w": PROPOSALS["w"]})["w"]
    assert found.labels[:, 1].tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 0]
    alone = labelled({"v": Corrected((("a", 0.2, 0.3),))}, proposals={})["v"]  # shorter than a snippet
    assert alone.labels[:, 0].tolist() == [1.0] + [0.0] * 9


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", draw(6))


def correct(data, **said):
    write_corrections(data / "corrections.json", {f"training_{video[1:]}": one for video, one in said.items()})


def test_tags_follow(data):
    end = 1000.0
    correct(
        data,
        v00=Corrected((("run", 1.0, 3.0),), (("jump", 0.0, end),)),
        v01=Corrected((), (("run", 0.0, 5.0),)),  # only its start was looked at
        v02=Corrected((), (("swim", 0.0, end),)),
    )
    found = open_features(data, need_tags=False)
    names = {
        video: [CLASSES[k] for k in np.flatnonzero(row)] for video, row in zip(found.names, found.tags, strict=True)
    }
    assert (names["training_00"], names["training_01"], names["training_02"]) == (["run"], ["run"], [])
    (data / "features" / "training_03.npy").write_bytes(b"damaged")
    trained = open_features(data, need_tags=True, on_error="skip")
    assert not {"training_02", "training_03"} & set(trained.names)
    damaged, shows_none = map(str, trained.skipped)
    assert damaged.startswith("video 'training_03'")
    assert shows_none == "video 'training_02': shows none of its tags, people say"
    assert (0, CLASSES.index("run")) in known_columns(trained, "mean")


def test_a_label_that_is_no_class_is_named(data):
    correct(data, v00=Corrected((("fly", 1.0, 3.0),)))
    with pytest.raises(DataError, match=r"corrections.json: video 'training_00': label must be a class, got 'fly'"):
        open_features(data)


def last_labels(run):
    from safetensors.numpy import load_file

    return load_file(sorted((run / "labels").glob("*.safetensors"))[-1])


def train(data, out, preset="paper", capsys=None):
    words = ["segments", "train", str(data), "-o", str(out), "--backbone", "wum", "--preset", preset, "--epochs", "12"]
    return cli.main([*words, "--device", "cpu", "--quiet"])


def test_training_obeys_and_goes_on_only_with_the_same(data, tmp_path, capsys):
    correct(data, v00=Corrected((("jump", 4 / RATE, 8 / RATE),), (("jump", 0.0, 4 / RATE), ("jump", 8 / RATE, 999.0))))
    assert train(data, tmp_path / "run") == 0
    column = last_labels(tmp_path / "run")["training_00"][:, 0]
    assert column[4:8] == pytest.approx(0.25)
    assert column.sum() == pytest.approx(1.0)
    correct(data, v00=Corrected((("jump", 4 / RATE, 9 / RATE),)))
    assert train(data, tmp_path / "run") == 1
    assert "holds a run with data" in capsys.readouterr().err


def test_what_people_fixed_is_trained_on_where_labels_are_not_trusted(data, monkeypatch):
    from pyws.segments.config import PRESETS
    from pyws.segments.training.batches import Videos
    from pyws.segments.training.train import batch_losses, begin, run_epoch, trusted_labels
    from pyws.segments.trust import Trust

    correct(data, v00=Corrected((("jump", 4 / RATE, 8 / RATE),)))
    found = open_features(data)
    videos = Videos(found, torch.device("cpu"))
    run = begin("wum", PRESETS["paper"], found, torch.device("cpu"))
    epoch = next(k for k in range(10_000) if run.config.schedule.temperature(k) is not None)
    run_epoch(run, videos, epoch)
    run.trust = Trust(0.0, 0.0, {}, False)
    latest, previous = trusted_labels(run, videos)
    assert (latest.video.tolist(), latest.label.tolist(), previous) == ([0], [0], None)
    losses = batch_losses(run, videos, [0, 1], epoch, latest, previous)[2]
    assert losses[0] > 0 == losses[1]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "must be corrections that pyws import wrote"),
        ({"format": "pyws corrections", "version": 2, "videos": {}}, "must be corrections that pyws import wrote"),
        ({"videos": {"v": []}}, "video 'v' must be an object"),
        ({"videos": {"v": {"present": [{"label": "a", "segment": [2, 1]}]}}}, "video 'v' must have segments"),
        ({"videos": {"v": {"absent": [{"label": "a", "segment": [0, math.inf]}]}}}, "with finite start < end"),
        ({"videos": {"v": {"absent": 3}}}, "video 'v' must have segments"),
    ],
)
def test_files_that_are_none(document, said, tmp_path):
    if isinstance(document, dict):
        document = {"format": "pyws corrections", "version": 1, **document}
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=said):
        read_corrections(tmp_path / "c.json")
