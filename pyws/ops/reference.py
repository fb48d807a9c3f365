"""Each operation in a few lines of plain PyTorch or NumPy.

This is the definition, the oracle of the tests and the baseline of the benchmarks. It is never a fallback.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.ops.masks.slic import grid_of, tables
from pyws.ragged import Segments

Array = np.ndarray[Any, Any]


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
    group_of = predictions.owner
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


def _overlap(segments: Segments, candidate: int, seed: int, rule: str) -> float:
    """How much of a candidate its seed covers, see :func:`pyws.ops.fuse_segments`."""
    one = 1.0 if rule == "own" else 0.0
    (s, e), (s0, e0) = ((float(segments.start[i]), float(segments.end[i])) for i in (candidate, seed))
    shared = max(0.0, min(e, e0) - max(s, s0) + one)
    area = e - s + one if rule == "own" else (e - s) + (e0 - s0) - shared
    return shared / area if area else 0.0


def _locate(x: Array, g: Array, distribution: str, dof: float) -> float:
    """The location of a distribution fitted to x under the weights g, which sum to 1."""
    mean = (g * x).sum()
    if distribution == "uniform":
        return (x.min() + x.max()) / 2
    if distribution == "exponential":
        order = x.argsort()
        upto = g[order].cumsum()
        return sum(x[order][np.argmax(upto >= half)] for half in (0.5 - 1e-12, 0.5 + 1e-12)) / 2
    if distribution == "t":
        variance = max((g * (x - mean) ** 2).sum(), 1e-6)
        for _ in range(50):
            share = g * (dof + 1) / (dof + (x - mean) ** 2 / variance)
            mean = (share * x).sum() / share.sum()
            variance = max((share * (x - mean) ** 2).sum(), 1e-6)
    return mean


def fuse_segments(
    segments: Segments, iou_threshold: float = 0.25, temperature: float = 0.1, overlap: str = "iou",
    distribution: str = "gaussian", dof: float = 3.0, sign_weights: bool = False,
) -> tuple[list[list[tuple[float, ...]]], list[list[list[int]]]]:  # fmt: skip
    """Per group the fused rows (start, end, score, weight) by falling score, and the members of each."""
    all_rows, all_members = [], []
    for first, last in zip(segments.offsets[:-1].tolist(), segments.offsets[1:].tolist(), strict=True):
        left, clusters = list(range(first, last)), []
        while left:
            seed = max(left, key=lambda i: (float(segments.score[i]), -i))
            members = [i for i in left if i == seed or _overlap(segments, i, seed, overlap) > iou_threshold]
            left = [i for i in left if i not in members]
            g = torch.softmax(segments.weight[members] / temperature, 0).numpy()
            if sign_weights:
                g = g / ((g * segments.weight[members].sign().numpy()).sum() or 1.0)
            fields = (segments.start, segments.end, segments.score, segments.weight)
            start, end, *rest = (float(_locate(x[members].numpy(), g, distribution, dof)) for x in fields)
            clusters.append(((start, max(start, end), *rest), members))
        clusters.sort(key=lambda cluster: -cluster[0][2])
        all_rows.append([row for row, _ in clusters])
        all_members.append([members for _, members in clusters])
    return all_rows, all_members


def suppress_segments(
    segments: Segments, iou_threshold: float = 0.5, overlap: str = "own", sigma: float | None = None,
    min_score: float = 0.001,
) -> list[list[tuple[int, float]]]:  # fmt: skip
    """Per group the (index, score) of the segments kept, in the order picked."""
    kept = []
    for first, last in zip(segments.offsets[:-1].tolist(), segments.offsets[1:].tolist(), strict=True):
        scores = {i: float(segments.score[i]) for i in range(first, last)}
        picked = []
        while scores:
            seed = max(scores, key=lambda i: (scores[i], -i))
            picked.append((seed, scores.pop(seed)))
            shared = {i: _overlap(segments, i, seed, overlap) for i in scores}
            if sigma is None:
                scores = {i: score for i, score in scores.items() if shared[i] <= iou_threshold}
            else:
                decayed = {i: score * math.exp(-(shared[i] ** 2) / sigma) for i, score in scores.items()}
                scores = {i: score for i, score in decayed.items() if score > min_score}
        kept.append(picked)
    return kept


def propose_segments(
    tcam: Tensor, offsets: Tensor, thresholds: list[float], scoring: str = "released", min_length: int = 2,
    margin: float = 0.25,
) -> list[list[tuple[float, ...]]]:  # fmt: skip
    """Per video and class the rows (start, end, score, weight), see :func:`pyws.ops.propose_segments`."""
    past = 1 if scoring == "released" else 0
    groups = []
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        for x in tcam[first:last].double().T:
            rows: list[tuple[float, ...]] = []
            for threshold in thresholds:
                above = torch.cat([x.new_zeros(1), (x > threshold).double(), x.new_zeros(1)]).diff()
                for s, e in zip(
                    (above == 1).nonzero()[:, 0].tolist(), (above == -1).nonzero()[:, 0].tolist(), strict=True
                ):
                    if e - s < min_length:
                        continue
                    width = 0.0785 * (e - s) ** 0.9 if past else math.ceil(margin * (e - s) - 1e-9)
                    right = min(len(x) - past, math.floor(e + past + width))
                    around = torch.cat([x[max(0, math.floor(s - width)) : s], x[e + past : max(right, e + past)]])
                    inner = float(x[s : e + past].mean())
                    outer = float(around.mean()) if len(around) else 0.0
                    rows.append((s, e + past, inner - outer, inner))
            groups.append(rows)
    return groups


def superpixel_select(
    labels: Tensor, mask: Tensor, alpha: float = 0.5, beta: float = 0.4, overlap: str = "superpixel"
) -> Tensor:
    """WS^2 Alg. 2 on frames (B, H, W), see :func:`pyws.ops.superpixel_select`."""
    refined = torch.zeros_like(mask)
    for frame, inside, out in zip(labels, mask, refined, strict=True):
        for p in frame.unique():
            here = frame == p
            both = int((here & inside).sum())
            size, mask_size = int(here.sum()), int(inside.sum())
            whole = {"superpixel": size, "iou": size + mask_size - both, "min": min(size, mask_size)}[overlap]
            if both > 0 and both / whole > alpha and size / frame.numel() < beta:
                out |= here
    return refined


def drop_components(masks: Tensor, beta: float) -> Tensor:
    """Masks (B, H, W) without the connected parts that cover beta of the frame or more (8 neighbours)."""
    kept = masks.clone()
    for mask in kept:
        parts = torch.where(mask, torch.arange(1, mask.numel() + 1).view(mask.shape), 0).double()
        while parts.numel() and not torch.equal(
            parts, spread := torch.where(mask, functional.max_pool2d(parts[None], 3, 1, 1)[0], 0)
        ):
            parts = spread
        for part in parts[mask].unique():
            if int((parts == part).sum()) / mask.numel() >= beta:
                mask[parts == part] = False
    return kept


def superpixel_vote(
    labels: Tensor, classes: Tensor, num_classes: int, alpha: float = 0.5, ignore_index: int = 255
) -> Tensor:
    """The majority form of Alg. 2 for class maps, see :func:`pyws.ops.superpixel_vote`."""
    refined = torch.zeros_like(classes)
    for frame, kinds, out in zip(labels, classes, refined, strict=True):
        for p in frame.unique():
            here = frame == p
            votes = kinds[here & (kinds != ignore_index)].to(torch.int64)
            counts = torch.bincount(votes, minlength=num_classes).tolist()
            winner = max(range(num_classes), key=lambda c: (counts[c] if c > 0 else 0, -c))
            if winner > 0 and counts[winner] / int(here.sum()) > alpha:
                out[here] = winner
    return refined


def snippet_rows(segments: Segments, length: int, margin: float, geometry: str) -> Array:
    """W of LinPro for one group, (segments, length): see :func:`pyws.ops.snippet_classes`."""
    matrix = np.zeros((len(segments), length), dtype=np.int8)
    for row, s, e in zip(matrix, segments.start.long().tolist(), segments.end.long().tolist(), strict=True):
        if geometry == "released":
            h = margin * (e - s) ** 0.9
            left, right = int(s - h), min(length - 1, int(e + h + 1))
        else:
            left, right = math.ceil(s - margin * (e - s)), math.ceil(e + margin * (e - s))
        row[max(left, 0) : max(s, 0)] = -1
        row[max(e, 0) : max(right, 0)] = -1
        row[max(s, 0) : max(e, 0)] = 1
    return matrix


def class_mean(values: Tensor, class_ids: Tensor, num_classes: int) -> Tensor:
    """The mean over each class written back, see :func:`pyws.ops.class_mean`."""
    share = torch.nn.functional.one_hot(class_ids, num_classes).to(torch.float64)
    return (share @ (share.T @ values.double() / share.sum(0).clamp(min=1).reshape(-1, *[1] * (values.ndim - 1)))).to(
        values.dtype
    )


def superpixel_confusion(
    labels: Tensor, prediction: Tensor, annotation: Tensor, num_classes: int, alpha: float = 0.5, beta: float = 0.4
) -> tuple[Tensor, Tensor]:
    """Predicted against refined and refined against annotated, see :func:`pyws.ops.superpixel_confusion`."""
    refined = superpixel_vote(labels, prediction.long(), num_classes, alpha)
    for frame, kinds in zip(labels, refined, strict=True):
        for p in frame.unique():
            if int((frame == p).sum()) / frame.numel() >= beta:
                kinds[frame == p] = 0
    histograms = torch.zeros(2, len(labels), num_classes, num_classes, dtype=torch.int64)
    for histogram, ones, others in zip(histograms, (prediction, refined), (refined, annotation), strict=True):
        for b in range(len(labels)):
            for one, other in zip(ones[b].flatten().tolist(), others[b].flatten().tolist(), strict=True):
                if other != 255:
                    histogram[b, one, other] += 1
    return histograms[0], histograms[1]


def scale_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of one map, rounded after each step, see csrc/otsu/otsu_masks.h."""
    x = values.double().numpy() if values.dtype == torch.float64 else values.float().numpy()
    real = x.dtype.type

    def between(inputs: int, outputs: int) -> tuple[Array, Array, Array]:
        at = np.maximum(real(inputs) / real(outputs) * (np.arange(outputs, dtype=real) + real(0.5)) - real(0.5), 0)
        near = np.minimum(at.astype(np.int64), inputs - 1)
        return near, np.minimum(near + 1, inputs - 1), np.minimum(at - near.astype(real), real(1))

    top, bottom, down = between(x.shape[0], size[0])
    left, right, along = between(x.shape[1], size[1])
    rows = x[:, left] * (1 - along) + x[:, right] * along
    return torch.from_numpy(rows[top] * (1 - down[:, None]) + rows[bottom] * down[:, None])


