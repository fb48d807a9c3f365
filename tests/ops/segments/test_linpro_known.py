"""Labels that are known to LinPro: they hold exactly, and the rest is the program that is left."""

import math

import numpy as np
import pytest
import torch
from test_linpro import dense_lexicographic, dense_rows, tie_break_error

from pyws import Segments
from pyws.segments import Status, linpro

pytestmark = pytest.mark.usefixtures("device_backend")
NAN = math.nan


def known_of(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("rows", ["sum", "mean"])
@pytest.mark.parametrize("upper", [math.inf, 0.4])
def test_the_rest_is_the_program_that_is_left(rows, upper):
    """Against dense scipy: known labels as constants, their columns gone, the same rows, the same tie-break."""
    random = np.random.default_rng(3)
    relaxed = 0
    for _ in range(40):
        length = int(random.integers(6, 30))
        starts = random.integers(0, length - 1, random.integers(1, 7))
        group = [(s, s + int(random.integers(1, length - s + 1)), random.uniform(0, 1)) for s in starts.tolist()]
        given = np.where(random.random(length) < 0.3, random.choice([0.0, 0.1, 0.4], length), NAN)
        free = np.isnan(given)
        answer = linpro(
            Segments.of([group]), torch.tensor([length]), rows=rows, upper=upper, known=torch.from_numpy(given)
        )
        labels = answer.group(0).numpy()
        assert np.array_equal(labels[~free], given[~free])
        matrix = dense_rows(group, length, mean=rows == "mean")
        rest = np.array([score for *_, score in group]) - matrix[:, ~free] @ given[~free]
        left, mass = dense_lexicographic(matrix[:, free], rest, upper)
        assert answer.residual.item() == pytest.approx(left, abs=1e-7)
        assert answer.objective.item() == pytest.approx(mass + given[~free].sum(), abs=1e-6)
        assert np.abs(rest - matrix[:, free] @ labels[free]).sum() == pytest.approx(left, abs=1e-7)
        assert (answer.status.item() == Status.RELAXED) == (left > 1e-7)
        relaxed += left > 1e-7
        if free.any():
            assert tie_break_error(matrix[:, free], rest, upper, labels[free]) < 1e-6
    assert 0 < relaxed < 40


def test_by_hand():
    # a segment of score 1 over [2, 8), of which a person said that 2 and 3 do not show it and 7 holds 0.4
    known = known_of([NAN, NAN, 0, 0, NAN, NAN, NAN, 0.4, NAN, NAN])
    answer = linpro(Segments.of([[(2, 8, 1.0)]]), torch.tensor([10]), known=known)
    assert torch.allclose(answer.group(0), known_of([0, 0, 0, 0, 0.2, 0.2, 0.2, 0.4, 0, 0]))
    assert answer.objective.item() == pytest.approx(1.0)
    assert answer.status.item() == Status.OPTIMAL


def test_rows_that_known_labels_meet_are_met():
    """But for rounding: seven sevenths are one."""
    known = known_of([1 / 7] * 7)
    answer = linpro(Segments.of([[(0, 7, 1.0)]]), torch.tensor([7]), known=known)
    assert (answer.status.item(), answer.residual.item()) == (Status.OPTIMAL, 0.0)
    answer = linpro(Segments.of([[(0, 7, 0.25)]]), torch.tensor([7]), known=known)
    assert answer.status.item() == Status.RELAXED
    assert answer.residual.item() == pytest.approx(0.75)


def test_a_group_without_segments_keeps_what_is_known():
    answer = linpro(Segments.of([[], [(0, 1, 1.0)]]), torch.tensor([3, 2]), known=known_of([NAN, 0.5, 0, NAN, NAN]))
    assert answer.labels.tolist() == [0, 0.5, 0, 1, 0]
    assert answer.status.tolist() == [Status.EMPTY, Status.OPTIMAL]


def test_nothing_known_changes_nothing():
    random = np.random.default_rng(0)
    groups = [[(s, s + 9, q) for s, q in zip(random.integers(0, 40, 20), random.random(20), strict=True)]] * 3
    lengths = torch.tensor([60, 50, 45])
    one, other = (linpro(Segments.of(groups), lengths, known=k) for k in (None, known_of([NAN] * 155)))
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.residual, other.residual)


def test_compiles_with_and_without():
    segments, lengths = Segments.of([[(2, 6, 0.8)]]), torch.tensor([10])
    known = known_of([NAN] * 3 + [0.0] + [NAN] * 6)
    torch.library.opcheck(
        torch.ops.pyws.linpro.default,
        (segments.start, segments.end, segments.score, segments.offsets, lengths, known, "paper", 0.25, math.inf, False,
         False, 1 << 20),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.0], "known must have shape"),
        ([-0.1, NAN, NAN], r"known must be NaN or within \[0, inf\], and finite, got -0.1"),
        ([math.inf, NAN, NAN], "known must be NaN or within"),
    ],
)
def test_what_cannot_be_known(values, said):
    with pytest.raises(ValueError, match=said):
        linpro(Segments.of([[(0, 2, 1.0)]]), torch.tensor([3]), known=known_of(values))
    with pytest.raises(TypeError, match="known"):
        linpro(Segments.of([[(0, 2, 1.0)]]), torch.tensor([3]), known=torch.zeros(3))


@pytest.mark.parametrize("vast", [1e301, 1.7e308])
def test_vast_known_labels_are_cut_so_that_sums_stay_finite(vast):
    known = known_of([NAN] * 2 + [vast] * 3 + [NAN] * 7)
    answer = linpro(Segments.of([[(2, 6, 0.5), (4, 9, 0.3)]]), torch.tensor([12]), known=known, upper=math.inf)
    labels = answer.group(0)
    assert labels.isfinite().all()
    assert torch.allclose(labels[2:5], known_of([1e300 / 12] * 3))
    assert answer.objective.item() == pytest.approx(float(labels.sum()))
    assert answer.residual.isfinite()
