"""LinPro against tiny programs solved by hand, against dense scipy, and against the numbers of the released code."""

from __future__ import annotations

import gzip
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog as scipy_linprog

from pyws import Segments
from pyws.segments import Labels, Status, linpro

pytestmark = pytest.mark.usefixtures("device_backend")
linpro_module = importlib.import_module("pyws.ops.segments.linpro")


def solve(group: list[tuple[float, ...]], length: int, **options) -> Labels:
    return linpro(Segments.of([group]), torch.tensor([length]), **options)


def dense_rows(rows, length, geometry="paper", margin=0.25, mean=False) -> np.ndarray:
    """W by its definition, one snippet at a time."""
    matrix = np.zeros((len(rows), length))
    for row, (start, end, *_) in zip(matrix, rows, strict=True):
        s, e = math.trunc(start), math.trunc(end)
        for i in range(length):
            if geometry == "paper":
                outer = s - margin * (e - s) <= i < e + margin * (e - s)
            else:
                h = margin * max(e - s, 0) ** 0.9
                outer = math.trunc(s - h) <= i < e or e <= i < min(length - 1, math.trunc(e + h + 1))
            row[i] = 1.0 if s <= i < e else -1.0 if outer else 0.0
        if mean:
            inside, outside = (row > 0).sum(), (row < 0).sum()
            row[row > 0] /= max(inside, 1)
            row[row < 0] /= max(outside, 1)
    return matrix


def dense_lexicographic(matrix: np.ndarray, q: np.ndarray, upper: float) -> tuple[float, float]:
    """Least l1 residual and, under it, least mass, with a variable for every snippet."""
    n, length = matrix.shape
    equal = np.hstack([matrix, np.eye(n), -np.eye(n)])
    misses = np.concatenate([np.zeros(length), np.ones(2 * n)])
    bounds = [(0, upper if upper < math.inf else None)] * length + [(0, None)] * (2 * n)
    first = scipy_linprog(misses, A_eq=equal, b_eq=q, bounds=bounds)
    assert first.status == 0
    second = scipy_linprog(1 - misses, A_eq=equal, b_eq=q, bounds=bounds, A_ub=misses[None], b_ub=[first.fun + 1e-9])
    assert second.status == 0
    return first.fun, second.fun


def tie_break_error(matrix: np.ndarray, q: np.ndarray, upper: float, g: np.ndarray) -> float:
    """How far g is from least squares among the answers of least residual and mass: its best KKT multipliers.

    g = W^T y - t on snippets strictly between their bounds, >= at 0, <= at upper; y_i = a sign(q - W g)_i where a row
    is missed and |y_i| <= a where it holds. Returns the least violation over all y, t, a >= 0.
    """
    n, length = matrix.shape
    rest = q - matrix @ g
    missed = np.abs(rest) > 1e-8
    # Columns: y (n), t, a, violation.
    slope = np.hstack([matrix.T, -np.ones((length, 1)), np.zeros((length, 1)), -np.ones((length, 1))])
    above, below = slope.copy(), -slope
    below[:, -1] = -1.0
    tight = np.hstack([np.eye(n), np.zeros((n, 1)), -np.ones((n, 1)), np.zeros((n, 1))])
    loose = np.hstack([-np.eye(n), np.zeros((n, 1)), -np.ones((n, 1)), np.zeros((n, 1))])
    equal = np.hstack([np.eye(n), np.zeros((n, 1)), -np.sign(rest)[:, None], np.zeros((n, 1))])[missed]
    low, high = g < 1e-9, g > upper - 1e-9
    a_ub = np.vstack([above[~high], below[~low], tight, loose])
    b_ub = np.concatenate([g[~high], -g[~low], np.zeros(2 * n)])
    cost = np.zeros(n + 3)
    cost[-1] = 1.0
    bounds = [(None, None)] * (n + 1) + [(0, None), (0, None)]
    best = scipy_linprog(cost, A_ub=a_ub, b_ub=b_ub, A_eq=equal, b_eq=np.zeros(len(equal)), bounds=bounds)
    assert best.status == 0
    return best.fun


# ------------------------------------------------------------------------------------------------ by hand


def test_lone_segment_spreads_its_score():
    result = solve([(2, 6, 0.8)], 10)
    assert result.labels.tolist() == [0, 0, 0.2, 0.2, 0.2, 0.2, 0, 0, 0, 0]
    assert result.objective.tolist() == [0.8]
    assert result.residual.tolist() == [0.0]
    assert result.components.tolist() == [1]


def test_lone_segment_of_negative_score_fills_its_margins():
    # margins of 0.25 * 8 = 2 snippets; the right one is cut to 1
    result = solve([(3, 11, -0.6)], 12)
    assert torch.allclose(result.labels[[1, 2, 11]], torch.tensor(0.2, dtype=torch.float64))
    assert result.labels[[0, *range(3, 11)]].tolist() == [0.0] * 9


