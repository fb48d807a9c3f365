"""Kinds of errors and misses: by hand, and against the evaluation that they explain."""

import pytest

from pyws.evaluation import detection_map
from pyws.evaluation.detection import rules_of
from pyws.evaluation.diagnosis import KINDS, Misses, diagnose

ROWS = {
    "v": [
        *[("a", 0, 10, 0.9), ("a", 0, 9, 0.8), ("a", 5, 12, 0.7), ("b", 0, 10, 0.6), ("b", 5, 12, 0.5)],
        ("a", 50, 60, 0.4),
    ],
    "w": [("b", 0, 4, 0.9)],
}  # fmt: skip
TRUTH = {"v": [("a", 0, 10), ("a", 30, 31)], "w": [("b", 0, 4), ("b", 3, 10)]}


def documents():
    truth = {
        video: {"subset": "test", "annotations": [{"label": a, "segment": [s, e]} for a, s, e in rows]}
        for video, rows in TRUTH.items()
    }
    found = {
        video: [{"label": a, "segment": [s, e], "score": x} for a, s, e, x in rows] for video, rows in ROWS.items()
    }
    return {"database": truth}, {"results": found}


def test_each_kind_of_error_is_told():
    truth, found = documents()
    why = diagnose(truth, found, rules_of("thumos14-seconds"))
    assert why.kinds == dict(zip(KINDS, (2, 1, 1, 1, 1, 1), strict=True))
    assert why.classes == {"a": Misses(2, 1, 0), "b": Misses(2, 1, 1)}
    assert why.counts == {"2 to 4": Misses(4, 2, 1)}
    assert sum(group.instances for group in why.lengths.values()) == 4


def test_gains_are_those_of_evaluating_without_the_errors():
    truth, found = documents()
    found["results"]["v"][0]["score"] = 0.1  # the best is ranked last
    rules = rules_of("thumos14-seconds")
    why = diagnose(truth, found, rules, 0.95)
    assert why.map == detection_map(found, truth, "thumos14-seconds", [0.95]).average
    # At 0.95 [0, 9] and [5, 12] only touch the first instance.
    without = [row for row in found["results"]["v"] if row["segment"] not in ([0, 9], [5, 12]) or row["label"] != "a"]
    rest = detection_map({"results": {**found["results"], "v": without}}, truth, "thumos14-seconds", [0.95])
    assert why.gains["localisation"] == pytest.approx(rest.average - why.map) != 0


def test_a_threshold_outside_is_refused():
    with pytest.raises(ValueError, match=r"tiou must be in .0, 1., got 0"):
        diagnose(*documents(), rules_of("thumos14-seconds"), 0.0)
