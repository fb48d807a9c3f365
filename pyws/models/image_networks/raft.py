"""RAFT (Teed and Deng, ECCV 2020): optical flow by torchvision's networks, raft_small and raft_large."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pyws.files import file_sha256
from pyws.models.classifiers import load_weights, read_state
from pyws.models.devices import on_device
from pyws.models.pretrained.weights import DEFAULT, RANDOM, weights_file

NAMES = ("raft_small", "raft_large")
STRIDE = 8  # pixels between two positions of its features
SMALLEST_SIDE = 128  # smallest side for which its four levels of correlations have a position each


@dataclass(frozen=True)
class Raft:
    """From two frames (H, W, 3) uint8 RGB of any one size to the flow between them (H, W, 2) float32, in pixels.

    ``pyws.data.video.optical_flow.dense_flow`` takes it for a method. Its text names network and weights.

    Parameters
    ----------
    name : "raft_small" or "raft_large"
    weights : SHA-256 of the file of its weights, or "random"
    network : torchvision's network, in eval mode
    device : where the network is

    Examples
    --------
    >>> raft = load_raft("raft_small", "random")
    >>> str(raft), raft(*np.zeros((2, 30, 44, 3), np.uint8)).shape
    ('raft_small random', (30, 44, 2))
    """

    name: str
    weights: str
    network: nn.Module = field(repr=False)
    device: torch.device

    @torch.no_grad()
    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = first.shape[:2]
        found = self.network(self._input(first), self._input(second))[-1]
        return found[0, :, :height, :width].permute(1, 2, 0).cpu().numpy()

    def __str__(self) -> str:
        return f"{self.name} {self.weights}"

    def _input(self, frame: NDArray[np.uint8]) -> Tensor:
        """(1, 3, h, w) in [-1, 1], its last row and column repeated up to a size that the network takes."""
        image = on_device(torch.tensor(frame), self.device).permute(2, 0, 1)[None] / 127.5 - 1
        bottom, right = (max(SMALLEST_SIDE - side, -side % STRIDE) for side in frame.shape[:2])
        return functional.pad(image, (0, right, 0, bottom), mode="replicate")


def load_raft(name: str, weights: str | os.PathLike[str] = DEFAULT, device: torch.device | None = None) -> Raft:
    """A network with published weights, or with those of a file.

    Parameters
    ----------
    name : "raft_small" or "raft_large"
    weights : "default" for torchvision's, fetched once; their name, such as "C_T_V2"; a file; or "random"
    device : where it runs; None for the CPU

    Raises
    ------
    DataError : weights that are neither here nor to be had, a damaged file, or one of another network
    ValueError : no such network, or no weights of that name
    """
    from torchvision import models

    if name not in NAMES:
        raise ValueError(f"optical flow: the network must be {' or '.join(NAMES)}, got {name!r}")
    network = models.get_model(name, weights=None).eval()
    digest = RANDOM
    if str(weights) != RANDOM:
        file = weights_file(name, weights)
        load_weights(network, read_state(file), name, file)
        digest = file_sha256(file)
    place = device or torch.device("cpu")
    return Raft(name, digest, network.to(place).requires_grad_(False), place)