def test_lone_segment_above_the_upper_bound_is_relaxed():
    result = solve([(0, 2, 3.0)], 2, upper=1.0)
    assert result.labels.tolist() == [1.0, 1.0]
    assert result.residual.tolist() == [1.0]
    assert result.status.tolist() == [Status.RELAXED]


def test_overlap_carries_both_scores():
    # [0,4) and [2,6) without margins: mass in the shared [2,4) counts twice, so both scores of 0.6 are met by 0.6 there
    result = solve([(0, 4, 0.6), (2, 6, 0.6)], 6, margin=0.0)
    assert torch.allclose(result.labels, torch.tensor([0, 0, 0.3, 0.3, 0, 0], dtype=torch.float64))
    assert result.objective.item() == pytest.approx(0.6)


def test_equal_columns_share_their_mass():
    # the rest of the outer segment, [0,2) and [4,6), is one class of 4 snippets
    result = solve([(0, 6, 1.0), (2, 4, 0.2)], 6, margin=0.0)
    assert torch.allclose(result.labels, torch.tensor([0.2, 0.2, 0.1, 0.1, 0.2, 0.2], dtype=torch.float64))


# Three segments in a row, without margins. The overlaps [2,3) and [4,8) carry the whole score of the middle one, x and
# 1-x; the rest of the first is 1-x over 2 snippets, the rest of the last x over 3. Every 0 <= x <= 1 has mass 2.
CHAIN = [(0, 3, 1.0), (2, 8, 1.0), (4, 11, 1.0)]


def chain_labels(x: float) -> torch.Tensor:
    parts = [((1 - x) / 2, 2), (x, 1), (0.0, 1), ((1 - x) / 4, 4), (x / 3, 3)]
    return torch.tensor([label for label, size in parts for _ in range(size)], dtype=torch.float64)


def test_canonical_answer_is_the_most_uniform():
    # (1-x)^2/2 + x^2 + (1-x)^2/4 + x^2/3 is least at x = 0.36
    result = solve(CHAIN, 11, margin=0.0)
    assert torch.allclose(result.labels, chain_labels(0.36))
    assert result.objective.item() == pytest.approx(2.0)


def test_center_of_the_optimal_face():
    # 2 log(1-x) + log x + 4 log(1-x) + 3 log x is greatest at x = 0.4
    assert torch.allclose(solve(CHAIN, 11, margin=0.0, tie_break="center").labels, chain_labels(0.4))


def test_center_of_a_face_without_interior():
    """The second segment fills its only snippet to the bound, so the first has nothing left for its other one."""
    result = solve([(8, 10, 1.0), (9, 10, 1.0)], 10, margin=0.0, upper=1.0, rows="sum", tie_break="center")
    assert result.labels.tolist() == pytest.approx([0.0] * 9 + [1.0])
    assert result.status.item() == Status.OPTIMAL


@pytest.mark.parametrize("upper", [1.0, math.inf])
def test_nested_contradiction_is_relaxed(upper):
    # [0,10) with 0.1 around [2,6) with 0.5: no labels >= 0 meet both; the least residual is 0.4
    result = solve([(0, 10, 0.1), (2, 6, 0.5)], 10, upper=upper)
    assert result.status.tolist() == [Status.RELAXED]
    assert result.residual.item() == pytest.approx(0.4)
    assert result.objective.item() == pytest.approx(0.1)


def test_equal_segments_of_different_scores_are_relaxed():
    result = solve([(2, 6, 0.4), (2, 6, 0.8), (2, 6, 0.6)], 10)
    assert result.status.tolist() == [Status.RELAXED]
    assert result.labels[2:6].tolist() == pytest.approx([0.15] * 4)  # the median
    assert result.residual.item() == pytest.approx(0.4)


def test_equal_segments_of_equal_scores_agree():
    result = solve([(2, 6, 0.4)] * 5, 10)
    assert result.status.tolist() == [Status.OPTIMAL]
    assert result.labels[2:6].tolist() == pytest.approx([0.1] * 4)


def test_rows_mean_are_about_the_score():
    assert solve([(2, 6, 0.8)], 10, rows="mean").labels[2:6].tolist() == pytest.approx([0.8] * 4)


def test_released_rows():
    # h = 0.0785 * 10^0.9 = 0.62: one snippet left, [20, min(l-1, 21)) right, but never the last snippet of the video
    assert solve([(10.9, 20.2, -1.0)], 30, preset="released").labels.nonzero()[:, 0].tolist() == [9, 20]
    assert solve([(10.9, 20.2, -1.0)], 21, preset="released").labels.nonzero()[:, 0].tolist() == [9]


