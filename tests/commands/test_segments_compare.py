"""Fusion ranked by support and snapped to snippets, and the comparison of methods on halves of the videos."""

import json

import numpy as np
import pytest

from pyws import cli
from pyws.commands.segments.compare import Trial, chosen, halve, run_trial
from pyws.commands.segments.postprocessing import Postprocessing
from pyws.data.annotations.activitynet import read_detections, read_truth
from pyws.evaluation import detection_map
from pyws.segments import PostprocessConfig, fuse_detections, label_videos

WIDE = [(0.0, 8.0, 0.5), (0.8, 8.8, 0.5), (0.0, 8.8, 0.4), (0.0, 8.0, -0.3)]


def proposals_of(rows, video="v"):
    return {video: [{"label": "a", "score": score, "segment": [start, end]} for start, end, score in rows]}


def fused(rows, **options):
    found = fuse_detections(read_detections({"results": proposals_of(rows)}), PostprocessConfig(**options), 1.0)
    return list(zip(found.start.tolist(), found.end.tolist(), found.score.tolist(), strict=True))


def test_support_ranks_what_many_agree_on_first():
    rows = [(20.0, 24.0, 0.9), *WIDE]
    assert [row[0] for row in fused(rows, temperature=1e6)] == pytest.approx([20.0, 0.2], abs=1e-5)
    by_support = fused(rows, temperature=1e6, ranking="support")
    assert [row[2] for row in by_support] == pytest.approx([0.5 + 0.5 + 0.4, 0.9])
    assert [row[0] for row in by_support] == pytest.approx([0.2, 20.0], abs=1e-5)


def test_support_stays_within_video_and_class():
    document = {"results": {**proposals_of(WIDE, "v"), **proposals_of([(0.0, 8.0, 0.7), (30.0, 31.0, 0.1)], "w")}}
    document["results"]["w"].append({"label": "b", "score": 0.2, "segment": [0.0, 8.0]})
    found = fuse_detections(read_detections(document), PostprocessConfig(ranking="support"), 1.0)
    assert found.video.tolist() == [0, 1, 1, 1]
    assert found.label.tolist() == [0, 0, 0, 1]
    assert found.score.tolist() == pytest.approx([1.4, 0.7, 0.1, 0.2])


def test_snapped_bounds_are_snippets():
    [(start, end, _)] = fused(WIDE[:3], temperature=1e6)
    assert (start, end) == pytest.approx((0.8 / 3, 25.6 / 3), abs=1e-5)
    assert fused(WIDE[:3], temperature=1e6, snap=True)[0][:2] == (0.0, 9.0)
    entries = {"results": proposals_of([(second, second + 10 * 16 / 25, 0.5) for second in (0.0, 0.64, 0.64)])}
    snapped = fuse_detections(read_detections(entries), PostprocessConfig(temperature=1e6, snap=True))
    assert (int(snapped.start[0] * 25 / 16), int(snapped.end[0] * 25 / 16)) == (1, 11)
    assert int(fuse_detections(read_detections(entries), PostprocessConfig(temperature=1e6)).start[0] * 25 / 16) == 0


@pytest.mark.parametrize(
    ("given", "usual", "snapped"), [(None, True, True), ("none", True, False), ("nearest", False, True)]
)
def test_snapping_is_switched_on_and_off(given, usual, snapped):
    assert Postprocessing(snap=given).over(PostprocessConfig(snap=usual)).snap is snapped


