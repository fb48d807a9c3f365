"""Labels of components that no exact solver certifies: a smoothed l1 fit, and a proof of how good it is.

Wanted are labels of least l1 residual. Misses below a width are squared instead, the width falls in three steps, and
each fit starts from the one before (L-BFGS with bounds). The last one proves itself: for every y with |y| <= 1 the
least residual is at least ``y q - sum(u max(W' y, 0))``, the dual of the linear program, and the slope of the smoothed
misses is such a y. Rows are runs of snippets, so that products with W are differences of running sums: an iteration
costs as many additions as there are snippets and segments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMALLEST = 1e-9  # weight of the squares of the labels themselves, scores scaled to 1: the most uniform of equal fits
_STEPS = 600  # of each width
_WIDTHS = (0.3, 0.03, 0.003)  # below which a miss is squared, scores scaled to 1


class Rows:
    """W of segments as runs of snippets: ``left <= i < right``, of them ``start <= i < end`` inside.

    Parameters
    ----------
    spans : (n, 4) int64, rising along each row: left, start, end, right
    length : snippets
    mean : rows are the mean inside less the mean outside, not the sums

    Examples
    --------
    >>> rows = Rows(np.array([[0, 1, 3, 4]]), 4, mean=False)
    >>> rows.times(np.array([1.0, 2.0, 3.0, 4.0])), rows.transposed_times(np.array([1.0]))
    (array([0.]), array([-1.,  1.,  1., -1.]))
    """

    def __init__(self, spans: NDArray[np.int64], length: int, mean: bool) -> None:
        self.left, self.start, self.end, self.right = spans.T
        self.length = length
        inside = np.maximum(self.end - self.start, 1)
        outside = np.maximum(self.right - self.left - (self.end - self.start), 1)
        self.inside = 1.0 / inside if mean else np.ones(len(spans))
        self.outside = 1.0 / outside if mean else np.ones(len(spans))

    def times(self, labels: Floats) -> Floats:
        """W times (length,) labels, (n,)."""
        sums = np.concatenate([[0.0], np.cumsum(labels)])
        within = sums[self.end] - sums[self.start]
        around = sums[self.right] - sums[self.left] - within
        return self.inside * within - self.outside * around

    def transposed_times(self, values: Floats) -> Floats:
        """W transposed times (n,) values, (length,)."""
        steps = np.zeros(self.length + 1)
        both = (self.inside + self.outside) * values
        for places, amount in (
            (self.left, -self.outside * values), (self.start, both), (self.end, -both),
            (self.right, self.outside * values),
        ):  # fmt: skip
            np.add.at(steps, places, amount)
        return np.cumsum(steps)[:-1]


def approximate_labels(rows: Rows, score: Floats, upper: float) -> tuple[Floats, float, float]:
    """Labels of one component, their l1 residual, and by how much the least residual may be below it.

    Parameters
    ----------
    rows : W
    score : (n,) q, finite
    upper : greatest label, may be infinite

    Returns
    -------
    (length,) labels in [0, upper]; the sum of |q - W g|; the gap, 0 or more: no labels that are at most the greatest of
    these have a residual below the sum by more.

    Examples
    --------
    >>> rows = Rows(np.array([[0, 0, 2, 2], [0, 0, 2, 2]]), 2, mean=False)  # one segment, two scores
    >>> labels, residual, gap = approximate_labels(rows, np.array([1.0, 3.0]), np.inf)
    >>> labels.round(3).tolist(), round(residual, 3), round(gap, 3)
    ([1.0, 1.0], 2.0, 0.0)
    """
    from scipy.optimize import minimize

    scale = float(np.abs(score).max()) or 1.0
    target = score / scale

    labels = np.zeros(rows.length)
    bounds = [(0.0, None if np.isinf(upper) else upper / scale)] * rows.length
    for width in _WIDTHS:

        def cost(labels: Floats, width: float = width) -> tuple[float, Floats]:
            missed = target - rows.times(labels)
            smooth = np.sqrt(missed * missed + width * width)
            value = float(smooth.sum()) + 0.5 * _SMALLEST * float(labels @ labels)
            return value, _SMALLEST * labels - rows.transposed_times(missed / smooth)

        options = {"maxiter": _STEPS, "maxfun": 2 * _STEPS, "ftol": 1e-12, "gtol": 1e-9, "maxcor": 20}
        labels = minimize(cost, labels, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    missed = target - rows.times(labels)
    residual = float(np.abs(missed).sum())
    most = min(upper / scale, float(labels.max(initial=0.0)))
    proof = missed / np.sqrt(missed * missed + _WIDTHS[-1] ** 2)
    bound = float(proof @ target) - most * float(np.maximum(rows.transposed_times(proof), 0.0).sum())
    gap = residual - min(max(bound, 0.0), residual)
    return np.minimum(labels * scale, upper), residual * scale, gap * scale