def test_paper_rows():
    # a (e-s) = 2.5: the snippets 7.5 <= i < 10 and 20 <= i < 22.5
    assert solve([(10.9, 20.2, -1.0)], 30).labels.nonzero()[:, 0].tolist() == [8, 9, 20, 21, 22]


# ------------------------------------------------------------------------------------------------ edges


def test_no_groups_no_segments_no_snippets():
    empty = linpro(Segments.of([]), torch.zeros(0, dtype=torch.int64))
    assert len(empty.labels) == 0
    assert len(empty.status) == 0
    result = linpro(Segments.of([[], [(0, 4, 0.5)], []]), torch.tensor([3, 0, 0]))
    assert result.labels.tolist() == [0, 0, 0]
    assert result.status.tolist() == [Status.EMPTY, Status.RELAXED, Status.EMPTY]
    assert result.residual.tolist() == [0, 0.5, 0]


@pytest.mark.parametrize("rows", [[(3, 3, 0.5)], [(20, 30, 0.5)], [(-9, -5, 0.5)], [(1e299, 1e300, 0.5)]])
def test_segments_without_snippets_count_as_residual(rows):
    result = solve(rows, 10)
    assert result.labels.tolist() == [0.0] * 10
    assert result.residual.tolist() == [0.5]
    assert result.status.tolist() == [Status.RELAXED]


def test_scores_of_zero_and_extreme_magnitudes():
    assert solve([(0, 4, 0.0), (2, 6, 0.0)], 6).labels.tolist() == [0.0] * 6
    for magnitude in (1e-300, 1e-12, 1e12, 1e300):
        result = solve([(0, 4, 0.6 * magnitude), (2, 6, 0.6 * magnitude)], 6, margin=0.0)
        assert (result.labels / magnitude).tolist() == pytest.approx([0, 0, 0.3, 0.3, 0, 0])


def overlapping(rng: np.random.Generator, n: int, length: int, spread: float) -> list[tuple[float, ...]]:
    start = rng.uniform(0, length, n)
    return list(zip(start, start + rng.uniform(1, spread, n), rng.uniform(0, 1, n), strict=True))


def test_many_overlapping_segments():
    rng = np.random.default_rng(0)
    rows = overlapping(rng, 300, 1000, 60)
    result = solve(rows, 1000)
    assert result.status.item() == Status.RELAXED
    matrix, q = dense_rows(rows, 1000), np.array([row[2] for row in rows])
    residual, mass = dense_lexicographic(matrix, q, math.inf)
    assert result.residual.item() == pytest.approx(residual, rel=1e-7)
    assert result.objective.item() == pytest.approx(mass, rel=1e-6)
    assert np.abs(q - matrix @ result.labels.numpy()).sum() == pytest.approx(residual, rel=1e-7)


def test_a_long_segment_over_a_chain():
    # the scores are means of exact labels; the long segment meets every other, so that no order makes the band narrow
    rng = np.random.default_rng(5)
    rows = [(0, 300, 0.0), *((4.0 * i, 4.0 * i + rng.integers(3, 12), 0.0) for i in range(70))]
    matrix = dense_rows(rows, 300)
    q = matrix @ np.repeat(rng.random(60) ** 3, 5)
    result = solve([(start, end, score) for (start, end, _), score in zip(rows, q, strict=True)], 300)
    assert result.status.item() == Status.OPTIMAL
    assert result.components.item() == 1
    assert result.objective.item() == pytest.approx(dense_lexicographic(matrix, q, math.inf)[1], abs=1e-6)
    assert tie_break_error(matrix, q, math.inf, result.labels.numpy()) < 1e-7


def test_equal_segments_without_number():
    # far more rows than their band may hold, of two columns
    result = solve([(2, 6, 0.8)] * 2500 + [(4, 9, 0.5)], 12, margin=0.0)
    alone = solve([(2, 6, 0.8), (4, 9, 0.5)], 12, margin=0.0)
    assert result.status.item() == Status.OPTIMAL
    assert torch.allclose(result.labels, alone.labels, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"rows": "mean"}, {"upper": 0.5}])
@pytest.mark.parametrize("tie_break", ["canonical", "center"])
def test_large_faces(tie_break, options):
    # scores of exact labels leave many optimal answers
    rng = np.random.default_rng(3)
    rows = [(float(a), float(a + d)) for a, d in zip(rng.integers(0, 160, 40), rng.integers(4, 30, 40), strict=True)]
    matrix = dense_rows(rows, 200, mean="rows" in options)
    q = matrix @ np.repeat(0.5 * rng.random(40) ** 2, 5)
    result = solve([(*row, score) for row, score in zip(rows, q, strict=True)], 200, tie_break=tie_break, **options)
    assert result.status.item() == Status.OPTIMAL
    _, mass = dense_lexicographic(matrix, q, options.get("upper", math.inf))
    assert result.objective.item() == pytest.approx(mass, rel=1e-7)
    error = tie_break_error(matrix, q, options.get("upper", math.inf), result.labels.numpy())
    assert error < 1e-8 if tie_break == "canonical" else error > 1e-5


