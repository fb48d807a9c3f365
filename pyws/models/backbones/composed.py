"""Backbones made of several: one for each stream of features, or the mean of networks that learned differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from pyws.models.backbones.backbone import Activations, Backbone, VideoBatch


class TwoStream(Backbone):
    """A backbone for the RGB half of the feature columns and one for the flow half.

    Scores and activation maps are the weighted means of both; each has its own loss and its own logit columns. (The
    papers of the backbones merge the two lists of segments instead.)

    Parameters
    ----------
    rgb, flow : backbones of the same classes
    weights : weights of the two in scores, maps and logit columns

    Examples
    --------
    >>> from pyws.models import BM
    >>> model = TwoStream(BM(1024, 20), BM(1024, 20), weights=(0.35, 0.65)).eval()
    >>> model(torch.rand(1, 5, 2048), mask=torch.ones(1, 5, dtype=torch.bool)).scores.shape
    torch.Size([1, 20])
    """

    def __init__(self, rgb: Backbone, flow: Backbone, weights: tuple[float, float] = (0.5, 0.5)) -> None:
        super().__init__(rgb.features + flow.features, rgb.num_classes)
        self.rgb, self.flow, self.weights = rgb, flow, weights
        self.memory_epoch = rgb.memory_epoch

    def activate(self, batch: VideoBatch) -> Activations:
        rgb, flow = self._split(batch)
        return mean_of((self.rgb.activate(rgb), self.flow.activate(flow)), self.weights)

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        rgb, flow = self._split(batch)
        first, first_loss = self.rgb.backbone_loss(rgb, labels, epoch)
        second, second_loss = self.flow.backbone_loss(flow, labels, epoch)
        return mean_of((first, second), self.weights), first_loss + second_loss

    def _split(self, batch: VideoBatch) -> tuple[VideoBatch, VideoBatch]:
        return batch.narrow(0, self.rgb.features), batch.narrow(self.rgb.features, self.flow.features)


class Averaged(Backbone):
    """What several networks of the same features and classes say on average. It is not trained: its members are.

    Parameters
    ----------
    members : one or more backbones
    shares : share of each network in scores, maps and logit columns; the same if None
    raises : where given, the scores of videos are those of the first network, raised by this share of what each of the
        others has above them, and never lowered; the mean if None
    pool : where given, segments are proposed from the map of each network that has a share too, not from the mean
        alone; their scores are multiplied by its weight here where detections are ranked by support, and by its share
        where they are ranked by score. Thresholds make a small share of a map no small share of its segments: a valley
        that the mean lifts above one joins two segments in the place of which the network without it would have found
        both

    Raises
    ------
    ValueError : no members, members of other features or classes, or shares, raises or a pool that are not one of each

    Examples
    --------
    >>> from pyws.models import STPN
    >>> model = Averaged([STPN(16, 3), STPN(16, 3)], shares=[0.8, 0.2]).eval()
    >>> model(torch.rand(1, 5, 16), mask=torch.ones(1, 5, dtype=torch.bool)).tcam.shape
    torch.Size([1, 5, 3])
    """

    def __init__(
        self,
        members: Sequence[Backbone],
        shares: Sequence[float] | None = None,
        raises: Sequence[float] | None = None,
        pool: Sequence[float] | None = None,
    ) -> None:
        kinds = {(member.features, member.num_classes) for member in members}
        if len(kinds) != 1:
            raise ValueError(f"Averaged: members must be of the same features and classes, got {sorted(kinds)}")
        super().__init__(*kinds.pop())
        for name, given in (("shares", shares), ("raises", raises), ("pool", pool)):
            if given is not None and len(given) != len(members):
                raise ValueError(f"Averaged: {name} must be one of each member, got {len(given)} for {len(members)}")
        self.members = nn.ModuleList(members)
        self.shares = [1 / len(members)] * len(members) if shares is None else list(shares)
        self.raises = None if raises is None else list(raises)
        self.pool = None if pool is None else list(pool)
        self.training, self.bfloat16_layers = members[-1].training, members[-1].bfloat16_layers

    def activate(self, batch: VideoBatch) -> Activations:
        found = [cast("Backbone", member).activate(batch) for member in self.members]
        mean = mean_of(found, self.shares)
        if self.pool is not None and sum(share > 0 for share in self.shares) > 1:
            counted = zip(self.shares, self.pool, found, strict=True)
            others = [((share, weight), one.tcam, one.actionness) for share, weight, one in counted if share]
            mean = replace(mean, others=tuple(others))
        if self.raises is None:
            return mean
        first = found[0].scores
        above = [share * (one.scores - first).relu() for share, one in zip(self.raises, found, strict=True)]
        return replace(mean, scores=reduce(torch.add, above, first))


def mean_of(found: Sequence[Activations], weights: Sequence[float]) -> Activations:
    """Weighted mean of scores and maps; all the logit columns, with a share of their weights; no memory.

    Parameters
    ----------
    found : results for the same videos
    weights : one of each
    """

    def mean(name: str) -> Tensor | None:
        each = [getattr(one, name) for one in found]
        if any(one is None for one in each):
            return None
        return reduce(torch.add, [weight * one for weight, one in zip(weights, each, strict=True)])

    logits = [
        (weight * own, columns) for weight, one in zip(weights, found, strict=True) for own, columns in one.logits
    ]
    scores, tcam = mean("scores"), mean("tcam")
    assert scores is not None
    assert tcam is not None
    return Activations(scores, tcam, tuple(logits), mean("background"), mean("actionness"))
