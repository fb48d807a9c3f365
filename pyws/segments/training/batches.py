"""Batches of videos of many lengths: which are padded together, in which order they are trained, from which seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyws.data.features.dataset import FeatureSet
from pyws.models.devices import on_device

_MASK = (1 << 64) - 1
_SMALL = 4096  # positions


def by_length(videos: Sequence[int], lengths: np.ndarray, snippets: int) -> list[list[int]]:
    """Videos in batches of like length, longest first, equal lengths in the order of their indices.

    A batch has at most ``snippets`` positions, padding included, unless it is one video. In a batch of more than 4096
    positions no video is shorter than half of the longest; below that a batch more costs more than the padding.

    Examples
    --------
    >>> by_length([0, 1, 2, 3], np.array([5, 100, 60, 90]), 200)
    [[1, 3], [2, 0]]
    >>> by_length([0, 1, 2], np.array([2100, 900, 2000]), 10000)
    [[0, 2], [1]]
    >>> by_length([0, 1], np.array([2048, 900]), 10000)  # 4096 positions
    [[0, 1]]
    """
    batches: list[list[int]] = []
    for video in sorted(videos, key=lambda video: (-lengths[video], video)):
        longest = lengths[batches[-1][0]] if batches else 0
        positions = (len(batches[-1]) + 1) * longest if batches else 0
        if batches and positions <= snippets and (positions <= _SMALL or 2 * lengths[video] >= longest):
            batches[-1].append(video)
        else:
            batches.append([video])
    return batches


def steps(seed: int, epoch: int, videos: int, size: int) -> list[np.ndarray]:
    """The videos of each optimiser step of an epoch: all of them once, in an order of seed and epoch alone."""
    order = np.random.default_rng([seed, epoch]).permutation(videos)
    return [order[start : start + size] for start in range(0, videos, size)]


def noise_seeds(seed: int, epoch: int, videos: Sequence[int]) -> Tensor:
    """(B,) int64 in [0, 2^63): seeds of the noise of each video, a function of these three numbers alone.

    Examples
    --------
    >>> bool((noise_seeds(1, 2, [3, 4])[1:] == noise_seeds(1, 2, [4])).all())
    True
    """
    base = _mixed(_mixed(seed & _MASK) ^ (epoch & _MASK))
    return torch.tensor([_mixed(base ^ video) >> 1 for video in videos], dtype=torch.int64)


def _mixed(value: int) -> int:
    """splitmix64: a bijection of 64-bit numbers that sends neighbours far apart."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Videos:
    """The features of a data set as padded batches; as many as fit are kept in memory.

    Parameters
    ----------
    data : the videos
    device : device of the batches' features
    cache_mib : features kept in memory
    """

    def __init__(self, data: FeatureSet, device: torch.device, cache_mib: float = 2048) -> None:
        self.data, self.device = data, device
        self.tags = torch.from_numpy(data.tags)
        self._free_bytes = cache_mib * 2**20
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.data.names)

    def batch(self, videos: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, L, D) features, zeros at padding, and (B, L) bool on the host, True at real snippets."""
        lengths = torch.from_numpy(self.data.lengths[list(videos)])
        longest = int(lengths.max())
        mask = torch.arange(longest) < lengths[:, None]
        features = torch.zeros(len(videos), longest, self.data.width)
        for row, video in enumerate(videos):
            features[row, : lengths[row]] = self._features(video)
        return on_device(features, self.device), mask

    def _features(self, video: int) -> Tensor:
        kept = self._kept.get(video)
        if kept is None:
            kept = torch.from_numpy(self.data.features(video))
            if kept.nbytes <= self._free_bytes:
                self._free_bytes -= kept.nbytes
                self._kept[video] = kept
        return kept
