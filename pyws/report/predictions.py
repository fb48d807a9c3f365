"""What a network finds in a video on one timeline, as figure 4 of GauFuse: activation, confidence, labels, segments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyws.data.annotations.activitynet import Instances
from pyws.report.colours import COLOURS
from pyws.report.timelines import Timeline, bars_of, draw_timeline, picture_name


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is known of one video.

    Parameters
    ----------
    video : its name
    classes : classes of the columns
    edges : (L+1,) seconds where snippets begin, and the last ends
    activation, labels : (L, K) the map, and what LinPro makes of the segments
    segments : found in this video
    truth : truth of this video; None where nothing is annotated
    """

    video: str
    classes: tuple[str, ...]
    edges: NDArray[np.float64]
    activation: NDArray[np.floating]
    labels: NDArray[np.floating]
    segments: Instances
    truth: Instances | None = None

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(L, K) for each snippet the highest score of the segments of the class over its middle, 0 where none is."""
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        found = np.zeros(self.activation.shape)
        rows = self.segments
        for start, end, label, score in zip(rows.start, rows.end, rows.label, rows.score, strict=True):
            inside = (start <= middle) & (middle < end)
            found[inside, label] = np.maximum(found[inside, label], score)
        return found

    @property
    def shown(self) -> list[int]:
        """Classes of the truth, then those with the best segments, then those with the highest activation: as many as
        there are colours."""
        true = [] if self.truth is None else [self.truth.labels[label] for label in self.truth.label]
        best = self.confidence.max(axis=0) + 1e-3 * self.activation.max(axis=0)
        order = [int(k) for k in np.argsort(-best, kind="stable")]
        ranked = [k for k in order if self.classes[k] in true]
        ranked += [k for k in order if k not in ranked and (k == order[0] or self.confidence[:, k].any())]
        return ranked[: len(COLOURS)]


def draw_prediction(folder: str | os.PathLike[str], one: Prediction) -> Path:
    """Write ``folder/VIDEO.png``; returns its path."""
    shown = one.shown
    names = [one.classes[column] for column in shown]
    curves = {
        "activation": one.activation[:, shown],
        "confidence": one.confidence[:, shown],
        "labels": one.labels[:, shown],
    }
    scale = max(float(one.segments.score.max(initial=0.0)), 1e-9)  # the best is solid, however scores are scaled
    bars = {"segments": bars_of(one.segments, names, scale)}
    if one.truth is not None:
        bars["truth"] = bars_of(one.truth, names)
    path = Path(folder) / f"{picture_name(one.video)}.png"
    draw_timeline(path, Timeline(one.video, float(one.edges[-1]), names, curves, bars, one.edges))
    return path
