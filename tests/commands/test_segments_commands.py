"""pyws segments and pyws data: from proposals to detections, labels and scores, and what bad input says."""

import gzip
import json
import math
import re
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file

from pyws import cli
from pyws.commands.segments.evaluate import _explanation
from pyws.data.annotations.activitynet import read_detections, read_truth
from pyws.errors import DataError
from pyws.evaluation import detection_map
from pyws.evaluation.detection import rules_of
from pyws.evaluation.diagnosis import diagnose
from pyws.report.labels import draw_labels
from pyws.report.run import place_of
from pyws.report.runs.segments import labels_page
from pyws.segments import PostprocessConfig, fuse_detections, label_videos

PROPOSALS = {
    "results": {
        "v1": [
            {"label": "b", "score": 0.2, "segment": [0.0, 6.4]},
            {"label": "a", "score": 0.6, "segment": [3.2, 9.6]},
            {"label": "a", "score": 0.9, "segment": [2.56, 8.96]},
            {"label": "a", "score": 0.5, "segment": [16.0, 19.2]},
        ],
        "v2": [],
    },
    "external_data": {"snippets_per_second": 1.5625},
}
TRUTH = {
    "database": {
        "v1": {
            "subset": "test",
            "duration": 32.0,
            "annotations": [{"label": "a", "segment": [2.56, 8.96]}, {"label": "b", "segment": [20.0, 30.0]}],
        },
        "v2": {"subset": "test", "duration": 6.5, "annotations": [{"label": "a", "segment": [1.0, 2.0]}]},
    }
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "proposals.json").write_text(json.dumps(PROPOSALS))
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return tmp_path


