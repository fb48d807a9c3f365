"""What an object of one video looks like: a logistic regression on colours and early features of superpixels.

Early features of a classifier tell fur from grass; late ones tell dog from background as its activation maps do, and a
model of them only repeats the mistakes of the masks that it is fitted to.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array
from torch import Tensor, nn
from torch.nn import functional

from pyws.data.video.frames import Pixels
from pyws.models.classifier import Classifier, input_of
from pyws.models.devices import on_device

Floats = NDArray[np.float64]

NEWTON_STEPS = 50  # at most; about 8 are taken
CONVERGED = 1e-9  # decrease of the loss
_ROWS = 16384  # rows of features that are in memory in float64, 9 MB of the usual 67


# Layers with about a fourth and an eighth of the input's size, by the start of the classifier's name.
_EARLY_LAYERS = {
    "efficientnet-lite0": ("_blocks.2", "_blocks.4"), "efficientnet-lite": ("_blocks.3", "_blocks.6"),
    "small2d": ("layers.1", "layers.2"), "resnet": ("layer1", "layer2"),
    "resnext": ("layer1", "layer2"), "wide_resnet": ("layer1", "layer2"), "efficientnet": ("features.2", "features.3"),
    "convnext": ("features.1", "features.3"), "regnet": ("trunk_output.block1", "trunk_output.block2"),
    "mobilenet_v2": ("features.3", "features.6"),
}  # fmt: skip


def early_layers(name: str) -> tuple[str, ...]:
    """The layers of a classifier whose features have about a fourth and an eighth of its input's size.

    Raises
    ------
    ValueError : they are not known

    Examples
    --------
    >>> early_layers("resnet50")
    ('layer1', 'layer2')
    """
    for start, layers in _EARLY_LAYERS.items():
        if name.startswith(start):
            return layers
    raise ValueError(f"layers: the early layers of {name} are not known; give them with --layers")


class EarlyFeatures:
    """What some layers of a classifier see in a frame; the layers after them do not run. Threads may share it.

    Hooks of the network are set on entry and gone on exit.

    Parameters
    ----------
    classifier : classifier of images, in eval mode
    layers : dotted names; each gives (1, C, h, w)
    short_side : short side of the classifier's input

    Raises
    ------
    ValueError : no such layer

    Examples
    --------
    >>> from pyws.models.classifiers import build_classifier
    >>> classifier = build_classifier("resnet18", 3)
    >>> _ = classifier.model.eval()
    >>> with EarlyFeatures(classifier, ("layer1", "layer2"), 64) as features:
    ...     [tuple(one.shape) for one in features(np.zeros((32, 64, 3), np.uint8))]
    [(1, 64, 16, 32), (1, 128, 8, 16)]
    """

    def __init__(self, classifier: Classifier, layers: Sequence[str], short_side: int) -> None:
        self.layers, self._short_side = tuple(layers), short_side
        try:
            for layer in layers:
                classifier.model.get_submodule(layer)
        except AttributeError as error:
            raise ValueError(f"layers: {classifier.name} has no such layer: {error}") from error
        self._classifier = classifier.for_inference(*layers)
        self._found = threading.local()
        self._hooks: list[Any] = []

    def __enter__(self) -> EarlyFeatures:
        modules = {layer: self._classifier.model.get_submodule(layer) for layer in self.layers}
        self._hooks = [module.register_forward_hook(partial(self._keep, layer)) for layer, module in modules.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, layer: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        found = self._found.layers
        found[layer] = output.clone() if isinstance(output, Tensor) else None  # what follows may work in place
        if len(found) == len(set(self.layers)):
            raise _AllFound

    @torch.no_grad()
    def __call__(self, frame: Pixels) -> list[Tensor]:
        """Features (1, C, h, w) float32 by each layer of a frame (H, W, 3) uint8 RGB.

        Raises
        ------
        ValueError : a layer gives no features of an image, or the network cannot take frames of this size
        """
        classifier, self._found.layers = self._classifier, {}
        device = next(classifier.model.parameters()).device
        inputs = classifier.prepare(on_device(torch.tensor(frame[None]), device), self._short_side)
        with input_of(classifier.name, inputs), suppress(_AllFound):
            classifier.model(inputs)
        features = [self._found.layers.get(layer) for layer in self.layers]
        for layer, one in zip(self.layers, features, strict=True):
            if one is None or one.ndim != 4:
                raise ValueError(f"layers: {layer} of {classifier.name} must give (B, C, h, w)")
        return [one.float() for one in features]


class _AllFound(Exception):
    """The last layer that is wanted has run."""


def superpixel_features(
    features: EarlyFeatures, frame: Pixels, small: Pixels, superpixels: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Means over each superpixel of CIELAB and of early features, scaled to the working size.

    Parameters
    ----------
    features : what a classifier sees early
    frame : (H, W, 3) uint8 RGB, what it sees them in
    small : (h, w, 3) uint8 RGB, the same at the working size
    superpixels : (h, w) labels from 0

    Returns
    -------
    (K, D) float32 for K superpixels
    """
    from skimage.color import rgb2lab

    values = [rgb2lab(small).transpose(2, 0, 1)]
    for one in features(frame):
        one = one.contiguous(memory_format=torch.channels_last)  # superpixels add up all channels of a pixel
        scaled = functional.interpolate(one, small.shape[:2], mode="bilinear", align_corners=False)
        values.append(scaled[0].cpu().numpy())
    return np.concatenate([superpixel_means(superpixels, one) for one in values], 1).astype(np.float32)


