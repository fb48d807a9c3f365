"""Data sets of features written whole: in a folder beside the target, which takes the target's name at the end."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyws.data.annotations.activitynet import Truth, read_truth, truth_document, write_truth
from pyws.data.annotations.corrections import CORRECTIONS, Corrected, write_corrections
from pyws.data.csv_table import write_table
from pyws.data.features.dataset import FeatureSet, open_features
from pyws.data.features.files import SUFFIXES, has_times, stored_file, with_times, write_features, write_snippets
from pyws.data.features.layouts import list_features
from pyws.data.features.listing import Listing, checked_name
from pyws.data.features.packs import PackedVideo, pack_videos, packed_in
from pyws.data.problem import Problem
from pyws.errors import DataError
from pyws.files import atomic_write, read_json, write_json, write_lines
from pyws.folders import Writer, clear_folder, is_empty, is_held, only_writer
from pyws.progress import track
from pyws.run_manifest import HASHES, ORIGIN, seal_whole


@dataclass(frozen=True)
class FeatureVideo:
    """One video to write: its record in ActivityNet form, the shape of its features, and how to get them.

    ``beside`` gives what :func:`pyws.data.features.files.with_times` does of a video that has times of its own.
    """

    name: str
    record: Mapping[str, Any]
    shape: tuple[int, int]
    read: Callable[[], np.ndarray]
    beside: Callable[[], tuple[dict[str, np.ndarray], dict[str, Any]]] | None = None


def write_data_set(
    folder: str | os.PathLike[str],
    videos: Iterable[FeatureVideo],
    about: Mapping[str, Any],
    origin: Mapping[str, Any],
    ambiguous: Mapping[str, Any] | None = None,
    suffix: str = ".npy",
    layout: str = "native",
    videos_per_file: int | None = None,
    tags_alone: bool = False,
    corrections: Mapping[str, Corrected] | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Write a data set in the native layout (:mod:`pyws.data.features.layouts`), or in one of the literature.

    It grows in ``FOLDER.partial``; interrupted, the next call with the same ``origin`` goes on there, and takes a
    file that has the right shape as it is.

    Parameters
    ----------
    folder : new or empty
    videos : in the order in which the data set will list them
    about : what ``dataset.json`` says
    origin : where the contents come from
    ambiguous : stretches that no score should count, by video
    suffix : suffix of the feature files, ``.npy`` or ``.safetensors``
    layout : "native", or "wtalc" or "split" of :mod:`pyws.data.features.literature_layouts` (as
        ``.npy``; for "wtalc" all features are in memory once, for "split" the subset "test" is one and all
        others are "train")
    videos_per_file : for the native layout as ``.safetensors``: packs of so many videos
        (:mod:`pyws.data.features.packs`)
    tags_alone : for the native layout: no segments are known, and ``tags.csv`` takes the place of ``truth.json``
    corrections : what people said of segments, by video, which goes beside them
    quiet : show no progress

    Returns
    -------
    The counts of :meth:`pyws.data.annotations.activitynet.Truth.counts`, and how many feature files were there before.

    Raises
    ------
    DataError : the folder is not empty, ``FOLDER.partial`` is of something else, a bad record or name
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"write_data_set: suffix must be one of {', '.join(SUFFIXES)}, got {suffix!r}")
    if layout not in _FINISH or (layout != "native" and suffix != ".npy"):
        raise ValueError(f"write_data_set: layout must be one of {', '.join(_FINISH)}, got {layout!r} with {suffix}")
    if videos_per_file is not None and suffix != ".safetensors":
        raise ValueError(f"write_data_set: packs are .safetensors, got {suffix}")
    target = Path(folder)
    with _growing(
        target, {**origin, "layout": layout, "suffix": suffix, "videos_per_file": videos_per_file}
    ) as partial:
        database: dict[str, Any] = {}
        resumed, packed = 0, packed_in(partial / "features")
        for video in track(videos, "writing", quiet=quiet):
            path = partial / "features" / (checked_name(folder, video.name) + suffix)
            if video.name in packed or _is_whole(path, video.shape):
                resumed += 1
            else:
                _write(path, video)
            database[video.name] = video.record
        if videos_per_file is not None:
            pack_videos(partial / "features", list(database), videos_per_file, quiet)
        truth = read_truth({"database": database, "ambiguous": ambiguous or {}})
        (_finish_tags if tags_alone else _FINISH[layout])(partial, truth, about)
        if corrections:
            write_corrections(partial / CORRECTIONS, corrections)
    return {**truth.counts(), "resumed": resumed}


def convert_features(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    on_error: str = "error",
    suffix: str | None = None,
    videos_per_file: int | None = None,
    quiet: bool = True,
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Turn a data set of features of any known layout into the native one, once.

    Times of snippets, scores and notes that files of `pyws features` have, and corrections of people, go with them.

    Parameters
    ----------
    source, on_error : arguments of :func:`pyws.data.features.dataset.open_features`
    folder, videos_per_file, quiet : arguments of :func:`write_data_set`; interrupted, the next call goes on
    suffix : argument of :func:`write_data_set`; None is ``.npy``, or ``.safetensors`` where packs or times are written

    Returns
    -------
    The counts of :func:`write_data_set`, and what was wrong with the videos that were left out.

    Raises
    ------
    DataError : as :func:`pyws.data.features.dataset.open_features` and :func:`write_data_set`
    ValueError : ``.npy`` for packs, or for videos that say when their snippets are
    """
    opened, listing = open_features(source, on_error=on_error), list_features(source)
    packed = any(isinstance(stored, PackedVideo) for stored in opened.stored)
    if opened.truth is None and listing.layout == "native" and not packed and videos_per_file is None:
        raise DataError(source, "is in the native layout: tags.csv and features are read as they are")
    timed = any(map(has_times, opened.stored))
    if suffix == ".npy" and (timed or videos_per_file is not None):
        what = "packs" if videos_per_file is not None else "times of snippets, which this set has,"
        raise ValueError(f"--suffix: {what} are kept in .safetensors, got .npy")
    origin = {"source": os.path.realpath(source), "on_error": on_error}
    about = {"classes": list(opened.classes), "description": opened.description, "rescaled": listing.rescaled}
    if not listing.rate_is_assumed:
        about["snippets_per_second"] = dict(listing.rates) or opened.snippets_per_second
    counts = write_data_set(
        folder,
        _videos_of(opened, listing),
        about,
        origin,
        None if opened.truth is None else truth_document(opened.truth)["ambiguous"],
        suffix or (".safetensors" if timed or videos_per_file is not None else ".npy"),
        videos_per_file=videos_per_file,
        tags_alone=opened.truth is None,
        corrections=opened.corrections,
        quiet=quiet,
    )
    return counts, opened.skipped


