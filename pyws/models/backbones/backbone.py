"""The interface of every network that learns from video tags, and the padded batches that it reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.backbones.linear import linear
from pyws.models.devices import on_device
from pyws.ops._library import check_tensor


@dataclass(frozen=True)
class Activations:
    """The output of a backbone for a batch of B videos of up to L snippets and K action classes.

    Parameters
    ----------
    scores : (B, K) in [0, 1]: confidence that each action occurs in the video
    tcam : (B, L, C) in [0, 1], 0 at padding: temporal class activation map. C is K, or K+1 with background last
    logits : (weight, (B, L, K+1)) pairs, 0 at padding: the columns that pseudo labels train, background last. A
        backbone without a background class has zeros there, so that its softmax is not forced onto the actions
    background : None, or (B,) in [0, 1]: confidence that the video shows background, of backbones whose tcam has that
        column
    actionness : None, or (B, L) in [0, 1], 0 at padding: whether anything happens, of whatever class
    memory : None, or what a memory bank may keep: (B, R, D) rows and (B, R, K+1) their class scores, detached
    others : (weights, tcam, actionness) of other maps that segments are proposed from too; the first weight multiplies
        their scores where detections are ranked by score, the second where they are ranked by support
    """

    scores: Tensor
    tcam: Tensor
    logits: tuple[tuple[float, Tensor], ...]
    background: Tensor | None = None
    actionness: Tensor | None = None
    memory: tuple[Tensor, Tensor] | None = None
    others: tuple[tuple[tuple[float, float], Tensor, Tensor | None], ...] = ()


class Memory(NamedTuple):
    """One video's contribution to a memory bank; gathered across processes as it is."""

    video: int  #: index in the training set: the order in which contributions are merged
    classes: tuple[int, ...]  #: the video's tags, rising
    rows: Tensor  #: (R, D)
    scores: Tensor  #: (R, len(classes))