def superpixel_means(superpixels: NDArray[np.int32], values: NDArray[Any]) -> Floats:
    """Means (K, C) over each of K superpixels (H, W) of values (C, H, W), which are added up as at least float32.

    Examples
    --------
    >>> superpixel_means(np.array([[0, 0, 1]]), np.array([[[1.0, 3.0, 5.0]]])).tolist()
    [[2.0], [5.0]]
    """
    flat = superpixels.ravel()
    areas = np.maximum(np.bincount(flat), 1)
    values = values.astype(np.result_type(values, np.float32), copy=False)
    ends = np.arange(flat.size + 1, dtype=flat.dtype)
    of_pixels = csc_array((np.ones(flat.size, values.dtype), flat, ends), (len(areas), flat.size))
    return of_pixels @ values.reshape(len(values), -1).T / areas[:, None]


def fit_logistic(features: NDArray[np.floating], targets: Floats, weights: Floats, l2: float) -> Floats:
    """Coefficients (D + 1,), the constant last, of a logistic regression, by Newton's method.

    They minimise the weighted mean of the cross-entropy plus ``l2`` times the sum of squares of the first D.

    Parameters
    ----------
    features : (N, D), float32 or float64
    targets : (N,) in [0, 1]
    weights : (N,) not negative, of a positive sum
    l2 : positive

    Examples
    --------
    >>> features = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    >>> fit_logistic(features, np.array([0.0, 0.25, 0.75, 1.0]), np.ones(4), l2=1e-6).round(2).tolist()
    [1.95, 0.0]
    """
    weights = weights / weights.sum()
    penalty = np.append(np.full(features.shape[1], 2 * l2), 1e-9)  # the last keeps the step finite without targets
    parts = [slice(start, start + _ROWS) for start in range(0, len(features), _ROWS)]

    def scores_of(coefficients: Floats) -> Floats:
        return np.concatenate([features[part] @ coefficients[:-1] for part in parts]) + coefficients[-1]

    def loss(coefficients: Floats) -> float:
        scores = scores_of(coefficients)
        return float(weights @ (np.logaddexp(0, scores) - targets * scores) + penalty @ coefficients**2 / 2)

    coefficients = np.zeros(len(penalty))
    before = loss(coefficients)
    for _ in range(NEWTON_STEPS):
        probabilities = 1 / (1 + np.exp(-np.clip(scores_of(coefficients), -500, 500)))
        gradient, curvature = penalty * coefficients, np.diag(penalty)
        for part in parts:
            inputs = np.append(features[part].astype(np.float64), np.ones((len(features[part]), 1)), 1)
            gradient += inputs.T @ (weights * (probabilities - targets))[part]
            curvature += (inputs.T * (weights * probabilities * (1 - probabilities))[part]) @ inputs
        step, share = np.linalg.solve(curvature, gradient), 1.0
        while (after := loss(coefficients - share * step)) > before and share > CONVERGED:
            share /= 2
        if before - after < CONVERGED:
            break
        coefficients, before = coefficients - share * step, after
    return coefficients
