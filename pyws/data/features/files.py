"""Feature arrays on disk, one for each video: their sizes from the header, their contents only when asked for."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyws.data.csv_table import columns_of
from pyws.data.features.archives import ARCHIVE_SUFFIXES, archived_videos
from pyws.data.features.packs import INDEX, NOT_SAFETENSORS, PackedVideo, is_pack, note_of, packed_in
from pyws.data.features.streams import JoinedStreams, Stored
from pyws.data.features.time_base import TimeBase, read_time_base
from pyws.data.npy import read_npy_header
from pyws.errors import DataError, reading
from pyws.files import atomic_write, check_bytes, check_regular, open_regular

SUFFIXES = (".npy", ".safetensors")  # that pyws writes
READ_SUFFIXES = (*SUFFIXES, *ARCHIVE_SUFFIXES)
_SECONDS = "seconds"  # name of the tensor of starts and ends
_TENSOR = "features"  # name of the tensor in a safetensors file; a single tensor may have any name


def stored_file(path: Path) -> Stored:
    """The features that a ``.npy`` or ``.safetensors`` file holds."""
    return SafetensorsFile(path) if path.suffix == ".safetensors" else NpyFile(path)


def stored_videos(path: Path) -> dict[str, Stored]:
    """The features that a file of any kind holds, by video; one array is of the video that the file is called."""
    if path.suffix in SUFFIXES:
        return {path.name.removesuffix(path.suffix): stored_file(path)}
    return archived_videos(path)


def stored_in(folder: Path) -> dict[str, Stored]:
    """The features in the files of a folder, by the name of their video.

    Of two kinds of file of one video ``.safetensors`` counts before ``.npy``, and that before the others, and all
    before packs. Folders ``rgb`` and ``flow`` are joined: a video that has only one of the two has none.
    """
    if all((folder / stream).is_dir() for stream in ("rgb", "flow")):
        rgb, flow = (stored_in(folder / stream) for stream in ("rgb", "flow"))
        return {video: JoinedStreams(folder, rgb[video], flow[video]) for video in rgb if video in flow}
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if INDEX in names:
        names = [name for name in names if not is_pack(name)]
    by_suffix: dict[str, list[str]] = {suffix: [] for suffix in READ_SUFFIXES}
    for name in names:
        by_suffix.get(os.path.splitext(name)[1], []).append(name)
    found: dict[str, Stored] = dict(packed_in(folder))
    for suffixes in (ARCHIVE_SUFFIXES, (".npy",), (".safetensors",)):
        for name in sorted(itertools.chain(*(by_suffix[suffix] for suffix in suffixes))):
            if not _is_list_of_videos(folder / name):
                found |= stored_videos(folder / name)
    return dict(sorted(found.items()))


def _is_list_of_videos(path: Path) -> bool:
    """Whether a table names videos, as tags.csv does, and is none of numbers."""
    return path.suffix == ".csv" and bool({"video", "tag", "video-name"} & set(columns_of(path)))


def times_of(stored: Stored) -> TimeBase | None:
    """When the snippets of a video are, where its file says so."""
    if isinstance(stored, JoinedStreams):
        return _common_times(stored)
    return stored.times() if isinstance(stored, (SafetensorsFile, PackedVideo)) else None


def has_times(stored: Stored) -> bool:
    """Whether the file of a video says when its snippets are; of packs the index is asked alone."""
    return stored.timed if isinstance(stored, PackedVideo) else times_of(stored) is not None


def with_times(stored: Stored) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a video has beside its features, for :func:`write_snippets`: tensors and a note, empty without times."""
    times, scores = times_of(stored), scores_of(stored)
    if times is None:
        return {}, {}
    return {"seconds": times.spans} | ({} if scores is None else {"scores": scores}), dict(times.about)


def _common_times(stored: JoinedStreams) -> TimeBase | None:
    """Those of the rows that both streams have.

    Raises
    ------
    DataError : the streams say different times
    """
    rgb, flow = times_of(stored.rgb), times_of(stored.flow)
    times, rows = rgb or flow, min(stored.rows())
    if rgb and flow and not np.array_equal(rgb.spans[:rows], flow.spans[:rows]):
        raise DataError(stored.path, "rgb and flow must have the same times of snippets; make them by one command")
    return replace(times, spans=times.spans[:rows], middles=times.middles[:rows]) if times else None


