"""Each operation in a few lines of plain PyTorch or NumPy.

This is the definition, the oracle of the tests and the baseline of the benchmarks. It is never a fallback.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gradcam3d(activations: Tensor, gradients: Tensor, normalize: str | None = None) -> Tensor:
    """WS^2 eq. 4-5 written out, see :func:`pyws.ops.gradcam3d`."""
    weights = gradients.flatten(2).mean(-1)
    maps = torch.relu((weights[:, :, None] * activations.flatten(2)).sum(1))
    if normalize == "minmax":
        low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
        maps = torch.where(high == low, torch.zeros_like(maps), (maps - low) / (high - low))
    return maps.reshape(len(maps), *activations.shape[2:])
