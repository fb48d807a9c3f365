"""Feature arrays on disk, one for each video: their sizes from the header, their contents only when asked for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyws.errors import DataError
from pyws.files import atomic_write

SUFFIXES = (".npy", ".safetensors")
_TENSOR = "features"  # of the tensor in a safetensors file; a single tensor may have any name


class Stored(Protocol):
    """An array (snippets, width) that lies somewhere on disk."""

    def shape(self) -> tuple[int, ...]:
        """Its shape, without reading it; a file that is too short for it is a DataError."""

    def read(self) -> np.ndarray:
        """The array."""


def stored_file(path: Path) -> Stored:
    """The features that a ``.npy`` or ``.safetensors`` file holds."""
    return SafetensorsFile(path) if path.suffix == ".safetensors" else NpyFile(path)


def stored_in(folder: Path) -> dict[str, Stored]:
    """Every feature file of a folder, by the name of its video; of two kinds of file the safetensors one counts."""
    paths = sorted((path for path in folder.glob("*") if path.suffix in SUFFIXES), key=lambda path: path.name)
    return {path.name.removesuffix(path.suffix): stored_file(path) for path in paths}


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
        shape, dtype, start = self.header()
        if dtype.hasobject:
            raise DataError(self.path, "must hold numbers, got pickled objects")
        wanted, got = math.prod(shape) * dtype.itemsize, self.path.stat().st_size - start
        if got < wanted:
            raise DataError(self.path, f"is truncated: {wanted} bytes of an array of shape {shape}, got {got}")
        return shape

    def header(self) -> tuple[tuple[int, ...], np.dtype, int]:
        """Shape, dtype, and where the array starts."""
        try:
            with open(self.path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                start = file.tell()
        except OSError as error:
            raise DataError(self.path, f"cannot be read: {error.strerror or error}") from error
        except Exception as error:  # NumPy's parser of headers lets many through that damaged bytes raise
            raise DataError(self.path, f"is not a .npy file: {error}") from error
        return shape, dtype, start

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
        return tuple(self._look(lambda file, name: file.get_slice(name).get_shape()))

    def read(self) -> np.ndarray:
        array: np.ndarray = self._look(lambda file, name: file.get_tensor(name))
        return array

    def _look(self, use: Any) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="numpy") as file:
                names = list(file.keys())
                if len(names) != 1 and _TENSOR not in names:
                    raise DataError(self.path, f"must hold one tensor, or one named {_TENSOR!r}, got {names}")
                return use(file, _TENSOR if _TENSOR in names else names[0])
        except OSError as error:
            raise DataError(self.path, f"cannot be read: {error.strerror or error}") from error
        except (SafetensorError, TypeError) as error:
            raise DataError(self.path, f"is truncated or not safetensors: {error}") from error