class VideoBatch:
    """Padded videos as a backbone sees them: their real snippets in one matrix, and each video's own random numbers.

    Work that treats snippets alone (linear layers, dropout) runs on the packed (N, width) rows of all real snippets, so
    that padding costs nothing there. Noise comes from one generator a video, seeded with its seed and drawn from by
    the layers in turn: no other video of the batch, and no amount of padding, changes it.

    Examples
    --------
    >>> features, mask = torch.arange(8.0).reshape(2, 4, 1), torch.arange(4) < torch.tensor([[4], [1]])
    >>> batch = VideoBatch(features, mask)
    >>> batch.pack(features).flatten().tolist(), batch.lengths.tolist()
    ([0.0, 1.0, 2.0, 3.0, 4.0], [4, 1])
    >>> batch.mean(batch.unpack(batch.pack(features))).tolist()  # over real snippets
    [[1.5], [4.0]]
    """

    host_labels: Tensor  #: (B, K) bool, the tags on the host; of a batch whose loss is asked for

    def __init__(
        self,
        features: Tensor,
        mask: Tensor,
        seeds: Tensor | None = None,
        training: bool = False,
        bfloat16: bool = False,
    ) -> None:
        self.features, self.training, self.bfloat16 = features, training, bfloat16
        self.host_mask, self.mask = mask.cpu(), on_device(mask, features.device)
        self.generators = None
        if training and seeds is not None:
            self.generators = [torch.Generator(features.device).manual_seed(seed) for seed in seeds.tolist()]

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) int64."""
        return self.mask.sum(1)

    @cached_property
    def sizes(self) -> list[int]:
        return self.host_mask.sum(1).tolist()

    @cached_property
    def index(self) -> Tensor | None:
        """Where the real snippets are among the B*L positions; None where all are real."""
        if sum(self.sizes) == self.mask.numel():
            return None
        return on_device(self.host_mask.flatten().nonzero().squeeze(1), self.features.device)

    def narrow(self, start: int, width: int) -> VideoBatch:
        """The same videos and generators, with some of the feature columns."""
        part = copy.copy(self)
        part.features = self.features[..., start : start + width]
        return part

    def layer(self, function: Callable[..., Tensor], values: Tensor, *others: Any) -> Tensor:
        """``function(values, *others)`` in the precision of the network's layers; the result is like ``values``."""
        with torch.autocast(values.device.type, torch.bfloat16, enabled=self.bfloat16):
            return function(values, *others).to(values.dtype)

    def pack(self, padded: Tensor) -> Tensor:
        """(B, L, width) -> (N, width), the real snippets video by video."""
        rows = padded.flatten(0, 1)
        return rows if self.index is None else rows.index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """(N, width) -> (B, L, width), zeros at padding."""
        if self.index is not None:
            padded = rows.new_zeros(self.mask.numel(), rows.shape[1])
            rows = padded.index_copy_(0, self.index, rows)
        return rows.view(*self.mask.shape, -1)

    def mean(self, values: Tensor) -> Tensor:
        """(B, L, ...) -> (B, ...), the mean over each video's snippets; padding must hold zeros."""
        return values.sum(1) / self.lengths.view(-1, *[1] * (values.ndim - 2))

    def weighted_mean(self, weights: Tensor, rows: Tensor) -> Tensor:
        """(N, 1) and (N, width) -> (B, width), the mean over each video's snippets of weight times row."""
        pairs = zip(weights.split(self.sizes), rows.split(self.sizes), strict=True)
        return torch.cat([one.T @ of_video for one, of_video in pairs]) / self.lengths.unsqueeze(1)

    def embed(self, rows: Tensor, layer: nn.Linear, dropout: float) -> Tensor:
        """(N, width) -> (N, out): a linear layer, ReLU and :meth:`dropout`."""
        kept = (self._noise(rows, layer.out_features), 1 - dropout) if self._drops(dropout) else None
        return self.layer(linear, rows, layer.weight, layer.bias, True, kept)

    def dropout(self, rows: Tensor, p: float) -> Tensor:
        """(N, width) -> (N, width): in training, zeros with probability p, the rest grown by 1 / (1-p)."""
        return rows * self._noise(rows, rows.shape[1]).lt_(1 - p).div_(1 - p) if self._drops(p) else rows

    def _drops(self, p: float) -> bool:
        return self.training and p > 0

    def _noise(self, rows: Tensor, width: int) -> Tensor:
        """(N, width) in [0, 1), each video's own."""
        noise = rows.new_empty(len(rows), width)
        if self.generators is None:
            return noise.uniform_()
        for part, generator in zip(noise.split(self.sizes), self.generators, strict=True):
            part.uniform_(generator=generator)  # three times as fast as bernoulli_
        return noise


