"""AVA's key frames as short videos with tags: what a classifier of ten actions learns from (WS^2 section 5.4).

::

    videos/<video>.mp4   or   videos/<video>/<frame>.jpg     30 frames a second from second 900 on
    ava_train_v2.2.csv, ava_val_v2.2.csv                     as published; boxes are not read
    ava_train_excluded_timestamps_v2.2.csv                   key frames that do not count, and so for val
"""

from __future__ import annotations

import warnings
from pathlib import Path

from pyws.data.annotations.ava import AVA10, FRAMES_PER_SECOND, KeyFrame, read_ava
from pyws.data.tagged.dataset import Masks, MaskSet, TaggedVideo, Tags
from pyws.data.tagged.label_space import actor_actions
from pyws.data.tagged.own_videos import video_sources
from pyws.errors import DataError

SUBSETS = ("train", "val")
ACTOR = "person"
AROUND = 3 * FRAMES_PER_SECOND // 2  # frames on each side of a key frame: three seconds, as AVA's annotators saw


def fits(root: Path) -> bool:
    """Whether the folder has ``videos/`` and a list of AVA."""
    return (root / "videos").is_dir() and any(_list_of(root, subset) for subset in SUBSETS)


def read(root: Path, tags: Tags = "all") -> MaskSet:
    """Each key frame that shows any of the ten actions, with three seconds around it; ``tags="main"`` keeps one action.

    Raises
    ------
    DataError : a list that cannot be read, or none of its videos is there
    """
    space = actor_actions([(ACTOR, name) for name in AVA10.values()])
    of_action = {number: space.id_of(ACTOR, name) for number, name in AVA10.items()}
    sources = video_sources(root / "videos")
    videos = []
    for subset in SUBSETS:
        path = _list_of(root, subset)
        if path is None:
            continue
        keys = read_ava(path, _list_of(root, f"{subset}_excluded_timestamps"), set(AVA10))
        missing = {key.video for key in keys} - set(sources)
        if missing:
            several = f"{len(missing)} of {len({key.video for key in keys})} videos, {min(missing)} among them"
            warnings.warn(f"{path}: {several}, are not in {root / 'videos'}; they are left out", stacklevel=2)
        for key in keys:
            if key.video in sources:
                shown = tuple(of_action[number] for number in AVA10 if number in key.actions)
                videos.append(_around(key, sources[key.video], shown[: 1 if tags == "main" else None], subset))
    if not videos:
        raise DataError(root, "has no video with a key frame of the ten actions")
    return MaskSet("ava", root, space, tuple(videos), _no_masks)


def _around(key: KeyFrame, source: Path, tags: tuple[int, ...], subset: str) -> TaggedVideo:
    span = (max(key.frame - AROUND, 0), key.frame + AROUND)
    return TaggedVideo(f"{key.video}_{key.second:04d}", source, tags, subset, span=span)


def _list_of(root: Path, name: str) -> Path | None:
    """The latest version of one of AVA's lists."""
    return max(root.glob(f"ava_{name}_v*.csv"), default=None)


def _no_masks(path: Path, video: TaggedVideo) -> Masks:
    raise DataError(path, "AVA has boxes, no masks")
