"""DeepLab-v2 and the discriminator: shapes, dilation, initial weights, frozen batch norm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pyws import DataError
from pyws.data.tagged.label_space import object_labels
from pyws.masks.self_training.train_segmentation import TrainingConfig, cross_entropy, segmentation_network
from pyws.models.classifiers import LITE0, build_classifier, open_classifier, save_classifier
from pyws.models.image_networks.deeplab import BACKBONES, build_deeplab
from pyws.models.image_networks.discriminator import PatchDiscriminator
from pyws.models.image_networks.motion_stream import MotionStream
from pyws.models.image_networks.small2d import Small2D


@pytest.mark.parametrize(("backbone", "stride"), [*((name, 8) for name in BACKBONES), ("resnet18", 16), (LITE0, 16)])
def test_shapes(backbone: str, stride: int) -> None:
    model = build_deeplab(backbone, 5, output_stride=stride).eval()
    assert model(torch.rand(1, 3, 33, 50)).shape == (1, 5, 33, 50)
    assert model.coarse(torch.rand(1, 3, 48, 64)).shape == (1, 5, 48 // stride, 64 // stride)
    assert [branch.dilation for branch in model.branches] == [(6, 6), (12, 12), (18, 18), (24, 24)]


def test_a_stride_without_dilations_is_refused() -> None:
    with pytest.raises(ValueError, match="output_stride: must be 8 or 16, got 32"):
        build_deeplab("resnet18", 5, output_stride=32)


def test_the_head_is_the_sum_of_its_branches() -> None:
    torch.manual_seed(0)
    model = build_deeplab("resnet18", 3).eval()
    weight = torch.cat([branch.weight.flatten() for branch in model.branches])
    assert weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not any(branch.bias.any() for branch in model.branches)
    images = torch.rand(1, 3, 64, 64)
    features = model.body(images)
    expected = torch.stack([branch(features) for branch in model.branches]).sum(0)
    torch.testing.assert_close(model.coarse(images), expected)


def test_a_frozen_body_and_a_linear_head() -> None:
    """One 1x1 convolution learns, and nothing else."""
    model = build_deeplab("resnet18", 3, output_stride=16, frozen_norm=False, frozen_body=True, rates=None)
    images = torch.rand(2, 3, 32, 32)
    before = {name: value.clone() for name, value in model.train().body.state_dict().items()}
    model(images).square().sum().backward()
    assert [name for name, one in model.named_parameters() if one.grad is not None] == [
        "branches.0.weight",
        "branches.0.bias",
    ]
    assert model.branches[0].weight.shape == (3, 512, 1, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.body.state_dict().items())


@pytest.mark.parametrize(("backbone", "strides"), [("resnet18", (8, 16)), ("resnet50", (8,))])
def test_dilated_features_contain_the_strided_ones(backbone: str, strides: tuple[int, ...]) -> None:
    """At every fourth (second) position the features are those of the classifier as it was trained."""
    from torchvision import models

    torch.manual_seed(0)
    classifier = models.get_model(backbone, weights=None, num_classes=7).eval()
    images = torch.rand(1, 3, 64, 96)
    expected = nn.Sequential(*list(classifier.children())[:-2])(images)
    for stride in strides:
        model = build_deeplab(backbone, 2, output_stride=stride).eval()
        model.body.load_state_dict(dict(zip(model.body.state_dict(), classifier.state_dict().values(), strict=False)))
        step = 32 // stride
        torch.testing.assert_close(model.body(images)[:, :, ::step, ::step], expected, rtol=1e-3, atol=1e-4)


def test_batch_norm_stays_frozen() -> None:
    model = build_deeplab("resnet18", 2).train()
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    before = norm.running_mean.clone()
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert model.training
    assert not norm.training
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad is None
    assert model.branches[0].weight.grad is not None
    free = build_deeplab("resnet18", 2, frozen_norm=False).train()
    assert all(module.training for module in free.modules())
    assert not any(module.training for module in free.eval().modules())


def test_weights_of_a_classifier(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    classifier = resnet18(num_classes=4)
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    model = build_deeplab("resnet18", 3, tmp_path / "w.pth")
    assert torch.equal(model.body[0].weight, classifier.conv1.weight)
    with pytest.raises(DataError, match="does not hold the weights of resnet50"):
        build_deeplab("resnet50", 3, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="backbone: must be one of resnet101, .* got 'vgg'"):
        build_deeplab("vgg", 3)
    with pytest.raises(ValueError, match="output_stride: must be 8 or 16, got 4"):
        build_deeplab("resnet18", 3, output_stride=4)


def test_factorised_heads() -> None:
    """A class has the score of its actor and the score of its action, the background its own two."""
    torch.manual_seed(0)
    joint = build_deeplab("small2d", 5).eval()
    model = build_deeplab("small2d", 5, factors=((0, 1, 1, 2, 2), (0, 1, 2, 1, 3))).eval()
    assert joint.branches[0].weight.shape[0] == 5
    assert model.branches[0].weight.shape[0] == 3 + 4
    images = torch.rand(1, 3, 32, 48)
    parts = torch.stack([branch(model.body(images)) for branch in model.branches]).sum(0)
    scores = model.coarse(images)
    for index, (actor, action) in enumerate(zip((0, 1, 1, 2, 2), (0, 1, 2, 1, 3), strict=True)):
        torch.testing.assert_close(scores[:, index], parts[:, actor] + parts[:, 3 + action])
    assert model.state_dict().keys() == joint.state_dict().keys()
    with pytest.raises(ValueError, match="heads: factorised heads need pairs of actors and actions"):
        segmentation_network(TrainingConfig("small2d", heads="factorised"), object_labels(["cat"]))


def test_small2d(tmp_path: Path) -> None:
    """Its classifier's weights start the segmentation network, whose features do not depend on the rest of a batch."""
    torch.manual_seed(0)
    classifier = replace(build_classifier("small2d", 3), labels=("ball", "car", "cat"))
    save_classifier(classifier, tmp_path / "w.safetensors")
    model = build_deeplab("small2d", 4, tmp_path / "w.safetensors").train()
    images = torch.rand(2, 3, 33, 50)
    torch.testing.assert_close(model.body(images), classifier.model.layers(images))
    torch.testing.assert_close(model(images)[:1], model(images[:1]))
    assert open_classifier(tmp_path / "w.safetensors").stride == 8
    with pytest.raises(ValueError, match="output_stride must be 8 or 16, got 4"):
        Small2D(3, output_stride=4)


