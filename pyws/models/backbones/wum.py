"""WUM: weakly supervised localisation by uncertainty modelling (Lee et al., AAAI 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.backbones.backbone import Activations, Backbone, VideoBatch, without_background


class WUM(Backbone):
    """Background is told by the magnitude of features, which training makes large for actions and small elsewhere.

    All snippets are used, where the published training samples 750 of a video.

    Parameters
    ----------
    features, num_classes : as of :class:`Backbone`
    margin : magnitude that features of actions should reach
    uncertainty, background : weights of the magnitude loss and of the even distribution over classes in background

    Examples
    --------
    >>> model = WUM(features=16, num_classes=3).eval()
    >>> found = model(torch.rand(2, 10, 16), mask=torch.ones(2, 10, dtype=torch.bool))
    >>> found.tcam.shape, found.actionness.shape  # whether anything happens, of whatever class
    (torch.Size([2, 10, 3]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        margin: float = 100.0,
        uncertainty: float = 5e-4,
        background: float = 1.0,
    ) -> None:
        super().__init__(features, num_classes)
        self.embedding = nn.Conv1d(features, features, 3, padding=1)
        self.classifier = nn.Linear(features, num_classes, bias=False)
        self.margin, self.uncertainty, self.background = margin, uncertainty, background

    def activate(self, batch: VideoBatch) -> Activations:
        embedded, logits = self._embed(batch)
        return self._activations(embedded, logits, batch, *self._select(embedded, batch))

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        embedded, logits = self._embed(batch)
        action, rest = self._select(embedded, batch)
        activations = self._activations(embedded, logits, batch, action, rest)
        target = labels.to(embedded)
        loss = _binary(activations.scores, target / target.sum(1, keepdim=True))
        even = torch.full_like(target, 1 / self.num_classes)
        loss = loss + self.background * _binary(_mean_of(logits, rest).softmax(1), even)
        large = torch.linalg.vector_norm(_mean_of(embedded, action), dim=1)
        small = torch.linalg.vector_norm(_mean_of(embedded, rest), dim=1)
        return activations, loss + self.uncertainty * ((self.margin - large).relu() + small).square()

    def _embed(self, batch: VideoBatch) -> tuple[Tensor, Tensor]:
        """(B, L, D) features and (B, L, K) class activation, zeros at padding."""
        real = batch.mask.unsqueeze(2)
        features = batch.features.masked_fill(~real, 0)  # the convolution reaches one snippet into the padding
        embedded = self.embedding(features.mT).relu().mT * real
        rows = batch.dropout(batch.pack(embedded), 0.7)
        return embedded, batch.unpack(self.classifier(rows))

    def _select(self, embedded: Tensor, batch: VideoBatch) -> tuple[Tensor, Tensor]:
        """(B, L) weights, each summing to 1: the snippets of largest and of smallest magnitude, among some drawn."""
        magnitude = torch.linalg.vector_norm(embedded.detach(), dim=2)
        drawn = batch.unpack(batch.dropout(magnitude.new_ones(sum(batch.sizes), 1), 0.7)).squeeze(2)
        reverse = magnitude.amax(1, keepdim=True) - magnitude
        return _highest(magnitude * drawn, 9, batch), _highest(reverse * drawn, 4, batch)

    def _activations(
        self, embedded: Tensor, logits: Tensor, batch: VideoBatch, action: Tensor, rest: Tensor
    ) -> Activations:
        best = _highest(logits.mT, 9, batch)
        scores = (best * logits.mT).sum(2).softmax(1)
        magnitude = torch.linalg.vector_norm(embedded, dim=2)
        low, high = ((weights * magnitude).sum(1, keepdim=True) for weights in (rest, action))
        quality = ((magnitude - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        tcam = _stretch(logits.softmax(2) * quality.unsqueeze(2), batch.mask)
        columns = without_background(logits)
        return Activations(scores, tcam, ((1.0, columns),), actionness=quality * batch.mask)


def _highest(values: Tensor, part: int, batch: VideoBatch) -> Tensor:
    """(B, ..., L) -> the same shape: 1/k at the k = length / part highest snippets (at least one, first of equals)."""
    shape = (len(values), *[1] * (values.ndim - 2), -1)
    hidden = values.detach().masked_fill(~batch.mask.view(shape), -torch.inf)
    order = hidden.sort(dim=-1, descending=True, stable=True).indices
    count = (batch.lengths // part).clamp_min(1).view(shape)
    weights = (torch.arange(values.shape[-1], device=values.device) < count) / count.to(values.dtype)
    return torch.zeros_like(values).scatter(-1, order, weights.expand_as(order).to(values.dtype))


def _mean_of(values: Tensor, weights: Tensor) -> Tensor:
    """(B, L, C) and (B, L) -> (B, C)."""
    return (weights.unsqueeze(1) @ values).squeeze(1)


def _binary(probabilities: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy(probabilities, target, reduction="none").mean(1)


def _stretch(maps: Tensor, mask: Tensor) -> Tensor:
    """Each class of each video from its least to its greatest value over time onto [0, 1]."""
    real = mask.unsqueeze(2)
    low = maps.masked_fill(~real, torch.inf).amin(1, keepdim=True)
    span = maps.masked_fill(~real, -torch.inf).amax(1, keepdim=True) - low
    return (maps - low) / torch.where(span > 0, span, 1.0) * real
