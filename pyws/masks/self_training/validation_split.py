"""The frames that self-training holds out to score its epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from pyws.errors import DataError
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.masks.self_training.stopping import LoopConfig
from pyws.seeds import seed_of


def split(data: Annotations, loop: LoopConfig, seed: int) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on and to score on.

    Whole videos are held out: those of the data set's own subset "val", or else some that the seed draws such that
    every tag keeps a video to train on.

    Raises
    ------
    DataError : no video, or no frame, can be spared
    """
    if loop.validation == "frames":
        held_out = _every_so_many(data.frames, loop.validation_share)
    else:
        own = {frame for frame in data.frames if data.subsets[frame.video] == "val"}
        held_out = own or _whole_videos(data, loop.validation_share, seed)
    if not held_out or len(held_out) == len(data.frames):
        raise DataError(data.folder, f"has no {loop.validation} to spare for scoring; use --validation frames")
    return tuple(frame for frame in data.frames if frame not in held_out), tuple(
        frame for frame in data.frames if frame in held_out
    )


def _every_so_many(frames: Sequence[Frame], share: float) -> set[Frame]:
    """Frames spread evenly over each video."""
    found = set()
    for _, group in groupby(frames, key=lambda frame: frame.video):
        several = list(group)
        count = round(share * len(several)) or int(len(several) > 1)
        found |= {several[int((k + 0.5) * len(several) / count)] for k in range(count)}
    return found


def _whole_videos(data: Annotations, share: float, seed: int) -> set[Frame]:
    names = sorted(data.tags)
    wanted = max(1, round(share * len(names)))
    left = Counter(tag for name in names for tag in data.tags[name])
    chosen: set[str] = set()
    for index in np.random.default_rng(seed_of(seed, "validation")).permutation(len(names)):
        tags = data.tags[names[index]]
        if len(chosen) < wanted and all(left[tag] > 1 for tag in tags):
            chosen.add(names[index])
            left.subtract(tags)
    return {frame for frame in data.frames if frame.video in chosen}