@pytest.mark.parametrize("size", [36, 66])
def test_norms_of_the_discriminator(size: int) -> None:
    torch.manual_seed(0)
    patches = torch.rand(2, 3, size, size)
    spectral = PatchDiscriminator(size, 4, "spectral").train()
    for _ in range(20):
        spectral(patches)
    kernel = spectral.eval().features.conv3.weight
    assert torch.linalg.matrix_norm(kernel.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
    instance = PatchDiscriminator(size, 4, "instance").eval()
    dimmed = patches * torch.tensor([0.5, 0.5, 0.5])[:, None, None] + 0.25
    torch.testing.assert_close(instance(patches), instance(dimmed), rtol=1e-2, atol=1e-3)
    assert (PatchDiscriminator(size, 4)(patches) - PatchDiscriminator(size, 4)(dimmed)).abs().max() > 1e-4


def test_discriminator() -> None:
    model = PatchDiscriminator()
    sides = []
    for layer in model.features:
        layer.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    assert model(torch.rand(2, 3, 66, 66)).shape == (2,)
    assert sides[::2] == [64, 31, 15, 7, 3]
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_915_393
    assert PatchDiscriminator(36, 2)(torch.rand(1, 3, 36, 36)).shape == (1,)
    with pytest.raises(ValueError, match="size must be >= 36"):
        PatchDiscriminator(35)


def test_a_network_that_sees_clips_learns_what_moves() -> None:
    """Two discs that look alike, one of which moves: a frame cannot tell them apart, a clip can."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")

    def clip() -> tuple[torch.Tensor, torch.Tensor]:
        row, side = 16 + 6 * torch.rand(1, generator=generator) - 3, int(torch.rand(1, generator=generator) < 0.5)
        noise = 0.02 * torch.rand(3, 32, 64, generator=generator)
        discs = [
            [(y - row - 3 * step * (k == side)) ** 2 + (x - 16 - 32 * k) ** 2 < 49 for k in (0, 1)]
            for step in (-1, 0, 1)
        ]
        frames = [(one | other).float() * 0.5 + noise for one, other in discs]
        still, moving = discs[1][1 - side], discs[1][side]
        return torch.cat(frames), torch.where(moving, 2, torch.where(still, 1, 0))

    images, targets = (torch.stack(part) for part in zip(*(clip() for _ in range(24)), strict=True))
    right = []
    for frames in (1, 3):
        torch.manual_seed(0)
        model = build_deeplab("small2d", 3, clip_frames=frames, rates=(1,), frozen_norm=False)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        seen = images if frames == 3 else images[:, 3:6]
        for _ in range(50):
            optimizer.zero_grad()
            cross_entropy(model(seen[:16]), targets[:16]).backward()
            optimizer.step()
        with torch.no_grad():
            found, wanted = model.eval()(seen[16:]).argmax(1), targets[16:]
        right.append(float((found == wanted)[wanted > 0].double().mean()))
    assert right[0] < 0.7 < 0.85 < right[1]


def test_the_motion_stream_sees_differences_of_the_mean_of_the_colours() -> None:
    """Frames follow each other with their three colours together; eight times their differences are convolved."""
    stream = MotionStream(3)
    stream.layers = torch.nn.Identity()  # type: ignore[assignment]
    clips = torch.rand(2, 9, 4, 6)
    grey = [clips[:, 3 * time : 3 * time + 3].mean(1) for time in range(3)]
    expected = torch.stack([8 * (grey[1] - grey[0]), 8 * (grey[2] - grey[1])], 1)
    torch.testing.assert_close(stream(clips), expected)


@pytest.mark.parametrize("stride", [8, 16])
def test_the_last_layers_of_a_small_network_see_as_far_at_both_strides(stride: int) -> None:
    """A layer after one whose stride is taken away is dilated instead."""
    layers = [module for module in Small2D(3, output_stride=stride).modules() if isinstance(module, torch.nn.Conv2d)]
    spacing, reach = 1, 1
    for layer in layers:
        reach += spacing * layer.dilation[0] * (layer.kernel_size[0] - 1)
        spacing *= layer.stride[0]
    first = [module for module in Small2D(3, output_stride=16).modules() if isinstance(module, torch.nn.Conv2d)]
    steps = [2**number for number in range(len(first))]
    assert reach == 1 + sum(2 * step for step in steps)
    assert spacing == stride
