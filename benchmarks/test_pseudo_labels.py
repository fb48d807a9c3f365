"""From activation maps to snippet labels: proposals, fusion and LinPro for a batch of videos in three calls."""

import numpy as np
import pytest
import released
import torch
from test_linpro import agree, dense_scipy, merged_highs
from test_propose_segments import vectorised

import pyws


def own(tcam: torch.Tensor, offsets: torch.Tensor) -> pyws.segments.Labels:
    proposals = pyws.ops.propose_segments(tcam, offsets)
    fused = pyws.ops.fuse_segments(proposals, temperature=0.02, overlap="own")
    lengths = offsets.diff().repeat_interleave(tcam.shape[1])
    return pyws.segments.linpro(fused, lengths, preset="released")


def as_released(column: list[float]) -> float:
    rows = released.fuse(released.proposals(column), temperature=0.02)
    return dense_scipy(rows, len(column)) if rows else 0.0


def as_numpy(column: np.ndarray) -> float:
    """The same with arrays instead of lists, and merged columns in HiGHS."""
    rows = vectorised(column, released.THRESHOLDS)
    if not len(rows):
        return 0.0
    fused = []
    for cluster in released._clusters(rows, 0.25):
        weight = np.exp((rows[cluster, 3] - rows[cluster, 3].max()) / 0.02)
        fused.append(weight @ rows[cluster, :3] / weight.sum())
    return merged_highs(fused, len(column))


@pytest.mark.parametrize(("length", "videos", "classes"), [(200, 32, 2), (750, 16, 2), (5000, 3, 1)])
def test_pseudo_labels(race, length, videos, classes):
    maps = [released.activation_map(length, classes, seed) for seed in range(videos)]
    tcam, offsets = torch.cat(maps), torch.arange(videos + 1) * length
    columns = [column.double().numpy() for video in maps for column in video.T]
    lists = [column.tolist() for column in columns]
    race(
        "TCAM to pseudo labels",
        f"{videos} x l={length}, {classes} classes",
        {
            "pyws": lambda: own(tcam, offsets),
            "released": lambda: [as_released(column) for column in lists],
            "numpy, highspy merged": lambda: [as_numpy(column) for column in columns],
        },
        # A fused bound such as 42.99999999999999 is truncated: the order of a sum moves a margin by one snippet.
        agree=lambda labels, peer: agree(labels, peer, tolerance=0.1),
        goals={"released": 100 if length < 750 else 150, "numpy, highspy merged": 8},
        rounds=7,
    )