def run(capsys, *words):
    status = cli.main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def document(capsys, *words):
    status, out, err = run(capsys, *words, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def rows(path):
    results = json.loads(path.read_text())["results"]
    return {video: [(e["label"], e["score"], *e["segment"]) for e in entries] for video, entries in results.items()}


def test_fuse_groups_by_video_and_class(files, capsys):
    report = document(capsys, "segments", "fuse", files / "proposals.json", files / "out.json", "--temperature", "1e6")
    assert (report["proposals"], report["detections"]) == (4, 3)
    found = rows(files / "out.json")
    assert found["v2"] == []
    label, score, start, end = found["v1"][1]
    assert label == "a"
    assert (score, start, end) == pytest.approx((0.75, 2.88, 9.28), abs=1e-6)
    assert found["v1"][0] == ("b", 0.2, 0.0, 6.4)
    assert found["v1"][2] == ("a", 0.5, 16.0, 19.2)
    made_by = json.loads((files / "out.json").read_text())["external_data"]
    assert made_by["method"] == "gaussian"
    assert made_by["temperature"] == 1e6


def test_methods(files, capsys):
    kept = {}
    for method in ("none", "nms", "soft-nms", "gaussian", "uniform", "exponential", "t"):
        document(capsys, "segments", "fuse", files / "proposals.json", files / "out.json", "--method", method)
        kept[method] = rows(files / "out.json")["v1"]
    assert kept["none"] == [(e["label"], e["score"], *e["segment"]) for e in PROPOSALS["results"]["v1"]]
    assert [row[:2] for row in kept["nms"]] == [("b", 0.2), ("a", 0.9), ("a", 0.5)]
    assert [row[1] for row in kept["soft-nms"]] == pytest.approx(
        [0.2, 0.9, 0.5, 0.6 * math.exp(-((9 / 11) ** 2) / 0.5)]
    )
    assert kept["uniform"][1][2:] == pytest.approx((2.88, 9.28))
    assert kept["exponential"][1][2:] == pytest.approx((2.56, 8.96))
    assert len(kept["t"]) == 3


def test_gzipped_input_gives_the_same_bytes(files, capsys):
    packed = files / "proposals.json.gz"
    packed.write_bytes(gzip.compress((files / "proposals.json").read_bytes()))
    document(capsys, "segments", "fuse", files / "proposals.json", files / "a.json")
    document(capsys, "segments", "fuse", packed, files / "b.json")
    assert (files / "a.json").read_bytes() == (files / "b.json").read_bytes()


@pytest.mark.parametrize("rate", [25 / 16, 10 / 4, 30 / 16, 24 / 16, 1.0, 29.97 / 16])
def test_whole_snippets_survive_the_seconds(rate):
    # Two equal proposals on every snippet: the fused one must be cut back to the same snippet.
    first = np.arange(5000.0)
    entries = [{"label": str(i), "score": s, "segment": [i / rate, (i + 1) / rate]} for i in first for s in (0.3, 0.7)]
    fused = fuse_detections(read_detections({"results": {"v": entries}}), snippets_per_second=rate)
    assert (np.trunc(fused.start * rate) == first).all()
    assert (np.trunc(fused.end * rate) == first + 1).all()


def test_labels_keep_the_scores_of_the_segments(files, capsys):
    report = document(capsys, "segments", "labels", files / "proposals.json", files / "truth.json",
                      files / "labels.safetensors", "--temperature", "1e-3")  # fmt: skip
    labels = load_file(files / "labels.safetensors")
    assert {name: tuple(one.shape) for name, one in labels.items()} == {"v1": (50, 2), "v2": (10, 2)}
    assert report["classes"] == ["a", "b"]
    assert report["statuses"] == {"optimal": 2, "relaxed": 0, "empty": 2, "approximate": 0}
    assert report["videos"]["v1"]["segments"] == 3
    written = json.loads((files / "labels.safetensors.json").read_text())
    assert {"out": report["out"], **written} == report
    with safe_open(files / "labels.safetensors", "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b"]
    a, b = labels["v1"].T
    assert a[4:14].tolist() == pytest.approx([0.09] * 10)  # 0.9 over the 10 snippets of 2.56-8.96 s
    assert a[25:30].tolist() == pytest.approx([0.1] * 5)
    assert b[:10].tolist() == pytest.approx([0.02] * 10)
    assert (float(a.sum()), float(b.sum())) == pytest.approx((1.4, 0.2))
    assert not labels["v2"].any()


def test_labels_are_drawn(files, capsys):
    document(capsys, "segments", "labels", files / "proposals.json", files / "truth.json", files / "labels.safetensors",
             "--plot", files / "pictures")  # fmt: skip
    assert sorted(path.name for path in (files / "pictures").iterdir()) == ["hashes.json", "v1.png"]  # v2 has no labels
    assert (files / "pictures" / "v1.png").read_bytes()[:4] == b"\x89PNG"
    page = labels_page(place_of(files / "labels.safetensors"))
    assert page.videos is not None
    shown = {video.name: [lane.caption for lane in video.lanes] for video in page.videos.videos}
    assert shown == {"v1": ["truth", "labels", "proposals"], "v2": ["truth", "proposals"]}


def test_pictures_of_labels_stay_in_their_folder(files):
    save_file({"../up": np.ones((4, 1), np.float32)}, files / "one")
    facts = {"classes": ["a"], "settings": {}, "videos": {"../up": {"snippets": 4, "seconds": 2.0}}}
    (files / "one.json").write_text(json.dumps(facts))
    drawn = draw_labels({"labels": files / "one"}, files / "pictures")
    assert drawn == {"../up": files / "pictures" / ".._up.png"}
    assert draw_labels({"labels": files / "one"}, files / "pictures", limit=0) == {}
    (files / "one").write_bytes(b"no")
    with pytest.raises(DataError, match="one: is truncated, damaged or not safetensors"):
        draw_labels({"labels": files / "one"}, files / "pictures")


def test_labels_of_tags_only(files, capsys):
    truth = json.loads((files / "truth.json").read_text())
    truth["database"]["v1"]["tags"] = ["b"]
    (files / "truth.json").write_text(json.dumps(truth))
    document(capsys, "segments", "labels", files / "proposals.json", files / "truth.json",
             files / "labels.safetensors", "--only-tags")  # fmt: skip
    labels = load_file(files / "labels.safetensors")["v1"]
    assert not labels[:, 0].any()
    assert labels[:, 1].any()


def test_labels_where_nothing_satisfies_all_scores():
    # A segment that fills the video has no margin, and inside it another asks for more: relaxed, counted, never NaN.
    segments = ((0.5, [1.28, 3.84]), (0.1, [0.0, 12.8]))
    proposals = {"results": {"v": [{"label": "a", "score": score, "segment": pair} for score, pair in segments]}}
    truth = {"database": {"v": {"subset": "test", "duration": 12.8, "annotations": []}}}
    [one] = label_videos(read_detections(proposals), read_truth(truth), ["a"], PostprocessConfig("none"), "released")
    assert one.statuses == {"optimal": 0, "relaxed": 1, "empty": 0, "approximate": 0}
    assert one.residual > 0
    assert one.labels.isfinite().all()


def test_evaluate_prints_what_it_computed(files, capsys):
    command = ("segments", "evaluate", files / "proposals.json", files / "truth.json", "--subset", "test")
    report = document(capsys, *command)
    assert report == detection_map(PROPOSALS, TRUTH).to_dict()
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert f"{report['average_mAP']:.2f}" in out
    assert report["video_list_sha256"] in out
    assert "AP 0 for that class" in out
    for tiou in report["mAP"]:
        assert tiou in out
    status, out, _ = run(capsys, *command, "--protocol", "activitynet", "--tious", "0.5", "0.75")
    assert "intervals in seconds" in out


def test_a_diagnosis_is_printed_and_kept(files, capsys):
    """At IoU 0.5 the second segment of a finds what the first has found, the third touches nothing, b misses."""
    command = ("segments", "evaluate", files / "proposals.json", files / "truth.json", "--diagnose", "0.5")
    found = document(capsys, *command)["diagnosis"]
    assert found == diagnose(read_truth(TRUTH), PROPOSALS, rules_of("thumos14"), 0.5).to_dict()
    assert (found["tiou"], sum(found["kinds"].values())) == (0.5, 4)
    lengths = {key: (row["instances"], row["found"]) for key, row in found["lengths"].items()}
    assert lengths == {"0.6 to 3.5 s": (1, 0), "3.5 to 6.4 s": (1, 1), "8.3 to 10.2 s": (1, 0)}  # 1, 10, 16 snippets
    assert {name: {key: row["instances"] for key, row in found[name].items()} for name in ("counts", "classes")} == {
        "counts": {"1": 1, "2 to 4": 2}, "classes": {"a": 2, "b": 1}}  # fmt: skip
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert f"predictions at IoU 0.5, mAP {found['mAP']:.2f}, and mAP gained" in out
    for kind, count in found["kinds"].items():
        assert re.search(rf"{kind}\s.*\b{count}\b", out)
    for name in ("length", "instances in the video", "class"):
        assert f"instances by {name}" in out


def test_evaluate_lists_ignored_videos(files, capsys):
    proposals = PROPOSALS | {"results": {**PROPOSALS["results"], "elsewhere": PROPOSALS["results"]["v1"]}}
    (files / "proposals.json").write_text(json.dumps(proposals))
    report = document(capsys, "segments", "evaluate", files / "proposals.json", files / "truth.json")
    assert report["ignored_videos"] == ["elsewhere"]


COMMANDS = {
    "fuse": ("fuse", "proposals.json", "out.json"),
    "labels": ("labels", "proposals.json", "truth.json", "out.safetensors"),
    "evaluate": ("evaluate", "proposals.json", "truth.json"),
    "compare": ("compare", "proposals.json", "truth.json", "study", "--ious", "0.5", "--temperatures", "0.1"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_assumed_rate_is_said_once(name, files, monkeypatch, capsys):
    """Unless the option or the proposals say a rate; the rate that is noted is the one that is used."""
    monkeypatch.chdir(files)
    words = ("segments", *COMMANDS[name], "--quiet")
    assert "ASSUMED" not in run(capsys, *words)[2]
    (files / "proposals.json").write_text(json.dumps({"results": PROPOSALS["results"]}))
    assert run(capsys, *words)[2].count("warning: nothing says how many snippets a second has: 1.5625 is ASSUMED") == 1
    assert "ASSUMED" not in run(capsys, *words, "--snippets-per-second", 2)[2]


def test_the_rate_that_proposals_note_is_used(files, capsys):
    note = {"external_data": {"snippets_per_second": 3}}
    (files / "proposals.json").write_text(json.dumps(PROPOSALS | note))
    report = document(capsys, "segments", "labels", files / "proposals.json", files / "truth.json",
                      files / "labels.safetensors")  # fmt: skip
    assert report["videos"]["v1"]["snippets"] == 96
    assert "ASSUMED" not in run(capsys, "segments", "evaluate", files / "proposals.json", files / "truth.json",
                                "--protocol", "activitynet", "--subset", "test")[2]  # fmt: skip


def test_segments_in_frames_are_said(files, capsys):
    entries = [{"label": "a", "score": 1, "segment": [90, 120]}, {"label": "a", "score": 1, "segment": [99, 120]}]
    (files / "proposals.json").write_text(json.dumps({**PROPOSALS, "results": {"v1": entries}}))
    _, _, err = run(capsys, "segments", "labels", files / "proposals.json", files / "truth.json",
                    files / "labels.safetensors")  # fmt: skip
    assert "warning: 2 of 2 predictions begin after their video ends: segments must be in seconds" in err


def test_convert(shared, tmp_path, capsys):
    folder = shared / "data/thumos_gt/Thumos14reduced-Annotations"
    report = document(capsys, "data", "convert", folder, tmp_path / "thumos14.json")
    assert report["videos"] == {"test": 212, "validation": 200}
    assert report["videos_without_tags"] == ["video_test_0000270"]
    assert read_truth(tmp_path / "thumos14.json").counts()["instances"] == {"test": 3358, "validation": 3007}


def test_released_numbers_through_the_commands(shared, tmp_path, capsys):
    golden = json.loads((shared / "golden/released_thumos_map.json").read_text())
    proposals = shared / "data/wtal_predictions/pmil/detection_result_base_train.json.gz"
    truth, out = tmp_path / "thumos14.json", tmp_path / "out.json"
    document(capsys, "data", "convert", shared / "data/thumos_gt/Thumos14reduced-Annotations", truth)
    for name, options in (("none", ("none",)), ("nms0.5", ("nms", "--iou", "0.5", "--overlap", "own"))):
        document(capsys, "segments", "fuse", proposals, out, "--snippets-per-second", 1.5625, "--method", *options)
        report = document(capsys, "segments", "evaluate", out, truth, "--subset", "validation")
        assert report["counts"]["predictions"] == golden[name]["predictions"]
        assert report["mAP"] == pytest.approx(golden[name]["mAP"], abs=1e-6)
    document(capsys, "segments", "fuse", proposals, out, "--snippets-per-second", 1.5625, "--overlap", "own")
    assert len(read_detections(out)) == golden["fused_own0.25_T0.2"]["predictions"]


def broken(name, **contents):
    document = json.loads(json.dumps(PROPOSALS | contents if name == "proposals.json" else contents))
    return lambda folder: (folder / name).write_text(json.dumps(document))


@pytest.mark.parametrize("method", ["none", "nms", "soft-nms", "gaussian", "uniform", "exponential", "t"])
def test_every_command_takes_no_segments(files, monkeypatch, capsys, method):
    """What one command writes the next one reads, also where nothing was found."""
    monkeypatch.chdir(files)
    broken("proposals.json", results={"v1": []})(files)
    assert run(capsys, "segments", "fuse", "proposals.json", "out.json", "--method", method)[0] == 0
    status, out, _ = run(capsys, "segments", "evaluate", "out.json", "truth.json", "--json")
    assert (status, json.loads(out)["average_mAP"]) == (0, 0)
    if method != "soft-nms":
        words = ("segments", "labels", "out.json", "truth.json", "out.safetensors", "--method", method)
        assert run(capsys, *words)[0] == 0


NAN = '{"results": {"v1": [{"label": "a", "score": NaN, "segment": [0, 1]}]}}'
UNKNOWN = {"v1": [{"label": "flying", "score": 1, "segment": [0, 1]}]}
STRANGER = {"v9": [{"label": "a", "score": 1, "segment": [0, 1]}]}
FUSE = ("segments", "fuse", "proposals.json", "out.json")
LABELS = ("segments", "labels", "proposals.json", "truth.json", "out.safetensors")
EVALUATE = ("segments", "evaluate", "proposals.json", "truth.json")
BAD = [
    (FUSE, lambda d: (d / "proposals.json").write_text('{"results": {"v'), "proposals.json: is not valid JSON"),
    (FUSE, lambda d: (d / "proposals.json").unlink(), "proposals.json: cannot be read: No such file or directory"),
    (FUSE, lambda d: (d / "proposals.json").write_text(NAN), "entry 0: score must be a finite number, got nan"),
    (FUSE, broken("proposals.json", results={"v": [{"label": "a"}]}), "video 'v', entry 0: segment is missing"),
    ((*FUSE, "--iou", "1.5"), None, r"postprocess: iou_threshold must be in \[0, 1\], got 1.5"),
    ((*FUSE, "--temperature", "0"), None, "postprocess: temperature must be > 0, got 0.0"),
    ((*FUSE, "--sigma", "0.5"), None, "sigma is of soft-nms; got it with 'gaussian'"),
    ((*FUSE, "--method", "nms", "--sign-weights"), None, "sign_weights is of gaussian; got it with 'nms'"),
    ((*FUSE, "--snippets-per-second", "0"), None, "snippets_per_second must be > 0, got 0.0"),
    (LABELS, broken("proposals.json", results=UNKNOWN), "label must be one of the 2 classes, got 'flying'"),
    (LABELS, broken("proposals.json", results=STRANGER), "must give the duration of video 'v9'"),
    ((*LABELS[:-1], "out.pt"), None, "out.pt: labels are written as .safetensors"),
    (EVALUATE, broken("proposals.json", results=UNKNOWN), "label must occur in the ground truth, got 'flying'"),
    (EVALUATE, broken("proposals.json", results=STRANGER), "evaluated such as 'v1', got 1 others such as 'v9'"),
    ((*EVALUATE, "--subset", "val"), None, "subset must be one of test, got 'val'"),
    ((*EVALUATE, "--tious", "0"), None, r"tious must be one or more numbers in \(0, 1\], got \[0.0\]"),
    ((*EVALUATE, "--ambiguous", "nowhere.txt"), None, "nowhere.txt: cannot be read"),
    (("data", "convert", ".", "out.json"), None, "videoname.npy: cannot be read: No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "spoil", "message"), BAD, ids=[message[:50] for *_, message in BAD])
def test_bad_input_is_one_line_and_status_1(files, monkeypatch, capsys, words, spoil, message):
    monkeypatch.chdir(files)
    if spoil is not None:
        spoil(files)
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith(f"pyws {' '.join(words[:2])}: ")
    assert re.search(message, err)
    assert not list(files.glob("out*"))


def test_labels_take_the_postprocessing_of_all_commands(files, capsys):
    words = ("segments", "labels", files / "proposals.json", files / "truth.json", files / "l.safetensors")
    rate = ("--snippets-per-second", "1.5625")
    report = document(capsys, *words, *rate, "--method", "soft-nms", "--sigma", "0.3")
    assert (report["settings"]["method"], report["settings"]["sigma"]) == ("soft-nms", 0.3)
    status, _, error = run(capsys, *words, *rate, "--ranking", "support")
    assert (status, "weigh_by and ranking must be 'score', got 'score' and 'support'" in error) == (1, True)
    status, _, error = run(capsys, *words, *rate, "--method", "nms", "--temperature", "0.1")
    assert (status, "temperature is of gaussian" in error) == (1, True)


@pytest.mark.parametrize("count", [12, 13, 15])
def test_rows_of_differences_add_up(count: int) -> None:
    """What is not shown by name is one row, and all rows together are the averages."""
    classes = {f"c{number}": (1.0 + number, 3.0 * number) for number in range(count)}
    this, other = (sum(pair[side] for pair in classes.values()) for side in (0, 1))
    shown: list[Any] = []
    with mock.patch("pyws.commands.segments.evaluate._changes", lambda title, names, rows, total: shown.append(rows)):
        list(_explanation(SimpleNamespace(steps=[], classes=classes, videos={}, this=this, other=other, difference=0)))  # type: ignore[arg-type]
    rows = shown[1]
    assert len(rows) == min(count, 13)
    assert [sum(float(row[place]) for row in rows) for place in (1, 2, 3)] == pytest.approx([this, other, other - this])
