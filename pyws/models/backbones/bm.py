"""BM: background modelling (Nguyen et al., ICCV 2019), re-implemented from its description."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.backbones.backbone import Activations, Backbone, VideoBatch, cross_entropy, tag_targets

_SURE = 1e-4  # attention is never surer than this in what pseudo labels train


class BM(Backbone):
    """Attention separates foreground from background; both are classified, and the classes guide the attention.

    There is no public code to compare with: what the paper leaves open is taken from DGAM (Shi et al., CVPR 2020),
    which uses the same losses (pooling, weights, optimiser, post-processing); ``clustering`` = 0.1 is a guess.
    The published system has one such network for each stream:
    ``TwoStream(BM(1024, K), BM(1024, K), weights=(0.35, 0.65))``.

    Parameters
    ----------
    features, num_classes : as of :class:`Backbone`
    background, guidance, clustering : weights of the losses beside the loss of the foreground's classes

    Examples
    --------
    >>> model = BM(features=16, num_classes=3).eval()
    >>> found = model(torch.rand(2, 10, 16), mask=torch.ones(2, 10, dtype=torch.bool))  # two videos of ten snippets
    >>> found.scores.shape, found.tcam.shape
    (torch.Size([2, 3]), torch.Size([2, 10, 3]))
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        background: float = 0.03,
        guidance: float = 0.1,
        clustering: float = 0.1,
    ) -> None:
        super().__init__(features, num_classes)
        self.attention = nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 1), nn.Sigmoid())
        self.classifier = nn.Linear(features, num_classes + 1)
        self.clusters = nn.Linear(features, 2, bias=False)  # foreground and background
        self.background, self.guidance, self.clustering = background, guidance, clustering

    def activate(self, batch: VideoBatch) -> Activations:
        return self._run(batch)[0]

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        activations, logits, attention, foreground, background = self._run(batch)
        nothing = tag_targets(torch.zeros_like(labels), 1.0)
        loss = cross_entropy(self.classifier(foreground).log_softmax(1), tag_targets(labels, 0.0))
        loss = loss + self.background * cross_entropy(self.classifier(background).log_softmax(1), nothing)
        loss = loss + self.guidance * self._guide(logits, attention.squeeze(2), labels, batch)
        apart = self.clusters(foreground).log_softmax(1)[:, 0] + self.clusters(background).log_softmax(1)[:, 1]
        return activations, loss - self.clustering * apart

    def _run(self, batch: VideoBatch) -> tuple[Activations, Tensor, Tensor, Tensor, Tensor]:
        """Activations, (B, L, K+1) class logits, (B, L, 1) attention, (B, D) means of foreground and background."""
        rows = batch.pack(batch.features)
        attention = batch.unpack(batch.layer(self.attention[:3], rows).sigmoid())
        snippets, rest = batch.unpack(rows), 1 - attention
        rest = rest * batch.mask.unsqueeze(2)
        foreground = (attention * snippets).sum(1) / (attention.sum(1) + 1)
        background = (rest * snippets).sum(1) / (rest.sum(1) + 1e-6)
        logits = batch.unpack(batch.layer(self.classifier, rows))
        tcam = 0.8 * attention * logits[..., :-1].sigmoid() + 0.2 * attention.square()
        scores = self.classifier(foreground).softmax(1)[:, :-1]
        columns = _joint(attention, logits) * batch.mask.unsqueeze(2)
        return Activations(scores, tcam, ((1.0, columns),)), logits, attention, foreground, background

    def _guide(self, logits: Tensor, attention: Tensor, labels: Tensor, batch: VideoBatch) -> Tensor:
        """(B,): how far the attention is from what the snippets' classes say, smoothed in time."""
        smooth = _smooth(logits.detach().softmax(2), batch.mask)
        action = smooth[..., :-1].masked_fill(~labels.unsqueeze(1), 0).amax(2)
        distance = (attention - action).abs() + (attention - (1 - smooth[..., -1])).abs()
        return batch.mean(distance * batch.mask)


def _joint(attention: Tensor, logits: Tensor) -> Tensor:
    """(B, L, K+1) log probabilities that a snippet is foreground of each class, and of everything else.

    Pseudo labels train these rather than the classes alone: the activation map is made of the attention too.
    """
    attention = attention.clamp(_SURE, 1 - _SURE)
    classes = logits.log_softmax(2)
    actions = attention.log() + classes[..., :-1]
    rest = torch.logaddexp((1 - attention).log(), attention.log() + classes[..., -1:])
    return torch.cat([actions, rest], 2)


def _smooth(values: Tensor, mask: Tensor) -> Tensor:
    """(B, L, C) -> (B, L, C): Gaussian means, of sigma 1, over the video's own snippets up to 4 away."""
    reach = 4
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = (-0.5 * offsets**2).exp().view(1, 1, -1)
    real = mask.to(values.dtype).unsqueeze(1)
    series = (values.mT * real).flatten(0, 1).unsqueeze(1)
    total = functional.conv1d(series, kernel, padding=reach).view(values.mT.shape)
    weight = functional.conv1d(real, kernel, padding=reach)
    return (total / weight.clamp_min(1e-12)).mT
