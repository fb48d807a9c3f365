"""The evaluation of W-TALC against a slow rule, and what makes two evaluations differ: by hand, and that it adds up."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detection import (
    LABELS,
    TIOUS,
    detections_of,
    on_snippets,
    snippet_set_iou,
    tasks,
    truth_of,
)

from pyws import cli
from pyws.data.features.time_base import SnippetGrids
from pyws.evaluation import detection_map
from pyws.evaluation.attribution import explain_difference
from pyws.evaluation.detection import PROTOCOLS, rules_of


def slow_wtalc(truth, detections, tiou):
    """mAP of {video: rows} as W-TALC computes it: the first segment that passes, precision at each true positive."""
    aps = []
    for label in LABELS:
        free = {video: [row[1:3] for row in rows if row[0] == label] for video, rows in truth.items()}
        positives = sum(map(len, free.values()))
        ranking = [(video, row) for video in truth for row in detections.get(video, []) if row[0] == label]
        ranking.sort(key=lambda entry: -entry[1][3])
        found, total = 0, 0.0
        for rank, (video, (_, start, end, _)) in enumerate(ranking, 1):
            for segment in free[video]:
                if snippet_set_iou((start, end), segment) >= tiou:
                    free[video].remove(segment)
                    found += 1
                    total += found / rank
                    break
        aps.append(total / positives)
    return 100 * sum(aps) / len(aps)


@settings(max_examples=30, deadline=None)
@given(tasks())
def test_wtalc_equals_the_slow_rule(task):
    truth, detections = task
    annotated = {video: on_snippets(rows, round) for video, rows in truth.items() if rows}
    on_grid = {video: on_snippets(rows, int) for video, rows in detections.items()}
    scores = detection_map(detections_of(detections), truth_of(truth), "wtalc", TIOUS)
    assert scores.map.tolist() == pytest.approx([slow_wtalc(annotated, on_grid, tiou) for tiou in TIOUS], abs=1e-10)


def test_wtalc_takes_the_first_segment_that_passes():
    # Snippets [0, 6) and [0, 10): [0, 10) passes 0.55 with both, [0, 5) only with the first.
    truth = truth_of({"v": [("a", 0, 3.84), ("a", 0, 6.4)]})
    rows = [("a", 0, 6.4, 0.9), ("a", 0, 3.2, 0.8)]
    assert detection_map(detections_of({"v": rows}), truth, tious=[0.55]).map.tolist() == [100.0]
    assert detection_map(detections_of({"v": rows}), truth, "wtalc", [0.55]).map.tolist() == [50.0]
    assert detection_map(detections_of({"v": rows}), truth, "wtalc").tious == (0.1, 0.2, 0.3, 0.4, 0.5)


def test_wtalc_has_no_envelope():
    # False, true: the precision at the true positive is 1/2 by both; true at rank 3 carries 2/3, by the envelope both.
    truth = truth_of({"v": [("a", 0, 8), ("a", 16, 24)]})
    rows = [("a", 40, 48, 0.9), ("a", 0, 8, 0.8), ("a", 16, 24, 0.7)]
    assert detection_map(detections_of({"v": rows}), truth, tious=[0.5]).map[0] == pytest.approx(100 * 2 / 3)
    plain = detection_map(detections_of({"v": rows}), truth, "wtalc", [0.5])
    assert plain.map[0] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert plain.rules["AP"] == "precision at each true positive"


def rules(**changes):
    return dataclasses.replace(rules_of("thumos14", [0.5]), **changes)


def test_another_file_by_classes_and_videos():
    truth = truth_of({"v": [("a", 0, 8)], "w": [("a", 0, 8), ("b", 0, 8)]})
    this = {"v": [("a", 0, 8, 0.9)], "w": [("a", 16, 24, 0.8)]}
    other = {"v": [("a", 0, 8, 0.7)], "w": [("a", 0, 8, 0.8), ("b", 0, 8, 0.5), ("b", 16, 24, 0.9)]}
    why = explain_difference(truth, detections_of(this), rules(), detections_of(other))
    # a: 1/2 of the truth at precision 1 -> all of it; b: none -> one at rank 2. Each class is half of the mAP.
    assert (why.this, why.other) == pytest.approx((25.0, 75.0))
    assert why.classes == {"a": (25.0, 50.0), "b": (0.0, 25.0)}
    assert list(why.videos) == ["w", "v"]
    assert why.videos == {"v": (25.0, 25.0), "w": (0.0, 50.0)}
    assert [(step.what, step.change) for step in why.steps] == [("predictions", 50.0)]


def test_ambiguous_stretches_count_for_both_sides_and_every_rule():
    truth = truth_of({"v": [("a", 0, 6.4)]})
    this = {"v": [("a", 6.4, 12.8, 0.9), ("a", 0, 6.4, 0.5)]}
    other = {"v": [("a", 6.4, 12.8, 0.9), ("a", 7.0, 12.0, 0.8), ("a", 0, 6.4, 0.5)]}
    ambiguous = {"v": [(6.4, 12.8)]}
    wanted = rules(tious=(0.5, 0.7))
    why = explain_difference(truth, detections_of(this), rules(), detections_of(other), wanted, ambiguous)
    assert (why.this, why.other) == (100.0, 100.0)
    assert {step.average for step in why.steps} == {100.0}
    without = explain_difference(truth, detections_of(this), rules(), detections_of(other), wanted, {})
    assert (without.this, without.other) == pytest.approx((50.0, 100 / 3))


def test_rules_one_after_the_other():
    # On the grid the truth 1.6-2.88 s is snippets [2, 4) and so is the prediction; in seconds IoU is 0.9.
    truth = truth_of({"v": [("a", 1.6, 2.88)], "empty": []})
    found = detections_of({"v": [("a", 1.6, 2.752, 0.5)], "empty": [("a", 0, 1, 0.9)]})
    other = rules_of("activitynet", [0.5, 0.95], subset="test")
    why = explain_difference(truth, found, rules(), None, other)
    said = [(step.what, step.average, step.change) for step in why.steps]
    assert said[:2] == [("videos", 50.0, -50.0), ("IoU", 50.0, 0.0)]
    assert said[-1] == ("IoU thresholds", 25.0, -25.0)
    assert (why.this, why.other, why.difference) == (100.0, 25.0, -75.0)
    assert why.steps[1].after == "intervals in seconds"
    assert why.steps[-1].before == "0.5"
    assert why.videos == {"v": (100.0, 25.0), "empty": (0.0, 0.0)}


def test_the_released_rule_of_missing_classes_takes_everything():
    truth = truth_of({"v": [("a", 0, 8), ("b", 0, 8)]})
    why = explain_difference(truth, detections_of({"v": [("a", 0, 8, 1.0)]}), rules(), None,
                             rules(missing_class="released"))  # fmt: skip
    assert [(step.what, step.change) for step in why.steps] == [("class without predictions", -50.0)]
    assert why.classes["a"] == (50.0, 0.0)
    assert why.videos == {"v": (50.0, 0.0)}


def test_nothing_differs():
    why = explain_difference(truth_of({"v": [("a", 0, 8)]}), detections_of({"v": [("a", 0, 8, 1.0)]}), rules())
    assert (why.steps, why.difference) == ((), 0.0)


some_rules = st.builds(
    lambda protocol, grid, ambiguous, missing, tious: dataclasses.replace(
        PROTOCOLS[protocol], subset="test", grid=grid, ambiguous=ambiguous, missing_class=missing, tious=tuple(tious)
    ),
    st.sampled_from(sorted(PROTOCOLS)), st.sampled_from([None, SnippetGrids(25 / 16), SnippetGrids(1.0)]),
    st.booleans(),
    st.sampled_from(["zero", "released"]), st.lists(st.sampled_from(TIOUS), min_size=1, max_size=3),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(tasks(), st.randoms(use_true_random=False), some_rules, some_rules)
def test_every_split_adds_up_to_the_difference(task, random, one, two):
    truth, detections = task
    shuffled = {video: [(*row[:3], random.random()) for row in rows] for video, rows in detections.items()}
    document = {**truth_of(truth), "ambiguous": {"v1": [[1.0, 2.0]]}}
    why = explain_difference(document, detections_of(detections), one, detections_of(shuffled), two)
    assert sum(step.change for step in why.steps) == pytest.approx(why.difference, abs=1e-9)
    for pairs in (why.classes, why.videos):
        for side, average in enumerate((why.this, why.other)):
            assert sum(pair[side] for pair in pairs.values()) == pytest.approx(average, abs=1e-9)


def test_command(tmp_path, capsys):
    truth = truth_of({"v": [("a", 0, 8), ("b", 0, 8)]})
    this, other = {"v": [("a", 0, 8, 0.9), ("b", 40, 48, 0.9)]}, {"v": [("a", 0, 8, 0.9), ("b", 0, 8, 0.5)]}
    for name, document in (("truth", truth), ("this", detections_of(this)), ("other", detections_of(other))):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    paths = {name: str(tmp_path / f"{name}.json") for name in ("truth", "this", "other")}
    words = ["segments", "evaluate", paths["this"], paths["truth"], "--explain", paths["other"], "wtalc", "released"]
    assert cli.main([*words, "--json"]) == 0
    why = json.loads(capsys.readouterr().out)["explanation"]
    assert (why["this"], why["other"]) == (50.0, 100.0)
    changed = [step["what"] for step in why["steps"]]
    assert changed == ["matching", "AP", "class without predictions", "IoU thresholds", "predictions"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    for text in ("together", "share of the average mAP by class", "by video", "+50.000"):
        assert text in shown
    assert cli.main([*words, paths["this"]]) == 1
    assert "--explain: must name one file" in capsys.readouterr().err