# ------------------------------------------------------------------------------------------------ dense scipy


@st.composite
def programs(draw):
    length = draw(st.integers(1, 40))
    n = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start = rng.uniform(-3, length + 3, n)
    end = start + rng.uniform(0, draw(st.sampled_from([4, 12, 40])), n)
    if draw(st.booleans()):
        start, end = np.round(start), np.round(end)
    preset = draw(st.sampled_from(["paper", "released"]))
    margin = draw(st.sampled_from([0.25, 0.0785, 0.0, 1.0]))
    mean = draw(st.booleans())
    upper = draw(st.sampled_from([math.inf, 1.0, 0.1]))
    matrix = dense_rows(list(zip(start, end, strict=True)), length, preset, margin, mean)
    kind = draw(st.sampled_from(["feasible", "positive", "signed", "integer"]))
    q = {
        "feasible": matrix @ rng.uniform(0, min(upper, 1.0), length),
        "positive": rng.uniform(0, 1, n),
        "signed": rng.normal(size=n),
        "integer": rng.integers(0, 3, n).astype(float),
    }[kind]
    options = {"preset": preset, "margin": margin, "upper": upper, "rows": "mean" if mean else "sum"}
    return list(zip(start, end, q, strict=True)), length, matrix, q, options


@settings(max_examples=120, deadline=None)
@given(programs())
def test_verdict_objective_and_tie_break_against_dense_scipy(program):
    rows, length, matrix, q, options = program
    residual, mass = dense_lexicographic(matrix, q, options["upper"])
    for tie_break in ("canonical", "center"):
        result = solve(rows, length, tie_break=tie_break, **options)
        g = result.labels.numpy()
        assert (result.status.item() == Status.RELAXED) == (residual > 1e-7)
        assert result.residual.item() == pytest.approx(residual, abs=1e-6)
        assert result.objective.item() == pytest.approx(mass, rel=1e-5, abs=1e-5)
        assert ((g >= 0) & (g <= options["upper"])).all()
        assert np.abs(q - matrix @ g).sum() == pytest.approx(result.residual.item(), abs=1e-8)
        assert g.sum() == pytest.approx(result.objective.item())
        if tie_break == "canonical":
            assert tie_break_error(matrix, q, options["upper"], g) < 1e-7


# ------------------------------------------------------------------------------------------------ interior point


def interior(groups, lengths: list[int], preset="paper", **options) -> Labels:
    """What the interior-point method answers, with everything that couples left to it."""
    chosen = {name: options.get(name) for name in ("margin", "upper", "rows", "tie_break")}
    rule = linpro_module._rule(preset, *chosen.values())
    return linpro_module._solve(Segments.of(groups), torch.tensor(lengths), rule, entry_limit=0)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_the_interior_point_gives_the_same_labels(program):
    rows, length, _, _, options = program
    own = linpro(Segments.of([[], rows]), torch.tensor([2, length]), tie_break="canonical", **options)
    other = interior([[], rows], [2, length], tie_break="canonical", **options)
    largest = 1 + own.labels.max().item()
    assert torch.allclose(own.labels, other.labels, atol=1e-8 * largest)
    assert own.status.tolist() == other.status.tolist()
    assert torch.allclose(own.objective, other.objective, atol=1e-8 * largest)
    assert torch.allclose(own.residual, other.residual, atol=1e-8 * largest)
    assert other.gap.max() <= 1e-7 * largest


TABLEAUX = [
    ([(2, 6, 1.0), (0, 8, 3.0), (5, 7, 5.0), (0, 7, 1.0), (0, 5, 2.0)], 8, {"tie_break": "center"}),
    ([(2, 6, 1.0), (0, 8, 3.0), (5, 7, 5.0), (0, 7, 1.0), (0, 5, 2.0)], 8, {"upper": 1.0}),
    ([(1, 8, 2.0), (7, 10, 3.0), (8, 9, 3.0), (3, 4, 1.0), (5, 11, 5.0)], 11, {"tie_break": "center"}),
    ([(10, 15, 1.0), (7, 11, 2.0), (6, 10, 3.0), (11, 16, 4.0), (9, 16, 4.0)], 16, {"upper": 1, "tie_break": "center"}),
    # the Hessian of its centre has pivots that rounding empties
    ([(10, 17, 4.0), (4, 12, 1.0), (9, 11, 1.0), (8, 13, 5.0)], 18, {"upper": 1.0, "tie_break": "center"}),
    # margins a thousand times as long as the segments: a snippet of theirs counts a thousandth of one inside
    (
        [(1867, 1872, 1.0), (1869, 1872, 2.0), (1867, 1868, 2.0), (1866, 1869, 3.0)],
        3733,
        {"rows": "mean", "margin": 827.0},
    ),
]


