"""Image classifiers of the package timm, by their names there: ``timm:convnext_tiny.fb_in22k_ft_in1k``."""

from __future__ import annotations

import contextlib
import difflib
import math
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from torch import nn

from pyws.errors import DataError, loader_says
from pyws.models.classifier import Classifier
from pyws.models.pretrained.weights import TIMEOUT

PREFIX = "timm:"


def timm_classifier(
    name: str, classes: int | None = None, layer: str | None = None, pretrained: bool = False
) -> Classifier:
    """Build a network of timm, in eval mode.

    Parameters
    ----------
    name : with or without the prefix "timm:"
    classes : None for those of the published weights, which alone have ``labels``
    layer : dotted name of the layer for class activation maps; None for the last feature map
    pretrained : with its published weights, which timm downloads once into the cache of huggingface_hub

    Raises
    ------
    ValueError : timm is not installed, or has no such network
    DataError : the weights are not in the cache and cannot be downloaded
    """
    timm = _timm()
    own = name.removeprefix(PREFIX)
    if not timm.is_model(own.partition(".")[0]):
        near = difflib.get_close_matches(own, timm.list_models(), n=3, cutoff=0.4)
        raise ValueError(f"classifier: timm has no network {own!r} (near: {', '.join(near) or 'none'})")
    options = {} if classes is None else {"num_classes": classes}
    config = timm.get_pretrained_cfg(own)
    try:
        if pretrained and config is not None and config.hf_hub_id:
            reach(config.hf_hub_id)
        model = timm.create_model(own, pretrained=pretrained, **options).eval()
    except (OSError, RuntimeError) as error:
        if not pretrained or config is None:
            raise
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{PREFIX}{own}",
            f"its weights are not here and cannot be downloaded ({reason}): fetch model.safetensors of "
            f"https://huggingface.co/{config.hf_hub_id} on another machine and give it as --weights FILE",
        ) from error
    said = model.pretrained_cfg
    crop = int(said["input_size"][-1])
    labels = _labels(model) if classes is None else ()
    file = cached_file(said["hf_hub_id"]) if pretrained and said.get("hf_hub_id") else None
    return Classifier(
        PREFIX + own, model, layer or _layer(model, own), tuple(said["mean"]), tuple(said["std"]), labels,
        fixed=crop if said.get("fixed_input_size") else 0, resize=(math.floor(crop / said["crop_pct"]),), crop=crop,
        interpolation=said["interpolation"], file=file,
    )  # fmt: skip


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        why = loader_says(error, "timm")
        raise ValueError(
            f"classifier: networks of timm need that package: pip install 'pyws-video[timm]'{why}"
        ) from error
    return timm


def reach(repository: str) -> None:
    """Raise OSError soon where the weights are not in the cache and their host does not answer.

    huggingface_hub alone tries again for more than a minute.
    """
    from huggingface_hub import constants

    if cached_file(repository) is not None:
        return
    request = urllib.request.Request(f"{constants.ENDPOINT}/api/models/{repository}", method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # it answers: what is wrong is better said by the download
        urllib.request.urlopen(request, timeout=TIMEOUT).close()


def cached_file(repository: str) -> Path | None:
    """Where the download lies."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _layer(model: nn.Module, name: str) -> str:
    """The last feature map; where a class token alone is scored, what the last block's attention reads.

    The last block's own output reaches such a score through the token alone: its gradient is zero everywhere else.
    """
    features: Any = getattr(model, "feature_info", None)
    if not features:
        raise ValueError(f"classifier: the layer for class activation maps of {name} is not known, give it (--layer)")
    last = features[-1]["module"]
    by_token = getattr(model, "num_prefix_tokens", 0) and getattr(model, "global_pool", "") == "token"
    return f"{last}.norm1" if by_token else last


def _labels(model: nn.Module) -> tuple[str, ...]:
    """Names of the classes of an ImageNet of any size, with synonyms; () of another data set."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
