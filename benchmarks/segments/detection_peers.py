"""Detection mAP as others compute it, written from the description of their rules.

Rows are (video, start, end, score) in snippets, of one class; ground truth has no score.
"""

from __future__ import annotations

import numpy as np

Rows = list[tuple[int, int, int, float]]


def envelope_area(hits: np.ndarray, positives: int) -> float:
    """Average precision of a ranking: the area under the precision envelope."""
    found = np.cumsum(hits)
    precision = np.concatenate([[0.0], found / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], found / positives, [1.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * precision[steps]).sum())


def released_thumos14(predictions: list[Rows], truth: list[Rows], tious: tuple[float, ...]) -> np.ndarray:
    """One threshold after the other, one prediction after the other, snippets as Python sets."""
    ap = np.zeros((len(truth), len(tious)))
    for k, tiou in enumerate(tious):
        for c, (rows, wanted) in enumerate(zip(predictions, truth, strict=True)):
            free = [list(row[:3]) for row in wanted]
            hits = []
            for video, start, end, _ in sorted(rows, key=lambda row: -row[3]):
                snippets, best, best_at = set(range(start, end)), tiou, -1
                for at, (other, other_start, other_end) in enumerate(free):
                    if other != video:
                        continue
                    other_snippets = set(range(other_start, other_end))
                    iou = len(snippets & other_snippets) / float(len(snippets | other_snippets) or 1)
                    if iou > best or (iou >= best and best_at < 0):
                        best, best_at = iou, at
                hits.append(best_at >= 0)
                if best_at >= 0:
                    del free[best_at]
            ap[c, k] = envelope_area(np.array(hits, dtype=float), len(wanted)) if hits else 0.0
    return ap


def activitynet_evaluator(predictions: list[Rows], truth: list[Rows], tious: tuple[float, ...]) -> np.ndarray:
    """The form of the official evaluator: data frames, ``iterrows``, a lock for each threshold and segment."""
    import pandas as pd

    ap = np.zeros((len(truth), len(tious)))
    for c, (rows, wanted) in enumerate(zip(predictions, truth, strict=True)):
        if not rows:
            continue
        frame = pd.DataFrame(rows, columns=["video", "start", "end", "score"])
        frame = frame.iloc[np.argsort(-frame["score"].to_numpy(), kind="stable")].reset_index(drop=True)
        by_video = pd.DataFrame([row[:3] for row in wanted], columns=["video", "start", "end"]).groupby("video")
        lock = -np.ones((len(tious), len(wanted)))
        hits = np.zeros((len(tious), len(frame)))
        for index, row in frame.iterrows():
            try:
                group = by_video.get_group(row["video"])
            except KeyError:
                continue
            target = group.reset_index()
            shared = np.minimum(row["end"], target["end"]) - np.maximum(row["start"], target["start"])
            shared = shared.clip(lower=0)
            union = (row["end"] - row["start"]) + (target["end"] - target["start"]) - shared
            ious = (shared / union.where(union > 0, 1)).to_numpy()
            order = np.argsort(-ious, kind="stable")
            for k, tiou in enumerate(tious):
                for at in order:
                    if ious[at] < tiou:
                        break
                    if lock[k, target.loc[at]["index"]] >= 0:
                        continue
                    hits[k, index] = 1
                    lock[k, target.loc[at]["index"]] = index
                    break
        ap[c] = [envelope_area(hits[k], len(wanted)) for k in range(len(tious))]
    return ap


def vectorised_numpy(
    predictions: np.ndarray, predicted: np.ndarray, truth: np.ndarray, present: np.ndarray, tious: tuple[float, ...]
) -> np.ndarray:
    """All IoU of a class at once, over pairs of the same video; a Python loop over pairs that may match, on bit masks.

    ``predictions`` (P, 4) and ``truth`` (N, 3) hold rows as above, ``predicted`` and ``present`` their classes.
    """
    thresholds, bits = np.array(tious), 1 << np.arange(len(tious))
    ap = np.zeros((int(present.max()) + 1, len(tious)))
    for c in range(len(ap)):
        rows, wanted = predictions[predicted == c], truth[present == c]
        if not len(rows):
            continue
        rows = rows[np.argsort(-rows[:, 3], kind="stable")]
        wanted = wanted[np.argsort(wanted[:, 0], kind="stable")]
        first, last = (np.searchsorted(wanted[:, 0], rows[:, 0], side) for side in ("left", "right"))
        sizes = last - first
        i = np.repeat(np.arange(len(rows)), sizes)
        j = np.arange(len(i)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[i]
        shared = np.minimum(rows[i, 2], wanted[j, 2]) - np.maximum(rows[i, 1], wanted[j, 1])
        near = shared > 0
        i, j, shared = i[near], j[near], shared[near]
        iou = shared / (rows[i, 2] - rows[i, 1] + wanted[j, 2] - wanted[j, 1] - shared)
        near = iou >= thresholds.min()
        order = np.lexsort((j[near], -iou[near], i[near]))
        passed = (iou[near][order, None] >= thresholds) @ bits
        free, taken = [-1] * len(wanted), [0] * len(rows)
        for a, b, good in zip(i[near][order].tolist(), j[near][order].tolist(), passed.tolist(), strict=True):
            takes = good & free[b] & ~taken[a]
            taken[a] |= takes
            free[b] &= ~takes
        hits = (np.array(taken)[:, None] & bits) > 0
        found = np.cumsum(hits, 0)
        precision = np.maximum.accumulate((found / np.arange(1, len(rows) + 1)[:, None])[::-1])[::-1]
        ap[c] = (precision * hits).sum(0) / len(wanted)
    return ap
