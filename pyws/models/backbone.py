"""What every network of segments from tags offers to training and inference, and what its videos share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.ops import propose_segments, suppress_segments
from pyws.ops._library import check_tensor
from pyws.ragged import Segments


@dataclass(frozen=True)
class Activations:
    """What a backbone says about a batch of B videos of up to L snippets and K action classes.

    Parameters
    ----------
    scores : (B, K) in [0, 1]: how surely each action occurs in the video
    tcam : (B, L, C) in [0, 1], 0 at padding: temporal class activation map. C is K, or K+1 with background last
    logits : (weight, (B, L, K+1)) pairs, 0 at padding: the columns that pseudo labels train, background last. A host
        without a background class has zeros there, so that its softmax is not forced onto the actions
    background : None, or (B,) in [0, 1]: how surely the video shows background, of hosts whose tcam has that column
    actionness : None, or (B, L) in [0, 1], 0 at padding: whether anything happens, of whatever class
    memory : None, or what a memory bank may keep: (B, R, D) rows and (B, R, K+1) their class scores, detached
    """

    scores: Tensor
    tcam: Tensor
    logits: tuple[tuple[float, Tensor], ...]
    background: Tensor | None = None
    actionness: Tensor | None = None
    memory: tuple[Tensor, Tensor] | None = None


class Memory(NamedTuple):
    """One video's contribution to a memory bank; gathered across processes as it is."""

    video: int  #: index in the training set: the order in which contributions are merged
    classes: tuple[int, ...]  #: the video's tags, rising
    rows: Tensor  #: (R, D)
    scores: Tensor  #: (R, len(classes))


