"""superpixel_select against a pair of numpy.bincount, scikit-image's regionprops and the loop over superpixels."""

import numpy as np
import pytest
import torch
from skimage.data import cat
from skimage.measure import regionprops
from skimage.segmentation import slic
from skimage.transform import resize

import pyws

CASES = [  # height, width, superpixels asked for, batch, dtype
    (240, 320, 300, 1, torch.int32),
    (240, 320, 300, 1, torch.int64),
    (480, 320, 500, 1, torch.int32),
    (480, 320, 500, 1, torch.int64),
    (480, 320, 500, 16, torch.int32),
]


def photo_labels(height, width, superpixels):
    return slic(resize(cat(), (height, width)), n_segments=superpixels, start_label=0)


def disc(height, width):
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return x**2 + y**2 < 0.4


def bincount(labels, mask):
    area = np.bincount(labels.ravel())
    inside = np.bincount(labels[mask], minlength=len(area))
    return ((inside > 0.5 * area) & (area < 0.4 * labels.size))[labels]


def region_properties(labels, mask):
    refined = np.zeros_like(mask)
    for region in regionprops(labels + 1, intensity_image=mask):
        if region.intensity_mean > 0.5 and region.area < 0.4 * mask.size:
            refined[tuple(region.coords.T)] = True
    return refined


def loop(labels, mask):
    refined = np.zeros_like(mask)
    for p in np.unique(labels):
        here = labels == p
        if (here & mask).sum() > 0.5 * here.sum() and here.sum() < 0.4 * mask.size:
            refined |= here
    return refined


@pytest.mark.parametrize("kind", ["slic", "random"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[3]}x{case[0]}x{case[1]}-{str(case[4])[6:]}")
def test_superpixel_select(race, device, case, kind):
    height, width, superpixels, batch, dtype = case
    labels, mask = photo_labels(height, width, superpixels), disc(height, width)
    if kind == "random":
        labels = np.random.default_rng(0).integers(0, labels.max() + 1, labels.shape)
    labels = labels.astype(np.int32 if dtype == torch.int32 else np.int64)
    frames, masks = (torch.from_numpy(np.repeat(x[None], batch, 0)).to(device) for x in (labels, mask))

    def each(peer):
        return lambda: np.stack([peer(labels, mask) for _ in range(batch)])

    peers = {"numpy.bincount": each(bincount)}
    goals = {"numpy.bincount": 2 if kind == "random" else 7 if dtype == torch.int32 else 4}
    if kind == "slic" and batch == 1:
        peers |= {"regionprops": each(region_properties), "loop": each(loop)}
        goals |= {"loop": 500} if dtype == torch.int32 and superpixels > 300 else {}
    race(
        "superpixel_select",
        f"{batch}x{height}x{width} {kind} K={labels.max() + 1} {str(dtype)[6:]}",
        {"pyws": lambda: pyws.ops.superpixel_select(frames, masks).mask, **peers},
        agree=lambda own, peer: np.testing.assert_array_equal(own.cpu().numpy(), peer),
        goals=goals,
        bytes_moved=frames.nbytes + 2 * masks.nbytes,
    )
