"""Classifiers of images and clips by name with weights from a local file, ready for class activation maps.

Nothing is downloaded.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.errors import DataError
from pyws.files import atomic_write
from pyws.models.efficientnet_lite import EfficientNetLite0
from pyws.models.small2d import Small2D
from pyws.models.video_networks import VIDEO_NETWORKS, video_network

LITE0 = "efficientnet-lite0"
SMALL2D = "small2d"

# The last feature map before the global pool, by the start of torchvision's name of the model.
_LAST_LAYERS = {
    "resnet": "layer4", "resnext": "layer4", "wide_resnet": "layer4", "regnet": "trunk_output",
    "efficientnet": "features", "convnext": "features", "mobilenet": "features", "mnasnet": "layers",
    "shufflenet": "conv5", "googlenet": "inception5b", "vgg": "features", "alexnet": "features",
}  # fmt: skip

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A network in eval mode, and what its input and output mean."""

    name: str
    model: nn.Module
    layer: str
    """Dotted name of the layer for class activation maps."""
    mean: tuple[float, ...]
    """Subtracted from RGB in 0..1, then divided by std."""
    std: tuple[float, ...]
    labels: tuple[str, ...]
    """Name of each class; synonyms are parted by commas."""
    frames: int = 0
    """Of a clip, where it classifies clips; 0 where it classifies images."""
    short_side: int = 0
    """Of the frames that it was trained on, in pixels; 0 where that is not known."""
    stride: int = 32
    """Input pixels between two positions of the layer, at most."""

    def prepare(self, frames: Tensor, short_side: int) -> Tensor:
        """Frames (B, H, W, 3) uint8 RGB, or clips (B, T, H, W, 3), to what the model takes.

        The whole frame is scaled so that its short side is ``short_side``, both sides rounded to multiples of the
        stride: the positions of the last feature map then tile the frame exactly.
        """
        height, width = frames.shape[-3:-1]
        scale = short_side / min(height, width)
        size = [max(self.stride, round(side * scale / self.stride) * self.stride) for side in (height, width)]
        images = frames.flatten(0, -4).permute(0, 3, 1, 2).float() / 255
        images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        images = (images - mean) / std
        return images.unflatten(0, frames.shape[:2]).transpose(1, 2).contiguous() if frames.ndim == 5 else images


def load_classifier(
    name: str,
    weights: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    output_stride: int = 32,
) -> Classifier:
    """A classifier with the weights of a local file.

    Parameters
    ----------
    name : "efficientnet-lite0", "small2d", the name of an image classifier in torchvision.models, e.g. "resnet50", or
        one of :data:`~pyws.models.video_networks.VIDEO_NETWORKS`
    weights : a state dict saved by torch.save, read with ``weights_only=True``: no code in it is run; or a safetensors
        file. It must have exactly the parameters of the model; the number of classes is taken from it
    labels : a text file, one class a line, in the order of the scores; one line more than classes means that the first
        is the background. None: those that :func:`save_classifier` put into the file, or the 1000 classes of ImageNet
    layer : dotted name of the last feature map; known for the usual architectures
    output_stride : 32, or 16 for a feature map twice as fine (efficientnet-lite0; ResNet-50 and larger)

    Raises
    ------
    DataError : a file is missing, truncated, not a state dict, or does not fit the model
    ValueError : no such model, or a model whose last layer is not known
    """
    state, about = read_state(weights), _about(weights)
    classes = len(state[next(reversed(state))])
    classifier = build_classifier(name, classes, layer, output_stride)
    load_weights(classifier.model, state, name, weights)
    if labels is not None:
        names = _read_labels(labels, classes)
    else:
        names = tuple(about["labels"]) if "labels" in about else _imagenet_labels(classes)
    frames, short_side = (int(about.get(key, getattr(classifier, key))) for key in ("frames", "short_side"))
    classifier.model.eval()
    return replace(classifier, labels=names, frames=frames, short_side=short_side)


def build_classifier(name: str, classes: int, layer: str | None = None, output_stride: int = 32) -> Classifier:
    """A classifier of ``classes`` classes with random weights, without labels; see :func:`load_classifier`."""
    if name in VIDEO_NETWORKS:
        network = video_network(name)
        if output_stride != 32:
            raise ValueError(f"classifier: {name} has no output stride {output_stride}, use 32")
        sizes = (network.frames, network.short_side, network.stride)
        found = layer or network.layer
        return Classifier(name, network.build(classes), found, network.mean, network.std, (), *sizes)
    if name == LITE0:
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        return Classifier(name, EfficientNetLite0(classes, output_stride), layer or _last_layer(name), mean, std, ())
    if name == SMALL2D:
        # Its own stride is 8, finer than any that is asked for.
        return Classifier(name, Small2D(classes), layer or "layers", (0.5,) * 3, (0.25,) * 3, (), stride=8)
    model = _torchvision_model(name, classes, output_stride)
    return Classifier(name, model, layer or _last_layer(name), IMAGENET_MEAN, IMAGENET_STD, ())


