"""slic against scikit-image and fast-slic, at equal superpixels, compactness and iterations, and up to 4K frames.

fast-slic is optional: `pip install --no-build-isolation fast-slic` needs Cython. How well superpixels keep to objects
is measured by slic_quality.py.
"""

import cv2
import numpy as np
import pytest
import torch
from skimage.data import cat
from skimage.segmentation import slic

import pyws

try:
    from fast_slic.avx2 import SlicAvx2
except ImportError:
    SlicAvx2 = None


def photographs(batch, height, width):
    """Crops of one photograph, enlarged, with the noise of a camera; (B, H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    crops = [cv2.resize(cat()[b * 4 :, b * 4 :], (width, height), interpolation=cv2.INTER_CUBIC) for b in range(batch)]
    return np.stack([np.clip(crop + rng.normal(size=crop.shape) * 4, 0, 255).astype(np.uint8) for crop in crops])


def with_fast_slic(frames, count, stride):
    """An iteration visits every third row where stride is 3, fast-slic's default; at all where it is 1."""
    makers = [
        SlicAvx2(num_components=count, compactness=10, subsample_stride=stride) for _ in frames
    ]  # they keep state
    return np.stack([make.iterate(frame, 10) for make, frame in zip(makers, frames, strict=True)])


def agree(own, peer):
    """Nearly as many superpixels. Where their borders lie is each one's own matter."""
    counts = [np.mean([len(np.unique(one)) for one in labels]) for labels in (own, peer)]
    assert 0.5 < counts[0] / counts[1] < 2


@pytest.mark.parametrize(
    ("batch", "height", "width", "count"),
    [(1, 240, 320, 100), (1, 320, 480, 200), (1, 320, 480, 500), (1, 480, 854, 200), (8, 320, 480, 200)],
)
def test_slic(race, device, batch, height, width, count):
    frames = photographs(batch, height, width)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().to(device)
    peers = {
        "pyws": lambda: pyws.ops.slic(images, count),
        "scikit-image": lambda: np.stack(
            [slic(frame, n_segments=count, compactness=10, max_num_iter=10, start_label=0) for frame in frames]
        ),
    }
    if SlicAvx2 is not None:
        peers["fast-slic (AVX2)"] = lambda: with_fast_slic(frames, count, 3)
        peers["fast-slic, all rows"] = lambda: with_fast_slic(frames, count, 1)
    race(
        "slic",
        f"{batch}x{height}x{width} K={count}",
        peers,
        agree=agree,
        goals={"scikit-image": 9, "fast-slic (AVX2)": 1},
        bytes_moved=images.nbytes + 4 * batch * height * width,
    )


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (2160, 3840)])
def test_large_frames(race, device, height, width):
    """Against as many pixels in frames of 320x480, with superpixels of one size: 1 is linear growth."""
    area = 768
    large, small = (
        torch.from_numpy(photographs(*shape)).permute(0, 3, 1, 2).contiguous().to(device)
        for shape in ((1, height, width), (1, 320, 480))
    )
    count = round(height * width / (320 * 480))
    race(
        "slic",
        f"{height}x{width}",
        {
            "pyws": lambda: pyws.ops.slic(large, region_area=area),
            f"{count} frames of 320x480": lambda: [pyws.ops.slic(small, region_area=area) for _ in range(count)],
        },
        goals={f"{count} frames of 320x480": 0.8},
    )
