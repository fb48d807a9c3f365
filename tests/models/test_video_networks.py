"""I3D and the other networks of clips: shapes, names of parameters, any size and length, and files of classifiers."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from pyws import DataError
from pyws.masks import GradCAM
from pyws.models.classifiers import build_classifier, load_classifier, open_classifier, save_classifier
from pyws.models.video_networks.catalogue import VIDEO_NETWORKS, VideoNetworkName, replace_head, video_network
from pyws.models.video_networks.i3d import I3D, MIXED, SamePool3d, _same
from pyws.models.video_networks.small3d import Small3D


@pytest.fixture(scope="module")
def i3d():
    torch.manual_seed(0)
    return I3D(classes=9).eval()


def test_i3d_has_the_public_names_and_size():
    with torch.device("meta"):
        state = I3D(classes=400).state_dict()
    weights = sum(value.numel() for key, value in state.items() if "running" not in key and "num_batches" not in key)
    assert weights == 12_697_264
    assert tuple(state["Conv3d_1a_7x7.conv3d.weight"].shape) == (64, 3, 7, 7, 7)
    assert tuple(state["Mixed_3b.b1b.conv3d.weight"].shape) == (128, 96, 3, 3, 3)
    assert tuple(state["Mixed_5c.b3b.bn.running_var"].shape) == (128,)
    assert tuple(state["logits.conv3d.weight"].shape) == (400, 1024, 1, 1, 1)
    units = {key.rsplit(".", 2)[0] for key in state}
    assert units == {"Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "logits"} | {
        f"{name}.{branch}" for name in MIXED for branch in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
    }


@pytest.mark.parametrize("size", [(1, 1, 1), (7, 33, 40), (16, 48, 65)])
def test_i3d_takes_any_size(i3d, size):
    seen = []
    handle = i3d.Mixed_5c.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.inference_mode():
        assert i3d(torch.zeros(1, 3, *size)).shape == (1, 9)
    handle.remove()
    assert tuple(seen[0]) == (1, 1024, -(-size[0] // 8), -(-size[1] // 32), -(-size[2] // 32))


def test_same_padding_puts_the_odd_pixel_at_the_end():
    x = torch.arange(1.0, 6).view(1, 1, 1, 1, 5)
    assert _same(x, (1, 1, 3), (1, 1, 2)).flatten().tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert _same(x[..., :4], (1, 1, 3), (1, 1, 2)).flatten().tolist() == [1, 2, 3, 4, 0]
    assert SamePool3d((1, 1, 3), (1, 1, 2))(x).flatten().tolist() == [2, 4, 5]


def test_maps_of_i3d_need_no_backward_pass(i3d):
    torch.manual_seed(1)
    clips = torch.randn(1, 3, 9, 40, 40)
    with GradCAM(i3d, "Mixed_5c", head=i3d.logits.conv3d) as cam:
        analytic = cam(clips, [[2, 5]])
    with GradCAM(i3d, "Mixed_5c", head="autograd") as cam:
        torch.testing.assert_close(analytic, cam(clips, [[2, 5]]), rtol=1e-4, atol=1e-6)
    assert analytic.shape == (1, 2, 2, 2, 2)


@pytest.mark.parametrize(("name", "maps"), [("s3d", 1), ("r3d_18", 2), ("mc3_18", 9), ("r2plus1d_18", 2)])
def test_networks_of_torchvision(name, maps):
    classifier = build_classifier(name, classes=4)
    classifier.model.eval()
    clips = classifier.prepare(torch.zeros(1, 9, 30, 40, 3, dtype=torch.uint8), 32)
    assert clips.shape[:3] == (1, 3, 9)
    with torch.inference_mode(), GradCAM(classifier.model, classifier.layer) as cam:
        assert cam(clips, 1).shape[:2] == (1, maps)


def test_prepared_clips_are_prepared_frames():
    classifier = build_classifier("small3d", classes=2)
    clips = torch.randint(0, 256, (2, 3, 20, 30, 3), dtype=torch.uint8)
    prepared = classifier.prepare(clips, 16)
    assert prepared.shape == (2, 3, 3, 16, 24)
    torch.testing.assert_close(prepared[1, :, 2], classifier.prepare(clips[1], 16)[2])


def test_files_of_classifiers(tmp_path):
    torch.manual_seed(0)
    made = replace(build_classifier("small3d", classes=3), labels=("a", "b", "c"), frames=8, short_side=24)
    save_classifier(made, tmp_path / "c.safetensors")
    again = open_classifier(tmp_path / "c.safetensors")
    assert (again.name, again.labels, again.frames, again.short_side, again.layer) == (
        "small3d", ("a", "b", "c"), 8, 24, "layers",
    )  # fmt: skip
    assert not again.model.training
    clips = torch.rand(1, 3, 8, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(again.model(clips), made.model.eval()(clips))
    whole = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(made.model.state_dict(), tmp_path / "c.pth")
    for name, message in {
        "none.safetensors": "must be a file of weights, found none",
        "half.safetensors": "is truncated, damaged or not safetensors",
        "c.pth": "must be a classifier that pyws masks classify wrote",
    }.items():
        with pytest.raises(DataError, match=message):
            open_classifier(tmp_path / name)
    with pytest.raises(DataError, match="does not hold the weights of r3d_18"):
        load_classifier("r3d_18", tmp_path / "c.safetensors")


def test_a_fresh_head():
    model = nn.Sequential(nn.Conv3d(3, 7, 1), nn.Flatten(), nn.Linear(7, 7))
    fresh = replace_head(model, 7, 2)
    assert model[2] is fresh
    assert tuple(fresh.weight.shape) == (2, 7)
    with torch.device("meta"):
        clips = I3D(400)
        replace_head(clips, 400, 9)
    assert tuple(clips.logits.conv3d.weight.shape) == (9, 1024, 1, 1, 1)
    with pytest.raises(ValueError, match="found no last layer of 5 classes"):
        replace_head(model, 5, 2)


def test_an_unknown_network():
    with pytest.raises(ValueError, match=r"network: must be one of i3d, .* got 'swin3' \(near: swin3d_t, swin3d_s\)$"):
        video_network("swin3")
    with pytest.raises(ValueError, match="small3d, got 'zzz'$"):
        video_network("zzz")
    assert set(VIDEO_NETWORKS) == set(get_args(VideoNetworkName))


def test_layers_that_are_pooled_by_their_mean_and_dropped_once():
    torch.manual_seed(0)
    small = build_classifier("small3d", 3).model.eval()
    clips = torch.rand(2, 3, 4, 16, 24)
    seen = []
    handle = small.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    small(clips)
    handle.remove()
    torch.testing.assert_close(seen[0], small.activations(clips).flatten(2).mean(2))
    network, dropped = I3D(classes=2), []
    network.dropout.register_forward_hook(lambda module, inputs, output: dropped.append(module))
    network(torch.rand(2, 3, 8, 33, 33))
    assert len(dropped) == 1


def test_rates_and_sizes_are_those_of_the_published_networks():
    """I3D: 64 frames, 25 a second, RGB and flow; networks of torchvision on Kinetics: 15 a second."""
    known = {name: (network.frames, network.fps) for name, network in VIDEO_NETWORKS.items()}
    assert known["i3d"] == (64, 25)
    assert {known[name][1] for name in ("r3d_18", "mc3_18", "r2plus1d_18")} == {15}


def test_a_network_with_random_weights_is_ready_to_be_used():
    for name in ("small2d", "small3d"):
        assert not load_classifier(name, "random").model.training


def test_logits_of_the_small_network_are_of_the_mean_of_its_activations() -> None:
    torch.manual_seed(0)
    model, clips = Small3D(3, 4).eval(), torch.rand(2, 3, 8, 16, 16)
    seen = model.activations(clips).mean((2, 3, 4))
    torch.testing.assert_close(model(clips), model.head(seen))
