"""gradcam3d against what people write today."""

import pytest
import torch

import pyws
from pyws.ops import reference

SHAPES = [(1, 1024, 2, 7, 7), (1, 1024, 8, 14, 14), (8, 1024, 4, 14, 14), (32, 1024, 8, 14, 14)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_gradcam3d(race, device, shape):
    torch.manual_seed(0)
    activations, gradients = torch.randn(shape, device=device), torch.randn(shape, device=device)

    def bmm():
        weights = gradients.flatten(2).mean(-1)
        return torch.relu(torch.bmm(weights[:, None], activations.flatten(2))).reshape(shape[0], *shape[2:])

    race(
        "gradcam3d",
        "x".join(map(str, shape)),
        {
            "pyws": lambda: pyws.ops.gradcam3d(activations, gradients),
            "bmm": bmm,
            "eager": lambda: reference.gradcam3d(activations, gradients),
        },
        agree=lambda own, peer: torch.testing.assert_close(own, peer, rtol=1e-4, atol=1e-5),
        goals={"bmm": 1.5 if shape[-1] == 7 else 1.2 if shape[0] >= 8 else 0.95, "eager": 2.0},
        bytes_moved=2 * activations.nbytes,
    )