@pytest.mark.parametrize(("group", "length", "options"), TABLEAUX)
def test_the_simplex_needs_no_help(group, length, options):
    """Its answers have no gap; the interior point, which answers where its tie-break fails, never comes as near."""
    assert solve(group, length, **options).gap.item() == 0.0
    assert interior([group], [length], **options).gap.item() > 0.0


# Each was found by a search: the first step of its centre would leave the bounds, or its rows hold each other.
CENTERS = [
    ([(9, 42, 3.0), (27, 53, 5.0), (51, 60, 2.0), (67, 103, 3.0), (77, 80, 1.0), (2, 23, 1.0), (67, 82, 2.0)], 84),
    ([(33, 93, 5.0), (44, 86, 5.0), (53, 127, 5.0), (52, 94, 5.0), (81, 89, 4.0), (15, 101, 5.0)], 92),
    ([(95, 106, 5.0), (3, 90, 5.0), (100, 114, 5.0), (5, 86, 5.0), (3, 48, 5.0), (10, 19, 4.5), (6, 76, 5.0),
      (72, 131, 5.0)], 118),
]  # fmt: skip


@pytest.mark.parametrize(("group", "length"), CENTERS)
def test_a_center_is_the_same_by_either_method(group, length):
    found = solve(group, length, upper=1.0, tie_break="center")
    assert found.gap.item() == 0.0
    other = interior([group], [length], upper=1.0, tie_break="center")
    assert torch.allclose(found.labels, other.labels, atol=1e-9)


@pytest.mark.parametrize("tie_break", ["center", "canonical"])
def test_bounds_far_below_the_scores(tie_break):
    """All that counts towards a score is at its bound, which is a millionth of a label."""
    group = [(45, 49, 3.0), (5, 11, 1.0), (29, 31, 5.0), (31, 37, 4.0)]
    found = interior([group], [62], upper=1e-6, tie_break=tie_break).labels
    assert torch.allclose(found, solve(group, 62, upper=1e-6, tie_break=tie_break).labels, rtol=0, atol=1e-18)
    assert set(found.tolist()) == {0.0, 1e-6}


def test_a_gap_has_the_mass_that_is_too_much():
    """Scores of seven orders, which the interior point does not solve: it says by how much."""
    group = [(39, 42, 1.5e-8), (10, 14, 0.2), (60, 74, 5e-4), (50, 57, 3.5e-4), (29, 40, 5e-8), (36, 39, 1.5e-6),
             (4, 5, 5e-3), (32, 41, 0.45), (65, 72, 3.5e-7), (63, 70, 3.5e-6), (41, 55, 5e-5)]  # fmt: skip
    found, best = interior([group], [75], upper=0.01), solve(group, 75, upper=0.01)
    assert found.residual.item() == pytest.approx(best.residual.item())
    assert found.gap.item() >= found.objective.item() - best.objective.item() - 1e-9


def crowd(n: int, length: int, spread: float, seed: int) -> list[tuple[float, ...]]:
    """Random overlapping segments, whose rows contradict each other."""
    return overlapping(np.random.default_rng(seed), n, length, spread)


# More runs than rows and fewer: the equations of a Newton step are solved over the rows, or over the runs.
CROWDS = [(60, 700, 500.0), (120, 60, 30.0)]


@pytest.mark.parametrize(("n", "length", "spread"), CROWDS)
@pytest.mark.parametrize("options", [{}, {"rows": "mean"}, {"preset": "released", "tie_break": "canonical"}])
def test_crowds_against_dense_scipy(n, length, spread, options):
    rows = crowd(n, length, spread, seed=1)
    preset, mean = options.get("preset", "paper"), "rows" in options
    upper = math.inf if preset == "paper" else 1.0
    margin = 0.25 if preset == "paper" else 0.0785
    result = interior([rows], [length], **options)
    matrix, q = dense_rows(rows, length, preset, margin, mean), np.array([row[2] for row in rows])
    residual, mass = dense_lexicographic(matrix, q, upper)
    assert result.status.item() == (Status.RELAXED if residual > 1e-7 else Status.OPTIMAL)
    assert result.residual.item() == pytest.approx(residual, rel=1e-7, abs=1e-7)
    assert result.objective.item() == pytest.approx(mass, rel=1e-5)
    assert np.abs(q - matrix @ result.labels.numpy()).sum() == pytest.approx(residual, rel=1e-7, abs=1e-7)
    assert result.gap.item() <= 1e-7 * (1 + mass)


