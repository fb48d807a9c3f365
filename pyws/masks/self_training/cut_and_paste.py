"""Patches of frames around pseudo-annotations, and cut-and-paste composites of them (WS^2 section 3.2).

A good mask, cut out and pasted over another part of the same video, gives a patch that looks real. A bad mask includes
some of its own background or misses some of the object, and the composite shows a seam.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyws import ops
from pyws.data.tagged.rle import box_of
from pyws.data.video.frames import Pixels
from pyws.masks.self_training.image_ops import as_images, gaussian_blur

SEAM = 1.0  # pixels, standard deviation of the blur of a mask's edge
RELAXED = 0.01  # share of a background patch that may be foreground, where no patch without any exists


class Square(NamedTuple):
    """A square of a frame, in pixels."""

    top: int
    left: int
    side: int

    def of(self, picture: NDArray[Any]) -> NDArray[Any]:
        return picture[self.top : self.top + self.side, self.left : self.left + self.side]


class Place(NamedTuple):
    """A square of one of the frames of a video."""

    frame: int
    square: Square


def foreground_square(mask: NDArray[np.bool_], context: float = 0.25) -> Square | None:
    """The square around a mask, with a margin.

    The margin matters: the composite of a mask that fills its whole patch equals the original, and would pass.

    Parameters
    ----------
    mask : (H, W) bool
    context : the side is (1 + context) times the larger side of the mask's box, at most the frame's short side; the
        square is moved to lie inside the frame

    Returns
    -------
    The square; None where the mask is empty.

    Examples
    --------
    >>> mask = np.zeros((20, 30), bool)
    >>> mask[0:4, 10:18] = True
    >>> foreground_square(mask)
    Square(top=0, left=9, side=10)
    """
    if not mask.any():
        return None
    height, width = mask.shape
    top, left, bottom, right = box_of(mask)
    side = min(math.ceil((1 + context) * max(bottom - top, right - left)), height, width)
    top = min(max((top + bottom - side) // 2, 0), height - side)
    left = min(max((left + right - side) // 2, 0), width - side)
    return Square(top, left, side)


class Backgrounds:
    """Where patches without foreground lie in the frames of one video.

    Parameters
    ----------
    masks : (H, W) integers of each frame, of one size, 0 for background; any pixel of any label is foreground
    """

    def __init__(self, masks: Sequence[NDArray[np.integer]]) -> None:
        self._integral = ops.integral_image(torch.from_numpy(np.stack(masks) > 0))

    def draw(self, side: int, rng: np.random.Generator, count: int = 1) -> tuple[list[Place], bool]:
        """So many patches drawn at random, and whether foreground up to RELAXED had to be allowed in them.

        A frame that has such a patch is drawn first, then one of its places, all equally likely. No patches where no
        frame has one.
        """
        frames = torch.arange(len(self._integral))
        for share in (0.0, RELAXED):
            counts = ops.count_patches(self._integral, frames, torch.full_like(frames, side), share).numpy()
            possible = np.flatnonzero(counts)
            if len(possible):
                chosen = rng.choice(possible, count)
                ranks = torch.from_numpy(rng.integers(counts[chosen]))
                query = torch.from_numpy(chosen), torch.full((count,), side), ranks
                corners = ops.find_patches(self._integral, *query, share).tolist()
                squares = [Square(top, left, side) for top, left in corners]
                return [Place(int(index), square) for index, square in zip(chosen, squares, strict=True)], share > 0
        return [], False


def composite(foreground: Tensor, mask: Tensor, background: Tensor, seam: float = SEAM) -> Tensor:
    """Paste what a mask covers over another patch, at the same place, with a soft edge.

    Parameters
    ----------
    foreground, background : (B, 3, S, S) float
    mask : (B, S, S) bool
    seam : pixels, standard deviation of the Gaussian blur of the mask

    Returns
    -------
    (B, 3, S, S) float. Equal to ``foreground`` where that equals ``background``.
    """
    weight = gaussian_blur(mask[:, None].to(foreground.dtype), seam)
    return background + weight * (foreground - background)


@dataclass(frozen=True)
class Sample:
    """The patch of a pseudo-annotation of one label in one frame, and its composite.

    Parameters
    ----------
    real : (3, S, S) float in [0, 1], the patch of the frame
    pasted : (3, S, S) float in [0, 1], the composite; None where no frame of the video has a background of this size
    mask : (S, S) bool
    square : where the patch is in its frame
    places : backgrounds that it can be pasted over; the composite has the first of them
    relaxed : whether the backgrounds contain foreground, up to the share RELAXED
    """

    real: Tensor
    pasted: Tensor | None
    mask: Tensor
    square: Square
    places: list[Place]
    relaxed: bool = False


def parts_of(mask: NDArray[np.bool_], min_share: float = 0.1) -> list[NDArray[np.bool_]]:
    """The connected parts (8 neighbours) of a mask (H, W), row by row, but those below ``min_share`` of its pixels.

    Examples
    --------
    >>> mask = np.zeros((4, 9), bool)
    >>> mask[:, :3], mask[:2, 5:8] = True, True
    >>> [int(part.sum()) for part in parts_of(mask)]
    [12, 6]
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3), bool))
    parts = [labels == number for number in range(1, count + 1)]
    return [part for part in parts if part.sum() >= min_share * mask.sum()]


def cut(
    pictures: Sequence[Pixels],
    index: int,
    chosen: NDArray[np.bool_],
    backgrounds: Backgrounds,
    rng: np.random.Generator,
    context: float = 0.25,
    count: int = 1,
) -> Sample:
    """Cut out the patch of a mask in a frame and paste it over a background of the same video.

    Parameters
    ----------
    pictures : (H, W, 3) uint8 of each frame of the video
    index : the frame
    chosen : (H, W), the pixels of a label in it, or a part of them
    backgrounds : backgrounds of all masks of the video
    rng : draws the background
    context : see :func:`foreground_square`
    count : backgrounds that are drawn
    """
    square = foreground_square(chosen, context)
    if square is None:
        raise ValueError("cut: chosen must have at least one pixel, got none")
    real, mask = as_images([square.of(pictures[index])]), torch.from_numpy(square.of(chosen).copy())
    places, relaxed = backgrounds.draw(square.side, rng, count)
    pasted = paste(real[0], mask, pictures[places[0].frame], places[0].square) if places else None
    return Sample(real[0], pasted, mask, square, places, relaxed)


def paste(real: Tensor, mask: Tensor, picture: Pixels, square: Square) -> Tensor:
    """The composite (3, S, S) of a patch (3, S, S), its mask (S, S) bool, and a square of another picture."""
    return composite(real[None], mask[None], as_images([square.of(picture)]))[0]
