"""HDF5 files that hold all of their data themselves: what points into other files is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyws.errors import DataError, loader_says, reading
from pyws.files import check_bytes, check_regular


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open an HDF5 file to read, as h5py does; what goes wrong with it inside the block is a DataError that names it.

    Raises
    ------
    DataError : missing, not a regular file, not HDF5, damaged, a link at its top, or h5py is not installed
    """
    try:
        import h5py
    except ImportError as error:
        rule = "is an HDF5 file: pip install 'pyws-video[hdf5]'"
        raise DataError(path, rule + loader_says(error, "h5py")) from error
    with reading(path, "is damaged or no HDF5 file (MATLAB 7.3)"):
        check_regular(path)
        with h5py.File(path, "r") as file:
            check_links(path, file)
            yield file


def check_links(path: str | os.PathLike[str], group: Any) -> None:
    """Raise DataError where a name of the group is a link, which may open any other file."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(path, f"must hold its data itself, got a link under {name!r}")


def check_dataset(path: str | os.PathLike[str], name: str, dataset: Any) -> None:
    """Raise DataError where a data set is stored in another file, or unpacks to more than a file may.

    A chunk is unpacked whole, and may be larger than the data set.
    """
    if dataset.external or dataset.is_virtual:
        raise DataError(path, f"must hold its data itself, got {name!r} in another file")
    for shape in (dataset.shape, dataset.chunks or ()):
        check_bytes(path, math.prod(shape) * dataset.dtype.itemsize)
