"""STPN: sparse temporal pooling network (Nguyen et al., CVPR 2018)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from pyws.models.backbones.backbone import Activations, Backbone, VideoBatch, without_background
from pyws.models.backbones.linear import linear


class STPN(Backbone):
    """A class-agnostic attention weighs the snippets; their weighted mean is classified; the attention is kept sparse.

    The published network has one such model for each stream: ``TwoStream(STPN(1024, K), STPN(1024, K))``. For GauFuse
    one model takes the joint feature through a learnable layer (``embedding``); the paper gives no shape, here it is
    as wide as the feature. All snippets are used, where the published training samples 400.

    Parameters
    ----------
    features, num_classes : as of :class:`Backbone`
    embedding : put Linear, ReLU and Dropout 0.5 in front
    sparsity : weight of the sum of the attention in the loss

    Examples
    --------
    >>> import torch
    >>> model = STPN(features=16, num_classes=3)
    >>> tags = torch.tensor([[True, False, False], [False, True, True]])
    >>> mask = torch.arange(10) < torch.tensor([[10], [6]])  # the second video has six snippets
    >>> activations, loss = model.loss(torch.rand(2, 10, 16), mask, tags, epoch=0)
    >>> activations.tcam[1, 6:].abs().max().item(), loss.shape
    (0.0, torch.Size([2]))
    """

    def __init__(self, features: int, num_classes: int, embedding: bool = True, sparsity: float = 1e-4) -> None:
        super().__init__(features, num_classes)
        self.embedding = nn.Linear(features, features) if embedding else None
        self.attention = nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 1), nn.Sigmoid())
        self.classifier = nn.Linear(features, num_classes)
        self.sparsity = sparsity

    def activate(self, batch: VideoBatch) -> Activations:
        return self._run(batch)[0]

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        activations, video_logits, attention = self._run(batch)
        entropy = functional.binary_cross_entropy_with_logits(video_logits, labels.to(video_logits), reduction="none")
        return activations, entropy.mean(1) + self.sparsity * attention.sum((1, 2))

    def _run(self, batch: VideoBatch) -> tuple[Activations, Tensor, Tensor]:
        rows = batch.pack(batch.features)
        if self.embedding is not None:
            rows = batch.embed(rows, self.embedding, 0.5)
        first = self.attention[0]
        assert isinstance(first, nn.Linear)
        attention = self.attention[2:](batch.layer(linear, rows, first.weight, first.bias, True))
        video_logits = self.classifier(batch.weighted_mean(attention, rows))
        logits = batch.layer(linear, rows, self.classifier.weight)  # maps leave the bias out
        tcam = batch.unpack(attention * logits.sigmoid())
        columns = without_background(batch.unpack(logits))
        return Activations(video_logits.sigmoid(), tcam, ((1.0, columns),)), video_logits, batch.unpack(attention)