@dataclass(frozen=True)
class Recipe:
    """A host's own settings: how it is optimised, and how its maps become segments.

    Examples
    --------
    >>> recipe = Recipe(lr=1e-3, class_threshold=0.3, thresholds=(0.5,))
    >>> tcam = torch.tensor([[0.1, 0.9], [0.9, 0.9], [0.8, 0.9], [0.1, 0.9]])  # one video, two classes
    >>> segments = recipe.propose(tcam, torch.tensor([0, 4]), scores=torch.tensor([[0.7, 0.2]]))
    >>> segments.start.tolist(), segments.end.tolist()  # of the first class; the second's score is too low
    ([1.0], [3.0])

    Raises
    ------
    ValueError : thresholds of the actionness with "released" scoring, which is of a map's own runs
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)  #: of Adam
    weight_decay: float = 0.0  #: coupled: added to the gradient
    batch: int = 10  #: videos in one optimiser step
    average: bool = False  #: the gradient of a step is the mean over its videos, not the sum
    epochs: int = 200
    memory_epoch: int | None = None  #: at the end of this epoch (from 0) the memory bank is filled; later ones read it
    class_threshold: float = 0.1  #: a class is proposed in a video whose score reaches this
    or_best: bool = False  #: where no class does, propose the best one
    thresholds: tuple[float, ...] = (0.5,)
    actionness_thresholds: tuple[float, ...] = ()  #: runs of the actionness above these are proposed for each class too
    min_length: int = 1  #: of a run, in snippets
    scoring: str = "paper"  #: where a segment's outside lies, as in :func:`pyws.ops.propose_segments`
    margin: float = 0.25  #: of a segment's outside on either side, in lengths of the segment; of "paper"
    outer_weight: float = 1.0  #: segment score = inside - outer_weight * outside + video_weight * video score
    video_weight: float = 0.0
    overlap: str = "iou"  #: of suppression, as in :func:`pyws.ops.suppress_segments`
    iou_threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.actionness_thresholds and self.scoring != "paper":
            raise ValueError(f"recipe: actionness_thresholds need scoring 'paper', got {self.scoring!r}")

    def wanted(self, scores: Tensor) -> Tensor:
        """(B, K) scores -> (B, K) bool, the classes whose segments are proposed."""
        wanted = scores >= self.class_threshold
        if self.or_best:
            best = functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
            wanted = wanted | (best & ~wanted.any(1, keepdim=True))
        return wanted

    def propose(self, tcam: Tensor, offsets: Tensor, scores: Tensor, actionness: Tensor | None = None) -> Segments:
        """The host's candidate segments.

        Parameters
        ----------
        tcam : (sum of lengths, K or K+1): the maps of B videos, one after another
        offsets : (B+1,) int64: video b owns the rows offsets[b] .. offsets[b+1]-1
        scores : (B, C) with C up to the columns of tcam: with C = K background is not proposed
        actionness : (sum of lengths,), where the recipe has thresholds for it

        Returns
        -------
        Segments in snippets, group ``video * C + column``; ``weight`` is the mean activation inside.
        """
        classes, wanted = scores.shape[1], self.wanted(scores)
        maps = tcam[:, :classes].detach().contiguous()
        found = propose_segments(
            maps, offsets, self.thresholds, self.scoring, self.min_length, self.margin, wanted
        )  # fmt: skip
        if self.actionness_thresholds and actionness is not None:
            runs = propose_segments(
                actionness[:, None].detach().contiguous(), offsets, self.actionness_thresholds, "paper",
                self.min_length, 0.0,
            )  # fmt: skip
            found = _joined(found, _scored_by_class(runs, maps, offsets, wanted, self.margin))
        outside = found.weight - found.score
        score = found.weight - self.outer_weight * outside
        if self.video_weight:
            groups = torch.arange(scores.numel(), device=scores.device)
            group = torch.repeat_interleave(groups, found.offsets.diff())
            score = score + self.video_weight * scores.detach().double().flatten()[group]
        return replace(found, score=score)

    def suppress(self, segments: Segments) -> Segments:
        """The host's own non-maximum suppression."""
        return suppress_segments(segments, self.iou_threshold, self.overlap)


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

    def __init__(self, features: Tensor, mask: Tensor, seeds: Tensor | None = None, training: bool = False) -> None:
        self.features, self.mask, self.training = features, mask, training
        self.generators = None
        if training and seeds is not None:
            self.generators = [torch.Generator(mask.device).manual_seed(seed) for seed in seeds.tolist()]

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) int64."""
        return self.mask.sum(1)

    @cached_property
    def sizes(self) -> list[int]:
        return self.lengths.tolist()

    @cached_property
    def index(self) -> Tensor | None:
        """Where the real snippets are among the B*L positions; None where all are real."""
        return None if sum(self.sizes) == self.mask.numel() else self.mask.flatten().nonzero().squeeze(1)

    def narrow(self, start: int, width: int) -> VideoBatch:
        """The same videos and generators, with some of the feature columns."""
        part = VideoBatch(self.features[..., start : start + width], self.mask, None, self.training)
        part.generators = self.generators
        return part

    def pack(self, padded: Tensor) -> Tensor:
        """(B, L, width) -> (N, width), the real snippets video by video."""
        rows = padded.flatten(0, 1)
        return rows if self.index is None else rows.index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """(N, width) -> (B, L, width), zeros at padding."""
        if self.index is not None:
            padded = rows.new_zeros(self.mask.numel(), rows.shape[1])
            rows = padded.index_copy(0, self.index, rows)
        return rows.view(*self.mask.shape, -1)

    def mean(self, values: Tensor) -> Tensor:
        """(B, L, ...) -> (B, ...), the mean over each video's snippets; padding must hold zeros."""
        return values.sum(1) / self.lengths.view(-1, *[1] * (values.ndim - 2))

    def dropout(self, rows: Tensor, p: float) -> Tensor:
        """(N, width) -> (N, width): in training, zeros with probability p, the rest grown by 1 / (1-p)."""
        if not self.training or p == 0:
            return rows
        if self.generators is None:
            return functional.dropout(rows, p)
        keep = rows.new_empty(rows.shape)  # in rows' order, whatever the strides of ``rows``
        for part, generator in zip(keep.split(self.sizes), self.generators, strict=True):
            part.uniform_(generator=generator)  # three times as fast as bernoulli_
        return rows * keep.lt_(1 - p).div_(1 - p)


