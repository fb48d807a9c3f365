"""GradCAM where channels are not first: transformers against plain autograd, models that return more than scores."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.video.mvit import MSBlockConfig, MViT
from torchvision.models.video.swin_transformer import SwinTransformer3d

from pyws.masks import GradCAM
from pyws.masks.cam_layout import Layout, find_layout, tensor_in, with_tensor


def by_autograd(model, layer, inputs, chosen, shape, place=None):
    """Eq. 4-5 read from the page, after ``shape`` has made the layer's output (B, C, *S)."""
    kept = []

    def keep(module, arguments, output):
        values = (output if place is None else output[place]).detach().requires_grad_()
        kept.append(values)
        return values.clone() if place is None else (values.clone(), *output[1:])

    handle = model.get_submodule(layer).register_forward_hook(keep)
    score = model(inputs)[:, chosen].sum()
    handle.remove()
    (gradients,) = torch.autograd.grad(score, kept[0])
    values, gradients = shape(kept[0]), shape(gradients)
    positions = tuple(range(2, values.ndim))
    return torch.relu((gradients.mean(positions, keepdim=True) * values).sum(1)).detach()


def vit():
    return models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=5)


def swin():
    return models.SwinTransformer([2, 2], 8, [1, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=5)


def swin3d():
    return SwinTransformer3d([2, 4, 4], 8, [1, 1], [2, 4], [2, 4, 4], stochastic_depth_prob=0.0, num_classes=5)


def mvit():
    def block(inputs, outputs, kernel, stride):
        return MSBlockConfig(1, inputs, outputs, kernel, kernel, stride, [1, 1, 1])

    blocks = [block(8, 16, [3, 3, 3], [1, 2, 2]), block(16, 16, [], []), block(16, 16, [], [])]
    return MViT((32, 32), 8, blocks, residual_pool=False, residual_with_cls_embed=False, rel_pos_embed=False,
                proj_after_attn=False, num_classes=5)  # fmt: skip


def tokens(*grid):
    return lambda values: values[:, 1:].transpose(1, 2).reshape(len(values), -1, *grid)


def last(values):
    return values.movedim(-1, 1)


def same(values):
    return values


CASES = [
    (vit, "encoder.layers.encoder_layer_1.ln_1", (3, 32, 32), tokens(4, 4), None),
    (vit, "encoder.layers.encoder_layer_0", (3, 32, 32), tokens(4, 4), None),
    (swin, "features.3.1.norm2", (3, 32, 32), last, None),
    (swin, "features.1.0", (3, 32, 32), last, None),
    (swin, "permute", (3, 32, 32), same, None),
    (swin3d, "norm", (3, 4, 32, 32), last, None),
    (mvit, "blocks.1", (3, 8, 32, 32), tokens(4, 4, 4), 0),
]


@pytest.mark.parametrize(("build", "layer", "size", "shape", "place"), CASES)
def test_transformers_against_autograd(build, layer, size, shape, place):
    torch.manual_seed(0)
    model = build().eval()
    for name, parameter in model.named_parameters():
        if name.startswith(("heads", "head")):  # torchvision begins with a head of zeros
            nn.init.normal_(parameter)
    inputs = torch.randn(2, *size)
    with GradCAM(model, layer) as cam:
        maps = cam(inputs, 3)
        every = cam(inputs)
    expected = by_autograd(model, layer, inputs, 3, shape, place)
    assert maps.max() > 0
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(every[:, 3], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("test_vit", "blocks.{last}.norm1", "tokens"),
        ("test_convnext", "stages.3", "same"),
        ("test_resnet", "layer4", "same"),
    ],
)
def test_networks_of_timm_against_autograd(name, layer, shape):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    side = model.pretrained_cfg["input_size"][-1]
    if shape == "tokens":
        layer = layer.format(last=len(model.blocks) - 1)
    inputs = torch.randn(1, 3, side, side)
    with GradCAM(model, layer) as cam:
        maps = cam(inputs, 2)
    turn = tokens(*model.patch_embed.grid_size) if shape == "tokens" else same
    torch.testing.assert_close(maps, by_autograd(model, layer, inputs, 2, turn), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "last", "size", "grid", "layout"),
    [
        ((1, 8, 5, 5), nn.Conv2d(3, 8, 1), (20, 20), (), Layout("channels-first")),
        ((1, 8, 8, 8), nn.Conv2d(3, 8, 1), (20, 20), (), Layout("channels-first")),
        ((1, 24, 5, 5), nn.BatchNorm2d(8), (20, 20), (), Layout("channels-first")),  # joined branches
        ((1, 5, 5, 8), nn.Linear(3, 8), (20, 20), (), Layout("channels-last")),
        ((1, 8, 8, 8), nn.Linear(3, 8), (32, 32), (), Layout("channels-last")),
        ((1, 8, 5, 5), nn.Linear(3, 8), (20, 20), (), Layout("channels-first")),  # turned by its block
        ((1, 12, 8), nn.Linear(3, 8), (12,), (), Layout("channels-last")),  # a sequence
        ((1, 8, 12), nn.Conv1d(3, 8, 1), (12,), (), Layout("channels-first")),
        ((1, 198, 8), nn.LayerNorm(8), (224, 224), (), Layout("tokens", (14, 14))),
        ((1, 261, 8), nn.LayerNorm(8), (224, 224), (), Layout("tokens", (16, 16))),
        ((1, 1 + 14 * 28, 8), nn.LayerNorm(8), (224, 448), (), Layout("tokens", (14, 28))),
        ((1, 393, 8), nn.Linear(3, 8), (16, 224, 224), (8, 7, 7), Layout("tokens", (8, 7, 7))),
    ],
)
def test_layouts_that_are_recognised(shape, last, size, grid, layout):
    assert find_layout(shape, "auto", last, size, grid) == layout


