"""The frames that self-training holds out to score its epochs."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import groupby

import numpy as np

from pyws.data.video.frames import evenly
from pyws.errors import DataError
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.masks.self_training.stopping import LoopConfig
from pyws.seeds import seed_of


def split(data: Annotations, loop: LoopConfig, seed: int) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on and to score on.

    Whole videos are held out: those of the data set's own subset "val", or else some that the seed draws such that
    every tag keeps a video to train on. Where no video can be spared, frames of each are, with a warning. Frames that
    people corrected are trained on, but for those of "val".

    Raises
    ------
    DataError : no frame can be spared
    """
    if loop.validation == "frames":
        held_out = _every_so_many(data, loop.validation_share)
    else:
        own = {frame for frame in data.frames if data.subsets[frame.video] == "val"}
        held_out = own or _whole_videos(data, loop.validation_share, seed)
        if not held_out:
            warnings.warn(
                f"{data.folder}: no video can be spared for scoring, every tag needs its own; frames of each video are"
                " held out instead, as --validation frames does",
                stacklevel=2,
            )
            held_out = _every_so_many(data, loop.validation_share)
    if not held_out or len(held_out) == len(data.frames):
        raise DataError(data.folder, "has no frames to spare for scoring: each video must have two or more masks")
    return tuple(frame for frame in data.frames if frame not in held_out), tuple(
        frame for frame in data.frames if frame in held_out
    )


def _every_so_many(data: Annotations, share: float) -> set[Frame]:
    """Frames spread evenly over each video."""
    found = set()
    frames = (frame for frame in data.frames if frame not in data.corrected)
    for _, group in groupby(frames, key=lambda frame: frame.video):
        several = list(group)
        count = round(share * len(several)) or int(len(several) > 1)
        found |= {several[place] for place in evenly(len(several), count)}
    return found


def _whole_videos(data: Annotations, share: float, seed: int) -> set[Frame]:
    names = sorted(data.tags)
    wanted = max(1, round(share * len(names)))
    left = Counter(tag for name in names for tag in data.tags[name])
    chosen: set[str] = set()
    corrected = {frame.video for frame in data.corrected}
    for index in np.random.default_rng(seed_of(seed, "validation")).permutation(len(names)):
        tags = data.tags[names[index]]
        if len(chosen) < wanted and names[index] not in corrected and all(left[tag] > 1 for tag in tags):
            chosen.add(names[index])
            left.subtract(tags)
    return {frame for frame in data.frames if frame.video in chosen}