def otsu_masks(maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Maps (B, h, w) scaled and cut, see :func:`pyws.ops.otsu_masks`."""
    units = []
    for one in maps:
        with np.errstate(invalid="ignore"):
            scaled = scale_map(one, size)
        low, high = scaled.amin(), scaled.amax()
        unit = (scaled - low) / (high - low) if low != high else torch.zeros_like(scaled)
        units.append(unit if (scaled + scaled).isfinite().all() else torch.full_like(scaled, torch.nan))
    thresholds = otsu(torch.stack(units))
    return torch.stack(units) > thresholds[:, None, None], thresholds


def background_squares(masks: Tensor, side: int, share: float = 0.0) -> list[list[tuple[int, int]]]:
    """The squares of each frame (B, H, W) in the order of their ranks, see :func:`pyws.ops.find_patches`."""
    height, width = masks.shape[1:]
    return [
        [
            (y, x)
            for y in range(height - side + 1)
            for x in range(width - side + 1)
            if int(mask[y : y + side, x : x + side].sum()) <= int(share * side**2)
        ]
        for mask in masks
    ]


def slic(
    images: Tensor, n_segments: float = 200, compactness: float = 10.0, iterations: int = 10,
    min_size_factor: float = 0.5, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """SLIC in integers, one image after the other, see :func:`pyws.ops.slic`."""
    masks = torch.ones(len(images), *images.shape[2:], dtype=torch.bool) if mask is None else mask
    labels = np.zeros(masks.shape, dtype=np.int32)
    for out, image, inside in zip(labels, images, masks.numpy(), strict=True):
        height, width = inside.shape
        rows, columns = grid_of(height, width, n_segments)
        unit, step = min(32, 1024 / compactness), max(height / rows, width / columns)
        lab = _lab_of_one(image, unit)
        clusters = _clusters_of_one(
            lab, inside, (rows, columns), int(compactness * unit / step * 2**20 + 0.5), iterations
        )
        out[:] = _joined_components(clusters, lab, math.floor(min_size_factor * inside.size / (rows * columns)))
    return torch.from_numpy(labels)


def _lab_of_one(image: Tensor, unit: float) -> Array:
    """(H, W, 3) int64 colours, ``unit`` to one of CIELAB."""
    levels = image.long() * 16 if image.dtype == torch.uint8 else (image.float().clamp(0, 1) * 4080 + 0.5).long()
    gamma, roots = tables().split([4081, 1025])
    matrix = torch.tensor([[14220, 12328, 6220], [6969, 23434, 2365], [582, 3587, 28599]])
    t = torch.einsum("ij,jyx->iyx", matrix, gamma[levels].long()) + 2**14 >> 15
    x, y, z = ((roots[t >> 5] >> 8) + ((roots[t >> 5] & 255) * (t & 31) + 16 >> 5)).numpy().astype(np.int64)
    light, green, blue = (int(factor * unit + 0.5) for factor in (116, 500, 200))
    lightness = (y * light - (int(16 * unit * 32768) - 16384)) >> 15
    return np.stack([lightness, (x - y) * green + 16384 >> 15, (y - z) * blue + 16384 >> 15], -1)


def _clusters_of_one(lab: Array, inside: Array, grid: tuple[int, int], scale: int, iterations: int) -> Array:
    """(H, W) the cluster of each pixel, -1 outside."""
    axes = [np.arange(size) for size in inside.shape]
    y, x = np.meshgrid(*axes, indexing="ij")
    starts = [np.arange(cells) * size // cells for cells, size in zip(grid, inside.shape, strict=True)]
    row, column = (np.searchsorted(start, at, "right") - 1 for start, at in zip(starts, (y, x), strict=True))
    clusters = np.where(inside, row * grid[1] + column, -1)
    points = np.concatenate([lab, np.stack([x, y], -1) * scale // 2**20], -1)
    centers = np.full((grid[0] * grid[1], 5), -1)
    for _ in range(1, iterations):
        for k in np.unique(clusters[inside]):
            here, n = clusters == k, int((clusters == k).sum())
            centers[k, :3] = (2 * lab[here].sum(0) + n) // (2 * n)
            centers[k, 3:] = [(int(at[here].sum()) * 256 + n // 2) // n * scale >> 28 for at in (x, y)]
        best = np.full(inside.shape, np.iinfo(np.int64).max)
        for dy, dx in np.ndindex(3, 3):
            r, c = row + dy - 1, column + dx - 1
            k = np.clip(r, 0, grid[0] - 1) * grid[1] + np.clip(c, 0, grid[1] - 1)
            there = (r >= 0) & (r < grid[0]) & (c >= 0) & (c < grid[1]) & (centers[k, 3] >= 0)
            distance = np.where(there, ((points - centers[k]) ** 2).sum(-1), np.iinfo(np.int64).max)
            clusters = np.where(inside & (distance < best), k, clusters)
            best = np.minimum(best, distance)
    return clusters


def _joined_components(clusters: Array, lab: Array, min_size: int) -> Array:
    """Connected parts in raster order, after the small ones have joined the neighbour of the nearest mean colour."""
    height, width = clusters.shape
    parts = np.full((height, width), -1)
    for seed in zip(*np.nonzero(clusters >= 0), strict=True):
        stack = [seed] if parts[seed] < 0 else []
        number = parts.max() + 1
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < height and 0 <= x < width
            if inside and parts[y, x] < 0 and clusters[y, x] == clusters[seed]:
                parts[y, x] = number
                stack += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    while True:
        mean = {int(p): lab[parts == p].sum(0) // (parts == p).sum() for p in np.unique(parts[parts >= 0])}
        beside = np.concatenate([np.stack([parts[:-1], parts[1:]], -1).reshape(-1, 2),
                                 np.stack([parts[:, :-1], parts[:, 1:]], -1).reshape(-1, 2)])  # fmt: skip
        pairs = {(int(p), int(q)) for a, b in beside if a != b and min(a, b) >= 0 for p, q in ((a, b), (b, a))}
        small = {p for p in mean if (parts == p).sum() < min_size}
        chosen = {}
        for p in sorted({p for p, _ in pairs} & small):
            chosen[p] = min((int(((mean[p] - mean[q]) ** 2).sum()), q) for o, q in pairs if o == p)[1]
        if not chosen:
            break
        joined = parts.copy()
        for p, q in chosen.items():
            ends = sorted({int(joined[parts == p][0]), int(joined[parts == q][0])})
            joined[joined == ends[-1]] = ends[0]
        parts = joined
    return np.unique(parts, return_inverse=True)[1].reshape(parts.shape) - int((parts < 0).any())
