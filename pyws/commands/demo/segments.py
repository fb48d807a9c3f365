"""The demo's second half: segments of actions in synthetic streams (GauFuse), measured against the true ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pyws import ops
from pyws.checkpoint import write_checkpoint
from pyws.commands.demo.config import DemoConfig
from pyws.commands.demo.train import as_input
from pyws.data.annotations.activitynet import Instances, Truth, write_detections, write_truth
from pyws.data.synthetic.clips import ACTIONS, ACTORS, Stream, make_stream
from pyws.evaluation import detection_map
from pyws.models.video_networks.small3d import Small3D
from pyws.progress import track
from pyws.segments import PostprocessConfig, fuse_detections, label_videos

CLASSES = ACTIONS[:-1]  # rest is the background
TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "nms": {"iou_threshold": 0.5},
    "soft-nms": {"sigma": 0.3},
    "gaussian": {"iou_threshold": 0.25, "temperature": 0.1},
}


def find_segments(
    model: Small3D, config: DemoConfig, seed: int, out: Path, device: torch.device, quiet: bool
) -> dict[str, Any]:
    """Draw streams, find their segments four ways, label their snippets; write everything and return the scores."""
    streams, maps = [], []
    for index in track(range(config.streams), "segments in synthetic streams", quiet=quiet):
        stream = make_stream(seed, index, config.stream_seconds, config.scene)
        maps.append(_activation_map(model, as_input(stream.frames[None], device), config.smoothing).cpu())
        streams.append(stream)
    truth = _truth(streams)
    write_truth(out / "streams" / "truth.json", truth)
    seconds = streams[0].duration / len(maps[0])  # seconds of a snippet
    found, scores = {}, {}
    proposals = _proposals(maps, truth, config, seconds)
    for method, options in METHODS.items():
        found[method] = fuse_detections(proposals, PostprocessConfig(method, **options), 1 / seconds)
        made_by = {"tool": "pyws demo", "data": "synthetic", "method": method, **options}
        write_detections(out / "segments" / f"{method}.json", found[method], made_by)
        scores[method] = detection_map(found[method], truth, protocol="activitynet", tious=TIOUS, subset="test")
    labels = label_videos(
        proposals, truth, CLASSES, PostprocessConfig(**METHODS["gaussian"]), rows="mean", only_tags=True,
        snippets_per_second=1 / seconds,
    )  # training videos have tags; rows as preset pyws has them  # fmt: skip
    pseudo = [one.labels for one in labels]
    by_video = {"tcam": dict(zip(truth.instances.videos, maps, strict=True))}
    by_video["labels"] = {one.video: one.labels for one in labels}
    for name, curves in by_video.items():
        write_checkpoint(out / "segments" / f"{name}.safetensors", f"pyws demo {name}", curves)
    inside = [_inside(stream, len(one), seconds) for stream, one in zip(streams, maps, strict=True)]
    return {
        "streams": len(streams),
        "instances": len(truth.instances),
        "seconds_per_snippet": seconds,
        "tious": list(TIOUS),
        "segments": {method: len(rows) for method, rows in found.items()},
        "map": {method: [round(float(value), 6) for value in score.map] for method, score in scores.items()},
        "average_map": {method: round(float(score.average), 6) for method, score in scores.items()},
        "mass_inside_truth": {"tcam": _share(maps, inside), "pseudo_labels": _share(pseudo, inside)},
        "linpro_relaxed": sum(one.statuses["relaxed"] for one in labels),
    }


@torch.inference_mode()
def _activation_map(model: Small3D, stream: Tensor, smoothing: int) -> Tensor:
    """The classifier slid over a stream (1, 3, T, H, W): (snippets, actions without rest), probabilities.

    The head reads the mean of ``smoothing`` snippets, as it read the mean of a whole clip in training.
    """
    features = model.activations(stream).mean((3, 4))
    features = functional.avg_pool1d(features, smoothing, 1, smoothing // 2, count_include_pad=False)
    logits = model.head(features[0].T)[:, len(ACTORS) :]
    return logits.softmax(1)[:, : len(CLASSES)].double()


def _proposals(maps: list[Tensor], truth: Truth, config: DemoConfig, seconds: float) -> Instances:
    """Runs of activation above each threshold, of the classes that a stream's best eighth of snippets speaks for."""
    tcam = torch.cat(maps)
    offsets = torch.tensor([0, *(len(one) for one in maps)]).cumsum(0)
    scores = torch.stack([one.topk(max(len(one) // 8, 1), 0).values.mean(0) for one in maps])
    wanted = scores >= config.class_threshold
    segments = ops.propose_segments(tcam, offsets, config.thresholds, scoring="paper", wanted=wanted)
    group = torch.arange(segments.groups).repeat_interleave(segments.offsets.diff()).numpy()
    start, end = segments.start.numpy() * seconds, segments.end.numpy() * seconds
    video, label = group // len(CLASSES), group % len(CLASSES)
    return Instances(truth.instances.videos, CLASSES, video, label, start, end, segments.score.numpy())


def _truth(streams: list[Stream]) -> Truth:
    rows = [(v, CLASSES.index(a), s, e) for v, stream in enumerate(streams) for s, e, a in stream.segments]
    video, label, start, end = (np.array(column) for column in zip(*rows, strict=True))
    return Truth(
        instances=Instances(tuple(one.name for one in streams), CLASSES, video, label, start, end, np.ones(len(rows))),
        subset=("test",) * len(streams),
        duration=np.array([stream.duration for stream in streams]),
        tags=tuple(tuple(sorted({action for _, _, action in stream.segments})) for stream in streams),
    )


def _inside(stream: Stream, snippets: int, seconds: float) -> Tensor:
    """(snippets, classes) bool: the middle of the snippet lies in an instance of the class."""
    middle = (torch.arange(snippets) + 0.5) * seconds
    inside = torch.zeros(snippets, len(CLASSES), dtype=torch.bool)
    for start, end, action in stream.segments:
        inside[:, CLASSES.index(action)] |= (middle >= start) & (middle < end)
    return inside


def _share(values: list[Tensor], inside: list[Tensor]) -> float:
    """How much of the mass lies where the truth is."""
    mass, where = torch.cat(values).double(), torch.cat(inside)
    return round(float(mass[where].sum() / mass.sum().clamp_min(1e-12)), 6)
