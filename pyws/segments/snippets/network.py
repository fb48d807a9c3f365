"""What a classifier says of a batch of windows: the input of its last layer as features, and its scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pyws.models.classifier import Classifier, input_of
from pyws.models.devices import Precision, has_bfloat16, on_device, set_precision
from pyws.models.video_networks.catalogue import last_layer


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
    ValueError : no layer of as many outputs as classes, or a precision that the device does not have
    """

    def __init__(
        self, classifier: Classifier, device: torch.device, precision: Precision | Literal["auto"] = "auto"
    ) -> None:
        classifier.model.to(device).eval()
        classifier = classifier.for_inference()
        self.classifier, self.device = classifier, device
        self.precision: Precision = (
            precision if precision != "auto" else "bfloat16" if has_bfloat16(device) else "float32"
        )
        set_precision(classifier.model, self.precision, device)
        _, self._head = last_layer(classifier.model, len(classifier.labels))

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) features and (B, classes) scores, float32 on the CPU, of windows as the model takes them."""
        seen: list[Tensor] = []
        handle = self._head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            with input_of(self.classifier.name, windows):
                scores = self.classifier.model(on_device(windows, self.device))
        finally:
            handle.remove()
        features = seen[-1].float()
        if not isinstance(self._head, nn.Linear):
            features = features.flatten(2).mean(2)
        elif features.ndim > 2:
            features = features.flatten(1, -2).mean(1)
        return features.cpu(), scores.cpu()
