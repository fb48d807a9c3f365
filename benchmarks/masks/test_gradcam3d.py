"""gradcam3d against what people write today."""

import numpy as np
import pytest
import torch

import pyws
from pyws.ops import reference

SHAPES = [(1, 1024, 2, 7, 7), (16, 2048, 7, 7), (1, 1024, 8, 14, 14), (8, 1024, 4, 14, 14), (32, 1024, 8, 14, 14)]
MEMORY_BOUND = "both read each input once at the rate of a plain sum"


def by_bmm(activations, gradients):
    """The fastest form in torch: the means, then a matrix product over the channels."""
    weights = gradients.flatten(2).mean(-1)
    return torch.relu(torch.bmm(weights[:, None], activations.flatten(2))).reshape(len(weights), *activations.shape[2:])


def by_numpy(activations, gradients):
    """The reduction of pytorch-grad-cam: NumPy, with the whole product in memory."""
    axes = tuple(range(2, activations.ndim))
    weights = gradients.mean(axes, keepdims=True)
    return torch.from_numpy(np.maximum((weights * activations).sum(1), 0))


def close(own, peer):
    torch.testing.assert_close(own.cpu(), peer.cpu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_gradcam3d(race, device, shape):
    torch.manual_seed(0)
    activations, gradients = torch.randn(shape, device=device), torch.randn(shape, device=device)
    arrays = activations.cpu().numpy(), gradients.cpu().numpy()
    compiled = torch.compile(reference.gradcam3d)
    race(
        "gradcam3d",
        "x".join(map(str, shape)),
        {
            "pyws": lambda: pyws.ops.gradcam3d(activations, gradients),
            "bmm": lambda: by_bmm(activations, gradients),
            "eager": lambda: reference.gradcam3d(activations, gradients),
            "torch.compile": lambda: compiled(activations, gradients),
            "grad-cam's NumPy": lambda: by_numpy(*arrays),
        },
        agree=close,
        goals={
            "bmm": 1.5 if shape[-1] == 7 else 1.2 if shape[0] >= 8 else 0.95,
            "eager": 2.0,
            "torch.compile": 1.3,
        },
        bytes_moved=2 * activations.nbytes,
        reason=MEMORY_BOUND if activations.nbytes > 2**22 else "the call itself, 20 us",
    )


@pytest.mark.parametrize("case", ["minmax", "channels last"])
def test_variants(race, device, case):
    """What min-max and a layout of neighbouring channels cost beside the plain call."""
    torch.manual_seed(0)
    activations, gradients = torch.randn(8, 1024, 4, 14, 14, device=device), torch.randn(8, 1024, 4, 14, 14)
    gradients = gradients.to(device)
    inputs, normalize = (activations, gradients), "minmax"
    if case == "channels last":
        inputs, normalize = [x.to(memory_format=torch.channels_last_3d) for x in inputs], None
    race(
        "gradcam3d",
        f"{case}, 8x1024x4x14x14",
        {
            case: lambda: pyws.ops.gradcam3d(*inputs, normalize),
            "plain": lambda: pyws.ops.gradcam3d(activations, gradients),
            f"eager, {case}": lambda: reference.gradcam3d(*inputs, normalize),
        },
        goals={"plain": 0.95} if case == "minmax" else {},
    )
