"""FAC-Net: foreground-action consistency (Huang et al., ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.backbones.backbone import Activations, Backbone, VideoBatch, cross_entropy, tag_targets
from pyws.models.backbones.snippet_products import SnippetProducts

_TEMPERATURES = (1.0, 2.0, 5.0)  # temperatures of attention over time; their results are averaged
_SCALE = 5.0  # scale of cosines


class FACNet(Backbone):
    """Snippets pooled by class are told by how much foreground they are, and snippets pooled by foreground by class.

    The published system has one such network for each stream: ``TwoStream(FACNet(1024, K), FACNet(1024, K))``. It
    merges the streams' segments; here their maps are averaged.

    Parameters
    ----------
    features, num_classes : as of :class:`Backbone`
    weights : weights of the losses of the class-wise, the class-agnostic and the multiple-instance branch

    Examples
    --------
    >>> model = FACNet(features=16, num_classes=3).eval()
    >>> found = model(torch.rand(2, 10, 16), mask=torch.ones(2, 10, dtype=torch.bool))
    >>> found.tcam.shape, found.background.shape  # how surely each video shows background
    (torch.Size([2, 10, 4]), torch.Size([2]))
    """

    def __init__(self, features: int, num_classes: int, weights: tuple[float, float, float] = (1.0, 0.1, 0.1)) -> None:
        super().__init__(features, num_classes)
        self.embedding = nn.ModuleList(nn.Linear(features, features) for _ in range(2))
        self.actions = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes + 1, features)))
        self.foreground = nn.Parameter(-self.actions.detach()[-1:])
        self.weights = weights

    def activate(self, batch: VideoBatch) -> Activations:
        return self._run(batch)[0]

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        activations, wise, agnostic, instances = self._run(batch)
        actions = tag_targets(labels, 0.0)
        of_wise, of_agnostic, of_instances = self.weights
        loss = of_wise * cross_entropy(wise, actions) + of_agnostic * cross_entropy(agnostic, actions)
        return activations, loss + of_instances * cross_entropy(instances, tag_targets(labels, 1.0))

    def _run(self, batch: VideoBatch) -> tuple[Activations, Tensor, Tensor, Tensor]:
        """Activations, and (B, K+1) log probabilities of the class-wise, class-agnostic and instance branch."""
        rows = batch.pack(batch.features)
        for layer in self.embedding:
            assert isinstance(layer, nn.Linear)
            rows = batch.embed(rows, layer, 0.5)
        centres = functional.normalize(torch.cat([self.actions, self.foreground]), dim=1)
        snippets = SnippetProducts(batch.unpack(rows), batch.mask)
        norm = torch.linalg.vector_norm(snippets.snippets, dim=2, keepdim=True).clamp_min(1e-12)
        # The length of a product is divided, not that of the snippets: few numbers, not all of them.
        scores = _SCALE * snippets.products(centres.expand(len(norm), -1, -1)).mT / norm  # (B, L, K+2)
        logits, cosines = scores[..., :-1], []
        hidden = scores.masked_fill(~batch.mask.unsqueeze(2), -torch.inf)
        attention = [(temperature * hidden).softmax(1) for temperature in _TEMPERATURES]
        pooled = functional.normalize(snippets.sums(torch.cat(attention, 2).mT), dim=2)
        for part in pooled.split(len(centres), 1):
            cosines.append(torch.stack([part[:, :-1] @ centres[-1], part[:, -1] @ centres[:-1].mT]))
        sums = [(one[..., :-1] * logits).sum(1) for one in attention]
        wise, agnostic = (2 * _SCALE * torch.stack(cosines).mean(0)).log_softmax(2)
        instances = (2 * torch.stack(sums).mean(0)).log_softmax(1)
        tcam = logits.softmax(2) * batch.mask.unsqueeze(2)
        scores = agnostic.exp()
        activations = Activations(scores[:, :-1], tcam, ((1.0, logits),), background=scores[:, -1])
        return activations, wise, agnostic, instances
