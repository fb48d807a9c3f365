"""A last layer on the frozen features of a pretrained network: logistic regression, for few videos and minutes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.data.tagged.dataset import TaggedVideo
from pyws.data.video.clips import FrameStore, clips_of
from pyws.data.video.frames import evenly
from pyws.models.classifier import Classifier, input_of
from pyws.models.devices import on_device

VIEWS = 8  # frames or clips of a video, spread evenly
L2 = 1e-2  # weight of the squared coefficients, of features of spread 1, beside the mean loss
STEPS = 200  # most steps of L-BFGS


def fit_head(features: Tensor, targets: Tensor, weights: Tensor, loss: str = "ce", l2: float = L2) -> nn.Linear:
    """Logistic regression on features, which are scaled to spread 1 for it.

    Parameters
    ----------
    features : (N, D)
    targets : (N, classes), 1 where a row shows the class
    weights : (N,), of the rows in the mean loss
    loss : "ce", softmax over the classes, or "bce", each class for itself
    l2 : weight of the squared coefficients beside the mean loss; they make the minimum unique

    Returns
    -------
    The layer that gives the scores (N, classes) of features as they are, float32.

    Examples
    --------
    >>> features = torch.tensor([[0.0, 5.0], [0.1, 5.0], [1.0, 5.0], [1.1, 5.0]])
    >>> targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> fit_head(features, targets, torch.ones(4))(features).argmax(1).tolist()
    [0, 0, 1, 1]
    """
    rows, wanted = features.double(), targets.double()
    share = (weights / weights.sum()).double()
    middle, spread = rows.mean(0), rows.std(0, correction=0)
    spread = torch.where(spread > 1e-6 * rows.abs().amax(), spread, torch.inf)  # a constant feature says nothing
    scaled = (rows - middle) / spread
    matrix = torch.zeros(wanted.shape[1], rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(wanted.shape[1], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([matrix, bias], max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def value() -> Tensor:
        search.zero_grad()
        scores = scaled @ matrix.T + bias
        if loss == "bce":
            errors = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none").mean(1)
        else:
            errors = -(functional.log_softmax(scores, 1) * wanted).sum(1)
        total = (share * errors).sum() + l2 * matrix.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        search.step(value)
    layer = nn.Linear(rows.shape[1], wanted.shape[1])
    with torch.no_grad():
        layer.weight.copy_(matrix / spread)
        layer.bias.copy_(bias - (matrix / spread) @ middle)
    return layer


@torch.no_grad()
def features_of(
    classifier: Classifier, head: nn.Module, store: FrameStore, video: TaggedVideo, device: torch.device
) -> Tensor:
    """What enters the last layer, (views, D), for frames or clips spread evenly over a video."""
    shown = video.shown(store.length(video.source))
    if classifier.frames:
        clips = clips_of(len(shown), classifier.frames)
        chosen = [[shown[index] for index in clips[place].indices()] for place in evenly(len(clips), VIEWS)]
        views = [store.frames(video.source, indices)[None] for indices in chosen]
    else:
        views = [store.frames(video.source, [shown[place]]) for place in evenly(len(shown), VIEWS)]
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        for view in views:
            inputs = classifier.prepare(view, classifier.short_side)
            with input_of(classifier.name, inputs):
                classifier.model(on_device(inputs, device))
    finally:
        handle.remove()
    return torch.cat([pooled(one, head) for one in seen]).float().cpu()


def pooled(inputs: Tensor, head: nn.Module) -> Tensor:
    """The input of a last layer (B, ..., D), or of a convolution (B, D, ...), averaged over its positions: (B, D)."""
    if isinstance(head, nn.Linear):
        return inputs.flatten(1, -2).mean(1) if inputs.ndim > 2 else inputs
    return inputs.flatten(2).mean(2) if inputs.ndim > 2 else inputs


def set_head(head: nn.Module, layer: nn.Linear) -> None:
    """Give a linear layer, or a convolution of one position, the coefficients of another one."""
    with torch.no_grad():
        for name in ("weight", "bias"):
            kept = getattr(head, name)
            kept.copy_(getattr(layer, name).reshape(kept.shape))
