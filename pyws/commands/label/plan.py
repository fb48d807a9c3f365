"""What a run of pyws label will do, how long it may take, and what is chosen to fit a budget."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyws.commands.label.tags import Route
from pyws.data.video.decoders import PyAV
from pyws.data.video.frames import FrameFolder
from pyws.models.classifiers import Classifier
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import Sampling


@dataclass(frozen=True)
class Choices:
    """What a budget may change."""

    sampling: Sampling
    mask_frames: int
    """Of a video."""
    epochs: int


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine, measured on one batch and one frame."""

    snippet: float
    mask: float
    decoding: float
    """Of a second of video."""


def minutes_of(text: str) -> float:
    """Minutes of "30m", "2h", "90s".

    Examples
    --------
    >>> minutes_of("30m"), minutes_of("1.5h"), minutes_of("90s")
    (30.0, 90.0, 1.5)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or not float(match[1]) > 0:
        raise ValueError(f"--budget: must be a time such as 30m, 2h or 90s, got {text!r}")
    return float(match[1]) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[match[2]]


def seconds_of(path: Path, folder_fps: float | None) -> float:
    """How long a video lasts by its header, or a folder of frames at its rate; 0 where neither says."""
    if path.is_dir():
        return len(FrameFolder(path)) / folder_fps if folder_fps else 0.0
    return PyAV(path).duration()


def measured(
    network: SnippetNetwork | None, sampling: Sampling, masks: Classifier | None, video: Path, side: int
) -> Costs:
    """A calibration of a few seconds: one batch of the network of clips, one look of the image classifier."""
    snippet = mask = decoding = 0.0
    if network is not None:
        given = network.classifier
        crop = given.crop or given.short_side
        shape = (4, 3, sampling.window, crop, crop) if given.frames else (4, 3, crop, crop)
        network(torch.zeros(shape))
        start = time.perf_counter()
        network(torch.zeros(shape))
        snippet = (time.perf_counter() - start) / 4
    if masks is not None:
        frames = torch.zeros((1, side, side * 16 // 9, 3), dtype=torch.uint8)
        with torch.inference_mode():
            masks.model(masks.prepare(frames, side).to(next(masks.model.parameters()).device))
            start = time.perf_counter()
            masks.model(masks.prepare(frames, side).to(next(masks.model.parameters()).device))
        mask = 2.5 * (time.perf_counter() - start)  # the gradient and superpixels take as long again
    if not video.is_dir():
        start, shown = time.perf_counter(), 0.0
        for one in PyAV(video).timed():
            shown = one.time + one.lasts
            if time.perf_counter() - start > 1.0:
                break
        decoding = (time.perf_counter() - start) / max(shown, 0.1)
    return Costs(snippet, mask, decoding)


def estimate(seconds: Sequence[float], choices: Choices, costs: Costs, routes: Sequence[Route]) -> dict[str, Any]:
    """Snippets, mask frames, minutes by stage, and megabytes."""
    kinds = {route.kind for route in routes}
    actions = bool(kinds & {"action", "known action"})
    snippets = sum(max(1, int(np.ceil(one * choices.sampling.rate))) for one in seconds) if actions else 0
    frames = choices.mask_frames * len(seconds) if "object" in kinds else 0
    minutes = {
        "features": (max(snippets * costs.snippet, sum(seconds) * costs.decoding) if actions else 0) / 60,
        "segments": (choices.epochs * len(seconds) * 0.02 if "action" in kinds else 0) / 60,
        "masks": frames * costs.mask / 60,
    }
    return {
        "snippets": snippets,
        "mask_frames": frames,
        "minutes": {stage: round(value, 2) for stage, value in minutes.items()},
        "total_minutes": round(sum(minutes.values()), 2),
        "megabytes": round(snippets * 6e-3 + frames * 0.1, 1),
    }


def fitted(budget: float, seconds: Sequence[float], choices: Choices, costs: Costs, routes: Sequence[Route]) -> Choices:
    """Coarser choices until the estimate fits into the minutes: wider strides, fewer frames, fewer epochs.

    Raises
    ------
    ValueError : nothing fits
    """
    for _ in range(12):
        if estimate(seconds, choices, costs, routes)["total_minutes"] <= budget:
            return choices
        sampling = replace(choices.sampling, stride=min(choices.sampling.stride * 2, 8 * choices.sampling.window))
        choices = Choices(sampling, max(1, choices.mask_frames // 2), max(5, choices.epochs // 2))
    least = estimate(seconds, choices, costs, routes)["total_minutes"]
    raise ValueError(f"--budget: {budget:g} minutes are too few, {least:g} are needed at least")


def plan_document(
    videos: Sequence[Path], seconds: Sequence[float], choices: Choices, costs: Costs, routes: Sequence[Route],
    networks: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """The plan as one document."""
    return {
        "videos": len(videos),
        "hours": round(sum(seconds) / 3600, 4),
        "networks": dict(networks),
        "tags": [{**asdict(route), "classes": list(route.classes), "warning": route.warning()} for route in routes],
        "sampling": asdict(choices.sampling),
        "mask_frames_a_video": choices.mask_frames,
        "epochs": choices.epochs,
        **estimate(seconds, choices, costs, routes),
    }
