"""Corrected masks in a folder of palette PNG, as DAVIS has them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.frames import in_order, read_mask
from pyws.errors import DataError
from pyws.exchange.readers.review import Regions, Reviews, frame_of
from pyws.files import files_within, read_json


def read_palette_folder(path: Path) -> Reviews:
    """``VIDEO/FRAME.png`` at any depth, or below ``Annotations`` where there is such a folder.

    ``objects.json`` says what the ids of each video are; without that file, the masks have the ids of the
    masks that they correct.

    Raises
    ------
    DataError : no such pictures, or ``objects.json`` is none
    """
    within = path / "Annotations" if (path / "Annotations").is_dir() else path
    files = in_order(file for file in files_within(within) if file.suffix == ".png")
    if not files:
        raise DataError(path, "must hold palette PNG, VIDEO/FRAME.png, found none")
    named = read_json(path / "objects.json") if (path / "objects.json").is_file() else {}
    if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
        raise DataError(path / "objects.json", "must be an object of videos with the names of their objects")
    reviews = Reviews()
    for file in files:
        video, frame = frame_of(str(file))
        reviews[video].masks[frame] = partial(_regions, file, named.get(video))
    return reviews


def _regions(file: Path, named: dict[str, str] | None) -> Regions:
    ids = read_mask(file)
    found: Regions = []
    for one in np.unique(ids[ids > 0]).tolist():
        label: str | int = one
        if named is not None and one != IGNORE:
            if str(one) not in named:
                raise DataError(file, f"objects.json must name object {one}")
            label = str(named[str(one)])
        found.append((label, ids == one))
    return found