def scores_of(stored: Stored) -> np.ndarray | None:
    """(snippets, classes) scores that `pyws features --scores` kept: of two streams their mean; None of other files."""
    if isinstance(stored, JoinedStreams):
        rgb, flow = scores_of(stored.rgb), scores_of(stored.flow)
        if rgb is None or flow is None or rgb.shape[1:] != flow.shape[1:]:
            return None
        rows = min(stored.rows())
        return (rgb[:rows] + flow[:rows]) / 2
    return stored.tensor("scores") if isinstance(stored, (SafetensorsFile, PackedVideo)) else None


def write_snippets(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> None:
    """Write the features of a video with their times, whole or not at all.

    Parameters
    ----------
    tensors : "features" (L, D) float32, "seconds" (L, 2) float64, perhaps "scores" (L, classes) float32
    note : see :func:`pyws.data.features.time_base.read_time_base`, and what else belongs to the file
    """
    from safetensors.numpy import save

    with atomic_write(path, "wb") as file:
        file.write(save({name: np.ascontiguousarray(one) for name, one in tensors.items()}, {"pyws": json.dumps(note)}))


def write_features(path: str | os.PathLike[str], features: np.ndarray) -> None:
    """Write (snippets, width) features as float32 ``.npy`` or ``.safetensors``, whole or not at all."""
    array = np.ascontiguousarray(features, dtype=np.float32)
    with atomic_write(path, "wb") as file:
        if Path(path).suffix == ".safetensors":
            from safetensors.numpy import save

            file.write(save({_TENSOR: array}))
        else:
            np.save(file, array, allow_pickle=False)


@dataclass(frozen=True)
class NpyFile:
    """A plain ``.npy`` array: objects and pickles are refused."""

    path: Path

    def shape(self) -> tuple[int, ...]:
        shape, dtype = self.whole()
        check_bytes(self.path, math.prod(shape) * dtype.itemsize)
        return shape

    def whole(self) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of numbers that are all there, however many."""
        shape, dtype, start = self.header()
        if dtype.hasobject:
            raise DataError(self.path, "must hold numbers, got pickled objects")
        wanted, got = math.prod(shape) * dtype.itemsize, self.path.stat().st_size - start
        if got < wanted:
            raise DataError(self.path, f"is truncated: {wanted} bytes of an array of shape {shape}, got {got}")
        return shape, dtype

    def header(self) -> tuple[tuple[int, ...], np.dtype, int]:
        """Shape, dtype, and where the array starts."""
        with reading(self.path, "is not a .npy file"), open_regular(self.path) as file:
            return *read_npy_header(file), file.tell()

    def read(self) -> np.ndarray:
        self.shape()
        try:
            array: np.ndarray = np.load(self.path, allow_pickle=False)
        except Exception as error:
            raise DataError(self.path, f"cannot be read: {error}") from error
        return array


@dataclass(frozen=True)
class SafetensorsFile:
    """A safetensors file with one tensor, or with one that is called ``features``."""

    path: Path

    def shape(self) -> tuple[int, ...]:
        check_bytes(self.path, self.path.stat().st_size if self.path.exists() else 0)
        return tuple(self._read(lambda file, name: file.get_slice(name).get_shape()))

    def read(self) -> np.ndarray:
        self.shape()
        array: np.ndarray = self._read(lambda file, name: file.get_tensor(name))
        return array

    def times(self) -> TimeBase | None:
        """When its snippets are, where the file says so; files of `pyws features` do."""

        def time_base(file: Any, name: str) -> TimeBase | None:
            if _SECONDS not in file.keys():  # noqa: SIM118  # not a mapping
                return None
            return read_time_base(self.path, file.get_tensor(_SECONDS), note_of(self.path, file))

        found: TimeBase | None = self._read(time_base)
        return found

    def note(self) -> dict[str, Any]:
        """What `pyws features` says of how the features were made; empty of other files."""
        found: dict[str, Any] = self._read(lambda file, name: note_of(self.path, file))
        return found

    def tensor(self, name: str) -> np.ndarray | None:
        """Another tensor of the file, such as "scores"; None where it has none of that name."""
        found: np.ndarray | None = self._read(
            lambda file, _: file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
        )
        return found

    def _read(self, use: Any) -> Any:
        from safetensors import safe_open

        with reading(self.path, NOT_SAFETENSORS):
            check_regular(self.path)
            with safe_open(self.path, framework="numpy") as file:
                names = list(file.keys())
                if len(names) != 1 and _TENSOR not in names:
                    raise DataError(self.path, f"must hold one tensor, or one named {_TENSOR!r}, got {names}")
                return use(file, _TENSOR if _TENSOR in names else names[0])
