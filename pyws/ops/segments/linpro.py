"""LinPro: snippet labels from scored segments by linear programming (GauFuse eq. 5-6, CVPR 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pyws.ops._library import (
    _C,
    check_choice,
    check_columns,
    check_entries,
    check_range,
    check_segments,
    check_tensor,
    launch,
    launch_on_host,
    refuse_capture,
    register,
    runs_on_card,
)
from pyws.ragged import Segments, offsets_of

ENTRY_LIMIT = 1 << 20  # a component of more tableau entries goes to the interior-point method
_OPTIONS = ("preset", "margin", "upper", "rows", "tie_break")
_MAX_SEGMENTS = 2**29  # bounds of the rows of a component are numbered in 32 bits


class Status(IntEnum):
    """How the program of one group was solved."""

    OPTIMAL = 0  #: every segment's row holds: the linear program of the paper, solved
    RELAXED = 1  #: no labels satisfy all rows; these have the least l1 residual, and among those the least mass
    EMPTY = 2  #: no segments: zeros
    APPROXIMATE = 3  #: as RELAXED, but among labels of limited size, or as far as the gap says

    @classmethod
    def counts(cls, status: Tensor) -> dict[str, int]:
        """How many groups came out as each, by its name in lower case."""
        return {one.name.lower(): int((status == one).sum()) for one in cls}


@dataclass(frozen=True)
class Rule:
    """One linear program: which snippets a row scores, what a label may be, which optimum is taken."""

    geometry: str
    margin: float
    upper: float
    rows: str
    tie_break: str


_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"geometry": "paper", "margin": 0.25, "upper": math.inf, "rows": "sum", "tie_break": "canonical"},
    "released": {"geometry": "released", "margin": 0.0785, "upper": 1.0, "rows": "sum", "tie_break": "center"},
}


@dataclass(frozen=True, eq=False)
class Labels:
    """The answer of :func:`linpro`; everything on the device of the segments.

    Parameters
    ----------
    labels : (sum of lengths,) float64; group g owns labels[offsets[g] : offsets[g+1]]
    offsets : (groups+1,) int64
    objective : (groups,) float64, the sum of the labels
    residual : (groups,) float64, the sum over segments of |score - row of W times labels|
    status : (groups,) int64, :class:`Status`
    components : (groups,) int64, parts whose segments share no snippet
    gap : (groups,) float64, by how much residual and objective may exceed the least, shown by duality; 0 or rounding
        but for APPROXIMATE, and there among labels of limited size
    on_host : (groups,) bool, the groups of CUDA tensors that went to the host and back, because too many segments
        overlap or they have known labels; all False for CPU tensors
    """

    labels: Tensor
    offsets: Tensor
    objective: Tensor
    residual: Tensor
    status: Tensor
    components: Tensor
    gap: Tensor
    on_host: Tensor

    def group(self, index: int) -> Tensor:
        """The labels of one group, a view."""
        return self.labels[int(self.offsets[index]) : int(self.offsets[index + 1])]


def linpro(
    segments: Segments,
    lengths: Tensor,
    preset: str = "paper",
    *,
    margin: float | None = None,
    upper: float | None = None,
    rows: str | None = None,
    tie_break: str | None = None,
    known: Tensor | None = None,
) -> Labels:
    """Snippet labels that keep every segment's score and are otherwise as small and as uniform as can be.

    For each group (a video and a class): minimise ``sum(g)`` subject to ``W g = score`` and ``0 <= g <= upper``. Row j
    of W is +1 on the snippets of segment j, -1 in a margin on each side, 0 elsewhere. The optimum is often not
    unique; ``tie_break`` decides, so that the answer depends on no solver. Where the rows contradict each other the
    least l1 residual comes first, then the least mass, then the tie-break, and the status says so.

    Parameters
    ----------
    segments : groups of segments on the time axis of snippets. Bounds are real: row j scores the snippets
        s <= i < e with s = int(start), e = int(end), truncated towards zero, and is clipped to the video.
        Only ``score`` is used, not ``weight``.
    lengths : (groups,) int64, snippets of each group's video
    preset : "paper" (margins 0.25 (e-s), no upper bound, canonical) or "released", the rule of the released code:
        margins h = 0.0785 (e-s)^0.9 that cover [int(s-h), s) and [e, min(l-1, int(e+h+1))), labels at most 1, centre
    margin : factor of the margins' width, 0 or more, in place of the preset's (the paper names none)
    upper : greatest label, above 0, ``math.inf`` for none
    rows : "sum" as in eq. 5, or "mean": mean of the labels inside minus their mean over the margins. Labels of "mean"
        are about the score, labels of "sum" about the score divided by the length.
    tie_break : "canonical", the least sum of squares (unique, the most uniform), or "center", the analytic centre of
        the optimal labels, which is close to what the released code got from SciPy 1.8; where the optimal labels have
        no interior it is the canonical optimum, or the centre of the labels that have one (interior-point method)
    known : (sum of lengths,) float64, labels that are fixed, from 0 to ``upper``, NaN where a label is free:
        equalities that always hold, whatever the segments say. 0 says that a snippet does not show the class

    Returns
    -------
    :class:`Labels`. Not differentiable. Always an answer, never NaN.

    Raises
    ------
    TypeError, ValueError : a wrong type, dtype, count or option

    Notes
    -----
    Snippets of equal columns of W are one variable, which is the paper's averaging of equivalent snippets; segments
    that share no snippet are solved apart, a lone one in closed form. The rest goes to a Newton iteration on one
    multiplier a segment (exact regularisation: Friedlander, Tseng 2007), rows that contradict each other to a dense
    bounded simplex, and what is too large for either, or ill-conditioned, to an interior-point method (Mehrotra 1992)
    on the face of the least residual, then of the least mass. Answers are certified (rows, bounds, reduced costs).
    Where margins cancel insides, rows that contradict each other ask for labels without measure for a little less
    residual; without an upper bound the interior-point method limits the mass of snippets that share their column to
    30,000 times the greatest score. Where that limit matters, or rounding leaves more than 1e-7 of what there is, the
    status is APPROXIMATE. There is an answer for every finite score; scores count up to 1e300 in magnitude. The same
    bits for any order of segments, any batch composition and any number of threads.
    On CUDA one warp solves a component, in closed form or by the same Newton iteration, with the same bits (but that
    d^0.9 of "released" margins may round otherwise). Groups of which the iteration leaves a component go to the host,
    which ``on_host`` tells. The call waits for the card: for the lengths, which size the answer, and for what is left.
    No GPU has run this yet.
    Source: Zhou et al., Improving Weakly Supervised Temporal Action Localization by Bridging Train-Test Gap in Pseudo
    Labels, CVPR 2023, section 3.2.

    Examples
    --------
    >>> segments = Segments.of([[(2, 6, 0.8), (9, 11, 0.5)], []])
    >>> result = linpro(segments, torch.tensor([12, 3]))
    >>> result.group(0)
    tensor([0.0000, 0.0000, 0.2000, 0.2000, 0.2000, 0.2000, 0.0000, 0.0000, 0.0000,
            0.2500, 0.2500, 0.0000], dtype=torch.float64)
    >>> [Status(status).name for status in result.status.tolist()]
    ['OPTIMAL', 'EMPTY']

    A person said that the first segment begins two snippets later:

    >>> known = torch.full((15,), torch.nan, dtype=torch.float64)
    >>> known[:4] = 0
    >>> linpro(segments, torch.tensor([12, 3]), known=known).group(0)[:7]
    tensor([0.0000, 0.0000, 0.0000, 0.0000, 0.4000, 0.4000, 0.0000],
           dtype=torch.float64)
    """
    given = preset, margin, upper, rows, tie_break
    for name, value in zip(_OPTIONS, given, strict=True):
        if not isinstance(value, (str, int, float, type(None))):
            raise TypeError(f"linpro: {name} must be a number or one of its names, got {type(value).__name__}")
    rule = _rule.__wrapped__(*given) if torch.compiler.is_compiling() else _rule(*given)
    check_segments("linpro", "segments", segments)
    check_tensor("linpro", "lengths", lengths, (torch.int64,), shape=(segments.groups,))
    if len(segments) >= _MAX_SEGMENTS:
        raise ValueError(f"linpro: segments must be fewer than 2**29, got {len(segments)}")
    if not torch.compiler.is_compiling():
        refuse_capture("linpro")
        snippets = lengths.tolist()
        shortest, total = min(snippets, default=0), sum(snippets)
        check_range("linpro", "lengths", shortest, "0 or more", lambda: shortest >= 0)
        check_entries("linpro", "lengths", total)
        if known is not None:
            check_tensor("linpro", "known", known, (torch.float64,), shape=(total,))
            strange = known[(known < 0) | (known > rule.upper) | known.isinf()]
            worst = float(strange[0]) if len(strange) else 0.0
            check_range(
                "linpro", "known", worst, f"NaN or within [0, {rule.upper}], and finite", lambda: not len(strange)
            )
    return _solve(segments, lengths, rule, known)


@lru_cache(maxsize=64, typed=True)  # True is no number, though it equals 1
def _rule(preset: str, margin: float | None, upper: float | None, rows: str | None, tie_break: str | None) -> Rule:
    check_choice("linpro", "preset", preset, tuple(_PRESETS))
    chosen = dict(_PRESETS[preset])
    given = {"margin": margin, "upper": upper, "rows": rows, "tie_break": tie_break}
    chosen.update((name, value) for name, value in given.items() if value is not None)
    check_range("linpro", "margin", chosen["margin"], "finite and 0 or more", lambda: 0 <= chosen["margin"] < math.inf)
    check_range("linpro", "upper", chosen["upper"], "above 0", lambda: chosen["upper"] > 0)
    check_choice("linpro", "rows", chosen["rows"], ("sum", "mean"))
    check_choice("linpro", "tie_break", chosen["tie_break"], ("canonical", "center"))
    return Rule(**chosen)


def _solve(
    segments: Segments, lengths: Tensor, rule: Rule, known: Tensor | None = None, entry_limit: int = ENTRY_LIMIT
) -> Labels:
    options = rule.geometry, float(rule.margin), float(rule.upper), rule.rows == "mean", rule.tie_break == "center"
    return Labels(
        *_linpro(segments.start, segments.end, segments.score, segments.offsets, lengths, known, *options, entry_limit)
    )


def _check(
    start: Tensor, end: Tensor, score: Tensor, offsets: Tensor, lengths: Tensor, known: Tensor | None, geometry: str,
    margin: float, upper: float, rows_mean: bool, center: bool, entry_limit: int,
) -> None:  # fmt: skip
    check_columns("linpro", offsets, start=start, end=end, score=score)
    check_tensor("linpro", "lengths", lengths, (torch.int64,), shape=(len(offsets) - 1,), device=start.device)
    if known is not None:
        check_tensor("linpro", "known", known, (torch.float64,), ndim=1, device=start.device)
    check_choice("linpro", "geometry", geometry, _C.ROW_GEOMETRIES)
    check_range("linpro", "margin", margin, "finite and 0 or more", lambda: 0 <= margin < math.inf)
    check_range("linpro", "upper", upper, "above 0", lambda: upper > 0)
    check_range("linpro", "entry_limit", entry_limit, "0 or more", lambda: entry_limit >= 0)


def _kernel(
    start: Tensor,
    end: Tensor,
    score: Tensor,
    offsets: Tensor,
    lengths: Tensor,
    known: Tensor | None,
    *options: Any,
) -> tuple[Tensor, ...]:
    start, end, score, offsets, lengths = (
        field.detach().contiguous() for field in (start, end, score, offsets, lengths)
    )
    snippets = sum(max(0, length) for length in lengths.tolist())
    check_entries("linpro", "lengths", snippets)
    if known is not None:
        known = known.detach().contiguous()
        if known.shape != (snippets,):
            raise ValueError(f"linpro: known must have {snippets} labels, as lengths add up to, got {len(known)}")
    segments = start, end, score, offsets, lengths
    if not runs_on_card(start.device):
        return _answer(segments, known, snippets, options, on_card=False)
    answer = _answer(segments, None, snippets, options, on_card=True)
    left = answer[-1]
    if known is not None:  # the kernels take none
        given = offsets_of(~known.isnan())[answer[1]]
        left |= given[1:] > given[:-1]
    groups = left.nonzero()[:, 0]
    if len(groups):
        _solve_on_host(answer, groups, segments, known, options)
    return answer


def _answer(
    segments: tuple[Tensor, ...], known: Tensor | None, snippets: int, options: tuple[Any, ...], on_card: bool
) -> tuple[Tensor, ...]:
    start, end, score, offsets, lengths = segments
    geometry, margin, upper, rows_mean, center, entry_limit = options
    total, groups = len(start), len(lengths)
    labels, label_offsets = start.new_empty(snippets), offsets.new_empty(groups + 1)
    objective, residual, gap = (start.new_empty(groups) for _ in range(3))
    status, components = (offsets.new_empty(groups) for _ in range(2))
    left, scratch, memory, warps = offsets.new_empty(groups, dtype=torch.bool), None, None, 0
    if on_card:
        warps = _C.linpro_warps(total)
        scratch = offsets.new_empty(_C.linpro_scratch(total, groups))
        memory = start.new_empty(warps * _C.LINPRO_WARP_MEMORY)
    fields = {
        "start": start, "end": end, "score": score, "offsets": offsets, "lengths": lengths, "known": known,
        "groups": groups, "total": total, "snippets": snippets, "geometry": geometry, "margin": margin,
        "upper": upper, "rows_mean": rows_mean, "center": center, "entry_limit": entry_limit, "labels": labels,
        "label_offsets": label_offsets, "objective": objective, "residual": residual, "gap": gap, "status": status,
        "components": components, "left": left, "scratch": scratch, "memory": memory, "warps": warps,
    }  # fmt: skip
    launch("linpro", start.device, fields) if on_card else launch_on_host("linpro", fields)
    return labels, label_offsets, objective, residual, status, components, gap, left


def _solve_on_host(
    answer: tuple[Tensor, ...],
    groups: Tensor,
    segments: tuple[Tensor, ...],
    known: Tensor | None,
    options: tuple[Any, ...],
) -> None:
    """Write the answer of ``groups``, solved by the CPU kernel. A group's answer does not depend on its batch."""
    start, end, score, offsets, lengths = segments
    labels, label_offsets, *by_group, _ = answer
    clamped = offsets.clamp(0, len(start)).cummax(0)[0]
    rows, row_offsets = _places(clamped, groups)
    snippets, _ = _places(label_offsets, groups)
    part = tuple(field.cpu() for field in (start[rows], end[rows], score[rows], row_offsets, lengths[groups]))
    part_known = None if known is None else known[snippets].cpu()
    solved_labels, _, *solved, _ = _answer(part, part_known, len(snippets), options, on_card=False)
    labels[snippets] = solved_labels.to(labels.device)
    for field, values in zip(by_group, solved, strict=True):
        field[groups] = values.to(field.device)


def _places(offsets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Where the values of ``groups`` lie, and the offsets of these groups alone."""
    begin, sizes = offsets[groups], offsets[groups + 1] - offsets[groups]
    own = offsets_of(sizes)
    shift = torch.repeat_interleave(begin - own[:-1], sizes)
    return torch.arange(len(shift), device=offsets.device) + shift, own


def _fake(start: Tensor, end: Tensor, score: Tensor, offsets: Tensor, lengths: Tensor, *_: Any) -> tuple[Tensor, ...]:
    snippets, groups = torch.library.get_ctx().new_dynamic_size(), len(lengths)
    floats, integers = [start.new_empty(groups) for _ in range(3)], [offsets.new_empty(groups) for _ in range(2)]
    labels, label_offsets, left = start.new_empty(snippets), offsets.new_empty(groups + 1), offsets.new_empty(groups)
    return labels, label_offsets, floats[0], floats[1], integers[0], integers[1], floats[2], left.bool()


_linpro = register(
    "linpro(Tensor start, Tensor end, Tensor score, Tensor offsets, Tensor lengths, Tensor? known, str geometry, "
    "float margin, float upper, bool rows_mean, bool center, int entry_limit) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _kernel,
    _fake,
    check=_check,
    reads_contents=True,
)