def whole_crowd(seed: int) -> tuple[list[tuple[float, ...]], int]:
    """Segments whose ends and scores are whole numbers, and the length that they lie in."""
    rng = np.random.default_rng(seed)
    n, length = rng.integers(10, 60), int(rng.integers(20, 120))
    start = rng.integers(0, length, n)
    end, score = start + rng.integers(1, length // 2, n), rng.integers(0, 6, n)
    return [tuple(map(float, row)) for row in zip(start, end, score, strict=True)], length


@pytest.mark.parametrize(("seed", "margin"), [(7, 0.0), (63, 0.0), (88, 0.0), (39, 0.25), (68, 0.25), (91, 0.25)])
def test_crowds_of_whole_numbers_are_certified(seed, margin):
    """Where many rows have the same ends and scores, what the last equations say is exchanged, or not better."""
    rows, length = whole_crowd(seed)
    found = interior([rows], [length], margin=margin)
    score = np.array([row[2] for row in rows])
    residual, mass = dense_lexicographic(dense_rows(rows, length, margin=margin), score, math.inf)
    assert found.status.item() == (Status.RELAXED if residual > 1e-7 else Status.OPTIMAL)
    assert found.residual.item() == pytest.approx(residual, rel=1e-9)
    assert found.objective.item() == pytest.approx(mass, rel=1e-6)
    assert torch.allclose(found.labels, solve(rows, length, margin=margin).labels, atol=1e-8)


@pytest.mark.parametrize("upper", [math.inf, 0.5])
def test_the_interior_point_breaks_ties(upper):
    # scores of exact labels leave many optimal answers
    rng = np.random.default_rng(3)
    rows = [(float(a), float(a + d)) for a, d in zip(rng.integers(0, 160, 40), rng.integers(4, 30, 40), strict=True)]
    matrix = dense_rows(rows, 200)
    q = matrix @ np.repeat(0.5 * rng.random(40) ** 2, 5)
    scored = [(*row, score) for row, score in zip(rows, q, strict=True)]
    canonical = interior([scored], [200], upper=upper)
    assert canonical.status.item() == Status.OPTIMAL
    assert tie_break_error(matrix, q, upper, canonical.labels.numpy()) < 1e-8
    center = interior([scored], [200], upper=upper, tie_break="center")
    assert torch.allclose(center.labels, solve(scored, 200, upper=upper, tie_break="center").labels, atol=1e-7)
    assert center.objective.item() == pytest.approx(canonical.objective.item())


def test_the_center_is_that_of_the_relative_interior():
    # The second segment fills its only snippet to the bound. The chain beside them keeps its own centre.
    rows = [(8, 10, 1.0), (9, 10, 1.0)]
    assert interior([rows], [10], margin=0.0, upper=1.0, tie_break="center").labels.tolist() == [0.0] * 9 + [1.0]
    assert torch.allclose(interior([CHAIN], [11], margin=0.0, tie_break="center").labels, chain_labels(0.4))


@pytest.mark.parametrize(("seed", "upper"), [(13, 0.3), (46, 0.3), (76, 0.3), (57, 1.0), (370, 1.0), (481, 0.3)])
def test_labels_that_rows_hold_at_a_bound_do_not_keep_the_others_from_their_center(seed, upper):
    """No price shows that they are held: the simplex, which knows their bounds, has the same centre."""
    rows, length = whole_crowd(seed)
    options = {"margin": 0.0, "upper": upper}
    found = interior([rows], [length], tie_break="center", **options)
    expected = solve(rows, length, tie_break="center", **options).labels
    assert torch.allclose(found.labels, expected, atol=1e-8)
    canonical = interior([rows], [length], tie_break="canonical", **options)
    assert not torch.allclose(found.labels, canonical.labels, atol=1e-3)
    assert found.objective.item() == pytest.approx(canonical.objective.item())


def test_labels_of_a_thousand_times_the_scores():
    # Margins that cancel what is inside: the least residual needs masses far beyond the first limit of the search.
    found = []
    for seed in (22, 96):
        rng = np.random.default_rng(seed)
        n, length, spread = rng.integers(2, 60), int(rng.integers(20, 200)), int(rng.integers(4, 40))
        rows = overlapping(rng, n, length, spread)
        if seed == 96:
            rows = [(round(start), round(end), round(3 * score)) for start, end, score in rows]
        own, other = solve(rows, length), interior([rows], [length])
        assert own.status.item() == other.status.item()
        assert torch.allclose(own.labels, other.labels, rtol=1e-6, atol=1e-6)
        found.append(own.labels.max().item())
    assert min(found) > 1000


@pytest.mark.parametrize("upper", [None, 1.0, 1e-3, 1e-200])
@pytest.mark.parametrize("magnitude", [1e-300, 1e-12, 1e12, 1e300])
def test_crowds_of_extreme_magnitudes(magnitude, upper):
    rows = [(start, end, score * magnitude) for start, end, score in crowd(40, 60, 20, seed=0)]
    own, other = solve(rows, 60, upper=upper), interior([rows], [60], upper=upper)
    assert torch.allclose(own.labels / magnitude, other.labels / magnitude, atol=1e-9)
    assert torch.allclose(own.residual / magnitude, other.residual / magnitude)


def test_a_crowd_of_thousands_is_certified_beside_other_groups():
    many = crowd(2000, 1500, 200, seed=0)
    alone = [(0, 4, 0.5)]
    found = linpro(Segments.of([[], alone, many]), torch.tensor([9, 9, 1500]))
    assert found.status.tolist() == [Status.EMPTY, Status.OPTIMAL, Status.RELAXED]
    assert found.gap[2] <= 1e-6
    assert torch.equal(found.group(1), solve(alone, 9).labels)
    rest = np.array([row[2] for row in many]) - dense_rows(many, 1500) @ found.group(2).numpy()
    assert found.residual[2].item() == pytest.approx(np.abs(rest).sum())


def test_windows_of_a_real_video_are_certified(shared):
    path = shared / "data" / "scnn_windows" / "c3d_weighted.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt") as file:
        windows = json.load(file)["results"]["video_test_0000716"]
    rows = [
        (25 / 16 * window["segment"][0], 25 / 16 * window["segment"][1], window["score"])
        for window in windows
        if window["label"] == "BasketballDunk"
    ]
    assert len(rows) == 4638
    for preset in ("paper", "released"):
        found = solve(rows, 1034, preset=preset)
        assert found.status.item() == Status.RELAXED
        assert found.gap.item() <= 1e-6


