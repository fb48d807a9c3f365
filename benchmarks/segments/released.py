"""The released rules of the temporal pipeline as the plain Python that people run today, and inputs to time them on.

Written from the rules, not copied: lists and NumPy calls for one video and class at a time.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

import pyws

THRESHOLDS = [float(threshold) for threshold in np.arange(0.001, 0.04, 0.002)]


def proposals(column, thresholds=THRESHOLDS, min_length=2):
    """Rows [start, end, contrast, inner] of one class: runs above each threshold, scored one snippet beyond."""
    rows = []
    values = [float(value) for value in column]
    length = len(values)
    for threshold in thresholds:
        mask = [0.0] + [1.0 if value > threshold else 0.0 for value in values] + [0.0]
        steps = [after - before for before, after in pairwise(mask)]
        starts = [i for i, step in enumerate(steps) if step == 1.0]
        ends = [i for i, step in enumerate(steps) if step == -1.0]
        for start, end in zip(starts, ends, strict=True):
            if end - start < min_length:
                continue
            margin = 0.0785 * (end - start) ** 0.9
            inner = values[start : end + 1]
            left = values[max(0, int(start - margin)) : start]
            right = values[end + 1 : min(length - 1, int(end + margin + 1))]
            outer = left + right
            inside = float(np.mean(inner))
            outside = float(np.mean(outer)) if outer else 0.0
            rows.append([start, end + 1, inside - outside, inside])
    return rows


def _clusters(rows, threshold):
    """The greedy walk by own-area overlap: arrays of row indices, each with its seed first."""
    start, end, score = (np.array([row[k] for row in rows], dtype=float) for k in range(3))
    area = end - start + 1
    order = score.argsort(kind="stable")[::-1]
    while order.size:
        seed, rest = order[0], order[1:]
        shared = np.minimum(end[seed], end[rest]) - np.maximum(start[seed], start[rest]) + 1
        overlap = np.maximum(0.0, shared) / area[rest]
        yield order[np.concatenate([[True], overlap > threshold])]
        order = rest[overlap <= threshold]


def suppress(rows, threshold=0.5):
    """Rows kept, in the order picked."""
    return [rows[cluster[0]] for cluster in _clusters(rows, threshold)]


def fuse(rows, threshold=0.25, temperature=0.2):
    """Rows [start, end, score] by falling score; members weigh exp(inner / temperature)."""
    fused = []
    for cluster in _clusters(rows, threshold):
        whole = start = end = score = 0.0
        for index in cluster:
            row = rows[index]
            weight = np.exp(row[3] / temperature)
            whole += weight
            start += weight * row[0]
            end += weight * row[1]
            score += weight * row[2]
        fused.append([start / whole, end / whole, score / whole])
    return sorted(fused, key=lambda row: -row[2])


def linear_program(rows, length):
    """Matrix (n, length) with +1 inside and -1 in the margins of every fused segment, and the scores to reach."""
    matrix = np.zeros((len(rows), length))
    for k, (start, end, *_) in enumerate(rows):
        first, last = int(start), int(end)
        margin = 0.0785 * (last - first) ** 0.9
        matrix[k, first:last] = 1.0
        matrix[k, max(0, int(first - margin)) : first] = -1.0
        matrix[k, last : min(length - 1, int(last + margin + 1))] = -1.0
    return matrix, np.array([row[2] for row in rows])


def activation_map(length, classes=1, seed=0):
    """(length, classes) float32: smooth actions of some tens of snippets over a quiet, noisy ground."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)[:, None, None]
    actions = max(2, length // 40)
    centre = rng.uniform(0, length, (actions, classes))
    width = rng.uniform(2, 12, (actions, classes))
    height = rng.uniform(0.01, 0.6, (actions, classes))
    bumps = (height * np.exp(-0.5 * ((time - centre) / width) ** 2)).sum(1)
    noise = np.exp(0.8 * rng.standard_normal((length, classes)))
    return torch.from_numpy(((bumps + 0.0015) * noise).clip(0, 1).astype(np.float32))


def candidates(count, seed=0):
    """Rows of exactly ``count`` proposals of one class, as the thresholds give them."""
    rows = proposals(activation_map(4 * count + 60, seed=seed)[:, 0].tolist())
    keep = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    return [rows[k] for k in keep]


def as_segments(groups):
    """Lists of rows [start, end, score, weight] as pyws.Segments."""
    return pyws.Segments.of([[tuple(row) for row in rows] for rows in groups])