class Backbone(nn.Module):
    """A network that finds where video tags happen. A host defines ``recipe``, :meth:`activate` and :meth:`host_loss`.

    Parameters
    ----------
    features : width D of a snippet's feature
    num_classes : K, action classes

    Examples
    --------
    A host that scores snippets by one linear layer and videos by their mean:

    >>> class Linear(Backbone):
    ...     recipe = Recipe(lr=1e-3, thresholds=(0.5,))
    ...
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
    ...     def host_loss(self, batch, labels, epoch):
    ...         found = self.activate(batch)
    ...         return found, functional.binary_cross_entropy(found.scores, labels.float(), reduction="none").mean(1)
    >>> tags = torch.tensor([[True, False]])
    >>> found, loss = Linear(16, 2).loss(torch.rand(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), tags, epoch=0)
    >>> found.tcam.shape, loss.shape
    (torch.Size([1, 5, 2]), torch.Size([1]))
    """

    recipe: Recipe

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.features, self.num_classes = features, num_classes

    def forward(self, features: Tensor, mask: Tensor, seeds: Tensor | None = None) -> Activations:
        """Activations of a batch.

        Parameters
        ----------
        features : (B, L, D) float32 or float64
        mask : (B, L) bool, True at real snippets; every video has one
        seeds : (B,) int64, of the noise of each video in training mode. A function of run, epoch and video makes the
            noise independent of how videos are batched; None draws it from torch's generator

        Raises
        ------
        TypeError, ValueError : a wrong type, dtype or shape, or a video without a real snippet
        """
        return self.activate(self._batch(features, mask, seeds))

    def loss(
        self, features: Tensor, mask: Tensor, labels: Tensor, epoch: int, seeds: Tensor | None = None
    ) -> tuple[Activations, Tensor]:
        """Activations with gradient, and (B,) the host's own loss of each video.

        ``labels`` is (B, K) bool, the tags; every video has at least one. ``epoch`` counts from 0, for hosts whose
        losses follow a schedule.
        """
        batch = self._batch(features, mask, seeds)
        check_tensor(self._name, "labels", labels, (torch.bool,), shape=(len(mask), self.num_classes))
        if not labels.any(1).all():
            raise ValueError(f"{self._name}: labels must tag every video, got none for {_first(~labels.any(1))}")
        return self.host_loss(batch, labels, epoch)

    def activate(self, batch: VideoBatch) -> Activations:
        """:meth:`forward` on a checked batch."""
        raise NotImplementedError

    def host_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        """:meth:`loss` on a checked batch."""
        raise NotImplementedError

    def memories(self, activations: Activations, videos: Tensor, labels: Tensor) -> list[Memory]:
        """What each video of a batch would give to the memory bank; nothing for hosts without one.

        Parameters
        ----------
        activations : of the batch
        videos : (B,) int64, indices in the training set
        labels : (B, K) bool
        """
        return []

    def remember(self, memories: list[Memory]) -> None:
        """Merge contributions into the memory bank, by rising video index whatever their order here.

        Called at the end of an optimiser step with those of all its videos (of all processes), and at the end of epoch
        ``recipe.memory_epoch`` with those of all training videos in evaluation mode.
        """

    def forget(self) -> None:
        """Empty the memory bank."""

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _batch(self, features: Tensor, mask: Tensor, seeds: Tensor | None) -> VideoBatch:
        shape = (None, None, self.features)
        check_tensor(self._name, "features", features, (torch.float32, torch.float64), shape=shape)
        check_tensor(self._name, "mask", mask, (torch.bool,), shape=tuple(features.shape[:2]), device=features.device)
        if seeds is not None:
            check_tensor(self._name, "seeds", seeds, (torch.int64,), shape=(len(mask),))
        if not mask.any(1).all():
            raise ValueError(
                f"{self._name}: mask must show a snippet of every video, got none of {_first(~mask.any(1))}"
            )
        return VideoBatch(features, mask, seeds, self.training)