def test_masses_without_measure_are_limited():
    # margins that cancel insides: a little less residual for labels of a million times the scores, and more
    rows = crowd(155, 667, 58.4, seed=2)
    found = solve(rows, 667)
    assert found.status.item() == Status.APPROXIMATE
    matrix, q = dense_rows(rows, 667), np.array([row[2] for row in rows])
    assert np.abs(q - matrix @ found.labels.numpy()).sum() == pytest.approx(found.residual.item(), rel=1e-6)
    greatest = found.labels.max().item()
    assert 1e3 < greatest < 3e4
    residual, mass = dense_lexicographic(matrix, q, greatest)
    assert found.residual.item() == pytest.approx(residual, rel=1e-6)
    assert found.objective.item() == pytest.approx(mass, rel=1e-6)
    assert found.gap.item() < 1e-6
    assert dense_lexicographic(matrix, q, math.inf)[0] < 0.9 * residual


# ------------------------------------------------------------------------------------------------ released numbers


@pytest.fixture(scope="module")
def golden(shared: Path):
    path = shared / "golden" / "released_wstal.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with np.load(path) as data:
        return [
            {key: data[f"{case:03d}/{key}"] for key in ("fused_T0.02", "label", "lp_objective", "lp_residual_l1")}
            for case in range(49)
        ]


@pytest.mark.parametrize(("tie_break", "mean", "worst"), [("center", 0.005, 0.10), ("canonical", 0.01, 0.20)])
def test_released_labels(golden, tie_break, mean, worst):
    segments = Segments.of([[tuple(row) for row in case["fused_T0.02"]] for case in golden])
    lengths = torch.tensor([len(case["label"]) for case in golden])
    result = linpro(segments, lengths, preset="released", tie_break=tie_break)
    differences = []
    for index, case in enumerate(golden):
        assert result.status[index].item() == Status.OPTIMAL
        assert case["lp_residual_l1"] < 1e-6
        assert result.objective[index].item() == pytest.approx(case["lp_objective"].item(), abs=1e-6)
        label = case["label"]
        differences.append(np.abs(result.group(index).numpy() - label).sum() / np.abs(label).sum())
    assert np.mean(differences) <= mean
    assert np.max(differences) <= worst


# ------------------------------------------------------------------------------------------------ invariance


@pytest.mark.parametrize("options", [{}, {"preset": "released", "upper": 0.1}, {"rows": "mean", "upper": 0.2}])
def test_order_batch_and_threads_do_not_change_a_bit(options, device_backend):
    rng = np.random.default_rng(1)
    times = 2 if device_backend.startswith("emulated") else 40  # enough for threads
    groups = [overlapping(rng, n, 60, 14) for n in (1, 0, 4, 12, 25)] * times  # feasible or not
    lengths = torch.full((len(groups),), 60)
    whole = linpro(Segments.of(groups), lengths, **options)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        threaded = linpro(Segments.of(groups), lengths, **options)
    finally:
        torch.set_num_threads(before)
    shuffled = linpro(
        Segments.of([[rows[i] for i in rng.permutation(len(rows))] for rows in groups]), lengths, **options
    )
    for field in ("labels", "objective", "residual", "status", "components"):
        assert torch.equal(getattr(whole, field), getattr(threaded, field))
        assert torch.equal(getattr(whole, field), getattr(shuffled, field))
    for index in range(5):
        alone = linpro(Segments.of([groups[index]]), lengths[:1], **options)
        assert torch.equal(alone.labels, whole.group(index))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(-1e300, 1e300)] * 2, st.floats(-1e6, 1e6), st.integers(1, 3)),
        max_size=12,
    ),
    st.integers(0, 50),
    st.sampled_from(["paper", "released"]),
)
def test_any_contents_give_finite_labels(rows, length, preset):
    rows = [(min(a, b), max(a, b), q) for a, b, q, times in rows for _ in range(times)]
    result = solve(rows, length, preset=preset)
    for field in (result.labels, result.objective, result.residual):
        assert torch.isfinite(field).all()


