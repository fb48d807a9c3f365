"""Average precision of boxes at key frames, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from pyws.evaluation.boxes import _average_precision

BOX = np.array([[0.0, 0.0, 1.0, 1.0]])


def test_average_precision_by_hand() -> None:
    keys = [SimpleNamespace(boxes=BOX, actions=np.array([2])) for _ in range(3)]
    far = np.array([5.0, 5.0, 6.0, 6.0])
    ranked = [(0, BOX[0], 0.9), (0, BOX[0], 0.8), (1, far, 0.7), (1, BOX[0], 0.6)]  # right, taken, wrong, right
    found = [SimpleNamespace(action=2, key=key, scores=[score], boxes=[box]) for key, box, score in ranked]
    assert _average_precision(found, keys, 2, 0.5) == pytest.approx((1 + 2 / 4) / 3)
