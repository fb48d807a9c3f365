"""Masks that people corrected, in the folder of the pseudo-annotations that they replace.

::

    corrections/corrections.json             {"format": "pyws corrected masks", "version": 1, "videos": {VIDEO:
                                             {"from": FILE, "frames": {FRAME: [ids in the mask]}}}}
    corrections/<video>/<frame>.png          palette PNG of the folder's ids; 255 where nothing is known
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyws.data.tagged.label_space import IGNORE, shown_ids
from pyws.data.video.frames import Pixels, write_mask
from pyws.errors import DataError
from pyws.files import read_json, write_json

FOLDER = "corrections"
_FORMAT = {"format": "pyws corrected masks", "version": 1}

FrameIds = dict[tuple[str, str], tuple[int, ...]]
"""(video, frame): the ids in its corrected mask."""


def corrected_frames(folder: Path) -> FrameIds:
    """The frames of a folder of pseudo-annotations whose masks people corrected; empty where none are.

    Raises
    ------
    DataError : corrections that pyws import did not write
    """
    path = folder / FOLDER / "corrections.json"
    if not path.is_file():
        return {}
    videos = _videos(path)
    return {(video, frame): tuple(ids) for video, one in videos.items() for frame, ids in one["frames"].items()}


def mask_file(folder: Path, video: str, frame: str) -> Path:
    """Where the corrected mask of a frame lies."""
    return folder / FOLDER / video / f"{frame}.png"


def write_corrected(folder: Path, masks: Iterable[tuple[str, str, Pixels]], source: str) -> int:
    """Write corrected masks; masks of other frames stay. Returns how many were written.

    Parameters
    ----------
    folder : folder of the pseudo-annotations
    masks : (video, frame, (H, W) uint8 ids)
    source : the file that they are from

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_corrected(folder, [("dog", "00003", np.array([[0, 2]], np.uint8))], "review.json")
    1
    >>> corrected_frames(folder)
    {('dog', '00003'): (2,)}
    """
    path = folder / FOLDER / "corrections.json"
    videos: dict[str, Any] = _videos(path) if path.is_file() else {}
    count = 0
    for video, frame, mask in masks:
        write_mask(mask_file(folder, video, frame), mask)
        entry = videos.setdefault(video, {"frames": {}})
        entry["from"] = source
        entry["frames"][frame] = shown_ids(mask)
        count += 1
    write_json(path, {**_FORMAT, "videos": videos})
    return count


def _videos(path: Path) -> dict[str, Any]:
    document = read_json(path)
    fits = isinstance(document, dict) and _FORMAT.items() <= document.items()
    videos = document.get("videos") if fits else None
    if not isinstance(videos, Mapping) or not all(_is_entry(one) for one in videos.values()):
        raise DataError(path, "must be corrections that pyws import wrote")
    return dict(videos)


def _is_entry(one: Any) -> bool:
    frames = one.get("frames") if isinstance(one, dict) else None
    return isinstance(frames, dict) and all(
        isinstance(ids, list) and all(type(number) is int and 0 < number < IGNORE for number in ids)
        for ids in frames.values()
    )
