"""Masks of one video, refined by a model of that video alone.

The masks of single frames are wrong in ways that differ from frame to frame. Three things hold over the whole video
and are fitted to all its masks at once: what an object looks like (:mod:`.appearance`), that it stays near its place,
and that it goes where optical flow says. Papazoglou and Ferrari, ICCV 2013, and Tokmakov et al., ECCV 2016, segment
videos by such models; here pseudo-annotations from tags begin it, and no graph is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyws.data.tagged.label_space import IGNORE, numbered
from pyws.data.video.ahead import Item, Made, map_in_threads
from pyws.data.video.frames import Pixels
from pyws.data.video.optical_flow import Flow, FlowEstimator, FlowMethod, carry, consistency, dense_flow
from pyws.masks.refinement.appearance import Floats, fit_logistic, superpixel_means
from pyws.masks.refinement.config import RefinementConfig

Scores = NDArray[np.float32]
Watch = Callable[[Iterator[Scores], int], Iterable[Scores]]
FLOW_BYTES = 512 * 2**20  # flow that is kept from one round to the next: 300 frames at the working size


def refine_video(
    frames: Sequence[Pixels],
    superpixels: Sequence[NDArray[np.int32]],
    features: Sequence[NDArray[np.float32]],
    masks: Sequence[Pixels],
    ids: Sequence[int],
    config: RefinementConfig,
    method: FlowMethod | FlowEstimator = "dis",
    watch: Watch = lambda scores, number: scores,
) -> Iterator[Scores]:
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
    watch : is given the frames of each round as they come, and how many rounds there are before it

    Yields
    ------
    (ids, H, W) float32 of each frame; an id that no mask has is below 0 everywhere. Only what follows from one frame to
    the next is in memory, beside what the function is given, the features of all once more, and flow up to FLOW_BYTES.

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
    model, kept = _Appearance(superpixels, features, masks), dict[int, tuple[Flow, Flow]]()
    found = [numbered(mask, ids) for mask in masks]
    for number in range(config.rounds):
        views = [_View(model, found, place + 1, config) for place in range(len(ids))]

        def scores_of(frame: int, views: Sequence[_View] = views) -> Scores:
            return np.stack([view.score(frame) for view in views])

        raw, flows = map_in_threads(scores_of, range(len(frames))), flows_between(frames, method, kept)
        with closing(raw), closing(flows):
            scores = watch(over_time(flows, raw), number)
            if number + 1 == config.rounds:
                yield from scores
            else:
                found = [winners(torch.from_numpy(score)) for score in scores]


def winners(scores: Tensor) -> Pixels:
    """The number of the highest score (K, H, W) of each pixel, from 1; 0 where none is above 0."""
    best, index = scores.max(0)
    return ((index + 1) * (best > 0)).to(torch.uint8).numpy()


class _Appearance:
    """The superpixels of all frames, for models of what they look like.

    Parameters
    ----------
    superpixels, features, masks : see :func:`refine_video`
    """

    def __init__(
        self,
        superpixels: Sequence[NDArray[np.int32]],
        features: Sequence[NDArray[np.float32]],
        masks: Sequence[Pixels],
    ) -> None:
        self.superpixels = superpixels
        shares = self._shares(mask != IGNORE for mask in masks)
        self._valid = np.concatenate(shares)
        self.weights = np.concatenate([np.bincount(labels.ravel()) for labels in superpixels]) * self._valid
        self.starts = np.cumsum([0, *(len(share) for share in shares)])
        self._inputs = np.concatenate(features)
        mean, spread = self._inputs.mean(0, dtype=np.float64), self._inputs.std(0, dtype=np.float64)
        self._inputs -= mean.astype(np.float32)
        self._inputs /= np.maximum(spread, 1e-6).astype(np.float32)

    def _shares(self, masks: Iterable[NDArray[np.bool_]]) -> list[Floats]:
        """The share of each superpixel (K,) that a mask (H, W) of its frame covers, frame by frame."""
        return _each(
            lambda pair: superpixel_means(pair[0], pair[1][None])[:, 0], zip(self.superpixels, masks, strict=True)
        )

    def odds(self, found: Sequence[Pixels], number: int, l2: float) -> Floats:
        """Log-odds of each superpixel for what has a number in masks, by a model fitted to them."""
        shares = self._shares(mask == number for mask in found)
        targets = np.clip(np.concatenate(shares) / np.maximum(self._valid, 1e-9), 0, 1)
        coefficients = fit_logistic(self._inputs, targets, self.weights, l2)
        odds: Floats = self._inputs @ coefficients[:-1].astype(np.float32) + coefficients[-1]
        return odds


class _View:
    """What speaks for one number in the masks of a video: its appearance, and its place in each frame."""

    def __init__(self, model: _Appearance, found: Sequence[Pixels], number: int, config: RefinementConfig) -> None:
        self._model, self._found, self._number, self._weight = model, found, number, config.place_weight
        areas = [int(np.count_nonzero(mask == number)) for mask in found]
        self._odds = model.odds(found, number, config.l2) if any(areas) else None
        self._place = Places(found[0].shape, areas, config.place_sigma)

    def score(self, frame: int) -> NDArray[np.float32]:
        """Log-odds (H, W) of a frame; -1 where the number is in no mask."""
        if self._odds is None:
            return np.full(self._found[frame].shape, -1.0, np.float32)
        start = self._model.starts[frame]
        seen = self._odds[start + self._model.superpixels[frame]]
        place = self._place(self._found[frame] == self._number)
        return (seen + self._weight * (2 * place - 1)).astype(np.float32)


class Places:
    """Masks, blurred and divided by their highest value: (H, W) in [0, 1], 0 where a mask is empty.

    Parameters
    ----------
    shape : (H, W) of the masks
    areas : pixels of all of them
    sigma : standard deviation of the blur, in square roots of the median area of the masks that are not empty

    Examples
    --------
    >>> mask = np.zeros((9, 9), bool)
    >>> mask[3:6, 3:6] = True
    >>> Places(mask.shape, [9], 0.5)(mask)[4, 4:].round(1).tolist()
    [1.0, 0.9, 0.5, 0.2, 0.1]
    """

    def __init__(self, shape: tuple[int, ...], areas: Sequence[int], sigma: float) -> None:
        full = [area for area in areas if area]
        width = sigma * float(np.sqrt(np.median(full))) if full else 1.0
        self._down, self._across = (_blur(side, width) for side in shape)

    def __call__(self, mask: NDArray[np.bool_]) -> Floats:
        blurred = self._down @ mask @ self._across.T
        return blurred / max(blurred.max(), 1e-12)


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


def flows_between(
    frames: Sequence[Pixels],
    method: FlowMethod | FlowEstimator = "dis",
    kept: dict[int, tuple[Flow, Flow]] | None = None,
) -> Generator[tuple[Flow, Flow], None, None]:
    """The flow from each frame to the next, and from that one back.

    What ``kept`` has is not found again; it is given the first of them, up to FLOW_BYTES.
    """
    known = {} if kept is None else kept

    def both_ways(index: int) -> tuple[Flow, Flow]:
        if index in known:
            return known[index]
        one, other = frames[index : index + 2]
        found = dense_flow(one, other, method), dense_flow(other, one, method)
        if kept is not None and (index + 1) * sum(flow.nbytes for flow in found) <= FLOW_BYTES:
            kept[index] = found
        return found

    return map_in_threads(both_ways, range(len(frames) - 1))


def over_time(flows: Iterable[tuple[Flow, Flow]], scores: Iterable[Scores]) -> Iterator[Scores]:
    """Means of scores (K, H, W) with those of the frames before and after, carried along :func:`flows_between` them.

    A neighbour counts as much as the way there and back agrees: not at all where something is hidden or cut.
    """
    ways = iter(flows)
    before: tuple[Scores, Scores, NDArray[np.float32]] | None = None  # scores, and their sums with weights so far
    for score in scores:
        total, count = score.copy(), np.ones(score.shape[1:], np.float32)
        if before is not None:
            forth, back = next(ways)
            earlier, earlier_total, earlier_count = before
            weight = consistency(forth, back)
            yield (earlier_total + weight * carry(score, forth)) / (earlier_count + weight)
            weight = consistency(back, forth)
            total += weight * carry(earlier, back)
            count += weight
        before = score, total, count
    if before is not None:
        yield before[1] / before[2]


def _each(function: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """``function`` of each item, side by side."""
    with closing(map_in_threads(function, items)) as made:
        return list(made)