class TwoStream(Backbone):
    """A host of its own for the RGB half of the feature columns and one for the flow half.

    Scores and activation maps are the weighted means of both; each has its own loss and its own logit columns. (The
    hosts' papers merge the two lists of segments instead.)

    Parameters
    ----------
    rgb, flow : backbones of the same classes
    weights : of the two in scores, maps and logit columns

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
        self.recipe = rgb.recipe

    def activate(self, batch: VideoBatch) -> Activations:
        rgb, flow = self._split(batch)
        return self._join(self.rgb.activate(rgb), self.flow.activate(flow))

    def host_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        rgb, flow = self._split(batch)
        first, first_loss = self.rgb.host_loss(rgb, labels, epoch)
        second, second_loss = self.flow.host_loss(flow, labels, epoch)
        return self._join(first, second), first_loss + second_loss

    def _split(self, batch: VideoBatch) -> tuple[VideoBatch, VideoBatch]:
        return batch.narrow(0, self.rgb.features), batch.narrow(self.rgb.features, self.flow.features)

    def _join(self, rgb: Activations, flow: Activations) -> Activations:
        a, b = self.weights
        logits = [(a * weight, columns) for weight, columns in rgb.logits]
        logits += [(b * weight, columns) for weight, columns in flow.logits]

        def mean(one: Tensor | None, other: Tensor | None) -> Tensor | None:
            return None if one is None or other is None else a * one + b * other

        return Activations(
            a * rgb.scores + b * flow.scores, a * rgb.tcam + b * flow.tcam, tuple(logits),
            mean(rgb.background, flow.background), mean(rgb.actionness, flow.actionness),
        )  # fmt: skip


def _scored_by_class(runs: Segments, maps: Tensor, offsets: Tensor, wanted: Tensor, margin: float) -> Segments:
    """The runs of each video (a group each) as segments of its wanted classes, scored as "paper" does by their maps.

    Sums are of maps rounded to 2^-36, which integers add exactly: no composition of the batch changes a bit.
    """
    classes = wanted.shape[1]
    keys = wanted.flatten().nonzero().squeeze(1)
    counts = runs.offsets.diff()[keys // classes]
    pair = torch.repeat_interleave(torch.arange(len(keys), device=keys.device), counts)
    place = torch.arange(len(pair), device=keys.device) - (counts.cumsum(0) - counts)[pair]
    video, label = keys[pair] // classes, keys[pair] % classes
    row = runs.offsets[video] + place
    start, end = runs.start[row].long(), runs.end[row].long()
    width = (margin * (end - start).double() - 1e-9).ceil().long()
    left = (start - width).clamp_min(0)
    right = torch.minimum(end + width, offsets.diff()[video])
    sums = functional.pad((maps.double() * 2.0**36).round().long().cumsum(0), (0, 0, 1, 0))
    low, start_at, end_at, high = (sums[offsets[video] + bound, label] for bound in (left, start, end, right))
    inside = (end_at - start_at).double() / 2.0**36 / (end - start)
    around = (high - low - (end_at - start_at)).double() / 2.0**36
    outside = around / (right - left - (end - start)).clamp_min(1)
    sizes = torch.zeros_like(wanted.flatten(), dtype=torch.int64).index_put((keys,), counts)
    group_offsets = functional.pad(sizes.cumsum(0), (1, 0))
    return Segments(start.double(), end.double(), inside - outside, inside, group_offsets)


def _joined(first: Segments, second: Segments) -> Segments:
    """The segments of two sets of the same groups, in each group the first set's before the second's."""
    groups = torch.arange(first.groups, device=first.offsets.device)
    owner = torch.cat([torch.repeat_interleave(groups, part.offsets.diff()) for part in (first, second)])
    order = owner.argsort(stable=True)
    names = ("start", "end", "score", "weight")
    start, end, score, weight = (torch.cat([getattr(first, name), getattr(second, name)])[order] for name in names)
    return Segments(start, end, score, weight, first.offsets + second.offsets)


def without_background(logits: Tensor) -> Tensor:
    """(B, L, K) -> (B, L, K+1): a background column of zeros for a host that has none."""
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
