"""Masks of one video, refined by a model of that video alone.

The masks of single frames are wrong in ways that differ from frame to frame. Three things hold over the whole video
and are fitted to all its masks at once: what an object looks like (:mod:`.appearance`), that it stays near its place,
and that it goes where optical flow says. Papazoglou and Ferrari, ICCV 2013, and Tokmakov et al., ECCV 2016, segment
videos by such models; here pseudo-annotations from tags begin it, and no graph is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.ahead import Item, Made, map_in_threads
from pyws.data.video.frames import Pixels
from pyws.data.video.optical_flow import Flow, FlowEstimator, FlowMethod, carry, consistency, dense_flow
from pyws.masks.refinement.appearance import Floats, fit_logistic, superpixel_means
from pyws.masks.refinement.config import RefinementConfig

Scores = NDArray[np.float32]


def refine_video(
    frames: Sequence[Pixels],
    superpixels: Sequence[NDArray[np.int32]],
    features: Sequence[NDArray[np.float32]],
    masks: Sequence[Pixels],
    ids: Sequence[int],
    config: RefinementConfig,
    method: FlowMethod | FlowEstimator = "dis",
) -> list[Scores]:
    """Log-odds of each id against everything else, at each pixel of the frames of a video.

    Parameters
    ----------
    frames : (H, W, 3) uint8 each, in the order of time
    superpixels : (H, W) labels from 0 of each frame
    features : (K, D) features of the superpixels of each frame
    masks : (H, W) uint8 each, 0 for background, 255 for pixels that say nothing
    ids : those that are refined
    config : configuration of the model
    method : how optical flow is found, see :func:`pyws.data.video.optical_flow.dense_flow`

    Returns
    -------
    (ids, H, W) float32 of each frame; an id that no mask has is below 0 everywhere

    Examples
    --------
    >>> frame = np.zeros((32, 32, 3), np.uint8)
    >>> frame[8:24, 8:24] = 255
    >>> squares = np.arange(1024, dtype=np.int32).reshape(32, 32) // 4 % 8 + np.arange(32)[:, None] // 4 * 8
    >>> colours = superpixel_means(squares, frame.transpose(2, 0, 1)).astype(np.float32)
    >>> mask = np.zeros((32, 32), np.uint8)
    >>> mask[12:28, 8:24] = 1  # four pixels too low
    >>> (scores,) = refine_video([frame], [squares], [colours], [mask], [1], RefinementConfig(place_weight=0.5))
    >>> bool(((scores[0] > 0) == (frame[..., 0] > 0)).all())
    True
    """
    areas = [np.bincount(labels.ravel()).astype(np.float64) for labels in superpixels]
    valid = [
        superpixel_means(labels, (mask != IGNORE)[None])[:, 0] for labels, mask in zip(superpixels, masks, strict=True)
    ]
    weights = np.concatenate([area * share for area, share in zip(areas, valid, strict=True)])
    inputs = np.concatenate(features).astype(np.float64)
    inputs = (inputs - inputs.mean(0)) / np.maximum(inputs.std(0), 1e-6)
    flows = flows_between(frames, method)
    found = [[mask == one for mask in masks] for one in ids]
    scores = [np.full((len(ids), *mask.shape), -np.inf, np.float32) for mask in masks]
    for _ in range(config.rounds):
        scores = [np.full((len(ids), *mask.shape), -1.0, np.float32) for mask in masks]
        for number, own in enumerate(found):
            if any(mask.any() for mask in own):
                targets = np.concatenate(
                    [superpixel_means(a, b[None])[:, 0] for a, b in zip(superpixels, own, strict=True)]
                )
                targets = np.clip(targets / np.maximum(np.concatenate(valid), 1e-9), 0, 1)
                evidence = _appearance(inputs, targets, weights, superpixels, config)
                for score, seen, place in zip(scores, evidence, places(own, config.place_sigma), strict=True):
                    score[number] = seen + config.place_weight * (2 * place - 1)
        scores = over_time(flows, scores)
        winners = [np.where(score.max(0) > 0, score.argmax(0), -1) for score in scores]
        found = [[winner == number for winner in winners] for number in range(len(ids))]
    return scores


def _appearance(
    inputs: Floats,
    targets: Floats,
    weights: Floats,
    superpixels: Sequence[NDArray[np.int32]],
    config: RefinementConfig,
) -> list[Floats]:
    """Log-odds (H, W) of each frame, by a model of all superpixels."""
    coefficients = fit_logistic(inputs, targets, weights, config.l2)
    odds = inputs @ coefficients[:-1] + coefficients[-1]
    ends = np.cumsum([labels.max() + 1 for labels in superpixels])
    return [part[labels] for part, labels in zip(np.split(odds, ends[:-1]), superpixels, strict=True)]


def places(masks: Sequence[NDArray[np.bool_]], sigma: float) -> list[NDArray[np.float64]]:
    """Each mask (H, W), blurred and divided by its highest value: (H, W) in [0, 1], 0 where it is empty.

    Parameters
    ----------
    sigma : standard deviation of the blur, in square roots of the median area of the masks that are not empty

    Examples
    --------
    >>> mask = np.zeros((9, 9), bool)
    >>> mask[3:6, 3:6] = True
    >>> (place,) = places([mask], 0.5)
    >>> place[4, 4:].round(1).tolist()
    [1.0, 0.9, 0.5, 0.2, 0.1]
    """
    areas = [mask.sum() for mask in masks if mask.any()]
    width = sigma * np.sqrt(np.median(areas)) if areas else 1.0
    down, across = (_blur(side, width) for side in masks[0].shape)

    def place(mask: NDArray[np.bool_]) -> Floats:
        blurred = down @ mask @ across.T
        return blurred / max(blurred.max(), 1e-12)

    return _each(place, masks)


def _blur(side: int, sigma: float) -> Floats:
    """The matrix (side, side) that blurs columns by a Gaussian out to 4 sigma; beyond their ends they stay as they are.

    Wide blurs are faster as products.
    """
    reach = int(4 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-((steps / sigma) ** 2) / 2)
    rows = np.arange(side)[:, None]
    places = rows * side + np.clip(rows + steps, 0, side - 1)
    weights = np.tile(weights / weights.sum(), side)
    return np.bincount(places.ravel(), weights, side * side).astype(np.float64).reshape(side, side)


def flows_between(frames: Sequence[Pixels], method: FlowMethod | FlowEstimator = "dis") -> list[tuple[Flow, Flow]]:
    """The flow from each frame to the next, and from that one back."""

    def both_ways(pair: tuple[Pixels, Pixels]) -> tuple[Flow, Flow]:
        one, other = pair
        return dense_flow(one, other, method), dense_flow(other, one, method)

    return _each(both_ways, pairwise(frames))


def over_time(flows: Sequence[tuple[Flow, Flow]], scores: Sequence[Scores]) -> list[Scores]:
    """Means of scores (K, H, W) with those of the frames before and after, carried along :func:`flows_between` them.

    A neighbour counts as much as the way there and back agrees: not at all where something is hidden or cut.
    """

    def mean(index: int) -> Scores:
        total, count = scores[index].copy(), np.ones(scores[index].shape[1:], np.float32)
        ways = [(index + 1, *flows[index])] if index < len(flows) else []
        if index:
            forth, back = flows[index - 1]
            ways = [(index - 1, back, forth), *ways]
        for there, flow, back in ways:
            weight = consistency(flow, back)
            total += weight * carry(scores[there], flow)
            count += weight
        return total / count

    return _each(mean, range(len(scores)))


def _each(function: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """``function`` of each item, side by side."""
    with closing(map_in_threads(function, items)) as made:
        return list(made)
