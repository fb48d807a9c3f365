"""Image and text networks of transformers (CLIP, Radford et al., ICML 2021), which score any words: ``clip:NAME``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.errors import DataError, loader_says
from pyws.models.classifier import Classifier
from pyws.models.pretrained.timm_networks import cached_file, reach

PREFIX = "clip:"
TEMPLATE = "a photo of {}"
FRAMES = 8  # frames of a sequence, where nothing else is asked for

BACKGROUND = (
    "ground", "grass", "tree", "building", "wall", "sky", "water", "road", "floor", "rock", "sand", "snow",
)  # fmt: skip
"""Words that are scored beside the tags: a softmax over one tag alone would say that it is everywhere."""

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class WordScores(nn.Module):
    """Images (B, 3, H, W), or sequences of frames (B, 3, T, H, W), to scores (B, words).

    The score of a word is the cosine of the angle between its embedding and that of the image, times the network's
    temperature; a sequence has the mean of its frames' embeddings. H and W are multiples of the patch:
    positions are interpolated.

    Parameters
    ----------
    clip : a ``CLIPModel`` of transformers; its last layer is changed so that its tokens lie on their grid
    words : embeddings (words, D), of length 1
    """

    def __init__(self, clip: Any, words: Tensor) -> None:
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection
        self.patch = int(clip.config.vision_config.patch_size)
        last = self.vision.encoder.layers[-1]
        last.layer_norm1 = self.grid = _OnGrid(last.layer_norm1)
        self.head = nn.Linear(words.shape[1], len(words), bias=False)
        with torch.no_grad():
            self.head.weight.copy_(words * clip.logit_scale.exp())

    def forward(self, images: Tensor) -> Tensor:
        frames = images.transpose(1, 2).flatten(0, 1) if images.ndim == 5 else images
        sides = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        self.grid.size = (*images.shape[2:-2], *sides)
        seen = self.vision(pixel_values=frames.contiguous(), interpolate_pos_encoding=True).pooler_output
        embedded = functional.normalize(self.projection(seen), dim=1)
        if images.ndim == 5:
            embedded = functional.normalize(embedded.unflatten(0, (len(images), -1)).mean(1), dim=1)
        return self.head(embedded)


class _OnGrid(nn.Module):
    """The norm before the last attention. Its tokens pass ``tokens`` as (B, H, W, C) or (B, T, H, W, C).

    The scores depend on the last layer's own output through the class token alone: what its attention reads is the last
    place where other tokens matter.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.tokens = norm, nn.Identity()
        self.size: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        batch = len(x) // (self.size[0] if len(self.size) == 3 else 1)
        tokens = self.tokens(normed[:, 1:].reshape(batch, *self.size, -1))
        return torch.cat([normed[:, :1], tokens.reshape(len(x), -1, x.shape[-1])], 1)


def clip_classifier(name: str, words: Sequence[str], weights: str = "default", layer: str | None = None) -> Classifier:
    """A network of CLIP's kind that scores words, in eval mode.

    Parameters
    ----------
    name : with or without the prefix "clip:": a folder that ``save_pretrained`` wrote, with its tokenizer, or a name
        on the hub of Hugging Face, whose files are downloaded once into its cache
    words : what is scored beside :data:`BACKGROUND`
    weights : "default", or such a folder in the place of the name
    layer : dotted name of the layer for class activation maps; None for the last one that they can be taken at

    Raises
    ------
    ValueError : transformers is not installed, or another kind of weights is asked for
    DataError : no such folder or network, or its files are not here and cannot be downloaded
    """
    transformers = _transformers()
    name = name.removeprefix(PREFIX)
    if weights != "default" and not Path(weights).is_dir():
        raise ValueError(f"weights: of {PREFIX}{name} must be default or a folder of save_pretrained, got {weights}")
    place = name if weights == "default" else weights
    if Path(place).is_absolute() and not Path(place).is_dir():
        raise DataError(place, "must be a folder that save_pretrained wrote, found none")
    try:
        if not Path(place).is_dir() and cached_file(place) is None:
            reach(place)
        clip = transformers.CLIPModel.from_pretrained(place, use_safetensors=True).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        files = "config.json, model.safetensors, tokenizer.json, tokenizer_config.json and preprocessor_config.json"
        raise DataError(
            f"{PREFIX}{name}",
            f"is no network of CLIP's kind that is here or can be downloaded ({reason}): fetch {files} of "
            f"https://huggingface.co/{name} on another machine into a folder, and give that: {PREFIX}FOLDER",
        ) from error
    labels = tuple(dict.fromkeys([*words, *BACKGROUND]))
    model = WordScores(clip, _embedded(clip, tokenizer, labels)).eval()
    vision = clip.config.vision_config
    file = Path(place) / "model.safetensors" if Path(place).is_dir() else cached_file(place)
    mean, std = _normalisation(Path(place) if Path(place).is_dir() else file.parent if file else Path())
    last = f"vision.encoder.layers.{vision.num_hidden_layers - 1}.layer_norm1.tokens"
    assert file is not None
    side = vision.image_size
    return Classifier(
        PREFIX + name, model, layer or last, mean, std, labels, short_side=side, stride=vision.patch_size,
        resize=(side,), crop=side, interpolation="bicubic", file=file,
    )  # fmt: skip


@torch.no_grad()
def _embedded(clip: Any, tokenizer: Any, words: Sequence[str]) -> Tensor:
    """(words, D), of length 1."""
    texts = tokenizer([TEMPLATE.format(word) for word in words], padding=True, truncation=True, return_tensors="pt")
    seen = clip.text_model(input_ids=texts["input_ids"], attention_mask=texts["attention_mask"]).pooler_output
    return functional.normalize(clip.text_projection(seen), dim=1)


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels that it was trained on; CLIP's own where its folder says nothing."""
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return tuple(said.get("image_mean", _MEAN)), tuple(said.get("image_std", _STD))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        rule = f"classifier: {PREFIX}NAME needs the package transformers: pip install 'pyws-video[clip]'"
        raise ValueError(rule + loader_says(error, "transformers")) from error
    transformers.utils.logging.disable_progress_bar()  # the one of loading weights, on standard error
    return transformers
