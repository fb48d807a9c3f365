"""LinPro against the released path (a dense program a group through scipy) and the best use of HiGHS from Python.

pyws solves the batch in one call, the canonical tie-break included; the peers have none, so objectives are compared.
"""

from itertools import pairwise

import highspy
import numpy as np
import pytest
import released
import torch
from scipy.optimize import linprog as scipy_linprog

import pyws


def fused_sets(length: int, count: int) -> tuple[pyws.Segments, torch.Tensor]:
    """What LinPro meets in training: the proposals of ``count`` videos, fused."""
    tcam = torch.cat([released.activation_map(length, seed=seed) for seed in range(count)])
    proposals = pyws.ops.propose_segments(tcam, torch.arange(count + 1) * length)
    return pyws.ops.fuse_segments(proposals, temperature=0.02, overlap="own"), torch.full((count,), length)


def overlapping_sets(n: int, count: int) -> tuple[pyws.Segments, torch.Tensor]:
    """Segments of 5 to 35 snippets at random places, three deep on average, whose scores are means of exact labels."""
    length = n * 20 // 3 + 40
    groups = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        start = rng.integers(0, length - 40, n).astype(float)
        rows = np.stack([start, start + rng.integers(5, 36, n)], axis=1)
        labels = np.repeat(rng.random(length // 5 + 1) ** 3, 5)[:length]
        scores = released.linear_program([(*row, 0.0) for row in rows], length)[0] @ labels
        groups.append([(*row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)])
    return pyws.Segments.of(groups), torch.full((count,), length)


def rows_of(segments: pyws.Segments) -> list[list[list[float]]]:
    """Rows [start, end, score] of each group."""
    rows = torch.stack([segments.start, segments.end, segments.score], 1).tolist()
    return [rows[first:last] for first, last in pairwise(segments.offsets.tolist())]


def dense_scipy(rows: list[list[float]], length: int) -> float:
    """The released path: a variable a snippet, scipy's default method. Returns the objective."""
    matrix, score = released.linear_program(rows, length)
    answer = scipy_linprog(np.ones(length), A_eq=matrix, b_eq=score, bounds=(0, 1))
    return answer.fun if answer.status == 0 else np.nan


def merged_highs(rows: list[list[float]], length: int) -> float:
    """Runs of equal columns merged, straight into HiGHS without presolve. Returns the objective."""
    matrix, score = released.linear_program(rows, length)
    changes = (matrix[:, 1:] != matrix[:, :-1]).any(0)
    breaks = np.concatenate([[0], np.flatnonzero(changes) + 1])
    size = np.diff(np.append(breaks, length)).astype(np.float64)
    columns = matrix[:, breaks] * size
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(size), len(score)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = size, np.zeros(len(size)), np.ones(len(size))
    lp.row_lower_ = lp.row_upper_ = score
    at_row, at_column = np.nonzero(columns)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.searchsorted(at_row, np.arange(len(score) + 1))
    lp.a_matrix_.index_, lp.a_matrix_.value_ = at_column, columns[at_row, at_column]
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("presolve", "off")
    solver.passModel(lp)
    solver.run()
    return solver.getInfo().objective_function_value


def agree(own: pyws.segments.Labels, peer: list[float], tolerance: float = 1e-6) -> None:
    """Equal objectives, where there is a program to solve: the peers have no answer to contradicting rows."""
    solved = (own.status == pyws.segments.Status.OPTIMAL).numpy()
    assert solved.mean() > 0.9
    np.testing.assert_allclose(own.objective.numpy()[solved], np.array(peer)[solved], rtol=tolerance, atol=tolerance)


def race_groups(race, case, segments, lengths, goals, reason):
    groups = list(zip(rows_of(segments), lengths.tolist(), strict=True))
    race(
        "linpro",
        case,
        {
            "pyws": lambda: pyws.ops.linpro(segments, lengths, preset="released", tie_break="canonical"),
            "released": lambda: [dense_scipy(*group) for group in groups],
            "highspy merged": lambda: [merged_highs(*group) for group in groups],
        },
        agree=agree,
        goals=goals,
        reason=reason,
        rounds=9,
    )


@pytest.mark.parametrize(("length", "count"), [(200, 1), (200, 64), (750, 32), (5000, 4)])
def test_fused_sets(race, length, count):
    segments, lengths = fused_sets(length, count)
    case = f"fused, {count} x l={length}, n={len(segments) / count:.0f}"
    reason = "most of a call is torch and Python" if count == 1 else ""
    race_groups(race, case, segments, lengths, {"released": 150, "highspy merged": 8}, reason)


@pytest.mark.parametrize(("n", "count"), [(20, 32), (100, 8), (300, 2)])
def test_overlapping_sets(race, n, count):
    segments, lengths = overlapping_sets(n, count)
    reason = "some twenty Newton steps a component"
    race_groups(race, f"overlapping, {count} x n={n}", segments, lengths, {"released": 60, "highspy merged": 8}, reason)
