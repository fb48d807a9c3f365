"""RSKP as published loops train it: a video a forward pass, features read anew, the random walk by a dense inverse.

python benchmarks/jobs/segments_loop.py DATA SUBSET EPOCHS

Starts from the weights of seed 0, with the noise and the order of pyws, so that the mean losses of the epochs, which it
prints as JSON, are those of ``pyws segments train --preset baseline`` but for rounding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "segments"))
from rskp_dense import loss

from pyws.data.features.dataset import open_features
from pyws.models import RSKP
from pyws.segments.backbones import build_backbone
from pyws.segments.training.batches import noise_seeds, steps


def main(data: str, subset: str, epochs: int) -> None:
    videos = open_features(data, subset)
    built = build_backbone("rskp", videos.width, videos.classes)
    model, settings = built.model, built.optim
    assert isinstance(model, RSKP)
    adam = torch.optim.Adam(model.parameters(), settings.lr, settings.betas, weight_decay=settings.weight_decay)
    means = []
    for epoch in range(epochs):
        total = 0.0
        for order in steps(0, epoch, len(videos), settings.batch):
            adam.zero_grad()
            for video in order.tolist():
                features, tags = torch.from_numpy(videos.features(video)), torch.from_numpy(videos.tags[video])
                each = loss(model, features, tags, epoch, int(noise_seeds(0, epoch, [video])))
                each.backward()
                total += float(each.detach())
            adam.step()
        means.append(total / len(videos))
    print(json.dumps({"loss": means}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
