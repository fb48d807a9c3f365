"""The components that the built-in solvers leave, too large or without a certificate: HiGHS, or an approximation.

The same three steps as csrc/linpro/simplex.h, each on the optimal face of the one before, which complementary slackness
gives: a variable whose reduced cost is not 0 keeps its bound. Everything is checked again here before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyws.errors import SolverError
from pyws.ops._library import launch
from pyws.ops.linpro.approximate_labels import Rows, approximate_labels
from pyws.ragged import Segments

if TYPE_CHECKING:
    from pyws.ops.linpro.program import Labels, Rule

SECONDS = 5.0  # for each of the three steps of one component
MAX_ROWS = 64  # beyond, HiGHS certified none of the crowded groups that it was tried on
_ZERO = 1e-7  # reduced costs, and errors of a linear program's answer with scores scaled to 1
_QUADRATIC = 1e-5  # what HiGHS reaches on the last step


def solve_left_over(segments: Segments, unsolved: Tensor, rule: Rule, result: Labels) -> None:
    """Complete ``result`` in place by the components that ``unsolved`` (N,) numbers within their groups."""
    lengths = result.offsets.diff()
    spans = torch.empty(len(segments), 4, dtype=torch.int64)
    launch("linpro_rows", torch.device("cpu"), {
        "start": segments.start.contiguous(), "end": segments.end.contiguous(),
        "offsets": segments.offsets.contiguous(), "lengths": lengths, "groups": segments.groups,
        "total": len(segments), "geometry": rule.geometry, "margin": float(rule.margin), "spans": spans,
    })  # fmt: skip
    group_of = torch.repeat_interleave(torch.arange(segments.groups), segments.offsets.diff())
    keys = torch.stack([group_of, unsolved])[:, unsolved >= 0].unique(dim=1)
    for group, component in keys.T.tolist():
        chosen = ((group_of == group) & (unsolved == component)).nonzero()[:, 0]
        first, last = int(spans[chosen, 0].min()), int(spans[chosen, 3].max())
        found = _solve(spans[chosen].numpy() - first, last - first, segments.score[chosen].numpy(), rule, group)
        labels, residual, status, gap = found
        begin = int(result.offsets[group]) + first
        result.labels[begin : begin + len(labels)] += torch.from_numpy(labels)
        result.objective[group] += float(labels.sum())
        result.residual[group] += residual
        result.gap[group] += gap
        result.status[group] = max(int(result.status[group]), status)  # OPTIMAL, RELAXED, APPROXIMATE


def _solve(
    spans: NDArray[np.int64], length: int, score: NDArray[np.float64], rule: Rule, group: int
) -> tuple[NDArray[np.float64], float, int, float]:
    """Labels, residual in units of the scores, status and gap of one component: finite input has an answer."""
    if len(spans) <= MAX_ROWS:
        try:
            labels, residual, relaxed = _solve_component(_sign_rows(spans, length), score, rule, group)
            return labels, residual, int(relaxed), 0.0
        except SolverError:
            pass
    labels, residual, gap = approximate_labels(Rows(spans, length, rule.rows == "mean"), score, rule.upper)
    return labels, residual, 3, gap


def _sign_rows(spans: np.ndarray, length: int) -> np.ndarray:
    snippets = np.arange(length)
    left, start, end, right = spans.T[:, :, None]
    inside = (snippets >= start) & (snippets < end)
    return inside.astype(np.float64) - ((snippets >= left) & (snippets < right) & ~inside)


def _solve_component(signs: np.ndarray, score: np.ndarray, rule: Rule, group: int) -> tuple[np.ndarray, float, bool]:
    """Labels, residual in units of the scores, and whether the rows contradict each other."""
    columns, class_of, size = np.unique(signs, axis=1, return_inverse=True, return_counts=True)
    if rule.rows == "mean":
        inside, outside = (signs > 0).sum(1), (signs < 0).sum(1)
        columns = np.where(
            columns > 0, columns / np.maximum(inside, 1)[:, None], columns / np.maximum(outside, 1)[:, None]
        )
    scale = float(np.abs(score).max()) or 1.0
    target, limit = score / scale, size * (rule.upper / scale)
    mass = _Steps(columns, target, size.astype(np.float64), limit, f"group {group}").run()
    residual = float(np.abs(target - columns @ mass).sum())
    labels = np.minimum(mass / size * scale, rule.upper)[class_of.reshape(-1)]
    return labels, residual * scale, residual > _ZERO


class _Steps:
    """Least residual, least mass, least squares: one HiGHS model whose variables are masses u, then p, then m >= 0.

    W u + p - m = q; p and m are what the rows miss.
    """

    def __init__(self, matrix: np.ndarray, q: np.ndarray, size: np.ndarray, limit: np.ndarray, where: str) -> None:
        import highspy

        rows, classes = matrix.shape
        self.where, self.size, self.classes = where, size, classes
        self.matrix = np.hstack([matrix, np.eye(rows), -np.eye(rows)])
        self.q = q
        self.low = np.zeros(classes + 2 * rows)
        self.high = np.concatenate([limit, np.full(2 * rows, np.inf)])
        self.highs = highspy.Highs()
        for name, value in {
            "output_flag": False, "threads": 1, "time_limit": SECONDS,
            "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9,
        }.items():  # fmt: skip
            self.highs.setOptionValue(name, value)

    def run(self) -> np.ndarray:
        rows = len(self.q)
        on_mass = np.concatenate([np.ones(self.classes), np.zeros(2 * rows)])
        for cost in (1.0 - on_mass, on_mass):
            values, reduced = self._minimise(cost, None)
            self._keep_on_face(values, reduced)
        curvature = np.concatenate([1.0 / self.size, np.zeros(2 * rows)])
        values, _ = self._minimise(np.zeros_like(on_mass), curvature)
        return np.clip(values[: self.classes], 0.0, self.high[: self.classes])

    def _keep_on_face(self, values: np.ndarray, reduced: np.ndarray) -> None:
        held = np.abs(reduced) > _ZERO
        self.low[held] = self.high[held] = np.maximum(values[held], 0.0)

    def _minimise(self, cost: np.ndarray, curvature: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Values and reduced costs of min cost.x + sum(curvature x^2)/2, after checking both."""
        import highspy

        self.highs.clearModel()
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(cost), len(self.q)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, self.low, self.high
        lp.row_lower_ = lp.row_upper_ = self.q
        at_row, at_column = np.nonzero(self.matrix)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.searchsorted(at_row, np.arange(len(self.q) + 1))
        lp.a_matrix_.index_, lp.a_matrix_.value_ = at_column, self.matrix[at_row, at_column]
        self.highs.passModel(lp)
        if curvature is not None:
            diagonal = np.flatnonzero(curvature)
            hessian = highspy.HighsHessian()
            hessian.dim_, hessian.format_ = len(cost), highspy.HessianFormat.kTriangular
            hessian.start_ = np.searchsorted(diagonal, np.arange(len(cost) + 1))
            hessian.index_, hessian.value_ = diagonal, curvature[diagonal]
            self.highs.passHessian(hessian)
        self.highs.run()
        status = self.highs.getModelStatus()
        solution = self.highs.getSolution()
        values, duals = np.array(solution.col_value), np.array(solution.row_dual)
        if status != highspy.HighsModelStatus.kOptimal or not len(values):
            raise SolverError(
                f"linpro: HiGHS gave no optimum for {self.where}: {self.highs.modelStatusToString(status)}"
            )
        reduced = cost - self.matrix.T @ duals
        if curvature is not None:
            reduced = reduced + curvature * values
        self._check(values, reduced, _ZERO if curvature is None else _QUADRATIC)
        return values, reduced

    def _check(self, values: np.ndarray, reduced: np.ndarray, tolerance: float) -> None:
        """Rows, bounds and reduced costs, from the data and not from the solver's word."""
        error = max(
            np.abs(self.matrix @ values - self.q).max(),
            (self.low - values).max(),
            (values - self.high).max(),
            np.minimum(np.maximum(-reduced, 0), self.high - values).max(),
            np.minimum(np.maximum(reduced, 0), values - self.low).max(),
        )
        if not error <= tolerance:
            raise SolverError(f"linpro: HiGHS's answer for {self.where} fails its certificate by {error:.1e}")