# ------------------------------------------------------------------------------------------------ contents and torch


@pytest.mark.garbage
def test_contents_written_to_afterwards_are_safe():
    rng = np.random.default_rng(0)
    groups = [overlapping(rng, n, 40, 12) for n in (6, 0, 9)]
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        segments, lengths = Segments.of(groups), torch.tensor([40, 3, 40])
        for field in (segments.start, segments.end, segments.score):
            odd = torch.tensor([math.nan, math.inf, -math.inf, 1e300, -1e300, 1e308, 0.0, 7.0], dtype=torch.float64)
            at = torch.randint(0, len(field), (3,), generator=generator)
            field[at] = odd[torch.randint(0, len(odd), (3,), generator=generator)]
        segments.offsets[:] = torch.randint(-5, 20, (4,), generator=generator) * 10 ** int(seed % 18)
        found = linpro(segments, lengths, "released" if seed % 2 else "paper")
        assert torch.isfinite(found.labels).all()
        assert found.offsets.tolist() == [0, 40, 43, 83]


def test_opcheck():
    segments = Segments.of([[(2, 6, 0.8), (4, 9, 0.5)], []])
    fields = (segments.start, segments.end, segments.score, segments.offsets, torch.tensor([12, 3]))
    torch.library.opcheck(torch.ops.pyws.linpro, (*fields, None, "paper", 0.25, math.inf, False, False, 1 << 20))


def test_compiles_and_exports_as_an_opaque_operation():
    rows = [(2, 6, 0.8), (4, 9, 0.5)]
    lengths = torch.tensor([12, 3])
    segments = Segments.of([rows, []])

    class Label(torch.nn.Module):
        def forward(self, start, end, score, offsets, lengths):
            given = Segments.unchecked(torch.stack([start, end, score, score]), offsets)
            found = linpro(given, lengths)
            return 2 * found.labels, found.status

    arguments = (segments.start, segments.end, segments.score, segments.offsets, lengths)
    expected = linpro(segments, lengths)
    compiled = torch.compile(Label(), backend="aot_eager", fullgraph=True)
    exported = torch.export.export(Label(), arguments).module()
    for call in (compiled, exported):
        labels, status = call(*arguments)
        assert torch.equal(labels, 2 * expected.labels)
        assert torch.equal(status, expected.status)


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lengths": torch.tensor([10, 10])}, ValueError, r"lengths must have shape \(1\), got \(2,\)"),
        ({"lengths": torch.tensor([10.0])}, TypeError, "lengths must be int64, got float32"),
        ({"lengths": [10]}, TypeError, "lengths must be a tensor, got list"),
        ({"lengths": torch.tensor([-1])}, ValueError, "lengths must be 0 or more, got -1"),
        ({"lengths": torch.tensor([2**62])}, ValueError, r"lengths must be 2\*\*30 or less in all, got 46116"),
        ({"segments": [(0, 4, 0.5)]}, TypeError, "segments must be pyws.Segments, got list"),
        ({"preset": "papers"}, ValueError, "preset must be one of 'paper', 'released', got 'papers'"),
        ({"margin": -0.1}, ValueError, "margin must be finite and 0 or more, got -0.1"),
        ({"margin": math.inf}, ValueError, "margin must be finite and 0 or more, got inf"),
        ({"margin": math.inf}, ValueError, "margin must be finite"),
        ({"upper": 0.0}, ValueError, "upper must be above 0, got 0.0"),
        ({"upper": math.nan}, ValueError, "upper must be above 0, got nan"),
        ({"rows": "max"}, ValueError, "rows must be one of 'sum', 'mean', got 'max'"),
        ({"tie_break": "centre"}, ValueError, "tie_break must be one of 'canonical', 'center', got 'centre'"),
    ],
)
def test_bad_input(options, error, message):
    arguments = {"segments": Segments.of([[(0, 4, 0.5)]]), "lengths": torch.tensor([10]), **options}
    with pytest.raises(error, match=f"linpro: {message}"):
        linpro(**arguments)


def test_scores_that_require_grad_are_refused():
    segments = Segments.of([[(0, 4, 0.5)]])
    segments.score.requires_grad_()
    with pytest.raises(RuntimeError, match="linpro: not differentiable, but score requires grad"):
        linpro(segments, torch.tensor([10]))
