"""RII and mIoU_PA: superpixel_confusion against numpy.bincount with the refined map, and against loops."""

import numpy as np
import pytest
import torch
from test_superpixel_select import photo_labels

import pyws

CASES = [(1, torch.uint8), (1, torch.int64), (16, torch.uint8)]  # frames of 320x480 and 44 classes
CLASSES = 44


def class_maps(height, width):
    """Two maps of large smooth regions, as a segmentation network gives them."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(2, CLASSES, 6, 8, generator=generator)
    maps = torch.nn.functional.interpolate(scores, (height, width), mode="bilinear").argmax(1)
    return maps[0].numpy(), maps[1].numpy()


def bincount(labels, prediction, annotation):
    """The refined map, and two histograms of pairs."""
    k = labels.max() + 1
    area = np.bincount(labels.ravel(), minlength=k)
    table = np.bincount((labels * CLASSES + prediction).ravel(), minlength=k * CLASSES).reshape(k, CLASSES)
    winner = table[:, 1:].argmax(1) + 1
    taken = (table[np.arange(k), winner] > 0.5 * area) & (area < 0.4 * labels.size)
    refined = np.where(taken, winner, 0)[labels]
    pairs = ((prediction, refined), (refined, annotation))
    return [np.bincount((a * CLASSES + b).ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES) for a, b in pairs]


def loops(labels, prediction, annotation):
    """Superpixel by superpixel, then class by class."""
    refined = np.zeros_like(prediction)
    for p in np.unique(labels):
        here = labels == p
        counts = np.bincount(prediction[here], minlength=CLASSES)
        winner = counts[1:].argmax() + 1
        if counts[winner] > 0.5 * here.sum() and here.sum() < 0.4 * labels.size:
            refined[here] = winner
    return [
        np.stack([np.bincount(b[a == c], minlength=CLASSES) for c in range(CLASSES)])
        for a, b in ((prediction, refined), (refined, annotation))
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{str(case[1])[6:]}")
def test_superpixel_confusion(race, device, case):
    batch, dtype = case
    labels = photo_labels(320, 480, 200).astype(np.int32)
    prediction, annotation = class_maps(320, 480)
    own = [torch.from_numpy(np.repeat(x[None], batch, 0)).to(device) for x in (labels, prediction, annotation)]
    own[1:] = [x.to(dtype) for x in own[1:]]

    def each(peer):
        return lambda: [
            np.stack(x) for x in zip(*(peer(labels, prediction, annotation) for _ in range(batch)), strict=True)
        ]

    peers = {"numpy.bincount": each(bincount)}
    if batch == 1:
        peers["loops"] = each(loops)

    def agree(counts, peer):
        for one, other in zip(counts, peer, strict=True):
            np.testing.assert_array_equal(one.cpu().numpy(), other)

    race(
        "superpixel_confusion",
        f"{batch}x320x480 K={labels.max() + 1} C={CLASSES} {str(dtype)[6:]}",
        {"pyws": lambda: pyws.ops.superpixel_confusion(*own, CLASSES), **peers},
        agree=agree,
        goals={"numpy.bincount": 4},
        bytes_moved=sum(x.nbytes for x in own),
    )
