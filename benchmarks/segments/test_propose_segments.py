"""propose_segments against the released rule in Python and the same in vectorised NumPy."""

import numpy as np
import pytest
import released
import torch

import pyws


def vectorised(column, thresholds, min_length=2):
    """All thresholds at once, means from running sums."""
    length = len(column)
    above = np.zeros((len(thresholds), length + 2), dtype=np.int8)
    above[:, 1:-1] = column > np.asarray(thresholds)[:, None]
    steps = np.diff(above, axis=1)
    start, end = np.nonzero(steps == 1)[1], np.nonzero(steps == -1)[1]
    size = end - start
    keep = size >= min_length
    start, end, size = start[keep], end[keep], size[keep]
    margin = 0.0785 * size**0.9
    sums = np.concatenate([[0.0], np.cumsum(column, dtype=np.float64)])
    stop = np.minimum(end + 1, length)
    inner = (sums[stop] - sums[start]) / (stop - start)
    left = np.maximum(0, (start - margin).astype(np.int64))
    right_begin = np.minimum(end + 1, length)
    right = np.maximum(right_begin, np.minimum(length - 1, (end + margin + 1).astype(np.int64)))
    around = sums[start] - sums[left] + sums[right] - sums[right_begin]
    outer = around / np.maximum(start - left + right - right_begin, 1)
    return np.stack([start, end + 1, inner - outer, inner], 1)


@pytest.mark.parametrize(("length", "videos", "classes"), [(200, 1, 1), (750, 1, 1), (5000, 1, 1), (200, 8, 20),
                                                            (750, 8, 20)])  # fmt: skip
def test_propose(race, device, length, videos, classes):
    maps = [released.activation_map(length, classes, seed) for seed in range(videos)]
    tcam = torch.cat(maps).to(device)
    offsets = torch.arange(videos + 1, device=device) * length
    columns = [column.numpy() for video in maps for column in video.T]
    thresholds = released.THRESHOLDS
    doubles = [column.astype(np.float64) for column in columns]

    def agree(own, peer):
        answer = torch.stack([own.start, own.end, own.score, own.weight], 1).cpu()
        expected = torch.from_numpy(np.concatenate([np.asarray(rows, dtype=np.float64) for rows in peer]))
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-9)

    race(
        "propose_segments",
        f"{videos} x {length}, {classes} classes",
        {
            "pyws": lambda: pyws.ops.propose_segments(tcam, offsets),
            "released": lambda: [released.proposals(column) for column in columns],
            "numpy": lambda: [vectorised(column, thresholds) for column in doubles],
        },
        agree=agree,
        goals={"released": 250.0, "numpy": 5.0},
        longest=5.0,
    )
