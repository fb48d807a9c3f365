"""Classifiers of images and clips by name, with published weights or those of a file, ready for activation maps."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pyws.checkpoint import check_weights, read_tensors, read_torch, write_checkpoint
from pyws.errors import DataError
from pyws.files import read_lines
from pyws.models.classifier import Classifier
from pyws.models.image_networks.efficientnet_lite import SCALES, EfficientNetLite
from pyws.models.image_networks.small2d import Small2D
from pyws.models.pretrained import clip_networks
from pyws.models.pretrained.timm_networks import PREFIX, timm_classifier
from pyws.models.pretrained.weights import DEFAULT, RANDOM, imagenet_labels, published, weights_file
from pyws.models.video_networks.catalogue import VIDEO_NETWORKS, video_network

LITE0 = "efficientnet-lite0"
LITE = {f"efficientnet-lite{variant}": variant for variant in SCALES}
SMALL2D = "small2d"
CLASSIFIER = "pyws classifier"

# The last feature map before the global pool, by the start of torchvision's name of the model.
_LAST_LAYERS = {
    "resnet": "layer4", "resnext": "layer4", "wide_resnet": "layer4", "regnet": "trunk_output",
    "efficientnet": "features", "convnext": "features", "mobilenet": "features", "mnasnet": "layers",
    "shufflenet": "conv5", "googlenet": "inception5b", "vgg": "features", "alexnet": "features",
    "densenet": "features", "squeezenet": "features", "inception": "Mixed_7c", "maxvit": "blocks.3", "swin": "permute",
    "small2d": "layers",
}  # fmt: skip

# Whose published weights expect images that are normalised anew inside.
_TRANSFORM_INPUT = ("googlenet", "inception_v3")


def load_classifier(
    name: str,
    weights: str | os.PathLike[str] = DEFAULT,
    labels: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    output_stride: int = 32,
    words: Sequence[str] = (),
    channels: int = 3,
) -> Classifier:
    """A classifier with published weights, or with those of a file.

    Parameters
    ----------
    name : an image classifier of torchvision.models, e.g. "resnet50"; "timm:" and the name of one of timm; "clip:" and
        the name or folder of a network that scores words;
        "efficientnet-lite0", "-lite1" or "-lite2"; "small2d"; or one of
        :data:`~pyws.models.video_networks.VIDEO_NETWORKS`
    weights : "default" for the published ones, downloaded once into the cache of torchvision (timm: of
        huggingface_hub); a member of torchvision's enumeration, e.g. "IMAGENET1K_V1"; "random"; or a file, which always
        wins: a state dict saved by torch.save, read with ``weights_only=True``, or safetensors. A file must have
        exactly the parameters of the model; the number of classes is taken from it
    labels : a text file, one class a line, in the order of the scores; one line more than classes means that the first
        is the background. None: the labels that :func:`save_classifier` put into the file, or those of the published
        weights
    layer : dotted name of the last feature map; known for the usual architectures
    output_stride : 32, or 16 for a feature map twice as fine (efficientnet-lite; ResNet-50 and larger)
    words : what "clip:NAME" scores, see :func:`pyws.models.pretrained.clip_networks.clip_classifier`; its labels where
        a file of them is given. Other classifiers have classes of their own
    channels : channels of the input: 3 of RGB, or 2 of optical flow, which "i3d" can take

    Raises
    ------
    DataError : a file is missing, truncated, not a state dict, or does not fit the model; weights that are neither here
        nor to be had, and then the error says which file to put where
    ValueError : no such model, one that takes no optical flow, or one whose last layer is not known
    """
    if channels != 3 and channels not in getattr(VIDEO_NETWORKS.get(name), "channels", ()):
        able = ", ".join(other for other, network in VIDEO_NETWORKS.items() if channels in network.channels)
        raise ValueError(f"network: of {channels} channels must be {able}, got {name!r}")
    if name.startswith(PREFIX) and str(weights) in (DEFAULT, RANDOM):
        built = timm_classifier(name, None, layer, pretrained=str(weights) == DEFAULT)
        named = _read_labels(labels, _outputs(built.model)) if labels is not None else built.labels
        return replace(built, labels=named or _numbered(_outputs(built.model)))
    if name.startswith(clip_networks.PREFIX):
        lines = read_lines(labels) if labels is not None else words
        return clip_networks.clip_classifier(name, lines, str(weights), layer)
    known = _published_labels(name, str(weights))
    if str(weights) == RANDOM:
        classes = len(known) or 1000
        built = build_classifier(name, classes, layer, output_stride, channels=channels)
        named = _read_labels(labels, classes) if labels is not None else known or _numbered(classes)
        built.model.eval()
        return replace(built, labels=named)
    _check_name(name)
    file = weights_file(name, weights)
    state, about = _read(file)
    classes = len(state[next(reversed(state))])
    classifier = build_classifier(name, classes, layer, output_stride, _sides(name, str(weights), state), channels)
    load_weights(classifier.model, state, name if channels == 3 else f"{name} of optical flow", file)
    if labels is not None:
        names = _read_labels(labels, classes)
    else:
        names = tuple(about["labels"]) if "labels" in about else known
        if len(names) != classes:
            raise ValueError(
                f"labels: a classifier of {classes} classes needs a file of their names (--class-names FILE)"
            )
    frames, short_side = (int(about.get(key, getattr(classifier, key))) for key in ("frames", "short_side"))
    classifier.model.eval()
    crop = 0 if "short_side" in about else classifier.crop  # ours are trained on whole frames
    return replace(classifier, labels=names, frames=frames, short_side=short_side, file=file, crop=crop)


def build_classifier(
    name: str, classes: int, layer: str | None = None, output_stride: int = 32, side: int = 0, channels: int = 3
) -> Classifier:
    """A classifier of ``classes`` classes with random weights, without labels; see :func:`load_classifier`.

    ``side`` : side of the squares that a vision transformer is built for, 0 for its default. ``channels`` : channels
    of the input, see :func:`load_classifier`.
    """
    if name.startswith(PREFIX):
        return timm_classifier(name, classes, layer)
    if name in VIDEO_NETWORKS:
        network = video_network(name)
        if output_stride != 32:
            raise ValueError(f"classifier: {name} has no output stride {output_stride}, use 32")
        model: nn.Module = network.build(classes, channels=channels) if channels != 3 else network.build(classes)
        return Classifier(
            name, model, layer or network.layer, network.mean, network.std, (), network.frames,
            network.short_side, network.stride, network.short_side if network.fixed else 0, network.resize,
            network.crop, "bilinear", network.fps, channels=channels,
        )  # fmt: skip
    if name in LITE:
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        crop = SCALES[LITE[name]][2]
        model = EfficientNetLite(classes, output_stride, LITE[name])
        return Classifier(
            name, model, layer or "features", mean, std, (), resize=(crop + 32,), crop=crop, interpolation="bicubic"
        )
    if name == SMALL2D:
        # Its own stride is 8, finer than any that is asked for.
        return Classifier(name, Small2D(classes), layer or "layers", (0.5,) * 3, (0.25,) * 3, (), stride=8)
    model = _torchvision_model(name, classes, output_stride, side)
    view = published(name).transforms()
    fixed = getattr(model, "image_size", 224) if name.startswith(("vit", "maxvit")) else 0
    crop = side or view.crop_size[0]
    return Classifier(
        name, model, layer or _last_layer(name, model), tuple(view.mean), tuple(view.std), (), fixed=fixed,
        resize=(crop if side else view.resize_size[0],), crop=crop, interpolation=view.interpolation.value,
    )  # fmt: skip


def save_classifier(classifier: Classifier, path: str | os.PathLike[str]) -> None:
    """Write weights, labels and sizes as one checkpoint, whole or not at all, for :func:`open_classifier`."""
    facts = {key: getattr(classifier, key) for key in ("name", "layer", "labels", "frames", "short_side")}
    write_checkpoint(path, CLASSIFIER, classifier.model.state_dict(), facts)


def open_classifier(path: str | os.PathLike[str], output_stride: int = 32) -> Classifier:
    """A classifier that :func:`save_classifier` wrote; the file says which.

    Raises
    ------
    DataError : missing, damaged, or written by something else
    """
    facts = _read(path)[1]
    if not isinstance(facts.get("name"), str) or not isinstance(facts.get("layer"), str):
        raise DataError(path, "must be a classifier that pyws masks classify wrote; it names no network")
    try:
        return load_classifier(facts["name"], path, None, facts["layer"], output_stride)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(path, f"is of no network of pyws: {error}") from error


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a classifier, from a safetensors file or a file of torch.save; no code in it is run.

    Raises
    ------
    DataError : missing, damaged, or not a state dict
    """
    return _read(path)[0]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state dict, and what :func:`save_classifier` says of the network; nothing where another program wrote it."""
    state: Any
    header: dict[str, Any] = {}
    if not Path(path).is_file():
        raise DataError(path, "must be a file of weights, found none")
    if Path(path).suffix == ".safetensors":
        state, header = read_tensors(path)
    else:
        state = read_torch(path, check_weights)
    tensors = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    if not tensors or not state or state[next(reversed(state))].ndim == 0:
        raise DataError(path, "must be a state dict of tensors that ends with the bias of the classes")
    facts = header["facts"] if header.get("kind") == CLASSIFIER else {}
    labels = facts.get("labels", [])
    sides = [facts.get(key, 0) for key in ("frames", "short_side")]
    named = isinstance(labels, list) and all(isinstance(one, str) for one in labels)
    if not named or not all(type(side) is int and 0 <= side < 1 << 16 for side in sides):
        raise DataError(path, "must say its labels by name, and its frames and short_side in whole numbers")
    return state, facts


def load_weights(model: nn.Module, state: dict[str, Tensor], name: str, path: str | os.PathLike[str]) -> None:
    """Load a state dict, exactly; errors name the file that it came from."""
    if name.startswith("densenet"):
        # The published files have names of an older torch: norm.1, where modules are called norm1 today.
        state = {re.sub(r"\.(norm|relu|conv)\.(\d)\.", r".\1\2.", key): value for key, value in state.items()}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n")]
        reason = lines[1] if len(lines) > 1 else lines[0]
        raise DataError(path, f"does not hold the weights of {name}: {reason[:300]}") from error


def _check_name(name: str) -> None:
    """Raise ValueError unless a network has that name; timm's names are timm's own matter."""
    own = [*LITE, SMALL2D, *VIDEO_NETWORKS]
    if name in own or name.startswith(PREFIX):
        return
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, [*own, *known], n=3, cutoff=0.4)
        raise ValueError(
            f"classifier: must be {', '.join(LITE)}, a classifier of torchvision, timm:NAME or clip:NAME, "
            f"got {name!r} (near: {', '.join(near) or 'none'})"
        )


def _torchvision_model(name: str, classes: int, output_stride: int, side: int) -> nn.Module:
    from torchvision import models

    _check_name(name)
    options: dict[str, Any] = {}
    if output_stride != 32:
        options["replace_stride_with_dilation"] = [False, False, output_stride == 16]
    if name in _TRANSFORM_INPUT:
        options |= {"transform_input": True, "init_weights": False}
    if side and name.startswith("vit"):
        options["image_size"] = side
    try:
        return models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, NotImplementedError) as error:
        if output_stride == 32:
            raise
        raise ValueError(f"classifier: {name} has no output stride {output_stride}, use 32") from error


def _last_layer(name: str, model: Any) -> str:
    if name.startswith("vit"):
        # What the last attention reads: the scores depend on the block's own output through the class token alone.
        return f"encoder.layers.encoder_layer_{len(model.encoder.layers) - 1}.ln_1"
    for start, layer in _LAST_LAYERS.items():
        if name.startswith(start):
            return layer
    raise ValueError(f"classifier: the layer for class activation maps of {name} is not known, give it with --layer")


def _sides(name: str, weights: str, state: dict[str, Tensor]) -> int:
    """The side of the squares that a vision transformer of torchvision was trained on, from its positions."""
    if not name.startswith("vit") or "encoder.pos_embedding" not in state:
        return 0
    patch = state["conv_proj.weight"].shape[-1]
    side = math.isqrt(state["encoder.pos_embedding"].shape[1] - 1) * patch
    return 0 if side == published(name).transforms().crop_size[0] else side


def _published_labels(name: str, weights: str) -> tuple[str, ...]:
    """The names of the classes of published weights: ImageNet for images, Kinetics-400 for clips."""
    if name in (*LITE, SMALL2D):
        return imagenet_labels()
    if name not in VIDEO_NETWORKS:
        return tuple((published(name, weights) or published("resnet18")).meta["categories"])
    return tuple((published(name, weights) or published("r3d_18")).meta["categories"])


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(classes))


def _outputs(model: nn.Module) -> int:
    return int(model.num_classes)  # type: ignore[arg-type]  # timm's networks say so


def _read_labels(path: str | os.PathLike[str], classes: int) -> tuple[str, ...]:
    lines = read_lines(path)
    if len(lines) not in (classes, classes + 1):
        raise DataError(path, f"must have {classes} or {classes + 1} lines (one a class), got {len(lines)}")
    return tuple(lines[-classes:])
