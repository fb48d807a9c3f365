"""fuse_segments and suppress_segments against the released rules in Python and torchvision's compiled suppression."""

import pytest
import released
import torch
import torchvision

import pyws

SIZES = [10, 100, 300, 1000, 3000]
GOALS = {10: 10.0, 100: 50.0, 300: 80.0, 1000: 80.0, 3000: 30.0}


def rows(segments):
    return torch.stack([segments.start, segments.end, segments.score], 1)


@pytest.mark.parametrize("batch", [1, 64], ids=["one group", "64 groups"])
@pytest.mark.parametrize("size", SIZES)
def test_fuse(race, device, size, batch):
    groups = [released.candidates(size, seed) for seed in range(min(batch, 8))] * max(1, batch // 8)
    segments = released.as_segments(groups).to(device)
    boxes = torch.stack([segments.start, torch.zeros_like(segments.start), segments.end,
                         torch.ones_like(segments.end)], 1)  # fmt: skip
    group = torch.repeat_interleave(torch.arange(batch, device=device), size)

    def agree(own, peer):
        if isinstance(peer, list):  # torchvision only suppresses: there is nothing to compare
            expected = torch.tensor([row for fused in peer for row in fused], dtype=torch.float64)
            torch.testing.assert_close(rows(own).cpu(), expected, rtol=1e-9, atol=1e-9)

    race(
        "fuse_segments",
        f"{batch} x {size}",
        {
            "pyws": lambda: pyws.ops.fuse_segments(segments, 0.25, 0.2, overlap="own"),
            "released": lambda: [released.fuse(rows) for rows in groups],
            "torchvision nms": lambda: (
                torchvision.ops.batched_nms(boxes, segments.score, group, 0.25)
                if batch > 1
                else torchvision.ops.nms(boxes, segments.score, 0.25)
            ),
        },
        agree=agree,
        goals={"released": GOALS[size], "torchvision nms": 2.5},
        reason="a call costs some tens of us in torch and Python, whatever the size" if batch == 1 else "",
        longest=5.0,
    )


@pytest.mark.parametrize("size", [100, 1000])
def test_suppress(race, device, size):
    groups = [released.candidates(size, seed) for seed in range(8)]
    segments = released.as_segments(groups).to(device)

    def agree(own, peer):
        expected = torch.tensor([row[:3] for kept in peer for row in kept], dtype=torch.float64)
        torch.testing.assert_close(rows(own).cpu(), expected, rtol=0, atol=0)

    race(
        "suppress_segments",
        f"8 x {size}",
        {
            "pyws": lambda: pyws.ops.suppress_segments(segments, 0.5),
            "released": lambda: [released.suppress(rows) for rows in groups],
        },
        agree=agree,
        goals={"released": 30.0},
        longest=5.0,
    )
