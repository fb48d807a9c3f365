"""Features in files that hold one array or many: ``.npz``, HDF5, pickles, PyTorch's files, tables of numbers.

Nothing that such a file says is run: pickles go through :mod:`pyws.data.annotations.safe_pickle`, PyTorch's through
``torch.load(weights_only=True)``, HDF5 files must hold their data themselves. An array is at most
:func:`pyws.files.max_bytes`. Arrays of archives (npz, HDF5) are read one by one when they are asked for; other files
are read whole.

A file has the features of one video where it holds one array, one named ``features`` or the like, or ``rgb`` and
``flow``. Otherwise each name is a video, as is each group of HDF5.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZipFile

import numpy as np

from pyws.data.annotations.safe_pickle import load_pickle
from pyws.data.csv_table import ROW_NUMBERS, is_number
from pyws.data.features.streams import JoinedStreams, Stored
from pyws.data.hdf5 import check_dataset, check_links, open_hdf5
from pyws.data.npy import read_npy_header
from pyws.errors import DataError, reading
from pyws.files import check_bytes, open_regular, open_text

_ONE = ("features", "feature", "feats", "feat")  # names of the array of one video
_STREAMS = ("rgb", "flow")


class _Archive(Protocol):
    """An open file of arrays: the shape of each by its name, and the array."""

    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray: ...


@dataclass(frozen=True)
class ArchivedArray:
    """One array of numbers in a file of several kinds; ``name`` is the one inside, with / between groups."""

    path: Path
    name: str

    def shape(self) -> tuple[int, ...]:
        return self._archive().shapes[self.name]

    def read(self) -> np.ndarray:
        with reading(self.path, _broken(self.path)):
            return self._archive().read(self.name)

    def _archive(self) -> _Archive:
        archive = open_archive(self.path)
        if self.name not in archive.shapes:
            raise DataError(self.path, f"must hold {self.name!r} as it did, got {', '.join(archive.shapes)[:200]}")
        return archive


@dataclass(frozen=True)
class UnreadableFile:
    """A file that cannot be read at all; says so when its shape is asked for."""

    path: Path
    rule: str

    def shape(self) -> tuple[int, ...]:
        raise DataError(self.path, self.rule)

    def read(self) -> np.ndarray:
        raise DataError(self.path, self.rule)


def archived_videos(path: Path) -> dict[str, Stored]:
    """The features that a file holds, by video; of one video by the name of the file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.savez(folder / "v1.npz", features=np.ones((5, 8)), fps=25)
    >>> np.savez(folder / "set.npz", v1=np.ones((5, 8)), v2=np.ones((6, 8)))
    >>> list(archived_videos(folder / "v1.npz")), list(archived_videos(folder / "set.npz"))
    (['v1'], ['v1', 'v2'])
    """
    name = path.name.removesuffix(path.suffix)
    try:
        shapes = open_archive(path).shapes
    except DataError as error:
        return {name: UnreadableFile(path, error.rule)}
    arrays = {key: ArchivedArray(path, key) for key, shape in shapes.items() if len(shape) >= 2}
    one = _of_one_video(path, arrays)
    if one is not None and not any("/" in key for key in arrays):
        return {name: one}
    groups: dict[str, dict[str, ArchivedArray]] = {}
    for key, array in arrays.items():
        video, _, inner = key.partition("/")
        groups.setdefault(video, {})[inner] = array
    found = {video: _of_one_video(path, members) for video, members in groups.items()}
    if not found:
        return {name: UnreadableFile(path, "must hold an array (snippets, width), got none")}
    unclear = UnreadableFile(path, f"must hold one array of a video, or {', '.join(_ONE)}, or rgb and flow")
    return {video: unclear if stored is None else stored for video, stored in found.items()}


def _of_one_video(path: Path, arrays: Mapping[str, ArchivedArray]) -> Stored | None:
    """The features of a video among the arrays that a file has of it; None where it cannot be told."""
    by_name = {key.rsplit("/", 1)[-1].lower(): array for key, array in arrays.items()}
    for name in _ONE:
        if name in by_name:
            return by_name[name]
    if set(_STREAMS) <= set(by_name):
        return JoinedStreams(path, by_name["rgb"], by_name["flow"])
    return next(iter(arrays.values())) if len(arrays) == 1 else None


def open_archive(path: Path) -> _Archive:
    """The arrays of a file by name; the last two files stay open.

    Raises
    ------
    DataError : missing, not what its ending says, not safe, or larger than it may be
    """
    with reading(path, _broken(path)):
        state = os.stat(path)
        return _opened(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=2)
def _opened(path: Path, state: tuple[int, ...]) -> _Archive:
    return _READERS[path.suffix.lower()](path)


def _broken(path: Path) -> str:
    return f"is damaged or no {path.suffix} file"


class _Npz:
    """The members of an ``.npz`` archive; objects and pickles are refused."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, ZipFile(open_regular(path))
        self.shapes: dict[str, tuple[int, ...]] = {
            name.removesuffix(".npy"): self._shape(name) for name in self.file.namelist()
        }

    def _shape(self, name: str) -> tuple[int, ...]:
        with self.file.open(name) as member:
            shape, dtype = read_npy_header(member)
        if dtype.hasobject:
            raise DataError(self.path, f"must hold numbers, got pickled objects under {name!r}")
        check_bytes(self.path, math.prod(shape) * dtype.itemsize)
        return shape

    def read(self, name: str) -> np.ndarray:
        with self.file.open(f"{name}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)


class _Hdf5:
    """The arrays of an HDF5 file and of its groups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._walked: set[int] = set()  # a group may hold itself
        with open_hdf5(path) as file:
            self.shapes: dict[str, tuple[int, ...]] = dict(self._walk(file, ""))

    def _walk(self, group: Any, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        from h5py import Group, h5o

        check_links(self.path, group)
        self._walked.add(h5o.get_info(group.id).addr)
        for name, member in group.items():
            if isinstance(member, Group):
                if h5o.get_info(member.id).addr not in self._walked:
                    yield from self._walk(member, f"{prefix}{name}/")
            elif getattr(member, "shape", None) is not None and member.dtype.kind in "fiu":
                check_dataset(self.path, prefix + name, member)
                yield prefix + name, tuple(member.shape)

    def read(self, name: str) -> np.ndarray:
        with open_hdf5(self.path) as file:
            array: np.ndarray = file[name][()]
        return array


class _Loaded:
    """The arrays of a file that is read whole."""

    def __init__(self, path: Path, contents: Any) -> None:
        arrays = ((name, one) for name, one in _values_in(contents, path.stem) if isinstance(one, np.ndarray))
        self.arrays = {name: one for name, one in arrays if one.dtype.kind in "fiu"}
        self.shapes: dict[str, tuple[int, ...]] = {name: array.shape for name, array in self.arrays.items()}

    def read(self, name: str) -> np.ndarray:
        return np.array(self.arrays[name])


def _values_in(contents: Any, alone: str) -> Iterator[tuple[str, Any]]:
    """What is in tables within each other, under names with /; ``alone`` names what is in no table.

    A table that is in several others is gone through once: thirty that each hold the next twice would have a billion
    names.
    """
    tables = set[int]()

    def within(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, Mapping):
            yield name or alone, value
        elif id(value) not in tables:
            tables.add(id(value))
            for key, item in value.items():
                yield from within(item, f"{name}/{key}" if name else str(key))

    return within(contents, "")


def _of_pickle(path: Path) -> _Archive:
    return _Loaded(path, load_pickle(path))


def _of_torch(path: Path) -> _Archive:
    from pyws.checkpoint import read_torch

    return _Loaded(path, _as_arrays(path, read_torch(path, check_bytes)))


def _as_arrays(path: Path, contents: Any) -> dict[str, np.ndarray]:
    """Tensors as arrays, those in tables too; views that repeat their values may claim any size."""
    import torch

    found, total = {}, 0
    for name, value in _values_in(contents, path.stem):
        if isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size()
            check_bytes(path, total)
            value = value.detach()
            found[name] = (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
    return found


def _of_table(path: Path) -> _Archive:
    """Rows of numbers, perhaps under a header, perhaps after a column that numbers them."""
    with open_text(path, "utf-8-sig") as file:
        text = file.read()
    line = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in line), ",")
    first = next(csv.reader([line], delimiter=delimiter), [])
    names = [cell.strip().lower() for cell in first]
    header = names == [str(k) for k in range(len(names))] or not all(map(is_number, names))
    used = [k for k, name in enumerate(names) if not (header and name in ROW_NUMBERS)]
    array = np.loadtxt(
        io.StringIO(text), delimiter=delimiter, skiprows=int(header), usecols=used, ndmin=2, comments=None
    )
    return _Loaded(path, array)


_READERS: dict[str, Callable[[Path], _Archive]] = {
    ".npz": _Npz, ".h5": _Hdf5, ".hdf5": _Hdf5, ".pkl": _of_pickle, ".pickle": _of_pickle, ".pt": _of_torch,
    ".pth": _of_torch, ".csv": _of_table,
}  # fmt: skip
ARCHIVE_SUFFIXES = tuple(_READERS)