def _videos_of(opened: FeatureSet, listing: Listing) -> list[FeatureVideo]:
    """What there is to write of an open data set."""
    if opened.truth is None:
        each = zip(listing.videos, listing.subset, listing.tags, strict=True)
        records: Any = {
            video: {"subset": subset, "tags": list(tags), "annotations": []} for video, subset, tags in each
        }
    else:
        records = truth_document(opened.truth)["database"]
    return [
        FeatureVideo(
            name,
            records[name],
            (int(opened.lengths[index]), opened.width),
            functools.partial(opened.features, index),
            functools.partial(with_times, opened.stored[index]),
        )
        for index, name in enumerate(opened.names)
    ]


def _write(path: Path, video: FeatureVideo) -> None:
    tensors, note = video.beside() if video.beside else ({}, {})
    if tensors:
        write_snippets(path, {"features": video.read(), **tensors}, note)
    else:
        write_features(path, video.read())


@contextmanager
def _growing(target: Path, origin: dict[str, Any]) -> Iterator[Path]:
    """Hold a folder beside the target, new or left by an interrupted run with the same origin. When the block ends, the
    hashes are noted in it and it takes the name of the target, held until nothing says any more that it is not whole.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        with only_writer(partial, entering=lambda writer, first: _begin(writer, target, origin)) as writer:
            yield partial
            seal_whole(partial, target)
            writer.move(target)
            (target / ORIGIN).unlink()
    except DataError:
        with suppress(OSError):  # made for this call alone
            partial.rmdir()
        raise


def _begin(writer: Writer, target: Path, origin: dict[str, Any]) -> None:
    """Check what is there and note the origin. Only with the door of the folder beside the target closed."""
    partial = writer.folder
    if is_held(target):  # at its last step
        raise DataError(target, "is being written by another run; wait for it or choose another folder")
    killed = (target / ORIGIN).is_file() and read_json(target / ORIGIN) == origin
    if target.exists() and not killed and not (target.is_dir() and is_empty(target)):
        raise DataError(target, "must be a new or empty folder")
    if not is_empty(partial):
        if not (partial / ORIGIN).exists():
            raise DataError(partial, f"is not left from writing {target.name}; remove it or choose another name")
        if read_json(partial / ORIGIN) != origin:
            clear_folder(partial, "")
    write_json(partial / ORIGIN, origin)
    if killed:
        writer.take(target, ORIGIN)
    (partial / HASHES).unlink(missing_ok=True)


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    try:
        return path.exists() and stored_file(path).shape() == shape
    except DataError:
        return False


def _finish_tags(folder: Path, truth: Truth, about: Mapping[str, Any]) -> None:
    each = list(zip(truth.instances.videos, truth.subset, truth.tags, strict=True))
    if any(subset or tags for _, subset, tags in each):
        rows = [(video, tag, subset) for video, subset, tags in each for tag in tags or ("",)]
        write_table(folder / "tags.csv", [("video", "tag", "subset"), *rows])
    write_json(folder / "dataset.json", dict(about))


def _finish_native(folder: Path, truth: Truth, about: Mapping[str, Any]) -> None:
    write_truth(folder / "truth.json", truth)
    write_json(folder / "dataset.json", dict(about))


def _finish_split(folder: Path, truth: Truth, about: Mapping[str, Any]) -> None:
    document = truth_document(truth)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for video, record in document["database"].items():
        split = "test" if record["subset"] == "test" else "train"
        lists[split].append(video)
        (folder / split).mkdir(exist_ok=True)
        os.replace(folder / "features" / f"{video}.npy", folder / split / f"{video}.npy")
    (folder / "features").rmdir()
    write_json(folder / "gt.json", {**document, "version": about.get("description", "")})
    for split, names in lists.items():
        write_lines(folder / f"split_{split}.txt", names)


def _finish_wtalc(folder: Path, truth: Truth, about: Mapping[str, Any]) -> None:
    """Byte strings in object arrays and one pickled list of features, as the literature's readers want them."""
    database = truth_document(truth)["database"]
    paths = [folder / "features" / f"{video}.npy" for video in database]
    records = list(database.values())
    columns = {
        "Synthetic-JOINTFeatures" if about.get("synthetic") else "JOINTFeatures": _objects(
            [stored_file(path).read() for path in paths]
        ),
        "videoname": np.array([video.encode() for video in database]),
        "subset": np.array([record["subset"].encode() for record in records]),
        "duration": np.array([[record.get("duration", np.nan)] for record in records]),
        "labels_all": _objects([record["tags"] for record in records]),
        "labels": _objects([[entry["label"] for entry in record["annotations"]] for record in records]),
        "segments": _objects([[entry["segment"] for entry in record["annotations"]] for record in records]),
        "classlist": np.array([name.encode() for name in about["classes"]]),
    }
    for name, array in columns.items():
        with atomic_write(folder / f"{name}.npy", "wb") as file:
            np.save(file, array, allow_pickle=True)
    stretches = (f"{v}  {start} {end}" for v, pairs in truth.ambiguous.items() for start, end in pairs)
    write_lines(folder / "Ambiguous_test.txt", stretches)
    shutil.rmtree(folder / "features")


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


_FINISH = {"native": _finish_native, "split": _finish_split, "wtalc": _finish_wtalc}
