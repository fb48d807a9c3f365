"""Detection mAP: both protocols against slow rules written from their descriptions, and the released numbers."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyws import Segments
from pyws.data.annotations.activitynet import read_detections, read_truth, read_wtalc
from pyws.errors import DataError
from pyws.evaluation import detection_map
from pyws.evaluation.precision import first_match
from pyws.segments import PostprocessConfig, fuse_detections

TIOUS = (0.1, 0.3, 0.5, 0.7)


def truth_of(videos, subset="test"):
    """Ground truth from {video: [(label, start, end)]}."""
    database = {
        video: {"subset": subset, "annotations": [{"label": a, "segment": [s, e]} for a, s, e in rows]}
        for video, rows in videos.items()
    }
    return {"database": database}


def detections_of(videos):
    """Detections from {video: [(label, start, end, score)]}."""
    return {
        "results": {
            video: [{"label": a, "segment": [s, e], "score": x} for a, s, e, x in rows]
            for video, rows in videos.items()
        }
    }


def snippet_set_iou(a, b):
    union = set(range(*a)) | set(range(*b))
    return len(set(range(*a)) & set(range(*b))) / len(union) if union else 0.0


def interval_iou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if shared > 0 else 0.0


def on_snippets(rows, rounding):
    return [(label, rounding(s * 25 / 16), rounding(e * 25 / 16), *rest) for label, s, e, *rest in rows]


def official_iou(a, b):
    """As the official ActivityNet code divides: of two empty segments not a number, which it takes for the largest."""
    return math.inf if a[0] == a[1] and b[0] == b[1] else interval_iou(a, b)


def slow_map(truth, detections, tiou, iou, missing=0.0, tie=min):
    """mAP of {video: rows}, one prediction at a time, the precision envelope as the largest precision from here on."""
    aps = []
    for label in {row[0] for rows in truth.values() for row in rows}:
        free = {video: [row[1:3] for row in rows if row[0] == label] for video, rows in truth.items()}
        positives = sum(map(len, free.values()))
        ranking = [(video, row) for video in truth for row in detections.get(video, []) if row[0] == label]
        ranking.sort(key=lambda entry: -entry[1][3])
        hits = []
        for video, (_, start, end, _) in ranking:
            ious = [iou((start, end), segment) for segment in free[video]]
            hits.append(bool(ious) and max(ious) >= tiou)
            if hits[-1]:
                del free[video][tie(place for place, value in enumerate(ious) if value == max(ious))]
        precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
        aps.append(sum(max(precision[i:]) for i in range(len(hits)) if hits[i]) / positives if hits else missing)
    return 100 * sum(aps) / len(aps)


LABELS = ["Archery", "Diving", "Shotput"]
seconds = st.integers(0, 60).map(lambda tenths: tenths / 5)
segment = st.tuples(seconds, seconds).map(sorted)
annotation = st.builds(lambda label, pair: (label, *pair), st.sampled_from(LABELS), segment)
prediction = st.builds(lambda row, score: (*row, score / 8), annotation, st.integers(-4, 8))
videos = [f"v{number}" for number in range(4)]


@st.composite
def tasks(draw):
    truth = draw(st.dictionaries(st.sampled_from(videos), st.lists(annotation, max_size=5), min_size=1))
    truth["anchor"] = [(label, 1.0, 4.0) for label in LABELS]
    detections = draw(st.dictionaries(st.sampled_from(sorted(truth)), st.lists(prediction, max_size=8)))
    detections["anchor"] = [*detections.get("anchor", []), ("Diving", 1.0, 3.0, 0.5)]
    return truth, detections


@settings(max_examples=60, deadline=None)
@given(tasks())
def test_thumos14_equals_the_slow_rule(task):
    truth, detections = task
    annotated = {video: on_snippets(rows, round) for video, rows in truth.items() if rows}
    on_grid = {video: on_snippets(rows, int) for video, rows in detections.items()}
    scores = detection_map(detections_of(detections), truth_of(truth), "thumos14", TIOUS)
    expected = [slow_map(annotated, on_grid, tiou, snippet_set_iou) for tiou in TIOUS]
    assert scores.map.tolist() == pytest.approx(expected, abs=1e-10)
    assert scores.classes == tuple(sorted(LABELS))


@settings(max_examples=60, deadline=None)
@given(tasks())
def test_activitynet_equals_the_slow_rule(task):
    truth, detections = task
    scores = detection_map(detections_of(detections), truth_of(truth, "validation"), "activitynet", TIOUS)
    expected = [slow_map(truth, detections, tiou, official_iou, tie=max) for tiou in TIOUS]
    assert scores.map.tolist() == pytest.approx(expected, abs=1e-10)
    assert scores.counts["videos"] == len(truth)
    seconds = detection_map(detections_of(detections), truth_of(truth), "thumos14-seconds", TIOUS)
    assert seconds.map.tolist() == scores.map.tolist()


def test_of_equal_ious_activitynet_takes_the_last_truth():
    # Both truth segments have IoU 1/2 with the first prediction; the second fits the first truth alone.
    truth = truth_of({"v": [("a", 0, 4), ("a", 4, 8)]})
    rows = [("a", 2, 6, 0.9), ("a", 0, 4, 0.8)]
    at = [1 / 3]
    assert detection_map(detections_of({"v": rows}), truth, "thumos14-seconds", at).map.tolist() == [100.0]
    on_grid = detection_map(detections_of({"v": rows}), truth, "thumos14", at, snippets_per_second=1.0)
    assert on_grid.map.tolist() == [50.0]


def test_empty_segments_are_alike_under_activitynet_wherever_they_lie():
    truth = truth_of({"v": [("a", 5, 5), ("a", -9, 1)], "w": [("a", 5, 5)]})
    found = detections_of({"v": [("a", 8, 8, 0.9), ("a", -9, 1, 0.8)]})
    assert detection_map(found, truth, "thumos14-seconds", [0.9]).map.tolist() == pytest.approx([200 / 3])
    assert detection_map(found, truth, "thumos14", [0.9]).map.tolist() == pytest.approx([100 / 6])


def test_predictions_in_other_videos_are_wrong_where_asked():
    truth = truth_of({"v": [("a", 0, 10)]})
    rows = detections_of({"x": [("a", 0, 10, 0.9)], "v": [("a", 0, 10, 0.8)]})
    for protocol in ("thumos14", "thumos14-seconds"):
        scores = detection_map(rows, truth, protocol, [0.5], foreign="wrong")
        assert scores.map.tolist() == [50.0]
        assert (scores.counts["videos"], scores.counts["predictions"], scores.ignored_videos) == (1, 2, ())
        assert scores.video_hash == detection_map(rows, truth, protocol, [0.5]).video_hash


def test_duplicate_annotations_are_dropped_where_asked():
    truth = truth_of({"v": [("a", 0, 10), ("a", 0.0005, 10), ("b", 0, 10), ("a", 0.0012, 10)]})
    rows = detections_of({"v": [("a", 0, 10, 0.9)]})
    kept = detection_map(rows, truth, tious=[0.5])
    dropped = detection_map(rows, truth, tious=[0.5], duplicates="dropped")
    assert (kept.counts["instances"], dropped.counts["instances"]) == (4, 3)  # 0.0012 is near a dropped one alone
    assert dropped.map.tolist() == [25.0]


def test_duplicate_annotations_of_many_videos():
    rng = np.random.default_rng(3)
    rows = [(f"v{v}", label, *np.sort(rng.integers(0, 4, 2) + rng.choice([0, 0.0006], 2)))
            for v, label in zip(rng.integers(0, 9, 150), rng.choice(["a", "b"], 150), strict=True)]  # fmt: skip
    kept = []
    for row in rows:
        again = (one[:2] == row[:2] and max(abs(one[2] - row[2]), abs(one[3] - row[3])) < 1e-3 for one in kept)
        kept += [] if any(again) else [row]
    truth = truth_of({name: [row[1:] for row in rows if row[0] == name] for name in {row[0] for row in rows}})
    scores = detection_map(detections_of({"v0": [("a", 0, 1, 1.0)]}), truth, tious=[0.5], duplicates="dropped")
    assert scores.counts["instances"] == len(kept) < len(rows)


def test_snippets_round_half_to_even_in_truth_and_towards_zero_in_predictions():
    # 1.6 s and 2.88 s are snippets 2.5 and 4.5: the truth becomes [2, 4), the prediction [2, 4) too.
    same = detection_map(
        detections_of({"v": [("a", 1.6, 2.88, 1.0)]}), truth_of({"v": [("a", 1.6, 2.88)]}), tious=[1.0]
    )
    assert same.map.tolist() == [100.0]
    # 2.24 s is snippet 3.5: the truth rounds to 4, the prediction is cut to 3.
    other = detection_map(
        detections_of({"v": [("a", 0, 2.24, 1.0)]}), truth_of({"v": [("a", 0, 2.24)]}), tious=[0.75, 0.76]
    )
    assert other.map.tolist() == [100.0, 0.0]


def test_protocols_have_their_own_defaults():
    detections = detections_of({"v": [("a", 0, 10, 1.0)]})
    thumos = detection_map(detections, truth_of({"v": [("a", 0, 10)]}))
    assert (thumos.subset, thumos.tious) == ("test", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    anet = detection_map(detections, truth_of({"v": [("a", 0, 10)]}, "validation"), "activitynet")
    assert anet.subset == "validation"
    assert anet.tious == pytest.approx(np.arange(0.5, 0.96, 0.05))


def test_a_missing_class_costs_only_itself_unless_the_released_rule_is_asked_for():
    truth, detections = truth_of({"v": [("a", 0, 10), ("b", 0, 10)]}), detections_of({"v": [("a", 0, 10, 1.0)]})
    assert detection_map(detections, truth).map.tolist() == [50.0] * 7
    released = detection_map(detections, truth, missing_class="released")
    assert released.map.tolist() == [0.0] * 7
    assert released.counts["classes_without_predictions"] == 1
    assert released.rules["class without predictions"] == "every mAP 0, as released"


def test_videos_without_annotations_count_only_under_activitynet():
    truth = truth_of({"v": [("a", 0, 10)], "empty": []}, "test")
    detections = detections_of({"empty": [("a", 0, 10, 2.0)], "v": [("a", 0, 10, 1.0)]})
    thumos = detection_map(detections, truth, tious=[0.5])
    assert thumos.map.tolist() == [100.0]
    assert thumos.ignored_videos == ("empty",)
    assert detection_map(detections, truth, "activitynet", [0.5], subset="test").map.tolist() == [50.0]


def test_other_videos_and_subsets_are_ignored_and_listed():
    truth = truth_of({"v": [("a", 0, 10)]})
    truth["database"] |= truth_of({"w": [("a", 0, 10), ("b", 1, 2)]}, "validation")["database"]
    rows = [("a", 0, 10, 1.0), ("b", 0, 1, 0.5)]
    scores = detection_map(detections_of({"x": rows, "w": rows, "v": rows}), truth)
    assert scores.map.tolist() == [100.0] * 7
    assert scores.ignored_videos == ("x", "w")
    assert scores.classes == ("a",)
    assert scores.counts["predictions"] == 1
    assert scores.counts["predictions_ignored"] == 5
    assert scores.video_hash == hashlib.sha256(b"v").hexdigest()


def test_ambiguous_stretches_drop_what_touches_them(tmp_path):
    # The stretch 6.4-12.8 s is snippets [10, 20). A prediction that ends at snippet 10 does not touch it.
    truth = truth_of({"v": [("a", 0, 6.4)]})
    rows = [("a", 8.0, 9.0, 0.9), ("a", 0.0, 6.4, 0.5)]
    listed = tmp_path / "Ambiguous_test.txt"
    listed.write_text("v  6.4 12.8\n\nother  0.0 1.0\n")
    for source in (listed, {"v": [(6.4, 12.8)]}):
        scores = detection_map(detections_of({"v": rows}), truth, tious=[0.5], ambiguous=source)
        assert scores.map.tolist() == [100.0]
        assert scores.counts["predictions_ambiguous"] == 1
    assert detection_map(detections_of({"v": rows}), truth, tious=[0.5]).map.tolist() == [50.0]
    inside = {**truth, "ambiguous": {"v": [[6.4, 12.8]]}}
    assert detection_map(detections_of({"v": rows}), inside, tious=[0.5]).map.tolist() == [100.0]
    assert detection_map(detections_of({"v": rows}), inside, tious=[0.5], ambiguous={}).map.tolist() == [50.0]


def test_the_result_is_one_json_document():
    scores = detection_map(detections_of({"v": [("a", 0, 10, 1.0)]}), truth_of({"v": [("a", 0, 10)]}))
    document = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert document["mAP"]["0.5"] == 100.0
    assert document["AP"]["a"]["0.7"] == 100.0
    assert document["average_mAP"] == 100.0
    assert document["counts"]["videos"] == 1


@pytest.mark.parametrize("protocol", ["thumos14", "activitynet", "thumos14-seconds", "wtalc"])
def test_no_prediction_scores_zero_and_says_so(protocol):
    scores = detection_map({"results": {}}, truth_of({"v": [("a", 0, 10)]}), protocol, subset="test")
    assert not scores.ap.any()
    assert scores.hints == ("there are no predictions in the evaluated videos",)


def test_names_that_differ_in_case_or_prefix_are_one():
    truth = truth_of({"v_one": [("Long jump", 0, 10)], "two": [("Long jump", 0, 10)]})
    rows = {"one": [("long jump", 0, 10, 1.0)], "v_two": [("long jump", 0, 10, 1.0)]}
    assert detection_map(detections_of(rows), truth).average == 100
    rows["two"] = [("long jump", 50, 60, 2.0)]  # the name that is there wins, and none comes twice
    scores = detection_map(detections_of(rows), truth)
    assert scores.ignored_videos == ("v_two",)


def test_hints():
    truth = truth_of({"v": [("a", 0, 10), ("a", 0, 10)]})
    truth["database"]["v"]["duration"] = 20.0
    frames = detection_map(detections_of({"v": [("a", 250, 500, 1.0), ("a", 1, 9, 1.0), ("a", 30, 40, 1.0)]}), truth)
    late, twice = frames.hints
    assert late.startswith("2 of 3 predictions begin after their video ends: segments must be in seconds")
    assert twice.startswith("1 annotations are there twice and count twice")
    right = detections_of({"v": [("a", 0, 10, 1.0)]})
    assert detection_map(right, truth, duplicates="dropped").hints == ()


def bad(change, **arguments):
    detections, truth = detections_of({"v": [("a", 0, 10, 1.0)]}), truth_of({"v": [("a", 0, 10)]})
    change(detections["results"], truth["database"])
    return lambda: detection_map(detections, truth, **arguments)


BAD = [
    (bad(lambda r, d: r["v"][0].update(label="Flying")), "label must occur in the ground truth, got 'Flying'"),
    (bad(lambda r, d: r["v"][0].update(score=math.nan)), "video 'v', entry 0: score must be a finite number, got nan"),
    (bad(lambda r, d: r["v"][0].update(segment=[3, 1])), r"with finite start <= end, got .3, 1."),
    (bad(lambda r, d: r["v"][0].pop("segment")), "video 'v', entry 0: segment is missing"),
    (bad(lambda r, d: r.update(x=r.pop("v"))), "among the 1 evaluated such as 'v', got 1 others such as 'x'"),
    (bad(lambda r, d: d["v"].update(annotations=[])), "subset 'test' must have annotations, got none"),
    (bad(lambda r, d: None, subset="val"), "subset must be one of test, got 'val'"),
    (bad(lambda r, d: None, protocol="coco"), "protocol must be one of .*-seconds, wtalc, got 'coco'"),
    (bad(lambda r, d: None, missing_class="nan"), "missing_class must be one of zero, released, got 'nan'"),
    (bad(lambda r, d: None, tious=[0.5, 1.5]), r"tious must be one or more numbers in .0, 1., got .0.5, 1.5."),
    (bad(lambda r, d: None, tious=[]), "tious must be one or more numbers"),
    (bad(lambda r, d: None, snippets_per_second=0), "snippets_per_second must be > 0, got 0"),
    (bad(lambda r, d: None, protocol="activitynet", subset="test", ambiguous={}), "a rule of thumos14"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# The released numbers.


@pytest.fixture(scope="module")
def released(shared):
    golden = json.loads((shared / "golden/released_thumos_map.json").read_text())
    truth = read_wtalc(shared / "data/thumos_gt/Thumos14reduced-Annotations")
    proposals = read_detections(shared / "data/wtal_predictions/pmil/detection_result_base_train.json.gz")
    return golden, truth, proposals


def assert_released(golden, scores):
    assert scores.counts["predictions"] == golden["predictions"]
    assert scores.counts["videos"] == 200
    assert scores.map.tolist() == pytest.approx(list(golden["mAP"].values()), abs=1e-6)


def test_released_numbers_of_raw_proposals(released):
    golden, truth, proposals = released
    assert_released(golden["none"], detection_map(proposals, truth, subset="validation"))


def in_snippets(rows, rounding=lambda x: x):
    return dataclasses.replace(rows, start=rounding(rows.start * 25 / 16), end=rounding(rows.end * 25 / 16))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("nms0.5", {"method": "nms", "iou_threshold": 0.5}),
        ("fused_own0.25_T0.2", {"method": "gaussian", "iou_threshold": 0.25, "temperature": 0.2, "sign_weights": True}),
    ],
)
def test_released_numbers_of_suppression_and_fusion(released, name, method):
    # On the grid from the start, as released: on the way through seconds a last bit may decide where int() cuts.
    golden, truth, proposals = released
    on_grid = dataclasses.replace(truth, instances=in_snippets(truth.instances, np.rint))
    detections = fuse_detections(in_snippets(proposals), PostprocessConfig(overlap="own", **method), 1.0)
    assert_released(golden[name], detection_map(detections, on_grid, subset="validation", snippets_per_second=1.0))


def test_the_documents_read_from_files(released, tmp_path):
    golden, truth, _ = released
    from pyws.data.annotations.activitynet import write_truth

    write_truth(tmp_path / "truth.json.gz", truth)
    again = read_truth(tmp_path / "truth.json.gz")
    assert again.counts() == truth.counts()
    with pytest.raises(DataError, match=r"nowhere.json: cannot be read"):
        detection_map(tmp_path / "nowhere.json", again)
    assert golden["videos"] == 200


def test_a_prediction_takes_one_segment_and_leaves_the_others():
    predictions, truth = Segments.of([[(0, 10, 0.9), (0, 10, 0.8)]]), Segments.of([[(0, 10, 1), (0, 9, 1)]])
    assert first_match(predictions, truth, np.array([0, 1]), [0.5, 0.95]).tolist() == [[True, True], [True, False]]
