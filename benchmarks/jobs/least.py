"""What a job cannot cost less than: its network's passes alone, on inputs that are ready, in the best form of torch.

    python benchmarks/jobs/least.py images PRECISION SHORT_SIDE WEIGHTS FRAMES...
    python benchmarks/jobs/least.py backbone NAME DATA SUBSET

Prints the processor seconds of the passes as JSON. Each convolution, with its batch norm and activation, is one call
of oneDNN, images lie channels last, wide float32 products are oneDNN's, nothing is kept for a backward pass that is not
made, and memory is not given back to the system. ``torch.compile`` was not tried.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from pyws.cli import _keep_freed_memory
from pyws.data.features.dataset import open_features
from pyws.data.video.frames import open_frames
from pyws.models.backbones.linear import linear
from pyws.models.classifiers import load_classifier

BATCH = 8
DENSE = {"rskp": (1, 0), "stpn": (1, 0), "facnet": (1, 1), "wum": (3, 0)}
"""Products of all snippets with a square matrix: in layers that read the features, and in layers behind others."""


@torch.inference_mode()
def images(precision: str, short_side: int, weights: str, folders: list[str]) -> float:
    """Every frame of some videos once, batches of eight."""
    classifier = load_classifier("efficientnet-lite0", weights)
    model, seconds = classifier.for_inference().model, 0.0
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for folder in folders:
            frames = open_frames(folder)
            for start in range(0, len(frames), BATCH):
                chosen = range(start, min(start + BATCH, len(frames)))
                shown = torch.stack([torch.tensor(picture) for picture in frames.read(chosen)])
                ready = classifier.prepare(shown, short_side).contiguous(memory_format=torch.channels_last)
                began = time.process_time()
                model(ready)
                seconds += time.process_time() - began
    return seconds


def backbone(name: str, data: str, subset: str) -> float:
    """An epoch of the products of a backbone's widest layers, forward and backward, without padding."""
    videos = open_features(data, subset)
    first, later = DENSE[name]
    weight, rows = torch.rand(videos.width, videos.width), torch.rand(16384, videos.width)
    gradient, left = torch.rand_like(rows), int(videos.lengths.sum())
    began = time.process_time()
    while left > 0:
        x, g = rows[:left], gradient[:left]
        for _ in range(first + later):
            _product(x, weight), _product(g.T, x.T)
        for _ in range(later):
            _product(g, weight.T)
        left -= len(rows)
    return time.process_time() - began


def _product(a: Tensor, b: Tensor) -> Tensor:
    return linear(a, b)


if __name__ == "__main__":
    _keep_freed_memory()
    kind, *rest = sys.argv[1:]
    if kind == "images":
        result = images(rest[0], int(rest[1]), rest[2], rest[3:])
    elif kind == "backbone":
        result = backbone(*rest)
    else:
        sys.exit(f"least.py: images or backbone, got {Path(kind).name}")
    print(json.dumps({"cpu": result}))
