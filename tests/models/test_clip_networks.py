"""Networks that score words: a tiny random CLIP of transformers' own classes, saved as its users save it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pyws import cli
from pyws.commands.masks.train import open_first_classifier
from pyws.errors import DataError
from pyws.masks.cam import GradCAM
from pyws.models.classifiers import load_classifier
from pyws.models.pretrained.clip_networks import BACKGROUND, TEMPLATE

transformers = pytest.importorskip("transformers")
WORDS = ("fox", "juggling")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    out = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    words = sorted({*TEMPLATE.split(), *WORDS, *BACKGROUND})
    ids = {word: index for index, word in enumerate(["[start]", "[end]", "[unknown]", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[start]", 0), ("[end]", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[start] $A [end]", special_tokens=special)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="[start]", eos_token="[end]", unk_token="[unknown]", pad_token="[end]"
    )
    fast.save_pretrained(out)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(ids), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1,
            "pad_token_id": 1}  # fmt: skip
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=12
    )
    transformers.CLIPModel(config).save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return out


def of_library(folder: Path) -> tuple[Any, Any]:
    """The network itself, and its tokens of the words."""
    clip = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [TEMPLATE.format(word) for word in (*WORDS, *BACKGROUND)]
    return clip, tokenizer(texts, padding=True, return_tensors="pt")


def test_scores_are_the_network_s_own(folder: Path) -> None:
    found = load_classifier(f"clip:{folder}", words=WORDS)
    assert found.labels == (*WORDS, *BACKGROUND)
    assert (found.short_side, found.stride, found.mean, found.frames) == (32, 8, (0.5,) * 3, 0)
    clip, texts = of_library(folder)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = clip(pixel_values=images, **texts).logits_per_image
        torch.testing.assert_close(found.model(images), expected, rtol=1e-4, atol=1e-5)
    assert found.file is not None
    assert found.file.is_file()


def test_maps_against_plain_autograd(folder: Path) -> None:
    """Grad-CAM (WS^2, eq. 4) written out on the library's network, of a frame that is no square."""
    found = load_classifier(f"clip:{folder}", words=WORDS)
    images = torch.randn(2, 3, 32, 48)
    with GradCAM(found.model, found.layer) as cam:
        maps = cam(images, [[0, 1]])
    clip, texts = of_library(folder)
    seen: list[torch.Tensor] = []
    norm = clip.vision_model.encoder.layers[-1].layer_norm1
    norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = clip(pixel_values=images, interpolate_pos_encoding=True, **texts).logits_per_image
    for index in (0, 1):
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), seen[0], retain_graph=True)
        weights = gradient[:, 1:].mean(1, keepdim=True)
        expected = (weights * seen[0][:, 1:]).sum(2).relu().reshape(2, 4, 6)
        torch.testing.assert_close(maps[:, index], expected.detach(), rtol=1e-3, atol=1e-5)


def test_sequences_of_frames(folder: Path) -> None:
    found = load_classifier(f"clip:{folder}", words=WORDS)
    frames = torch.randn(2, 3, 5, 32, 48)
    still = frames[:, :, :1].expand(-1, -1, 5, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(found.model(still), found.model(frames[:, :, 0]), rtol=1e-4, atol=1e-5)
        backwards = found.model(frames.flip(2))
        torch.testing.assert_close(found.model(frames), backwards, rtol=1e-4, atol=1e-5)
    with GradCAM(found.model, found.layer) as cam:
        assert cam(frames, 1).shape == (2, 5, 4, 6)
        torch.testing.assert_close(cam(still, 1)[:, 0], cam(still, 1)[:, 4])


def test_what_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fetch config.json, model.safetensors, .* into a folder, and give that"):
        load_classifier(f"clip:{tmp_path}", words=WORDS)
    with pytest.raises(DataError, match="must be a folder that save_pretrained wrote, found none"):
        load_classifier(f"clip:{tmp_path / 'none'}", words=WORDS)
    with pytest.raises(ValueError, match="must be default or a folder of save_pretrained, got random"):
        load_classifier(f"clip:{folder}", "random", words=WORDS)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'pyws-video\[clip\]'"):
        load_classifier(f"clip:{folder}", words=WORDS)


def test_masks_and_labels_of_any_words(folder: Path, tmp_path: Path) -> None:
    """masks init, and label, whose other tags the network of clips scores by their words too."""
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(9):
            pixels = random.integers(0, 255, (32, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"videos/{name}/{number}.png")
    (tmp_path / "tags.csv").write_text('video,tags\none,fox\ntwo,"fox, juggling"\n')
    shared = ["--tags", tmp_path / "tags.csv", "--quiet"]
    words = ["masks", "init", tmp_path / "videos", "-o", tmp_path / "first", "--classifier", f"clip:{folder}", *shared]
    assert cli.main([str(word) for word in words]) == 0
    parameters = json.loads((tmp_path / "first/manifest.json").read_text())["parameters"]
    assert [one["classes"] for one in parameters["tags"]] == [[0], [1]]
    assert len(list((tmp_path / "first/pa/v0").rglob("*.png"))) == 18
    again = open_first_classifier(tmp_path / "first", "default", None)  # what masks train selects with
    assert again.labels == (*WORDS, *BACKGROUND)
    (tmp_path / "images.txt").write_text("fox\n")
    words = [
        "label", tmp_path / "videos", "-o", tmp_path / "out", "--network", f"clip:{folder}", "--classifier", "small2d",
        "--classifier-weights", _small(tmp_path), "--classifier-class-names", tmp_path / "images.txt",
        "--folder-fps", 4, "--versions", 0, "--mask-frames", 2, *shared,
    ]  # fmt: skip
    assert cli.main([str(word) for word in words]) == 0
    kinds = {
        one["tag"]: one["kind"] for one in json.loads((tmp_path / "out/manifest.json").read_text())["plan"]["tags"]
    }
    assert kinds == {"fox": "object", "juggling": "known action"}
    assert (tmp_path / "out/maps/two/juggling/maps.json").is_file()
    assert "two" in json.loads((tmp_path / "out/segments/known-classes.json").read_text())["results"]


def _small(folder: Path) -> Path:
    from pyws.models.image_networks.small2d import Small2D

    torch.save(Small2D(1).state_dict(), folder / "small.pth")
    return folder / "small.pth"
