"""pyws segments train and predict: what they write, what bad input says, and two processes against one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import feature_sets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pyws import cli
from pyws.checkpoint import write_checkpoint
from pyws.data.annotations.activitynet import Instances, read_detections, results_of
from pyws.evaluation import detection_map
from pyws.folders import only_writer
from pyws.report.predictions import Prediction, draw_prediction
from pyws.segments import PostprocessConfig
from pyws.segments.backbones import load_backbone
from pyws.segments.detection.maps import VideoMap, labels_of, open_maps, segments_of
from pyws.segments.training.run_folder import CHECKPOINT, open_checkpoint

TRAIN = ("--epochs", "4", "--lr", "0.01", "--batch", "4", "--evaluate-every", "2", "--subset", "training")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return feature_sets.write(root, feature_sets.draw(9), feature_sets.draw(7, "test", seed=1))


def train(folder, out, *words):
    return cli.main(["segments", "train", str(folder), "-o", str(out), *TRAIN, *words])


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    assert train(folder, out, "--evaluate", "test", "--quiet") == 0
    return out


def predict(folder, checkpoint, out, *words):
    return cli.main(["segments", "predict", str(folder), "--checkpoint", str(checkpoint), "-o", str(out),
                     "--subset", "test", *words])  # fmt: skip


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_train_writes_a_run(run):
    assert [record["epoch"] for record in history(run)] == [0, 1, 2, 3]
    assert [record["epoch"] for record in history(run) if "mAP" in record] == [1, 3]
    page = (run / "report.html").read_text()
    assert "Rounds of pseudo labels" in page
    assert page.count("<svg") >= 3  # loss, mAP, learning rate
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    for video in data["videos"]:
        assert {"truth", "activation", "proposals", "segments"} <= {lane["caption"] for lane in video["lanes"]}
        assert 0 <= video["measures"]["ap"] <= 1
    manifest = json.loads((run / "run.json").read_text())
    assert (manifest["videos"], manifest["skipped"], manifest["parameters"]["config"]["schedule"]["epochs"]) == (
        9,
        {},
        4,
    )
    labels = load_file(next((run / "labels").glob("*.safetensors")))
    assert len(labels) == 9
    assert all(one.shape[1] == len(feature_sets.CLASSES) for one in labels.values())


def test_predictions_score_as_training_said(run, folder, tmp_path, capsys):
    assert predict(folder, run / "last.safetensors", tmp_path / "found.json", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    found = read_detections(tmp_path / "found.json")
    assert (document["videos"], document["segments"]) == (7, len(found))
    scores = detection_map(found, folder / "truth.json", "thumos14", subset="test")
    assert scores.average == pytest.approx(history(run)[-1]["mAP"], abs=1e-9)


def test_methods_differ(run, folder, tmp_path):
    counts = {}
    for method in ("none", "nms", "gaussian"):
        assert predict(folder, run / "last.safetensors", tmp_path / "out.json", "--method", method, "--quiet") == 0
        counts[method] = len(read_detections(tmp_path / "out.json"))
    assert counts["none"] > counts["nms"] > 0
    assert counts["none"] > counts["gaussian"] > 0


def test_maps_are_what_the_segments_were_proposed_from(run, folder, tmp_path):
    out, maps = tmp_path / "out.json", tmp_path / "maps.safetensors"
    words = ("--method", "none", "--maps", str(maps), "--plot", str(tmp_path / "pictures"), "--quiet")
    assert predict(folder, run / "last.safetensors", out, *words) == 0
    found, files = read_detections(out), open_maps(maps)
    assert files.classes == feature_sets.CLASSES
    proposals = load_backbone(open_checkpoint(run / "last.safetensors")).proposals
    again = {
        name: results_of(segments_of(name, files.read(name), files.classes, proposals, PostprocessConfig("none")))[name]
        for name in found.videos
    }
    assert again == json.loads(out.read_text())["results"]
    assert sum(map(len, again.values())) > 20
    assert sorted(path.stem for path in (tmp_path / "pictures").glob("*.png")) == sorted(found.videos)
    for shard in ("1/2", "2/2"):
        parts = ("--method", "none", "--maps", str(tmp_path / "again.safetensors"), "--shard", shard, "--quiet")
        assert predict(folder, run / "last.safetensors", tmp_path / "again.json", *parts) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == maps.read_bytes()


def test_pictures_need_no_file_of_maps(run, folder, tmp_path):
    out, pictures = tmp_path / "out.json", tmp_path / "pictures"
    assert predict(folder, run / "last.safetensors", out, "--plot", str(pictures), "--quiet") == 0
    assert len(list(pictures.glob("*.png"))) == len(read_detections(out).videos) == 7


def test_only_tags_leaves_videos_without_tags_as_they_are(run, folder, tmp_path):
    data = shutil.copytree(folder, tmp_path / "data")
    truth = json.loads((data / "truth.json").read_text())
    tagged = {name: {one["label"] for one in entry["annotations"]} for name, entry in truth["database"].items()}
    bare = [name for name, entry in truth["database"].items() if entry["subset"] == "test"][::2]
    for name in bare:
        truth["database"][name] |= {"annotations": [], "tags": []}
    (data / "truth.json").write_text(json.dumps(truth))
    found = {}
    for words in ((), ("--only-tags",)):
        out = tmp_path / "out.json"
        assert predict(data, run / "last.safetensors", out, "--method", "none", "--quiet", *words) == 0
        found[words] = json.loads(out.read_text())["results"]
    for name, rows in found[()].items():
        kept = rows if name in bare else [row for row in rows if row["label"] in tagged[name]]
        assert found[("--only-tags",)][name] == kept
    assert found[()] != found[("--only-tags",)]
    assert any(found[()][name] for name in bare)


def test_confidence_and_labels_of_a_picture(tmp_path):
    edges = np.array([0, 1, 2, 4, 5.0])
    activation = np.array([[0, 0.1, 0], [0.9, 0, 0], [0.9, 0, 0], [0, 0, 0.2]], np.float32)
    rows = Instances(("v",), ("a", "b", "c"), np.zeros(3, int), np.array([0, 0, 2]), np.array([1, 2, 4.0]),
                     np.array([4, 4, 5.0]), np.array([0.5, 0.8, 0.1]))  # fmt: skip
    labels = labels_of(VideoMap(activation, edges), rows)
    np.testing.assert_allclose(labels[:, 2], [0, 0, 0, 0.1], atol=1e-6)
    assert labels[2, 0] > 0
    assert not labels[:, 1].any()
    truth = rows.where(rows.label == 2)
    one = Prediction("v", rows.labels, edges, activation, labels, rows, truth)
    assert one.confidence.tolist() == [[0, 0, 0], [0.5, 0, 0], [0.8, 0, 0], [0, 0, 0.1]]
    assert one.shown == [2, 0]  # the truth's first, none without a segment
    assert draw_prediction(tmp_path, one).read_bytes()[:4] == b"\x89PNG"


def spoil_facts(path, **changes):
    """The same weights under other facts."""
    saved = open_checkpoint(path)
    write_checkpoint(path, CHECKPOINT, saved.tensors, {**saved.facts, **changes})


BAD = [
    (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is truncated, damaged or not safetensors"),
    (lambda path: path.write_bytes(path.read_bytes()[:-9] + bytes(9)), "is damaged: its checksum does not fit"),
    (lambda path: path.unlink(), "is missing"),
    (lambda path: save_file({"a": torch.zeros(1)}, path), "must be a pyws segments checkpoint"),
    (lambda path: spoil_facts(path, classes="a"), "classes must be of type list, got 'a'"),
    (lambda path: spoil_facts(path, backbone="bm"), "options: has an unknown 'mix'"),
    (lambda path: spoil_facts(path, backbone="bm", options={}, proposals={}), "it has an unknown weight 'actions'"),
    (lambda path: spoil_facts(path, backbone="lstm"), "backbone must be one of rskp, stpn, bm, wum, facnet"),
    (lambda path: spoil_facts(path, features=9), r"weight '.*' must have shape \(.*9.*\), got \(.*8.*\)"),
    (lambda path: spoil_facts(path, snippets_per_second=4.0), "needs 4 snippets a second, got 1.5625"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_checkpoints(run, folder, tmp_path, capsys, spoil, message):
    path = tmp_path / "bad.safetensors"
    path.write_bytes((run / "best.safetensors").read_bytes())
    spoil(path)
    assert predict(folder, path, tmp_path / "out.json") == 1
    assert_one_line(capsys, f"{path}: .*{message}")
    assert not (tmp_path / "out.json").exists()


def assert_one_line(capsys, message):
    shown = capsys.readouterr()
    said = [line for line in shown.err.splitlines() if "is ASSUMED" not in line]  # the set says no rate
    assert len(said) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(shown.err)


def test_features_of_another_width(run, tmp_path, capsys):
    other = feature_sets.write(tmp_path / "wide", feature_sets.draw(2, "test", width=9))
    assert predict(other, run / "best.safetensors", tmp_path / "out.json") == 1
    assert_one_line(capsys, "needs features of width 8, got 9")


def break_row(folder):
    path = folder / "features" / "training_03.npy"
    features = np.load(path)
    features[5] = np.nan
    np.save(path, features)


def drop_tags(folder):
    path = folder / "truth.json"
    document = json.loads(path.read_text())
    document["database"]["training_03"].update(tags=[], annotations=[])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_row, "features must be finite, got 1 rows that are not, the first is 5"),
        (drop_tags, "must have a tag, got none"),
        (lambda folder: (folder / "features" / "training_03.npy").unlink(), "must have features, got none"),
    ],
)
def test_one_bad_video_stops_the_run(tmp_path, capsys, spoil, message):
    data = feature_sets.write(tmp_path / "data", feature_sets.draw(9))
    spoil(data)
    assert train(data, tmp_path / "run", "--backbone", "stpn", "--quiet") == 1
    assert_one_line(capsys, f"video 'training_03': .*{message}")


def test_one_bad_video_is_left_out(tmp_path, capsys):
    data = feature_sets.write(tmp_path / "data", feature_sets.draw(9))
    break_row(data)
    assert train(data, tmp_path / "run", "--backbone", "stpn", "--on-error", "skip", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["videos"] == 8
    assert [problem.split(":")[0] for problem in document["skipped"]] == ["video 'training_03'"]
    assert "training_03" in (tmp_path / "run" / "report.html").read_text()


def test_subsets_must_be_named(folder, tmp_path, capsys):
    assert cli.main(["segments", "train", str(folder), "-o", str(tmp_path)]) == 1
    assert_one_line(capsys, "has the subsets test, training: name one with --subset")


def test_the_configuration_for_activitynet(tmp_path, capsys):
    """One option sets everything that the answer of RSKP's author names, and the run says so."""
    data = feature_sets.write(tmp_path / "data", feature_sets.draw(9), feature_sets.draw(4, "test", seed=1))
    words = ("--benchmark", "activitynet", "--epochs", "2", "--subset", "training", "--evaluate", "test", "--quiet")
    assert cli.main(["segments", "train", str(data), "-o", str(tmp_path / "run"), *words]) == 0
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    manifest = manifest["parameters"]
    optim, options = manifest["optim"], manifest["options"]
    assert (optim["lr"], optim["weight_decay"], optim["batch"]) == (2e-5, 1e-3, 128)
    assert manifest["proposals"]["class_threshold"] == 0.1
    assert (options["dropout"], options["scale"], options["mix"], options["background"]) == (0.7, 10.0, 0.8, 0.1)
    assert options["consistency"] == [[0, 1.0]]
    assert manifest["config"]["protocol"] == "activitynet"
    out = tmp_path / "found.json"
    assert predict(data, tmp_path / "run" / "last.safetensors", out, "--method", "nms", "--quiet") == 0
    assert len(read_detections(out))
    assert train(data, tmp_path / "other", "--benchmark", "activitynet", "--backbone", "bm") == 1
    assert_one_line(capsys, "benchmark of bm must be one of thumos14, got 'activitynet'")


