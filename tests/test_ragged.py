"""Segments and offsets."""

import pytest
import torch

from pyws import Segments
from pyws.ragged import check_offsets


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


OFFSETS = torch.tensor([0, 2])


def build(**changes):
    fields = {"start": values(0, 2), "end": values(4, 6), "score": values(0.9, 0.5), "weight": values(0.9, 0.5)}
    return Segments(**{**fields, "offsets": OFFSETS, **changes})


def test_fields_groups_and_default_weight():
    segments = Segments.of([[(0, 4, 0.9), (2, 6, 0.5, 0.7)], [], [(1, 2, -0.1)]])
    assert segments.groups == 3
    assert segments.weight.tolist() == [0.9, 0.7, -0.1]
    assert segments.offsets.tolist() == [0, 2, 2, 3]
    assert segments.group(2).start.tolist() == [1.0]
    assert len(segments.group(1)) == 0


def test_no_groups_at_all():
    segments = Segments.of([])
    assert segments.groups == 0
    assert len(segments) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": [0.0, 2.0]}, "start must be a tensor, got list"),
        ({"start": torch.zeros(2)}, "start must be float64 of shape (N,), got torch.float32 of shape (2,)"),
        ({"score": values(1)}, "score must match start, 2 values on cpu, got 1 on cpu"),
        (
            {"score": values(float("nan"), 0)},
            "score must be finite and at most 1e+300 in magnitude, got nan at segment 0",
        ),
        ({"score": values(0, -1.7e308)}, "score must be finite and at most 1e+300 in magnitude, got -1.7e+308"),
        (
            {"end": values(4, float("inf"))},
            "end must be finite and at most 1e+300 in magnitude, got inf at segment 1",
        ),
        ({"end": values(4, 1)}, "end must be >= start, got [2.0, 1.0] at segment 1"),
        ({"offsets": torch.tensor([0, 1])}, "offsets must end at the number of values 2, got 1"),
        ({"offsets": torch.tensor([1, 2])}, "offsets must start at 0, got 1"),
        ({"offsets": torch.tensor([0, 3, 2])}, "offsets must never fall, got 2 after 3 at group 1"),
        ({"offsets": torch.tensor([0.0, 2.0])}, "offsets must be int64 of shape (groups+1,), got torch.float32"),
        ({"offsets": torch.tensor([], dtype=torch.int64)}, "offsets must be int64 of shape (groups+1,)"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        build(**changes)
    assert str(caught.value).startswith("Segments: ")
    assert message in str(caught.value)


def test_offsets_of_any_operation():
    check_offsets("op", "offsets", torch.tensor([0, 0, 5]), total=5)
    with pytest.raises(TypeError, match="op: offsets must be a tensor, got list"):
        check_offsets("op", "offsets", [0, 1])
