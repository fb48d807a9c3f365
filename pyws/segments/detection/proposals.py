"""From activation maps to candidate segments, scored against what surrounds them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from pyws.ops import propose_segments, score_segments
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
    >>> segments.start.tolist(), segments.end.tolist()  # first class; scores of the second are too low
    ([1.0], [3.0])
    """
    classes, wanted = scores.shape[1], proposed_classes(config, scores)
    maps = tcam[:, :classes].detach().contiguous()
    curve = None if actionness is None or not config.actionness_thresholds else actionness[:, None].detach()
    factor, shortest = config.upsample, config.min_length * config.upsample
    if factor > 1:
        curve = None if curve is None else upsampled(curve, offsets, factor)
        maps, offsets = upsampled(maps, offsets, factor), offsets * factor
    found = propose_segments(maps, offsets, config.thresholds, config.scoring, shortest, config.margin, wanted)
    if curve is not None:
        runs = propose_segments(curve.contiguous(), offsets, config.actionness_thresholds, "paper", shortest, 0.0)
        found = joined(found, score_segments(runs, maps, offsets, wanted, config.margin))
    outside = found.weight - found.score
    score = found.weight - config.outer_weight * outside
    if config.video_weight:
        score = score + config.video_weight * scores.detach().double().flatten()[found.owner]
    return replace(found, start=found.start / factor, end=found.end / factor, score=score)


def upsampled(maps: Tensor, offsets: Tensor, factor: int) -> Tensor:
    """(sum of lengths, C) -> (factor * sum of lengths, C): each video interpolated linearly between the middles of its
    snippets, constant before the first and after the last.

    Examples
    --------
    >>> upsampled(torch.tensor([[0.0], [4.0], [2.0], [1.0]]), torch.tensor([0, 3, 4]), 2).flatten().tolist()
    [0.0, 1.0, 3.0, 3.5, 2.5, 2.0, 1.0, 1.0]
    """
    lengths = offsets.diff()
    first = torch.repeat_interleave(offsets[:-1], lengths * factor)
    last = torch.repeat_interleave(offsets[1:] - 1, lengths * factor)
    place = (torch.arange(len(first), device=maps.device, dtype=torch.float64) + 0.5) / factor - 0.5
    place = torch.minimum(torch.maximum(place, first.double()), last.double())
    below = place.floor().long()
    share = (place - below)[:, None].to(maps.dtype)
    return torch.lerp(maps[below], maps[torch.minimum(below + 1, last)], share)


def joined(first: Segments, second: Segments) -> Segments:
    """The segments of two sets of the same groups, in each group the first set's before the second's."""
    order = torch.cat([first.owner, second.owner]).argsort(stable=True)
    start = torch.cat([first.start, second.start])
    end = torch.cat([first.end, second.end])
    score = torch.cat([first.score, second.score])
    weight = torch.cat([first.weight, second.weight])
    return Segments(start[order], end[order], score[order], weight[order], first.offsets + second.offsets)