def test_a_network_for_each_stream(folder, tmp_path, capsys):
    words = ("--two-streams", "--backbone", "bm", "--quiet")
    assert train(folder, tmp_path / "run", *words) == 0
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert weights["model.rgb.classifier.weight"].shape == weights["model.flow.classifier.weight"].shape == (4, 4)
    assert predict(folder, tmp_path / "run" / "last.safetensors", tmp_path / "found.json", "--quiet") == 0
    assert train(folder, tmp_path / "run", "--backbone", "bm") == 1
    assert_one_line(capsys, "holds a run with two_streams True, not False")
    assert train(folder, tmp_path / "other", "--two-streams") == 1
    assert_one_line(capsys, "two streams are for stpn, bm, facnet; rskp takes joint features")
    odd = feature_sets.write(tmp_path / "odd", feature_sets.draw(3, width=9))
    assert train(odd, tmp_path / "other", *words) == 1
    assert_one_line(capsys, "two streams need an even number of feature columns, got 9")


def test_a_folder_has_one_run_at_a_time(folder, tmp_path, capsys):
    with only_writer(tmp_path):
        assert train(folder, tmp_path, "--backbone", "stpn", "--quiet") == 1
        assert_one_line(capsys, f"{tmp_path}: is being written by another run")
        assert cli.main(["segments", "ablate", str(tmp_path), "--quiet"]) == 1
        assert_one_line(capsys, f"{tmp_path}: is being written by another run")
    assert not list(tmp_path.iterdir())


# Two processes as torchrun starts them, forked from one that has everything imported.
TWO = """
import os, socket, sys
from pyws import cli
from pyws.checkpoint import write_checkpoint
import pyws.segments.training.train, pyws.report.run, pyws.data.features.dataset
import torch.distributed, torch._dynamo
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ.update(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
children = []
for rank in range(2):
    child = os.fork()
    if child == 0:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
        status = cli.main(sys.argv[1:])
        sys.stdout.flush()
        os._exit(status)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_two_processes_train_as_one(run, folder, tmp_path):
    words = ["segments", "train", str(folder), "-o", str(tmp_path), *TRAIN, "--evaluate", "test", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    started = [sys.executable, "-c", TWO, *words]
    shown = subprocess.run(started, env=environment, capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["videos"] == 9
    one, two = (load_file(root / "last.safetensors") for root in (run, tmp_path))
    for name in (name for name in one if name.startswith("model.")):
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-5, msg=name)
    for one_record, two_record in zip(history(run), history(tmp_path), strict=True):
        assert one_record.get("mAP", 0.0) == pytest.approx(two_record.get("mAP", 0.0), abs=1e-3)
        assert one_record["loss"] == pytest.approx(two_record["loss"], rel=1e-5)
