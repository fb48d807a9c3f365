"""propose_segments: candidate segments from a temporal class activation map, by thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from pyws.ops._library import (
    _C,
    check_choice,
    check_range,
    check_segments,
    check_tensor,
    launch,
    refuse_grad,
    refuse_vmap,
    register,
)
from pyws.ragged import Segments, check_offsets, offsets_of

SCORINGS = ("released", "paper")
RELEASED_THRESHOLDS = tuple(round(0.001 + 0.002 * i, 3) for i in range(20))
_UNIT = 2.0**36
MAX_THRESHOLDS: int = _C.MAX_PROPOSAL_THRESHOLDS


def propose_segments(
    tcam: Tensor,
    offsets: Tensor,
    thresholds: Sequence[float] = RELEASED_THRESHOLDS,
    scoring: str = "released",
    min_length: int = 2,
    margin: float = 0.25,
    wanted: Tensor | None = None,
) -> Segments:
    """Candidate segments of every video and class: runs of activation above each threshold, scored by contrast.

    At each threshold every maximal run ``[s, e)`` of snippets with ``tcam > threshold`` that is at least ``min_length``
    long becomes a segment. Its weight is the mean activation inside, its score the contrast: inside minus the mean
    just outside on both sides (0 where there is no outside). The same run at several thresholds is several segments.

    Parameters
    ----------
    tcam : (sum of lengths, classes) float32 or float64, finite: the activation maps of all videos, one after another
    offsets : (videos+1,) int64: video v owns the rows offsets[v] .. offsets[v+1]-1
    thresholds : 1 to 255 rising numbers; the default is the released 0.001, 0.003, ..., 0.039
    scoring : "released": the inside is ``[s, e+1)``, one snippet beyond the run, and the segment ends at ``e+1``; the
        outside is the ``ceil(h)`` snippets before s and the ``floor(h)`` after e+1 without the video's last, with
        ``h = 0.0785 * (e-s)**0.9``. "paper": the segment and its inside are the run, the outside is
        ``ceil(margin * (e-s))`` snippets on each side
    min_length : in snippets, >= 1
    margin : >= 0, for "paper" scoring
    wanted : (videos, classes) bool: propose for these only, e.g. ``class_scores >= 0.16``

    Returns
    -------
    Segments in snippets, one group for each pair (index ``video * classes + class``), each ordered by threshold and
    start.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, shape or device, values that are not finite, thresholds that do not
        rise, an argument outside its range
    RuntimeError : ``tcam`` requires grad; proposals are not differentiable

    Notes
    -----
    Comparisons and means are in float64, means from running sums: the same bits on any device and number of threads.
    The number of segments depends on the contents, and is read back once between counting and filling. Scratch: 9
    bytes for each value of ``tcam``.
    Source: Zhou et al., Improving Weakly Supervised Temporal Action Localization by Bridging Train-Test Gap in Pseudo
    Labels, CVPR 2023, and the rules of its released code.

    Examples
    --------
    >>> tcam = torch.tensor([[0.0], [0.8], [1.0], [0.6], [0.0], [0.0]])
    >>> segments = propose_segments(tcam, torch.tensor([0, 6]), thresholds=[0.5, 0.7], scoring="paper")
    >>> segments.start.tolist(), segments.end.tolist()
    ([1.0, 1.0], [4.0, 3.0])
    >>> [round(score, 6) for score in segments.score.tolist()]
    [0.8, 0.6]
    """
    op = "propose_segments"
    refuse_vmap(op)
    check_choice(op, "scoring", scoring, SCORINGS)
    check_range(op, "margin", margin, ">= 0", lambda: 0 <= margin < math.inf)
    whole = isinstance(min_length, int)
    check_range(op, "min_length", min_length, "an integer >= 1", lambda: whole and 1 <= min_length < 2**63)
    try:
        levels = [float(threshold) for threshold in thresholds]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{op}: thresholds must be numbers, got {thresholds!r}") from error
    released_or_margin = None if scoring == "released" else margin
    _check(tcam, offsets, levels, wanted, released_or_margin, min_length)
    rising = zip([-math.inf, *levels], [*levels, math.inf], strict=True)
    if thresholds != RELEASED_THRESHOLDS and not all(low < high for low, high in rising):
        raise ValueError(f"{op}: thresholds must be finite and rise, got {levels}")
    if not torch.compiler.is_compiling():
        check_offsets(op, "offsets", offsets, total=len(tcam))
    rows, group_offsets = _propose(tcam, offsets, levels, wanted, released_or_margin, min_length)
    return Segments.unchecked(rows, group_offsets)


def score_segments(
    segments: Segments, tcam: Tensor, offsets: Tensor, wanted: Tensor | None = None, margin: float = 0.25
) -> Segments:
    """Score given segments of each video by another map, as "paper" scoring of :func:`propose_segments` does its runs.

    Segments that one map proposed (the actionness, or the map of another network) become segments of each class: the
    weight is the mean of the class's map inside, the score that mean minus the mean over ``ceil(margin * (e-s))``
    snippets on either side (0 where there is no outside).

    Parameters
    ----------
    segments : a group a video, in snippets, bounds whole numbers; only start and end are used. What lies beyond the
        video is cut off, and an empty segment has the weight 0
    tcam : (sum of lengths, classes) float32 or float64, finite, at most 2^20 in magnitude
    offsets : (videos+1,) int64: video v owns the rows offsets[v] .. offsets[v+1]-1
    wanted : (videos, classes) bool: score for these only; None for all
    margin : >= 0

    Returns
    -------
    Segments, one group for each pair (index ``video * classes + class``), each in the order of the video's segments.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, shape or device, a margin outside its range
    RuntimeError : ``tcam`` requires grad; scores are not differentiable

    Notes
    -----
    Sums are of the map rounded to 2^-36, which integers add exactly: no composition of the batch changes a bit.

    Examples
    --------
    >>> runs = Segments.of([[(1, 3, 0.0)]])
    >>> tcam = torch.tensor([[0.0, 0.4], [1.0, 0.4], [0.5, 0.4], [0.25, 0.4]])
    >>> scored = score_segments(runs, tcam, torch.tensor([0, 4]), margin=0.5)
    >>> [round(weight, 6) for weight in scored.weight.tolist()]
    [0.75, 0.4]
    >>> [round(score, 6) for score in scored.score.tolist()]
    [0.625, 0.0]
    """
    op = "score_segments"
    check_segments(op, "segments", segments)
    refuse_grad(op, tcam=tcam)
    check_tensor(op, "tcam", tcam, (torch.float32, torch.float64), ndim=2, device=segments.start.device)
    check_tensor(op, "offsets", offsets, (torch.int64,), shape=(segments.groups + 1,), device=tcam.device)
    check_range(op, "margin", margin, ">= 0", lambda: 0 <= margin < math.inf)
    if not torch.compiler.is_compiling():
        check_offsets(op, "offsets", offsets, total=len(tcam))
    classes = tcam.shape[1]
    if wanted is None:
        wanted = torch.ones(segments.groups, classes, dtype=torch.bool, device=tcam.device)
    check_tensor(op, "wanted", wanted, (torch.bool,), shape=(segments.groups, classes), device=tcam.device)
    groups = wanted.flatten().nonzero().squeeze(1)
    counts = segments.offsets.diff()[groups // classes]
    group = torch.repeat_interleave(groups, counts)
    place = torch.arange(len(group), device=tcam.device) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    video, label = group // classes, group % classes
    row = segments.offsets[video] + place
    length = offsets.diff()[video]
    # Bounds and margins beyond what an integer holds are cut before they become one.
    bounds = (bound[row].nan_to_num(0.0).clamp(0, 2**53).long() for bound in (segments.start, segments.end))
    start, end = (torch.minimum(bound, length) for bound in bounds)
    width = (float(margin) * (end - start).double() - 1e-9).ceil().clamp_max(len(tcam)).long()
    left, right = (start - width).clamp_min(0), torch.minimum(end + width, length)
    sums = functional.pad((tcam.double() * _UNIT).round().long().cumsum(0), (0, 0, 1, 0))
    low, start_at, end_at, high = (sums[offsets[video] + bound, label] for bound in (left, start, end, right))
    size = end - start
    inside = (end_at - start_at).double() / _UNIT / size.clamp_min(1)
    outside = (high - low - (end_at - start_at)).double() / _UNIT / (right - left - size).clamp_min(1)
    sizes = torch.zeros(wanted.numel(), dtype=torch.int64, device=tcam.device).index_put((groups,), counts)
    rows = torch.stack([start.double(), end.double(), inside - outside, inside])
    return Segments.unchecked(rows, offsets_of(sizes))


def _check(
    tcam: Tensor, offsets: Tensor, thresholds: list[float], wanted: Tensor | None, margin: float | None, min_length: int
) -> None:
    op = "propose_segments"
    check_tensor(op, "tcam", tcam, (torch.float32, torch.float64), ndim=2)
    check_tensor(op, "offsets", offsets, (torch.int64,), ndim=1, device=tcam.device)
    if not len(offsets):
        raise ValueError(f"{op}: offsets must have shape (videos+1,), got (0,)")
    if wanted is not None:
        shape = (len(offsets) - 1, tcam.shape[1])
        check_tensor(op, "wanted", wanted, (torch.bool,), shape=shape, device=tcam.device)
    if not 1 <= len(thresholds) <= MAX_THRESHOLDS:
        raise ValueError(f"{op}: thresholds must be 1 to {MAX_THRESHOLDS} numbers, got {len(thresholds)}")
    if margin is not None:
        check_range(op, "margin", margin, ">= 0", lambda: 0 <= margin < math.inf)


@lru_cache(maxsize=64)
def _threshold_tensor(thresholds: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(thresholds, dtype=torch.float64, device="cpu").to(device)


@lru_cache(maxsize=16)
def _margins(sizes: int, margin: float | None, device: torch.device) -> Tensor:
    """(2, sizes) int32: how many snippets before and after a run of each length are its outside.

    A table, so that no device rounds a power of its own.
    """
    lengths = torch.arange(sizes, dtype=torch.float64, device="cpu")
    if margin is None:
        width = 0.0785 * lengths**0.9
        both = torch.stack([width.ceil(), width.floor()])
    else:
        width = (margin * lengths - 1e-9).ceil()  # 0.1 * 30 is 3 snippets, not 4
        both = torch.stack([width, width])
    return both.clamp(0, sizes).to(torch.int32).to(device)


def _kernel(
    tcam: Tensor, offsets: Tensor, thresholds: list[float], wanted: Tensor | None, margin: float | None, min_length: int
) -> tuple[Tensor, Tensor]:
    tcam, offsets = tcam.contiguous(), offsets.contiguous()
    (snippets, classes), videos, count, device = tcam.shape, len(offsets) - 1, len(thresholds), tcam.device
    groups = videos * classes
    scratch = tcam.new_empty(_C.propose_segments_scratch(videos, classes, snippets), dtype=torch.float64)
    runs = offsets.new_empty(_C.propose_segments_runs(videos, classes, count))
    both = {
        "offsets": offsets, "videos": videos, "classes": classes, "snippets": snippets, "count": count,
        "min_length": min_length, "scratch": scratch, "runs": runs,
    }  # fmt: skip
    launch("count_proposals", device, {
        **both, "tcam": tcam, "thresholds": _threshold_tensor(tuple(thresholds), device),
        "wanted": None if wanted is None else wanted.contiguous(),
    })  # fmt: skip
    total, bad = runs[-2:].tolist()
    if bad != _C.ALL_FINITE:
        raise ValueError(
            f"propose_segments: tcam must be finite, got {float(tcam.flatten()[bad])} at snippet {bad // classes}, "
            f"class {bad % classes}"
        )
    sizes = 1 << snippets.bit_length()
    packed, packed_offsets = scratch.new_empty((4, total)), offsets.new_empty(groups + 1)
    launch("fill_proposals", device, {
        **both, "margins": _margins(sizes, margin, device), "margin_sizes": sizes, "past": int(margin is None),
        "total": total, "packed": packed, "packed_offsets": packed_offsets,
    })  # fmt: skip
    return packed, packed_offsets


def _fake(
    tcam: Tensor, offsets: Tensor, thresholds: list[float], wanted: Tensor | None, margin: float | None, min_length: int
) -> tuple[Tensor, Tensor]:
    total = torch.library.get_ctx().new_dynamic_size()
    groups = (offsets.shape[0] - 1) * tcam.shape[1]
    return tcam.new_empty((4, total), dtype=torch.float64), offsets.new_empty(groups + 1)


_propose = register(
    "propose_segments(Tensor tcam, Tensor offsets, float[] thresholds, Tensor? wanted, float? margin, int min_length)"
    " -> (Tensor, Tensor)",
    _kernel,
    _fake,
    check=_check,
    reads_contents=True,
)
