"""Outlines that follow edges of the picture: mean-field inference in a local conditional random field.

Krähenbühl and Koltun, NIPS 2011, over neighbours in a window instead of all pairs (Teichmann and Cipolla, BMVC 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.data.video.frames import Pixels
from pyws.masks.refinement.video_model import Scores

REACH = 8  # pixels to the furthest neighbour in a row or column; every second pixel is one
NEAR = 6.0  # pixels, standard deviation of the weight by distance
LIKE = 20.0  # levels of RGB, standard deviation of the weight by colour
SURE = 1.4  # bound on the log-odds of a pixel: a probability of .8
STEPS = 5


def local_crf(scores: Scores, frame: Pixels, weight: float) -> Scores:
    """Log-odds after mean-field inference.

    Parameters
    ----------
    scores : (K, H, W) log-odds of K ids, each against everything else
    frame : (H, W, 3) uint8 RGB
    weight : pull of neighbours that all agree, in units of twice the log-odds; 0 leaves the scores as they are

    Returns
    -------
    (K, H, W) float32

    Examples
    --------
    >>> frame = np.zeros((24, 24, 3), np.uint8)
    >>> frame[:, 12:] = 255
    >>> scores = np.where(np.arange(24) >= 10, 1.0, -1.0).astype(np.float32) * np.ones((1, 24, 1), np.float32)
    >>> (local_crf(scores, frame, 2.0)[0, 12] > 0).nonzero()[0].min().item()  # the edge of the picture
    12
    """
    if weight == 0:
        return scores
    colours = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)
    unlike = (_neighbours(colours) - colours).square().sum(1)
    steps = torch.tensor([step for step in _steps() if step != (0, 0)], dtype=torch.float32)
    far = steps.square().sum(1)[:, None, None]
    weights = torch.exp(-unlike / (2 * LIKE**2) - far / (2 * NEAR**2))
    weights = weights / weights.sum(0).clamp(min=1e-6)
    own = torch.from_numpy(scores).clamp(-SURE, SURE)
    odds = own
    for _ in range(STEPS):
        agree = torch.stack([(weights * _neighbours(one[None])[:, 0]).sum(0) for one in odds.sigmoid()])
        odds = own + 4 * weight * (agree - 0.5)
    return odds.numpy()


def _steps() -> list[tuple[int, int]]:
    places = range(-REACH, REACH + 1, 2)
    return [(down, right) for down in places for right in places]


def _neighbours(values: Tensor) -> Tensor:
    """Values (C, H, W) of the neighbours of each pixel: (N, C, H, W); the border is repeated beyond it."""
    height, width = values.shape[1:]
    padded = functional.pad(values[None], (REACH,) * 4, mode="replicate")[0]
    moved = [
        padded[:, REACH + down : REACH + down + height, REACH + right : REACH + right + width]
        for down, right in _steps()
        if (down, right) != (0, 0)
    ]
    return torch.stack(moved)