def test_without_snapping_suppression_is_left_alone():
    assert Postprocessing(method="nms", snap="none").over(PostprocessConfig(snap=True)) == PostprocessConfig("nms")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranking": "votes"}, "ranking must be one of score, support, saturated, got 'votes'"),
        ({"method": "nms", "snap": True}, "snap is of gaussian, uniform, exponential, t; got it with 'nms'"),
        ({"method": "soft-nms", "iou_threshold": 0.5}, "iou_threshold is of nms, gaussian, .*; got it with 'soft-nms'"),
        ({"method": "nms", "temperature": 0.5}, "temperature is of gaussian, .*; got it with 'nms'"),
        ({"method": "none", "ranking": "support"}, "got it with 'none'"),
        ({"sign_weights": True, "snap": True}, "sign_weights leaves bounds as the released sums give them"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        fused(WIDE, **options)


def test_rows_of_linpro_reach_the_labels():
    record = {"subset": "test", "duration": 64.0, "annotations": [{"label": "a", "segment": [0, 1]}]}
    truth = read_truth({"database": {"v": record}})
    proposals = read_detections({"results": proposals_of([(3.2, 16.0, 0.5), (32.0, 33.92, 0.5)])})
    masses = {}
    for rows in ("sum", "mean"):
        [one] = label_videos(proposals, truth, ["a"], PostprocessConfig("none"), rows=rows)
        masses[rows] = [float(one.labels[first:last].sum()) for first, last in ((5, 25), (50, 53))]
    assert masses["sum"] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert masses["mean"] == pytest.approx([0.5 * 20, 0.5 * 3], abs=1e-4)


@pytest.fixture
def files(tmp_path):
    """Eight videos in which proposals scatter around one action each."""
    generator = np.random.default_rng(0)
    database, results = {}, {}
    for number in range(8):
        start = 6.4 * (1 + number)
        actions = [{"label": "a", "segment": [start, start + 12.8]}]
        database[f"v{number}"] = {"subset": "test", "duration": 90.0, "annotations": actions}
        rows = [(start + a, start + 12.8 + b, s) for a, b, s in generator.normal([0, 0, 1], [1.5, 1.5, 0.2], (12, 3))]
        results |= proposals_of(rows, f"v{number}")
    database["unannotated"] = {"subset": "test", "duration": 90.0, "annotations": []}
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    (tmp_path / "proposals.json").write_text(json.dumps({"results": results}))
    return tmp_path


def test_halves_share_no_video_and_depend_on_the_seed(files):
    truth = read_truth(files / "truth.json")
    halves = [halve(truth, "test", seed).subset for seed in range(4)]
    for half in halves:
        assert [half.count(name) for name in ("first half", "second half", "")] == [4, 4, 1]
    assert len(set(halves)) > 1
    assert halve(truth, "test", 0).subset == halves[0]


def test_each_half_is_judged_by_the_choice_of_the_other():
    one = Trial("nms", PostprocessConfig("nms", iou_threshold=0.1), 5, ((50.0, 30.0), (10.0, 0.0)))
    two = Trial("nms", PostprocessConfig("nms", iou_threshold=0.5), 9, ((20.0, 20.0), (40.0, 20.0)))
    other = Trial("none", PostprocessConfig("none"), 20, ((90.0, 90.0), (90.0, 90.0)))
    row = chosen([two, other, one], "nms")
    assert row["chosen"] == [{"iou_threshold": 0.1}, {"iou_threshold": 0.5}]
    assert row["held_out"] == [5.0, 20.0]
    assert row["mAP"] == [15.0, 10.0]
    assert row["average"] == 12.5
    assert row["detections"] == [5, 9]


def test_command(files, capsys):
    words = ["segments", "compare", str(files / "proposals.json"), str(files / "truth.json"), str(files / "out")]
    words += ["--ious", "0.25", "0.5", "--temperatures", "0.2", "--tious", "0.5", "0.7"]
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["trials"]) == 1 + 2 + 5 + 3 * 4 * 2 + 2
    assert [row["method"] for row in report["methods"]][:4] == ["none", "nms", "soft-nms", "gaussian"]
    assert json.loads((files / "out" / "comparison.json").read_text())["methods"] == report["methods"]
    last = report["trials"][-1]
    assert (last["family"], last["ranking"], last["iou_threshold"]) == ("as preset pyws does", "support", 0.4)
    page = (files / "out" / "report.html").read_text()
    assert "gaussian, by support" in page
    assert page.count("data:image/png") == 2
    halved = halve(read_truth(files / "truth.json"), "test", 0)
    found = read_detections(files / "proposals.json")
    again = run_trial(
        found, halved, "nms", PostprocessConfig("nms", iou_threshold=0.5), "thumos14", (0.5, 0.7), 25 / 16
    )
    direct = detection_map(
        fuse_detections(found, PostprocessConfig("nms", iou_threshold=0.5)),
        halved,
        tious=(0.5, 0.7),
        subset="second half",
    )
    assert list(again.maps[1]) == direct.map.tolist()
    [trial] = [t for t in report["trials"] if t["method"] == "nms" and t["iou_threshold"] == 0.5]
    assert trial["mAP"][1] == direct.map.tolist()
    assert cli.main([*words, "--subset", "training"]) == 1
    assert "subset 'training' must have two videos with annotations, got 0" in capsys.readouterr().err
