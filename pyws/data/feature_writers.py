"""Data sets of features written whole: in a folder beside the target, which takes the target's name at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyws.data.feature_files import SUFFIXES, stored_file, write_features
from pyws.data.feature_layouts import checked_name
from pyws.data.temporal import read_truth, write_truth
from pyws.errors import DataError
from pyws.files import read_json, write_json

_ORIGIN = "origin.json"  # in a folder that is not whole yet: where its contents come from


@dataclass(frozen=True)
class FeatureVideo:
    """One video to write: its record in ActivityNet form, the shape of its features, and how to get them."""

    name: str
    record: Mapping[str, Any]
    shape: tuple[int, int]
    read: Callable[[], np.ndarray]


def write_native(
    folder: str | os.PathLike[str],
    videos: Iterable[FeatureVideo],
    about: Mapping[str, Any],
    origin: Mapping[str, Any],
    ambiguous: Mapping[str, Any] | None = None,
    suffix: str = ".npy",
) -> dict[str, Any]:
    """Write a data set in the native layout (:mod:`pyws.data.feature_layouts`).

    It grows in ``FOLDER.partial``; interrupted, the next call with the same ``origin`` goes on there, and takes a
    file that has the right shape as it is.

    Parameters
    ----------
    folder : new or empty
    videos : in the order in which the data set will list them
    about : what ``dataset.json`` says
    origin : where the contents come from
    ambiguous : stretches that no score should count, by video
    suffix : of the feature files, ``.npy`` or ``.safetensors``

    Returns
    -------
    The counts of :meth:`pyws.data.temporal.Truth.counts`, and how many feature files were there before.

    Raises
    ------
    DataError : the folder is not empty, ``FOLDER.partial`` is of something else, a bad record or name
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"write_native: suffix must be one of {', '.join(SUFFIXES)}, got {suffix!r}")
    target = Path(folder)
    partial = _begin(target, dict(origin))
    database: dict[str, Any] = {}
    resumed = 0
    for video in videos:
        path = partial / "features" / (checked_name(folder, video.name) + suffix)
        if _is_whole(path, video.shape):
            resumed += 1
        else:
            write_features(path, video.read())
        database[video.name] = video.record
    truth = read_truth({"database": database, "ambiguous": ambiguous or {}})
    write_truth(partial / "truth.json", truth)
    write_json(partial / "dataset.json", dict(about))
    (partial / _ORIGIN).unlink()
    os.replace(partial, target)
    return {**truth.counts(), "resumed": resumed}


def _begin(target: Path, origin: dict[str, Any]) -> Path:
    """The folder to work in: one left by an interrupted run with the same origin, or a new one."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(target, "must be a new or empty folder")
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists():
        if not (partial / _ORIGIN).exists():
            raise DataError(partial, f"is not left from writing {target.name}; remove it or choose another name")
        if read_json(partial / _ORIGIN) != origin:
            shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(partial / _ORIGIN, origin)
    return partial


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    try:
        return path.exists() and stored_file(path).shape() == shape
    except DataError:
        return False
