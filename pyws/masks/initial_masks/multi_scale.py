"""Multi-scale class activation maps: the mean over scales and mirror images of a frame, raised to a power."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyws.masks.initial_masks.cam_to_mask import Scope, scaled_maps


def multi_scale_cam(
    cam: Callable[[float, bool], Tensor],
    size: tuple[int, int],
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    power: float = 1.0,
    scope: Scope = "frame",
) -> Tensor:
    """Average class activation maps over scales and mirror images.

    A small input shows whole objects, a large one their outline. A power above 1 makes masks tighter: Otsu's threshold
    of the map rises.

    Parameters
    ----------
    cam : (scale, mirrored) to maps (B, K, h, w) of the frames at that scale, or of their mirror images
    size : (H, W) size of the frames
    scales : factors of the classifier's input size
    mirror : whether the mirror images are averaged too
    power : exponent of the averaged map in [0, 1]
    scope : values that become [0, 1] together, see :func:`~pyws.masks.initial_masks.cam_to_mask.scaled_maps`

    Returns
    -------
    (B, K, h, w), the map itself, for one scale without mirror image and power; otherwise (B, K, H, W) in [0, 1]

    Examples
    --------
    >>> ramp = torch.tensor([[[[0.0, 1.0, 2.0, 4.0]]]])
    >>> multi_scale_cam(lambda scale, mirrored: ramp, (1, 4), mirror=True, power=2.0)
    tensor([[[[0.2500, 0.1406, 0.1406, 0.2500]]]])
    """
    maps = [cam(scale, False) for scale in scales]
    if mirror:
        maps += [cam(scale, True).flip(3) for scale in scales]
    if len(maps) == 1 and power == 1:
        return maps[0]
    return torch.stack([scaled_maps(one, size, scope) for one in maps]).mean(0) ** power
