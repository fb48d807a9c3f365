"""Boxes of actions scored against true boxes: frame mAP and the pointing game (WS^2 section 4.5, AVA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.annotations.ava import Attention, Boxes, KeyFrame


def box_iou(one: Boxes, two: Boxes) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes x1, y1, x2, y2."""
    low, high = np.maximum(one[:, None, :2], two[None, :, :2]), np.minimum(one[:, None, 2:], two[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0, None), axis=2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, two)]
    return intersection / np.maximum(area[0][:, None] + area[1][None] - intersection, 1e-12)


def evaluate_boxes(
    found: Sequence[Attention], keys: Sequence[KeyFrame], ious: Sequence[float] = (0.5, 0.2)
) -> dict[str, Any]:
    """Frame mAP at each IoU, and the pointing game.

    AP of an action is the area under its precision-recall curve, made monotone, over all key frames; a detection is
    right if it overlaps a true box of the action that no better one has taken. The pointing game counts pairs of a key
    frame and an action that is there: right if the peak of the action's map lies in one of its boxes. It suits maps
    that look at the object in the hand, where AVA boxes the whole person.

    Returns
    -------
    ``frame_map``: by IoU the mean over ``actions``, those in the truth; ``average_precision``: by IoU and action;
    ``pointing``: mean over actions, ``pointing_of_action``
    """
    actions = sorted({int(action) for key in keys for action in key.actions})
    precision = {
        f"{iou:g}": {action: _average_precision(found, keys, action, iou) for action in actions} for iou in ious
    }
    pointing = {action: _pointing(found, keys, action) for action in actions}
    return {
        "actions": actions,
        "key_frames": len(keys),
        "frame_map": {iou: _mean(of_action) for iou, of_action in precision.items()},
        "average_precision": precision,
        "pointing": _mean(pointing),
        "pointing_of_action": pointing,
    }


def _average_precision(found: Sequence[Attention], keys: Sequence[KeyFrame], action: int, iou: float) -> float:
    rows = [(score, one.key, box) for one in found if one.action == action for score, box in
            zip(one.scores, one.boxes, strict=True)]  # fmt: skip
    truth = [key.boxes[key.actions == action] for key in keys]
    taken = [np.zeros(len(boxes), bool) for boxes in truth]
    right = np.zeros(len(rows), bool)
    for rank, (_, key, box) in enumerate(sorted(rows, key=lambda row: -row[0])):
        overlap = np.where(taken[key], -1.0, box_iou(box[None], truth[key])[0])
        if len(overlap) and overlap.max() >= iou:
            taken[key][int(overlap.argmax())] = right[rank] = True
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float((precision * right).sum() / sum(map(len, truth)))


def _pointing(found: Sequence[Attention], keys: Sequence[KeyFrame], action: int) -> float:
    peaks = {one.key: one.peak for one in found if one.action == action}
    hits = []
    for index, key in enumerate(keys):
        boxes = key.boxes[key.actions == action]
        if len(boxes):
            x, y = peaks.get(index) or (-1.0, -1.0)
            hits.append(bool(((boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])).any()))
    return float(np.mean(hits))


def _mean(values: dict[int, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None
