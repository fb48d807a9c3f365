"""Each operation in a few lines of plain PyTorch or NumPy.

This is the definition, the oracle of the tests and the baseline of the benchmarks. It is never a fallback.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyws.ragged import Segments


def gradcam3d(activations: Tensor, gradients: Tensor, normalize: str | None = None) -> Tensor:
    """WS^2 eq. 4-5 written out, see :func:`pyws.ops.gradcam3d`."""
    weights = gradients.flatten(2).mean(-1)
    maps = torch.relu((weights[:, :, None] * activations.flatten(2)).sum(1))
    if normalize == "minmax":
        low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
        maps = torch.where(high == low, torch.zeros_like(maps), (maps - low) / (high - low))
    return maps.reshape(len(maps), *activations.shape[2:])


def match_segments(
    predictions: Segments, truth: Segments, class_offsets: Tensor, thresholds: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy matching and average precision, see :func:`pyws.ops.match_segments`."""
    hit = torch.zeros(len(predictions), len(thresholds), dtype=torch.bool)
    ap = torch.full((len(class_offsets) - 1, len(thresholds)), torch.nan, dtype=torch.float64)
    orders = [torch.empty(0, dtype=torch.int64)]
    group_of = torch.repeat_interleave(torch.arange(predictions.groups), predictions.offsets.diff())
    for c in range(len(class_offsets) - 1):
        first, last = (int(predictions.offsets[class_offsets[c + i]]) for i in (0, 1))
        order = first + predictions.score[first:last].argsort(descending=True, stable=True)
        orders.append(order)
        for k, threshold in enumerate(thresholds):
            free = torch.ones(len(truth), dtype=torch.bool)
            for i in order:
                group = slice(*truth.offsets[group_of[i] : group_of[i] + 2])
                start, end = truth.start[group], truth.end[group]
                shared = (end.minimum(predictions.end[i]) - start.maximum(predictions.start[i])).clamp(min=0)
                union = (end - start) + (predictions.end[i] - predictions.start[i]) - shared
                iou = torch.where(shared > 0, shared / union, 0.0) * free[group]
                if len(iou) and iou.max() >= threshold:
                    hit[i, k] = True
                    free[group.start + int(iou.argmax())] = False
            positives = int(truth.offsets[class_offsets[c + 1]] - truth.offsets[class_offsets[c]])
            if positives:
                hits = hit[order, k].double()
                precision = hits.cumsum(0) / torch.arange(1, len(order) + 1)
                envelope = precision.flip(0).cummax(0).values.flip(0) if len(order) else precision
                ap[c, k] = (envelope * hits).sum() / positives
    return hit, torch.cat(orders), ap


def otsu(maps: Tensor) -> Tensor:
    """Otsu's threshold over 256 bins, see :func:`pyws.ops.otsu`."""
    return torch.stack([torch.as_tensor(_otsu_of_one(one.flatten())) for one in maps])


@np.errstate(over="ignore", invalid="ignore")
def _otsu_of_one(values: Tensor) -> np.floating:
    x = values.double().numpy() if values.dtype == torch.float64 else values.float().numpy()
    if not np.isfinite(x + x).all():
        return x.dtype.type(np.nan)
    edges = np.linspace(x.min(), x.max(), 257, dtype=x.dtype)
    if (edges[:-1] >= edges[1:]).any():
        return x.max()
    counts = np.histogram(x, 256)[0].astype(np.float32)
    centers = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centers) / below
    mean_above = np.cumsum((counts * centers)[::-1])[::-1] / above
    return centers[np.argmax(below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2)]
