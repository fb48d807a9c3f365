"""Timelines: what is true, what was found and what the classifier saw, over the seconds of a video."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.annotations.activitynet import Instances
from pyws.files import atomic_write
from pyws.report.colours import colour

Bar = tuple[float, float, str, float]  # start, end in seconds, label, score in [0, 1] (how solid it is drawn)


def bars_of(rows: Instances, labels: Sequence[str], scale: float = 1.0) -> list[Bar]:
    """The segments of these labels, their scores divided by ``scale``."""
    return [(start, end, label, score / scale) for _, label, start, end, score in rows.rows() if label in labels]


def picture_name(video: str) -> str:
    """The name of a video as the name of a file."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", video)


@dataclass(frozen=True)
class Timeline:
    """What one picture shows.

    Parameters
    ----------
    title : written above it
    duration : seconds
    labels : the classes, in the order of their colours
    curves : caption to values (snippets, classes), drawn over the whole duration; one panel each
    bars : caption to segments, one row each
    edges : (snippets + 1,) seconds at which the values of the curves hand over; None for equal parts
    """

    title: str
    duration: float
    labels: Sequence[str]
    curves: Mapping[str, NDArray[np.floating]]
    bars: Mapping[str, Sequence[Bar]]
    edges: NDArray[np.floating] | None = None


def draw_timeline(path: str | os.PathLike[str], timeline: Timeline) -> None:
    """Write a timeline as PNG, whole or not at all.

    Raises
    ------
    ValueError : a duration that is not above 0, a curve that is not (snippets, classes), a bar of an unknown label
    """
    _check(timeline)
    panels, rows = len(timeline.curves), len(timeline.bars)
    heights = [1.1] * panels + [0.28 * max(rows, 1) + 0.1]
    figure = _figure(10.0, sum(heights) + 0.75)
    axes = figure.subplots(panels + 1, 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (caption, values) in zip(axes, timeline.curves.items(), strict=False):
        _draw_curves(axis, caption, values, timeline)
    _draw_bars(axes[-1], timeline)
    handles = [axes[-1].barh(0, 0, color=colour(i)) for i in range(len(timeline.labels))]
    figure.legend(handles, timeline.labels, loc="upper right", ncols=len(timeline.labels), frameon=False, fontsize=9)
    figure.suptitle(_plain(timeline.title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    _save(figure, path)


def draw_lines(
    path: str | os.PathLike[str],
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    from_zero: bool = True,
) -> None:
    """Write lines (caption to x and y) as PNG: a training curve, mAP over IoU thresholds."""
    crowded = len(lines) > 4  # then the captions stand beside the lines
    figure = _figure(7.6 if crowded else 5.2, 3.0)
    axis = figure.subplots()
    for index, (caption, (x, y)) in enumerate(lines.items()):
        axis.plot(x, y, color=colour(index), marker="o", markersize=3.5, linewidth=1.6, label=_plain(caption))
    axis.set_xlabel(_plain(xlabel))
    axis.set_ylabel(_plain(ylabel))
    if from_zero:
        axis.set_ylim(bottom=0)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if crowded else {}
        axis.legend(frameon=False, fontsize=9, **beside)
    _save(figure, path)


def _check(timeline: Timeline) -> None:
    if not timeline.duration > 0:
        raise ValueError(f"draw_timeline: duration must be > 0, got {timeline.duration}")
    for caption, values in timeline.curves.items():
        if values.ndim != 2 or values.shape[1] != len(timeline.labels):
            raise ValueError(
                f"draw_timeline: {caption} must be (snippets, {len(timeline.labels)} classes), got {values.shape}"
            )
    unknown = {bar[2] for bars in timeline.bars.values() for bar in bars} - set(timeline.labels)
    if unknown:
        raise ValueError(f"draw_timeline: bars must have labels of the timeline, got {sorted(unknown)}")


def _draw_curves(axis: Any, caption: str, values: NDArray[np.floating], timeline: Timeline) -> None:
    """Steps, since a value stands for its whole snippet."""
    edges = np.linspace(0, timeline.duration, len(values) + 1) if timeline.edges is None else timeline.edges
    for index in range(values.shape[1]):
        axis.stairs(values[:, index], edges, color=colour(index), linewidth=1.2)
        axis.stairs(values[:, index], edges, color=colour(index), alpha=0.15, fill=True)
    axis.set_ylim(bottom=0)
    axis.set_ylabel(_plain(caption), fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_bars(axis: Any, timeline: Timeline) -> None:
    """One row for each kind of segment; weak segments are pale, strong ones on top."""
    for row, bars in enumerate(timeline.bars.values()):
        for start, end, label, score in sorted(bars, key=lambda bar: bar[3]):
            alpha = 0.15 + 0.85 * min(max(score, 0.0), 1.0)
            axis.barh(row, end - start, left=start, height=0.72, color=colour(timeline.labels.index(label)),
                      alpha=alpha, linewidth=0)  # fmt: skip
    axis.set_yticks(range(len(timeline.bars)), [_plain(caption) for caption in timeline.bars], fontsize=9)
    axis.set_ylim(len(timeline.bars) - 0.4, -0.6)
    axis.set_xlim(0, timeline.duration)
    axis.set_xlabel("seconds", fontsize=9)
    axis.tick_params(labelsize=8, axis="x")
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _plain(text: str) -> str:
    """matplotlib reads what stands between dollar signs as mathematics; names of files are none."""
    return text.replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    """A figure of its own, without pyplot: no window, no global state, any thread."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with atomic_write(path, "wb") as file:
        file.write(buffer.getvalue())
