"""Data sets of tagged videos, some with true masks: A2D, YouTube-Objects, AVA, and one's own folder.

``open_mask_set`` finds out which layout a folder has and gives a :class:`MaskSet`; nothing is copied or converted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pyws.data.tagged import a2d, ava_clips, own_videos, youtube_objects
from pyws.data.tagged.dataset import MaskSet, Tags, with_validation
from pyws.errors import DataError

Layout = Literal["auto", "a2d", "youtube-objects", "ava", "plain"]
READERS: dict[str, Any] = {"a2d": a2d, "ava": ava_clips, "plain": own_videos, "youtube-objects": youtube_objects}


def open_mask_set(
    root: str | os.PathLike[str], layout: Layout = "auto", tags: Tags = "all", validation: int = 0, seed: int = 0
) -> MaskSet:
    """Open a data set of tagged videos.

    Parameters
    ----------
    root : its folder. A2D: holds Release/videoset.csv (or is Release); YouTube-Objects: holds <class>/data;
        AVA: videos/ and ava_train_v*.csv; plain: videos/ and tags.csv
    layout : which of them, or "auto" to find out
    tags : tags of A2D: "main" takes the label of videoset.csv alone, "all" adds the labels of the annotated frames
    validation : videos of "train" to set aside as "val" where the data set does not say which, by a draw that keeps
        the shares of the tags
    seed : seed of that draw

    Raises
    ------
    DataError : none of the layouts, or something in it is not as it must be; the file is named
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(root, "must be the folder of a data set, found none")
    fitting = [name for name in READERS if layout in ("auto", name) and (layout != "auto" or READERS[name].fits(root))]
    if not fitting:
        wanted = "Release/videoset.csv (A2D), <class>/data (YouTube-Objects), or videos/ and tags.csv or AVA's lists"
        raise DataError(root, f"is no data set that is known: it must hold {wanted}")
    found = READERS[fitting[0]].read(root, tags)
    if validation and not any(video.subset == "val" for video in found.videos):
        found = with_validation(found, validation, seed)
    return found


def is_mask_set(root: str | os.PathLike[str]) -> bool:
    """Whether a folder has one of the layouts that :func:`open_mask_set` knows."""
    return Path(root).is_dir() and any(module.fits(Path(root)) for module in READERS.values())