class Backbone(nn.Module):
    """A network that localises video tags in time. A subclass defines :meth:`activate` and :meth:`backbone_loss`.

    Parameters
    ----------
    features : width D of a snippet's feature
    num_classes : K, action classes

    Attributes
    ----------
    memory_epoch : the epoch (from 0) at whose end the memory bank is filled; later epochs read it. None: there is no
        bank

    Examples
    --------
    A backbone that scores snippets by one linear layer and videos by their mean:

    >>> class Linear(Backbone):
    ...     def __init__(self, features: int, num_classes: int) -> None:
    ...         super().__init__(features, num_classes)
    ...         self.head = nn.Linear(features, num_classes)
    ...
    ...     def activate(self, batch):
    ...         logits = batch.unpack(self.head(batch.pack(batch.features)))
    ...         scores = batch.mean(logits).sigmoid()
    ...         maps = logits.sigmoid() * batch.mask[..., None]
    ...         return Activations(scores, maps, ((1.0, without_background(logits)),))
    ...
    ...     def backbone_loss(self, batch, labels, epoch):
    ...         found = self.activate(batch)
    ...         return found, functional.binary_cross_entropy(found.scores, labels.float(), reduction="none").mean(1)
    >>> tags = torch.tensor([[True, False]])
    >>> found, loss = Linear(16, 2).loss(torch.rand(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), tags, epoch=0)
    >>> found.tcam.shape, loss.shape
    (torch.Size([1, 5, 2]), torch.Size([1]))
    """

    memory_epoch: int | None = None
    bfloat16_layers = False  # set by pyws.models.devices.set_precision

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.features, self.num_classes = features, num_classes

    def forward(self, features: Tensor, mask: Tensor, seeds: Tensor | None = None) -> Activations:
        """Activations of a batch.

        Parameters
        ----------
        features : (B, L, D) float32 or float64
        mask : (B, L) bool, True at real snippets; every video has one. It is read on the host: there, as the tags of
            :meth:`loss`, it lets no step wait for a GPU
        seeds : (B,) int64, seeds of the noise of each video in training mode. A function of run, epoch and video makes
            the noise independent of how videos are batched; None draws it from torch's generator

        Raises
        ------
        TypeError, ValueError : a wrong type, dtype or shape, or a video without a real snippet
        """
        return self.activate(self._batch(features, mask, seeds))

    def loss(
        self, features: Tensor, mask: Tensor, labels: Tensor, epoch: int, seeds: Tensor | None = None
    ) -> tuple[Activations, Tensor]:
        """Activations with gradient, and (B,) the backbone's own loss of each video.

        ``labels`` is (B, K) bool, the tags; every video has at least one. ``epoch`` counts from 0, for backbones whose
        losses follow a schedule.
        """
        batch = self._batch(features, mask, seeds)
        check_tensor(self._name, "labels", labels, (torch.bool,), shape=(len(mask), self.num_classes))
        batch.host_labels = labels.cpu()
        untagged = ~batch.host_labels.any(1)
        if untagged.any():
            raise ValueError(f"{self._name}: labels must tag every video, got none for {_first(untagged)}")
        return self.backbone_loss(batch, on_device(labels, features.device), epoch)

    def activate(self, batch: VideoBatch) -> Activations:
        """:meth:`forward` on a checked batch."""
        raise NotImplementedError

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        """:meth:`loss` on a checked batch."""
        raise NotImplementedError

    def memories(self, activations: Activations, videos: Tensor, labels: Tensor) -> list[Memory]:
        """What each video of a batch would give to the memory bank; nothing for backbones without one.

        Parameters
        ----------
        activations : activations of the batch
        videos : (B,) int64, indices in the training set
        labels : (B, K) bool
        """
        return []

    def remember(self, memories: list[Memory]) -> None:
        """Merge contributions into the memory bank, by rising video index whatever their order here.

        Called at the end of an optimiser step with the contributions of all its videos (of all processes), and at the
        end of epoch ``memory_epoch`` with the ones that all training videos make in evaluation mode.
        """

    def forget(self) -> None:
        """Empty the memory bank."""

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _batch(self, features: Tensor, mask: Tensor, seeds: Tensor | None) -> VideoBatch:
        shape = (None, None, self.features)
        check_tensor(self._name, "features", features, (torch.float32, torch.float64), shape=shape)
        check_tensor(self._name, "mask", mask, (torch.bool,), shape=tuple(features.shape[:2]))
        if seeds is not None:
            check_tensor(self._name, "seeds", seeds, (torch.int64,), shape=(len(mask),))
        batch = VideoBatch(features, mask, seeds, self.training, self.bfloat16_layers)
        empty = ~batch.host_mask.any(1)
        if empty.any():
            raise ValueError(f"{self._name}: mask must show a snippet of every video, got none of {_first(empty)}")
        return batch


def without_background(logits: Tensor) -> Tensor:
    """(B, L, K) -> (B, L, K+1): a background column of zeros for a backbone that has none."""
    return functional.pad(logits, (0, 1))


def tag_targets(labels: Tensor, background: float) -> Tensor:
    """(B, K) tags -> (B, K+1) with the given weight of background in the last column."""
    return functional.pad(labels.float(), (0, 1), value=background)


def cross_entropy(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """(B, C) log probabilities and (B, C) weights of classes -> (B,), against their distribution."""
    targets = targets.to(log_probabilities)
    return -(targets / targets.sum(1, keepdim=True) * log_probabilities).sum(1)


def _first(flags: Tensor) -> str:
    return f"video {int(flags.nonzero()[0])} of the batch"
