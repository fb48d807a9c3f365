"""otsu against scikit-image, which it equals, and OpenCV, which needs maps of 8 bits."""

import cv2
import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

import pyws

FRAMES = [(1, 240, 320), (1, 320, 480), (8, 320, 480)]
SMALL = [(8, 14, 14), (64, 14, 14), (512, 14, 14)]


def smooth_maps(shape):
    """Noise at a fourteenth of the size, enlarged: what a class activation map looks like on its frame."""
    batch, height, width = shape
    small = torch.rand(batch, 1, -(-height // 14) + 1, -(-width // 14) + 1, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[:, 0].contiguous()


def opencv(maps):
    cv2.setNumThreads(torch.get_num_threads())
    thresholds = []
    for one in maps:
        low, high = float(one.min()), float(one.max())
        bytes_ = cv2.convertScaleAbs(one, alpha=255 / (high - low), beta=-low * 255 / (high - low))
        level, _ = cv2.threshold(bytes_, 0, 255, cv2.THRESH_OTSU)
        thresholds.append(low + level * (high - low) / 255)
    return torch.tensor(thresholds)


def agree(own, peer):
    """With bins of 8-bit levels OpenCV is up to 8 levels off, and more where two splits are nearly as good."""
    assert (own.cpu() - peer).abs().median() <= 8 / 255


@pytest.mark.parametrize("shape", FRAMES + SMALL, ids=lambda shape: "x".join(map(str, shape)))
def test_otsu(race, device, shape):
    maps = smooth_maps(shape) if shape in FRAMES else torch.relu(torch.randn(shape))
    on_device, in_numpy = maps.to(device), maps.numpy()
    assert pyws.ops.otsu(on_device).tolist() == [threshold_otsu(one) for one in in_numpy]
    small = shape in SMALL
    race(
        "otsu",
        "x".join(map(str, shape)),
        {
            "pyws": lambda: pyws.ops.otsu(on_device),
            "scikit-image": lambda: torch.from_numpy(np.array([threshold_otsu(one) for one in in_numpy])).float(),
            "OpenCV (8 bits)": lambda: opencv(in_numpy),
        },
        agree=agree,
        goals={"scikit-image": 60 if small else 6, "OpenCV (8 bits)": 4 if small else 1.2},
        bytes_moved=maps.nbytes,
    )
