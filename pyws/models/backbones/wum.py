"""WUM: weakly supervised localisation by uncertainty modelling (Lee et al., AAAI 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.backbones.backbone import Activations, Backbone, VideoBatch, without_background
from pyws.models.backbones.linear import linear
from pyws.models.backbones.temporal_convolution import temporal_convolution


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
        rows, logits = self._embed(batch)
        magnitude = self._magnitude(rows, batch)
        return self._activations(magnitude, logits, batch, *self._select(magnitude, batch))

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        rows, logits = self._embed(batch)
        magnitude = self._magnitude(rows, batch)
        action, rest = self._select(magnitude.detach(), batch)
        activations = self._activations(magnitude, logits, batch, action, rest)
        target = labels.to(rows)
        loss = _binary(activations.scores, target / target.sum(1, keepdim=True))
        even = torch.full_like(target, 1 / self.num_classes)
        loss = loss + self.background * _binary((rest.unsqueeze(1) @ logits).squeeze(1).softmax(1), even)
        large, small = torch.linalg.vector_norm(_means_of(rows, torch.stack([action, rest], 1), batch), dim=2).unbind(1)
        return activations, loss + self.uncertainty * ((self.margin - large).relu() + small).square()

    def _embed(self, batch: VideoBatch) -> tuple[Tensor, Tensor]:
        """(N, D) embedded snippets, packed, and (B, L, K) class logits, 0 at padding."""
        layer = self.embedding
        assert layer.bias is not None
        if batch.features.device.type == "cpu" and not batch.bfloat16:
            rows = temporal_convolution(batch.pack(batch.features), batch.sizes, layer.weight, layer.bias)
        else:  # its sums and differences of inputs would lose bfloat16's few digits, and a GPU has its own algorithms
            rows = batch.pack(batch.layer(layer, batch.unpack(batch.pack(batch.features)).mT).mT)
        rows = rows.relu_()
        return rows, batch.unpack(batch.layer(linear, batch.dropout(rows, 0.7), self.classifier.weight))

    def _magnitude(self, rows: Tensor, batch: VideoBatch) -> Tensor:
        """(B, L) length of each snippet's embedded feature, 0 at padding."""
        return batch.unpack(torch.linalg.vector_norm(rows, dim=1, keepdim=True)).squeeze(2)

    def _select(self, magnitude: Tensor, batch: VideoBatch) -> tuple[Tensor, Tensor]:
        """(B, L) weights, each summing to 1: the snippets of largest and of smallest magnitude, among some drawn."""
        drawn = batch.unpack(batch.dropout(magnitude.new_ones(sum(batch.sizes), 1), 0.7)).squeeze(2)
        reverse = magnitude.amax(1, keepdim=True) - magnitude
        return _highest(magnitude * drawn, 9, batch), _highest(reverse * drawn, 4, batch)

    def _activations(
        self, magnitude: Tensor, logits: Tensor, batch: VideoBatch, action: Tensor, rest: Tensor
    ) -> Activations:
        best = _highest(logits.mT, 9, batch)
        scores = (best * logits.mT).sum(2).softmax(1)
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


def _means_of(rows: Tensor, weights: Tensor, batch: VideoBatch) -> Tensor:
    """(N, D) packed and (B, R, L) -> (B, R, D): weighted sums of each video's snippets."""
    parts = zip(weights, rows.split(batch.sizes), strict=True)
    return torch.stack([own[:, : len(part)] @ part for own, part in parts])


def _binary(probabilities: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy(probabilities, target, reduction="none").mean(1)


def _stretch(maps: Tensor, mask: Tensor) -> Tensor:
    """Each class of each video from its least to its greatest value over time onto [0, 1]."""
    real = mask.unsqueeze(2)
    low = maps.masked_fill(~real, torch.inf).amin(1, keepdim=True)
    span = maps.masked_fill(~real, -torch.inf).amax(1, keepdim=True) - low
    return (maps - low) / torch.where(span > 0, span, 1.0) * real
