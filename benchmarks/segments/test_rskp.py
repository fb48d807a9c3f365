"""A training epoch of RSKP at THUMOS14's size, against one video at a time with the dense inverse."""

import os
from pathlib import Path

import numpy as np
import pytest
import rskp_dense
import torch

from pyws.models import RSKP

WIDTH, CLASSES, EPOCH, STEP = 2048, 20, 150, 10
SHARED = Path(os.environ.get("PYWS_SHARED", Path(__file__).parents[3] / "shared"))
ANNOTATIONS = SHARED / "data/thumos_gt/Thumos14reduced-Annotations"


def lengths(count):
    """Snippets of ``count`` of the 200 validation videos, evenly taken from the shortest to the longest."""
    if not ANNOTATIONS.exists():
        pytest.skip("needs the THUMOS14 annotations")
    validation = np.load(ANNOTATIONS / "subset.npy").astype(str) == "validation"
    snippets = np.floor(np.load(ANNOTATIONS / "duration.npy")[validation, 0] * 25 / 16).astype(int)
    return np.sort(snippets)[len(snippets) // count // 2 :: len(snippets) // count]


def plain_epoch(model, videos, labels):
    """Losses of all videos; the gradient of each step of ten is summed, as before an optimiser step."""
    losses = []
    for i, video in enumerate(videos):
        if i % STEP == 0:
            model.zero_grad()
        loss = rskp_dense.loss(model, video, labels[i], EPOCH, seed=i)
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), model.representatives.grad.clone()


def own_epoch(model, videos, labels):
    losses = []
    for i, video in enumerate(videos):
        if i % STEP == 0:
            model.zero_grad()
        mask = torch.ones(1, len(video), dtype=torch.bool)
        loss = model.loss(video[None], mask, labels[i : i + 1], EPOCH, torch.tensor([i]))[1]
        loss.sum().backward()
        losses.append(loss.detach())
    return torch.cat(losses), model.representatives.grad.clone()


def agree(own, plain):
    for ours, theirs in zip(own, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_epoch(race):
    generator = torch.Generator().manual_seed(0)
    sizes = np.random.default_rng(0).permutation(lengths(20))
    videos = [torch.randn(size, WIDTH, generator=generator).relu() for size in sizes]
    labels = torch.nn.functional.one_hot(torch.arange(len(videos)) % CLASSES, CLASSES).bool()
    torch.manual_seed(0)
    model = RSKP(WIDTH, CLASSES)
    model.memory_rows.copy_(torch.rand(model.memory_rows.shape, generator=generator))
    race(
        "RSKP training",
        f"{len(videos)} of 200 THUMOS14 lengths, {int(sizes.sum())} snippets, with the memory branch",
        {"pyws": lambda: own_epoch(model, videos, labels), "dense": lambda: plain_epoch(model, videos, labels)},
        agree=agree,
        goals={"dense": 2},
        rounds=3,
    )
