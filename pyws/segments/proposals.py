"""From activation maps to candidate segments, scored against what surrounds them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from pyws.ops import propose_segments
from pyws.ragged import Segments
from pyws.segments.config import ProposalConfig


def proposed_classes(config: ProposalConfig, scores: Tensor) -> Tensor:
    """(B, C) scores -> (B, C) bool, the classes whose segments are proposed."""
    wanted = scores >= config.class_threshold
    if config.or_best:
        best = functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
        wanted = wanted | (best & ~wanted.any(1, keepdim=True))
    return wanted


def propose(
    config: ProposalConfig, tcam: Tensor, offsets: Tensor, scores: Tensor, actionness: Tensor | None = None
) -> Segments:
    """Candidate segments of B videos.

    Parameters
    ----------
    config : thresholds and scoring
    tcam : (sum of lengths, K or K+1): the maps of the videos, one after another
    offsets : (B+1,) int64: video b owns the rows offsets[b] .. offsets[b+1]-1
    scores : (B, C) with C up to the columns of tcam: with C = K background is not proposed
    actionness : (sum of lengths,), where ``config`` has thresholds for it

    Returns
    -------
    Segments in snippets, group ``video * C + column``; ``weight`` is the mean activation inside.

    Examples
    --------
    >>> config = ProposalConfig(class_threshold=0.3, thresholds=(0.5,))
    >>> tcam = torch.tensor([[0.1, 0.9], [0.9, 0.9], [0.8, 0.9], [0.1, 0.9]])  # one video, two classes
    >>> segments = propose(config, tcam, torch.tensor([0, 4]), scores=torch.tensor([[0.7, 0.2]]))
    >>> segments.start.tolist(), segments.end.tolist()  # of the first class; the second's score is too low
    ([1.0], [3.0])
    """
    classes, wanted = scores.shape[1], proposed_classes(config, scores)
    maps = tcam[:, :classes].detach().contiguous()
    found = propose_segments(
        maps, offsets, config.thresholds, config.scoring, config.min_length, config.margin, wanted
    )  # fmt: skip
    if config.actionness_thresholds and actionness is not None:
        runs = propose_segments(
            actionness[:, None].detach().contiguous(), offsets, config.actionness_thresholds, "paper",
            config.min_length, 0.0,
        )  # fmt: skip
        found = _joined(found, _scored_by_class(runs, maps, offsets, wanted, config.margin))
    outside = found.weight - found.score
    score = found.weight - config.outer_weight * outside
    if config.video_weight:
        groups = torch.arange(scores.numel(), device=scores.device)
        group = torch.repeat_interleave(groups, found.offsets.diff())
        score = score + config.video_weight * scores.detach().double().flatten()[group]
    return replace(found, score=score)


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
