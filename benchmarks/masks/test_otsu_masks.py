"""otsu_masks against the same steps one by one in PyTorch with pyws's otsu, in scikit-image and in OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

import pyws

CASES = [((1, 20, 30), (320, 480)), ((16, 20, 30), (320, 480)), ((8, 15, 27), (480, 854))]


def steps(maps, size):
    scaled = torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    low, high = scaled.amin((1, 2), keepdim=True), scaled.amax((1, 2), keepdim=True)
    scaled = (scaled - low) / (high - low)
    return scaled > pyws.ops.otsu(scaled)[:, None, None]


def scikit_image(maps, size):
    """What people write: the map scaled by OpenCV, in [0, 1], cut by scikit-image."""
    masks = []
    for one in maps:
        scaled = cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR)
        scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        masks.append(scaled > threshold_otsu(scaled))
    return torch.from_numpy(np.stack(masks))


def opencv(maps, size):
    """Scaled, made 8 bits and cut by OpenCV alone."""
    cv2.setNumThreads(torch.get_num_threads())
    masks = []
    for one in maps:
        scaled = cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR)
        levels = cv2.normalize(scaled, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
        masks.append(cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1])
    return torch.from_numpy(np.stack(masks)).bool()


def agree(own, peer):
    """OpenCV scales in its own fixed weights, and its 8 bits move the threshold: nearly all pixels agree."""
    assert (own.cpu() != peer.cpu()).float().mean() < 0.03


@pytest.mark.parametrize(("shape", "size"), CASES, ids=str)
def test_otsu_masks(race, device, shape, size):
    maps = torch.relu(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    on_device, in_numpy = maps.to(device), maps.numpy()
    race(
        "otsu_masks",
        f"{'x'.join(map(str, shape))} to {size[0]}x{size[1]}",
        {
            "pyws": lambda: pyws.ops.otsu_masks(on_device, size).masks,
            "PyTorch, pyws's otsu": lambda: steps(on_device, size),
            "OpenCV, scikit-image": lambda: scikit_image(in_numpy, size),
            "OpenCV (8 bits)": lambda: opencv(in_numpy, size),
        },
        agree=agree,
        goals={"PyTorch, pyws's otsu": 2, "OpenCV, scikit-image": 6},
        bytes_moved=maps.nbytes + shape[0] * size[0] * size[1],
    )
