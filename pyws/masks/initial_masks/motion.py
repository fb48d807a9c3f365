"""What moves beside the camera, as weights of activation maps: a tag does not say which of two scooters is meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws.data.video.clips import shrunk
from pyws.data.video.optical_flow import FlowEstimator, FlowMethod, dense_flow, object_motion

OFFSETS = (-4, -2, -1, 1, 2, 4)  # to the frames that a frame is compared with
SHORT_SIDE = 240  # short side of the frames that flow is computed in; lengths below are in their pixels
STILL = 0.1  # pixels a frame: added to the motion, so that what stands still is not lost where nothing moves
KNEE = 1.0  # pixels a frame: motion far above it has the weight 1


def neighbours(sampled: Sequence[int], length: int) -> list[int]:
    """The sampled frames of a video of ``length`` frames, and those that they are compared with; rising.

    Examples
    --------
    >>> neighbours([3], length=6)
    [1, 2, 3, 4, 5]
    """
    near = {index + offset for index in sampled for offset in (0, *OFFSETS)}
    return sorted(index for index in near if 0 <= index < length)


def motion_weights(
    frames: Tensor, read: Sequence[int], sampled: Sequence[int], method: FlowMethod | FlowEstimator = "dis"
) -> Tensor:
    """Weights of the pixels of the sampled frames by how far they move in a frame, beside the camera's motion.

    With r the median, over the frames nearby, of the motion over the distance in frames, a pixel has the weight
    (r + STILL) / (r + KNEE).

    Parameters
    ----------
    frames : (N, H, W, 3) uint8, the frames ``read`` of a video
    read : their indices in the video
    sampled : the indices that get weights
    method : method of :func:`pyws.data.video.optical_flow.dense_flow`

    Returns
    -------
    (B, H, W) float32 in (0, 1]; 1 everywhere in a frame without any other nearby

    Examples
    --------
    >>> frames = torch.randint(256, (1, 96, 128, 3), dtype=torch.uint8).expand(2, -1, -1, -1).clone()
    >>> frames[1, 32:64, 34:66] = frames[0, 32:64, 32:64]
    >>> weights = motion_weights(frames, read=[0, 1], sampled=[1])
    >>> bool(weights[0, 48, 48] > 0.8), bool(weights[0, 80, 110] < 0.2)
    (True, True)
    """
    small = {index: shrunk(frame, SHORT_SIDE) for index, frame in zip(read, frames.cpu().numpy(), strict=True)}
    unit = SHORT_SIDE / min(next(iter(small.values())).shape[:2])
    weights = []
    for index in sampled:
        motions = [
            object_motion(dense_flow(small[index], small[index + offset], method)) * (unit / abs(offset))
            for offset in OFFSETS
            if index + offset in small
        ]
        motion = np.median(motions, 0) if motions else np.full(small[index].shape[:2], np.inf)
        weights.append(torch.from_numpy(1 - (KNEE - STILL) / (motion + KNEE)).float())
    size = (frames.shape[1], frames.shape[2])
    return functional.interpolate(torch.stack(weights)[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
