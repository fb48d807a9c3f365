"""What an object of one video looks like: a logistic regression on colours and early features of superpixels.

Early features of a classifier tell fur from grass; late ones tell dog from background as its activation maps do, and a
model of them only repeats the mistakes of the masks that it is fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyws.data.video.frames import Pixels
from pyws.models.classifier import Classifier, input_of

Floats = NDArray[np.float64]

NEWTON_STEPS = 50  # at most; about 8 are taken
CONVERGED = 1e-9  # decrease of the loss


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


@torch.no_grad()
def superpixel_features(
    classifier: Classifier,
    frame: Pixels,
    small: Pixels,
    superpixels: NDArray[np.int32],
    layers: Sequence[str],
    short_side: int,
) -> NDArray[np.float32]:
    """Means over each superpixel of CIELAB and of the features of layers, scaled to the working size.

    Parameters
    ----------
    classifier : classifier of images, in eval mode
    frame : (H, W, 3) uint8 RGB, what the classifier sees
    small : (h, w, 3) uint8 RGB, the same at the working size
    superpixels : (h, w) labels from 0
    layers : dotted names; each gives (1, C, h, w)
    short_side : short side of the classifier's input

    Returns
    -------
    (K, D) float32 for K superpixels

    Raises
    ------
    ValueError : no such layer, or one that gives no features of an image
    """
    from skimage.color import rgb2lab

    found: list[Any] = []
    try:
        modules = [classifier.model.get_submodule(layer) for layer in layers]
    except AttributeError as error:
        raise ValueError(f"layers: {classifier.name} has no such layer: {error}") from error
    hooks = [module.register_forward_hook(lambda _module, _inputs, output: found.append(output)) for module in modules]
    device = next(classifier.model.parameters()).device
    try:
        inputs = classifier.prepare(torch.tensor(frame[None], device=device), short_side)
        with input_of(classifier.name, inputs):
            classifier.model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    values = [rgb2lab(small).transpose(2, 0, 1)]
    for layer, features in zip(layers, found, strict=True):
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise ValueError(f"layers: {layer} of {classifier.name} must give (B, C, h, w)")
        scaled = functional.interpolate(features.float(), small.shape[:2], mode="bilinear", align_corners=False)
        values.append(scaled[0].cpu().numpy())
    return superpixel_means(superpixels, np.concatenate(values)).astype(np.float32)


def superpixel_means(superpixels: NDArray[np.int32], values: NDArray[Any]) -> Floats:
    """Means (K, C) over each of K superpixels (H, W) of values (C, H, W).

    Examples
    --------
    >>> superpixel_means(np.array([[0, 0, 1]]), np.array([[[1.0, 3.0, 5.0]]])).tolist()
    [[2.0], [5.0]]
    """
    flat = superpixels.ravel()
    areas = np.maximum(np.bincount(flat), 1)
    return np.stack([np.bincount(flat, one.ravel(), len(areas)) / areas for one in values], 1)


def fit_logistic(features: Floats, targets: Floats, weights: Floats, l2: float) -> Floats:
    """Coefficients (D + 1,), the constant last, of a logistic regression, by Newton's method.

    They minimise the weighted mean of the cross-entropy plus ``l2`` times the sum of squares of the first D.

    Parameters
    ----------
    features : (N, D)
    targets : (N,) in [0, 1]
    weights : (N,) not negative, of a positive sum
    l2 : positive

    Examples
    --------
    >>> features = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    >>> fit_logistic(features, np.array([0.0, 0.25, 0.75, 1.0]), np.ones(4), l2=1e-6).round(2).tolist()
    [1.95, 0.0]
    """
    inputs = np.concatenate([features, np.ones((len(features), 1))], 1)
    weights = weights / weights.sum()
    penalty = np.append(np.full(features.shape[1], 2 * l2), 1e-9)  # the last keeps the step finite without targets

    def loss(coefficients: Floats) -> float:
        scores = inputs @ coefficients
        return float(weights @ (np.logaddexp(0, scores) - targets * scores) + penalty @ coefficients**2 / 2)

    coefficients = np.zeros(inputs.shape[1])
    before = loss(coefficients)
    for _ in range(NEWTON_STEPS):
        probabilities = 1 / (1 + np.exp(-np.clip(inputs @ coefficients, -500, 500)))
        gradient = inputs.T @ (weights * (probabilities - targets)) + penalty * coefficients
        curvature = (inputs.T * (weights * probabilities * (1 - probabilities))) @ inputs + np.diag(penalty)
        step, share = np.linalg.solve(curvature, gradient), 1.0
        while (after := loss(coefficients - share * step)) > before and share > CONVERGED:
            share /= 2
        if before - after < CONVERGED:
            break
        coefficients, before = coefficients - share * step, after
    return coefficients
