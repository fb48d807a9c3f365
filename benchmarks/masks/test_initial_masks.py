"""Features to refined masks, superpixels given: the first stage behind the networks, and what people write today."""

import cv2
import numpy as np
import torch
from skimage.filters import threshold_otsu
from test_superpixel_select import bincount, photo_labels, region_properties

import pyws

FRAMES, SIZE = 8, (320, 480)
ACTOR, ACTION = (FRAMES, 2048, 20, 30), (1, 1024, FRAMES, 10, 15)  # ResNet-50 at stride 16, I3D


def networks(shape):
    """Features as a ReLU leaves them, and the weights of one class in the linear layer."""
    generator = torch.Generator().manual_seed(shape[1])
    smooth = torch.randn(shape, generator=generator).cumsum(-1).cumsum(-2)
    return torch.relu(smooth), torch.randn(1, shape[1], generator=generator)


def own(actor, action, labels):
    """Both maps from the linear layers, cut on the frame; their union, refined."""
    maps = pyws.ops.gradcam3d_from_head(*actor)[:, 0], pyws.ops.gradcam3d_from_head(*action)[0, 0]
    masks = [pyws.ops.otsu_masks(each, SIZE).masks for each in maps]
    return pyws.ops.superpixel_select(labels, masks[0] | masks[1]).mask


def people(actor, action, labels, refine):
    """The same by NumPy, OpenCV and scikit-image, frame by frame."""
    maps = [np.maximum(np.tensordot(weight[0], features, (0, 1)), 0) for features, weight in (actor, action)]
    refined = []
    for frame in range(FRAMES):
        union = np.zeros(SIZE, bool)
        for one in (maps[0][frame], maps[1][0, frame]):
            scaled = cv2.resize(one, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
            scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
            union |= scaled > threshold_otsu(scaled)
        refined.append(refine(labels, union))
    return np.stack(refined)


def agree(masks, peer):
    """Superpixels turn the last bits of OpenCV's interpolation into whole superpixels now and then."""
    assert (masks.cpu().numpy() != peer).mean() < 0.01
    assert 0.05 < peer.mean() < 0.95


def test_initial_masks(race, device):
    actor, action = networks(ACTOR), networks(ACTION)
    labels = photo_labels(*SIZE, 200)
    stacked = torch.from_numpy(np.repeat(labels[None].astype(np.int32), FRAMES, 0)).to(device)
    on_device = [[x.to(device) for x in pair] for pair in (actor, action)]
    arrays = [[x.numpy() for x in pair] for pair in (actor, action)]
    race(
        "features to refined masks",
        f"{FRAMES} frames of {SIZE[0]}x{SIZE[1]}, actor and action",
        {
            "pyws": lambda: own(*on_device, stacked),
            "OpenCV, scikit-image's regionprops": lambda: people(*arrays, labels, region_properties),
            "OpenCV, scikit-image, numpy.bincount": lambda: people(*arrays, labels, bincount),
        },
        agree=agree,
        goals={"OpenCV, scikit-image's regionprops": 6, "OpenCV, scikit-image, numpy.bincount": 2},
    )
