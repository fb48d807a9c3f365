"""Lines over an axis, drawn as SVG into a page: sharp at every size, in its colours, read without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pyws.report.colours import colour

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 412, 10, 192
_MARKERS = 60  # points up to which each is marked
Place = Callable[[float, float], str]  # coordinates of a point, as SVG writes them


@dataclass(frozen=True)
class Chart:
    """Lines: caption to x and y; a value that is None is a gap.

    Parameters
    ----------
    title, xlabel : for people
    lines : caption to x and y
    from_zero : let the vertical axis begin at 0
    """

    title: str
    xlabel: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float | None]]]
    from_zero: bool = False


def draw_chart(chart: Chart) -> str:
    """The chart as a ``figure`` element; all text is escaped.

    Examples
    --------
    >>> "&lt;loss&gt;" in draw_chart(Chart("<loss>", "epoch", {"v0": ([0, 1], [2.0, 1.0])}))
    True
    """
    points = [(x, y) for xs, ys in chart.lines.values() for x, y in zip(xs, ys, strict=True)
              if y is not None and math.isfinite(y)]  # fmt: skip
    if not points:
        return ""
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    ticks = axis_ticks(min(0.0, low) if chart.from_zero else low, high)
    low, high = min(ticks[0], low), max(ticks[-1], high)

    def at(x: float, y: float) -> str:
        across = (x - left) / (right - left) if right > left else 0.5
        return f"{_LEFT + across * (_RIGHT - _LEFT):.1f},{_BOTTOM - (y - low) / (high - low) * (_BOTTOM - _TOP):.1f}"

    parts = [_grid(ticks, at, left), _xaxis(left, right, chart.xlabel, at, low)]
    for index, (caption, (xs, ys)) in enumerate(chart.lines.items()):
        parts.append(_line(caption, xs, ys, colour(index), at))
    keys = "".join(f'<span class="key"><i style="background:{colour(index)}"></i>{escape(caption)}</span>'
                   for index, caption in enumerate(chart.lines)) if len(chart.lines) > 1 else ""  # fmt: skip
    words = escape(f"{chart.title}: {_in_words(chart)}")
    picture = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words}">{"".join(parts)}</svg>'
    return f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>{picture}<div>{keys}</div></figure>'


def axis_ticks(low: float, high: float) -> list[float]:
    """Round numbers that span a range.

    Examples
    --------
    >>> axis_ticks(0.0, 0.97), axis_ticks(3.0, 3.0)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [2.0, 2.5, 3.0, 3.5, 4.0])
    """
    if high <= low:
        height = abs(low) or 1.0
        low, high = low - height / 3, low + height / 3
    rough = (high - low) / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(step * scale for step in (1, 2, 2.5, 5, 10) if step * scale >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _grid(ticks: Sequence[float], at: Place, left: float) -> str:
    rows = []
    for tick in ticks:
        y = at(left, tick).split(",")[1]
        rows.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>')
        rows.append(f'<text x="{_LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return "".join(rows)


def _xaxis(left: float, right: float, label: str, at: Place, low: float) -> str:
    values = [tick for tick in axis_ticks(left, right) if left <= tick <= right] if right > left else [left]
    if float(left).is_integer() and float(right).is_integer():  # epochs and versions have no halves
        values = [tick for tick in values if float(tick).is_integer()]
    marks = [
        f'<text x="{at(tick, low).split(",")[0]}" y="{_BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in values
    ]
    name = f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(label)}</text>'
    return "".join(marks) + name


def _line(caption: str, xs: Sequence[float], ys: Sequence[float | None], stroke: str, at: Place) -> str:
    """A line, broken where values are missing; few points are marked, each with its value for the pointer."""
    runs: list[list[str]] = [[]]
    marks = []
    for x, y in zip(xs, ys, strict=True):
        if y is None or not math.isfinite(y):
            runs.append([])
            continue
        runs[-1].append(at(x, y))
        across, down = runs[-1][-1].split(",")
        words = escape(f"{caption}, {x:g}: {y:.4g}")
        marks.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{stroke}"><title>{words}</title></circle>')
    lines = [f'<polyline fill="none" stroke="{stroke}" stroke-width="1.8" points="{" ".join(run)}"/>' for run in runs]
    return "".join(lines) + ("".join(marks) if len(marks) <= _MARKERS else "")


def _in_words(chart: Chart) -> str:
    ends = []
    for caption, (_, ys) in chart.lines.items():
        known = [y for y in ys if y is not None and math.isfinite(y)]
        if known:
            ends.append(f"{caption} from {known[0]:.4g} to {known[-1]:.4g}")
    return "; ".join(ends)