class LayerNorm2d(nn.LayerNorm):
    """A module of another library: normalises channels that are first."""


@pytest.mark.parametrize(
    ("shape", "wanted", "last", "size", "message"),
    [
        ((1, 8, 5, 5), "auto", None, (20, 20), "no module with weights ran before it"),
        ((1, 9, 5, 7), "auto", nn.Linear(3, 8), (20, 20), r"shape \(1, 9, 5, 7\) cannot be known"),
        (
            (1, 8, 8, 8),
            "auto",
            LayerNorm2d(8),
            (20, 20),
            r"cannot be known \(it follows LayerNorm2d\(8\)\); give layout=",
        ),
        ((1, 393, 8), "auto", nn.Linear(3, 8), (16, 224, 224), r"may be .*\(8, 7, 7\)"),
        ((1, 190, 8), "auto", nn.Linear(3, 8), (224, 224), "fits none"),
        ((1, 190, 8), (14, 14), nn.Linear(3, 8), (224, 224), r"a grid of \(14, 14\) tokens does not fit"),
        ((1, 8, 5, 5), "last", nn.Linear(3, 8), (20, 20), "must be one of auto, channels-first"),
    ],
)
def test_layouts_that_cannot_be_known(shape, wanted, last, size, message):
    with pytest.raises(ValueError, match=message):
        find_layout(shape, wanted, last, size, ())


def test_a_layout_that_is_asked_for():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Flatten(2), nn.Identity(), nn.Flatten(), nn.Linear(24, 2)).eval()
    images = torch.randn(1, 3, 8, 8)
    with GradCAM(model, "2", layout="channels-first") as cam:
        flat = cam(images, 0)
    with GradCAM(model, "0") as cam:
        torch.testing.assert_close(flat, cam(images, 0).flatten(1))
    every = find_layout((1, 6, 8), (2, 3), nn.Linear(3, 8), (224, 224), ())  # no token beside those of the grid
    assert every == Layout("tokens", (2, 3))


