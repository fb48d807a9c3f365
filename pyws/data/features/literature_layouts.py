"""The layouts of features that the literature shares, as listings.

``wtalc``, of W-TALC and what builds on it (RSKP, FAC-Net, GauFuse)::

    *Features.npy                 pickled list of arrays (snippets, width), in the order of videoname.npy
    videoname.npy, labels_all.npy, ..., Ambiguous_test.txt    here or in a folder *Annotations*

``split``, of ACM-Net, ASM-Loc, CoLA, WUM, HR-Pro::

    gt.json (or gt_full.json)     ActivityNet form; numbers may be strings
    split_train.txt, split_test.txt    names; without them the subsets are those of gt.json
    train/VIDEO.npy, test/VIDEO.npy    here or in features/; or train/rgb/ and train/flow/, which are joined
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pyws.data.annotations.activitynet import wtalc_document
from pyws.data.annotations.other_forms import read_annotations
from pyws.data.annotations.pickle_index import index_npy
from pyws.data.annotations.safe_pickle import load_npy
from pyws.data.features.files import NpyFile, stored_in
from pyws.data.features.listing import SNIPPETS_PER_SECOND, Listing, annotated, read_about, safe_truth
from pyws.data.features.streams import Stored
from pyws.data.problem import Problem
from pyws.errors import DataError
from pyws.files import check_bytes, read_text

_UNT_SNIPPETS_PER_SECOND = 10 / 4  # UntrimmedNet features: 10 frames a second, 4 frames a snippet
_SPLITS = ("train", "test")


def is_wtalc(folder: Path) -> bool:
    """Whether a folder has the layout ``wtalc``."""
    return _annotations(folder) is not None and bool(list(folder.glob("*Features.npy")))


def list_wtalc(folder: Path) -> Listing:
    """The listing of a folder in the layout ``wtalc``; the pickle is read by the restricted interpreter.

    Raises
    ------
    DataError : two files of features, or one that does not fit the list of videos or is not safe
    """
    where = _annotations(folder) or folder
    document = wtalc_document(where)
    files = sorted(folder.glob("*Features.npy"))
    if len(files) != 1:
        raise DataError(folder, f"must hold one file *Features.npy, got {', '.join(path.name for path in files)}")
    arrays = _arrays(files[0])
    videos = list(document["database"])
    if len(arrays) != len(videos):
        raise DataError(files[0], f"must have one array for each of {len(videos)} videos, got {len(arrays)}")
    truth, problems = safe_truth(where, document)
    classes = None
    if (where / "classlist.npy").exists():
        listed = load_npy(where / "classlist.npy", limit_mib=64).tolist()
        classes = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in listed)
    rate = _UNT_SNIPPETS_PER_SECOND if "UNT" in files[0].name else SNIPPETS_PER_SECOND
    stored = dict(zip(videos, arrays, strict=True))
    about = {"classes": classes, "snippets_per_second": rate, **read_about(folder)}
    return annotated(folder, "wtalc", truth, stored, problems, **about)


def is_split(folder: Path) -> bool:
    """Whether a folder has the layout ``split``."""
    return _gt_json(folder) is not None and any(_split_folders(folder))


def list_split(folder: Path) -> Listing:
    """The listing of a folder in the layout ``split``; what the two lists do not name is left out."""
    path = _gt_json(folder) or folder
    document = read_annotations(path)
    stored: dict[str, Stored] = {}
    for place in _split_folders(folder):
        stored |= stored_in(place)
    lists = {split: folder / f"split_{split}.txt" for split in _SPLITS}
    missing: list[Problem] = []
    if any(listed.exists() for listed in lists.values()) and isinstance(document.get("database"), Mapping):
        database = {}
        for split, listed in lists.items():
            names = read_text(listed).split() if listed.exists() else []
            for video in dict.fromkeys(names):
                record = document["database"].get(video)
                if record is None:
                    missing.append(Problem(video, f"is in {listed.name}, must have a record in {path.name}"))
                else:
                    database[video] = {**record, "subset": split} if isinstance(record, Mapping) else record
        document = {"database": database, "ambiguous": document.get("ambiguous", {})}
    truth, problems = safe_truth(path, document)
    listing = annotated(folder, "split", truth, stored, (*missing, *problems), **read_about(folder))
    return replace(listing, annotations=path)


@dataclass(frozen=True)
class ArrayRow:
    """One video of an array (videos, snippets, width), which ``.npy`` files of equally long videos hold."""

    path: Path
    index: int

    def shape(self) -> tuple[int, ...]:
        shape, dtype = NpyFile(self.path).whole()
        check_bytes(self.path, math.prod(shape[1:]) * dtype.itemsize)
        return shape[1:]

    def read(self) -> np.ndarray:
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[self.index])


def _annotations(folder: Path) -> Path | None:
    """The folder of videoname.npy."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and "Annotations" in path.name)]
    return next((place for place in places if (place / "videoname.npy").exists()), None)


def _arrays(path: Path) -> list[Stored]:
    shape, dtype, _ = NpyFile(path).header()
    if dtype.hasobject:
        return list(index_npy(path))
    if len(shape) != 3:
        raise DataError(path, f"must hold a list of arrays or one array (videos, snippets, width), got {shape}")
    return [ArrayRow(path, index) for index in range(shape[0])]


def _gt_json(folder: Path) -> Path | None:
    return next((folder / name for name in ("gt.json", "gt_full.json") if (folder / name).exists()), None)


def _split_folders(folder: Path) -> Iterator[Path]:
    for parent in (folder, folder / "features"):
        for split in _SPLITS:
            if (parent / split).is_dir():
                yield parent / split
