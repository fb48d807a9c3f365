"""What a classifier says of a batch of windows: the input of its last layer as features, and its scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyws.models.classifiers import Classifier

PRECISIONS = ("auto", "float32", "bfloat16")


class SnippetNetwork:
    """A classifier that gives the features of windows.

    Features are what enters the layer that scores the classes, averaged over the positions that it is applied to: the
    pooled last map of a convolutional network, the class token of a transformer.

    Parameters
    ----------
    classifier : classifier of clips or images
    device : where it runs
    precision : "float32", "bfloat16", or "auto": bfloat16 where the device computes it natively

    Raises
    ------
    ValueError : no layer of as many outputs as classes, or an unknown precision
    """

    def __init__(self, classifier: Classifier, device: torch.device, precision: str = "auto") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        classifier.model.to(device).eval()
        classifier = classifier.for_inference()
        self.classifier, self.device = classifier, device
        self.precision = precision if precision != "auto" else "bfloat16" if has_bfloat16(device) else "float32"
        self._head = _head(classifier.model, len(classifier.labels), classifier.name)

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) features and (B, classes) scores, float32 on the CPU, of windows as the model takes them."""
        seen: list[Tensor] = []
        handle = self._head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                scores = self.classifier.model(windows.to(self.device, non_blocking=True))
        finally:
            handle.remove()
        features = seen[-1].float()
        convolution = isinstance(self._head, nn.modules.conv._ConvNd)
        features = (
            features.flatten(2).mean(2)
            if convolution
            else features.flatten(1, -2).mean(1)
            if features.ndim > 2
            else features
        )
        return features.cpu(), scores.float().cpu()


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32.

    Examples
    --------
    >>> isinstance(has_bfloat16(torch.device("cpu")), bool)
    True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asks: Any = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(asks()) if asks else False


def _head(model: nn.Module, classes: int, name: str) -> nn.Module:
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.Linear) and module.out_features == classes:
            return module
        if isinstance(module, nn.modules.conv._ConvNd) and module.out_channels == classes:
            return module
    raise ValueError(f"network: {name} has no last layer of {classes} classes whose input could be the features")