class Returns(nn.Module):
    """Scores among other things, and two inputs."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.conv, self.fc = kind, nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images, extra=None):
        features = self.conv(images).relu()
        scores = self.fc(features.mean((2, 3))) + (0 if extra is None else extra)
        if self.kind == "dense":
            return self.fc(features.movedim(1, -1)).movedim(-1, 1)
        return {"tuple": (features, scores), "dict": {"logits": scores, "aux": features}, "one": scores[:, 2],
                "object": SimpleNamespace(logits=scores), "plain": scores}[self.kind]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "output", "chosen"),
    [
        ("tuple", lambda out: out[1], 2),
        ("dict", lambda out: out["logits"], 2),
        ("object", lambda out: out.logits, 2),
        ("one", lambda out: out, 0),
        ("dense", lambda out: out.mean((2, 3)), 2),
    ],
)
def test_output_chooses_the_scores(kind, output, chosen):
    torch.manual_seed(0)
    model, images = Returns("plain"), torch.randn(2, 3, 6, 6)
    expected = by_autograd(model, "conv", images, 2, same)
    model.kind = kind
    with GradCAM(model, "conv", output=output) as cam:
        torch.testing.assert_close(cam(images, chosen), expected)
    said = r"must be scores \(2, classes\), got .*; output= chooses them"
    with pytest.raises(ValueError, match=said), GradCAM(model, "conv") as cam:
        cam(images, chosen)


def test_tuple_and_dict_inputs():
    torch.manual_seed(0)
    model, images, extra = Returns("plain"), torch.randn(2, 3, 6, 6), torch.randn(2, 5)
    with GradCAM(model, "conv") as cam:
        alone, pair, named = cam(images, 2), cam((images, extra), 2), cam({"extra": extra, "images": images}, 2)
        torch.testing.assert_close(cam.logits, model(images, extra).detach())
        assert cam({"extra": extra, "images": images}, 2, size="input").shape == (2, 6, 6)
    torch.testing.assert_close(pair, alone)
    torch.testing.assert_close(named, alone)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)

    def forward(self, images):
        return self.fc(self.conv(self.conv(images)).mean((2, 3)))


def test_run_chooses_among_several():
    torch.manual_seed(0)
    model, images = Twice(), torch.randn(2, 3, 6, 6)
    second = nn.Sequential(
        OrderedDict(conv=model.conv, rest=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc))
    )
    expected = by_autograd(second, "conv", model.conv(images).detach(), 1, same)
    with GradCAM(model, "conv", run=1) as cam, GradCAM(model, "conv", run=-1) as again:
        torch.testing.assert_close(cam(images, 1), expected)
        torch.testing.assert_close(again(images, 1), expected)
    with GradCAM(model, "conv", run=0) as cam:
        assert not torch.allclose(cam(images, 1), expected)
    for run, message in ((None, "ran 2 x; run= chooses one"), (2, "ran 2 x, got run=2"), (-2, "must be -1")):
        with pytest.raises(ValueError, match=message), GradCAM(model, "conv", run=run) as cam:
            cam(images, 1)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_maps_back_at_the_size_of_the_input(dimensions):
    torch.manual_seed(0)
    conv, pool = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"AdaptiveAvgPool{dimensions}d")
    model = nn.Sequential(conv(3, 4, 2, 2), pool(1), nn.Flatten(), nn.Linear(4, 3))
    inputs = torch.randn(2, 3, *(8, 6, 10)[:dimensions])
    with GradCAM(model, "0") as cam:
        maps, small = cam(inputs, [[0, 2]], size="input"), cam(inputs, [[0, 2]])
        assert cam(inputs, 0, size=(5,) * dimensions).shape == (2, *(5,) * dimensions)
        with pytest.raises(ValueError, match=f"size must have {dimensions} sides"):
            cam(inputs, 0, size=(5,) * (dimensions + 1))
    mode = ("linear", "bilinear", "trilinear")[dimensions - 1]
    expected = nn.functional.interpolate(small, size=inputs.shape[2:], mode=mode)
    assert maps.shape == (2, 2, *inputs.shape[2:])
    torch.testing.assert_close(maps, expected)


def test_the_first_tensor_of_floats_among_what_a_layer_gives():
    tokens, mask = torch.zeros(2, 6, 8), torch.zeros(2, 6, dtype=torch.bool)
    for given, place in (((mask, tokens, [2, 3]), 1), ({"mask": mask, "tokens": tokens, "grid": (2, 3)}, "tokens")):
        found, grid, at = tensor_in(given)
        assert (found is tokens, grid, at) == (True, (2, 3), place)
        other = tokens + 1
        changed = with_tensor(given, place, other)
        assert type(changed) is type(given)
        assert changed[place] is other
        assert given[place] is tokens
        assert len(changed) == 3
    assert tensor_in((mask, [2, 3])) == ((mask, [2, 3]), (), None)
    assert tensor_in("nothing") == ("nothing", (), None)
    assert with_tensor(mask, None, tokens) is tokens
