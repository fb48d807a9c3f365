"""One background patch a frame, drawn evenly: integral images in pyws, and in NumPy with numpy.argwhere."""

import numpy as np
import pytest
import torch

import pyws


def some_masks(frames, height, width):
    """A disc that moves through the frame."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x - width * k / frames) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2 for k in range(frames)])


def numpy_patches(masks, sides, draws):
    """For each frame the patch of the drawn rank, from the list of all places."""
    corners = []
    for mask, side, draw in zip(masks, sides, draws, strict=True):
        sums = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        free = np.argwhere(boxes == 0)
        corners.append(free[int(draw * len(free))])
    return np.stack(corners)


def own_patches(masks, sides, draws):
    integral = pyws.ops.integral_image(masks)
    frames = torch.arange(len(masks), device=masks.device)
    counts = pyws.ops.count_patches(integral, frames, sides)
    return pyws.ops.find_patches(integral, frames, sides, (draws * counts).long())


@pytest.mark.parametrize("frames", [1, 20])
def test_background_patches(race, device, frames):
    masks = some_masks(frames, 320, 480)
    rng = np.random.default_rng(0)
    sides, draws = rng.integers(40, 110, frames), rng.random(frames)
    own = [torch.from_numpy(x).to(device) for x in (masks, sides, draws)]
    race(
        "background patches",
        f"{frames}x320x480, one a frame",
        {"pyws": lambda: own_patches(*own), "numpy": lambda: numpy_patches(masks, sides, draws)},
        agree=lambda corners, peer: np.testing.assert_array_equal(corners.cpu().numpy(), peer),
        goals={"numpy": 3},
        bytes_moved=masks.nbytes,
    )