def save_classifier(classifier: Classifier, path: str | os.PathLike[str]) -> None:
    """Write weights, labels and sizes as one safetensors file, whole or not at all, for :func:`open_classifier`."""
    from safetensors.torch import save

    state = classifier.model.state_dict()
    about = {key: getattr(classifier, key) for key in ("name", "layer", "labels", "frames", "short_side")}
    # The format keeps no order of its own, and the number of classes is read off the last entry. One note, since
    # several would be written in any order.
    kept = {"pyws": json.dumps({"classifier": about, "order": list(state)})}
    with atomic_write(path, "wb") as file:
        file.write(save({key: value.detach().cpu().contiguous() for key, value in state.items()}, kept))


def open_classifier(path: str | os.PathLike[str], output_stride: int = 32) -> Classifier:
    """A classifier that :func:`save_classifier` wrote; the file says which.

    Raises
    ------
    DataError : missing, damaged, or written by something else
    """
    read_state(path)
    about = _about(path)
    if not isinstance(about.get("name"), str) or not isinstance(about.get("layer"), str):
        raise DataError(path, "must be a classifier that pyws masks classify wrote; it names no network")
    return load_classifier(about["name"], path, None, about["layer"], output_stride)


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a classifier, from a safetensors file or a file of torch.save; no code in it is run.

    Raises
    ------
    DataError : missing, damaged, or not a state dict
    """
    if not Path(path).is_file():
        raise DataError(path, "must be a file of weights, found none")
    if Path(path).suffix == ".safetensors":
        state: Any = _read_safetensors(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # on arbitrary bytes torch's reader raises whatever its parsing meets
            reason = str(error).strip().split("\n")[0]
            raise DataError(path, f"cannot be read as weights (torch.load, weights_only=True): {reason}") from error
    tensors = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    if not tensors or not state or state[next(reversed(state))].ndim == 0:
        raise DataError(path, "must be a state dict of tensors that ends with the bias of the classes")
    return state


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
            note = json.loads((file.metadata() or {}).get("pyws", "{}"))
            return {key: file.get_tensor(key) for key in note.get("order", keys)}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(path, f"cannot be read as safetensors: {error}") from error


def _about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`save_classifier` says of the network; empty where another program wrote the file."""
    if Path(path).suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads((file.metadata() or {}).get("pyws", "{}")).get("classifier", {})
    if not isinstance(about, dict):
        raise DataError(path, "says nothing sensible about its classifier")
    return about


def load_weights(model: nn.Module, state: dict[str, Tensor], name: str, path: str | os.PathLike[str]) -> None:
    """Load a state dict, exactly; errors name the file that it came from."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n")]
        reason = lines[1] if len(lines) > 1 else lines[0]
        raise DataError(path, f"does not hold the weights of {name}: {reason[:300]}") from error


def _torchvision_model(name: str, classes: int, output_stride: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, [LITE0, SMALL2D, *VIDEO_NETWORKS, *known], n=3, cutoff=0.4)
        raise ValueError(f"classifier: must be {LITE0} or a classifier of torchvision, got {name!r} (near: {near})")
    options = {}
    if output_stride != 32:
        options["replace_stride_with_dilation"] = [False, False, output_stride == 16]
    try:
        return models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, NotImplementedError) as error:
        raise ValueError(f"classifier: {name} has no output stride {output_stride}, use 32") from error


def _last_layer(name: str) -> str:
    if name == LITE0:
        return "features"
    for start, layer in _LAST_LAYERS.items():
        if name.startswith(start):
            return layer
    raise ValueError(f"classifier: the layer for class activation maps of {name} is not known, give it with --layer")


def _imagenet_labels(classes: int) -> tuple[str, ...]:
    if classes != 1000:
        raise ValueError(f"labels: a classifier of {classes} classes needs a file of their names (--labels FILE)")
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _read_labels(path: str | os.PathLike[str], classes: int) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as a list of labels: {error}") from error
    if len(lines) not in (classes, classes + 1):
        raise DataError(path, f"must have {classes} or {classes + 1} lines (one a class), got {len(lines)}")
    return tuple(lines[-classes:])
