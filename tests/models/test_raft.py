"""RAFT: torchvision's flow at frames of any size, weights from files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models
from torchvision.transforms._presets import OpticalFlow

from pyws import DataError
from pyws.data.video.optical_flow import dense_flow
from pyws.models.image_networks.raft import load_raft


def frames(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in a file."""
    file = tmp_path_factory.mktemp("raft") / "small.safetensors"
    torch.manual_seed(0)
    save_file(models.get_model("raft_small", weights=None).state_dict(), file)
    return file


@pytest.mark.parametrize(("size", "padded"), [((136, 128), (136, 128)), ((61, 150), (128, 152))])
def test_flow_is_that_of_torchvision(weights, size, padded):
    first, second = frames(*size)
    raft = load_raft("raft_small", weights)
    margins = [(0, more - side) for side, more in zip(size, padded, strict=True)]
    images = [
        torch.from_numpy(np.pad(one, (*margins, (0, 0)), mode="edge")).permute(2, 0, 1)[None] for one in (first, second)
    ]
    with torch.no_grad():
        expected = raft.network(*OpticalFlow()(*images))[-1][0].permute(1, 2, 0)[: size[0], : size[1]]
    found = dense_flow(first, second, raft)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
    assert np.abs(found).max() > 0.01


def test_weights_of_another_network_are_refused(weights, tmp_path):
    with pytest.raises(DataError, match="does not hold the weights of raft_large"):
        load_raft("raft_large", weights)
    with pytest.raises(DataError, match="must be a file of weights"):
        load_raft("raft_small", tmp_path / "none.pth")
    with pytest.raises(ValueError, match="must be raft_small or raft_large, got 'raft'"):
        load_raft("raft", weights)
