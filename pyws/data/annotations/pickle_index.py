"""Where the arrays of a pickled ``.npy`` file lie, found without reading them.

``Thumos14reduced-I3D-JOINTFeatures.npy`` is one pickle of more than a gigabyte, an array for each video. The restricted
interpreter of :mod:`pyws.data.annotations.safe_pickle` walks over it once and skips every large string of
bytes; a video's features are then read from their place in the file when they are asked for.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np

from pyws.data.annotations.safe_pickle import _Array, _ArrayUnpickler, _DType, _from_bytes
from pyws.data.npy import read_npy_header
from pyws.errors import DataError, reading
from pyws.files import open_regular
from pyws.pickles import Instructions

_SKIPPED = 4096  # bytes from which a string is left where it is
_READ_MIB = 256  # that may be read of the file, arrays aside


@dataclass(frozen=True)
class _Span:
    """Bytes of a file that were not read."""

    offset: int
    size: int
    utf8: bool = False  # text whose characters are the bytes, as Python 3 writes bytes in the protocols of Python 2

    def encode(self, encoding: str) -> _Span:
        """In place of str.encode, which the interpreter calls to turn such text into bytes."""
        return self if encoding == "latin1" else replace(self, size=-1)


@dataclass(frozen=True, eq=False)
class PickledArray:
    """One array of numbers inside a pickled ``.npy`` file: what :class:`pyws.data.features.files.Stored` asks for."""

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    data: _Span | bytes

    def shape(self) -> tuple[int, ...]:
        if isinstance(self.data, _Span):
            got = self.path.stat().st_size if self.path.exists() else 0
            if got < self.data.offset + self.data.size:
                raise DataError(self.path, f"is truncated: {got} bytes, of which {self.data} is needed")
        return self.sizes

    def read(self) -> np.ndarray:
        raw = self.data
        if isinstance(raw, _Span):
            with reading(self.path), open_regular(self.path) as file:
                file.seek(raw.offset)
                read = file.read(raw.size)
            raw = read.decode("utf-8").encode("latin1") if raw.utf8 else read
        return _from_bytes(self.sizes, self.dtype, raw, "F" if self.fortran else "C")


def index_npy(path: str | os.PathLike[str]) -> list[PickledArray]:
    """The arrays of a one-dimensional object ``.npy`` file, one for each entry.

    Raises
    ------
    DataError : as :func:`pyws.data.annotations.safe_pickle.load_npy`; an entry that is not an array of numbers

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "features.npy"
    >>> entries = np.empty(2, dtype=object)
    >>> entries[:] = [np.ones((3, 4)), np.zeros((5, 4))]
    >>> np.save(path, entries, allow_pickle=True)
    >>> [array.shape() for array in index_npy(path)]
    [(3, 4), (5, 4)]
    """
    with reading(path, "is not a safe .npy file"), open_regular(path) as file:
        shape, dtype = read_npy_header(file)
        if not dtype.hasobject or len(shape) != 1:
            raise DataError(path, f"must hold one list of arrays, got {dtype} of shape {shape}")
        whole = _IndexingUnpickler(file).load()
        entries = _entries(whole, shape)
        return [_pickled(Path(path), number, entry) for number, entry in enumerate(entries)]


class _IndexingUnpickler(_ArrayUnpickler):
    """The restricted interpreter over a file, which leaves long strings where they are."""

    _unframer: Any
    dispatch: ClassVar[Instructions] = dict(_ArrayUnpickler.dispatch)

    def __init__(self, file: BinaryIO) -> None:
        self._end = os.fstat(file.fileno()).st_size
        super().__init__(file, self._end)
        self._file = file
        self._budget = _READ_MIB * 2**20
        self._file_read: Callable[[int], bytes] = self._counted_read
        self._file_readline = lambda: file.readline(_SKIPPED)

    def _counted_read(self, size: int) -> bytes:
        self._budget -= size
        if self._budget < 0:
            raise pickle.UnpicklingError(f"holds more than {_READ_MIB} MiB that is not in arrays")
        return self._file.read(size)

    def _string(self, width: int, text: bool) -> Any:
        """A string whose size comes first, in ``width`` bytes: read where it is short or inside a frame."""
        size = int.from_bytes(self.read(width), "little")
        if size < _SKIPPED or self._unframer.current_frame is not None:
            return self.read(size)
        span = _Span(self._file.tell(), size, utf8=text)
        if span.offset + size > self._end:
            raise pickle.UnpicklingError(f"is truncated: {size} bytes from {span.offset} of {self._end}")
        self._file.seek(size, os.SEEK_CUR)
        return span

    def load_bytes(self, width: int) -> None:
        self.append(self._string(width, text=False))

    def load_text(self) -> None:
        value = self._string(4, text=True)
        self.append(value if isinstance(value, _Span) else value.decode("utf-8", "surrogatepass"))

    def load_old_string(self) -> None:
        value = self._string(4, text=False)
        self.append(value if isinstance(value, _Span) else value.decode("latin1"))

    dispatch[pickle.BINBYTES[0]] = lambda self: self.load_bytes(4)
    dispatch[pickle.BINBYTES8[0]] = lambda self: self.load_bytes(8)
    dispatch[pickle.BINUNICODE[0]] = load_text
    dispatch[pickle.BINSTRING[0]] = load_old_string


def _entries(whole: Any, shape: tuple[int, ...]) -> list[Any]:
    """The list inside the record of the outer array."""
    state = whole.state if isinstance(whole, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
        raise ValueError("must hold an array of arrays")
    if state[1] != shape or not state[2].resolve().hasobject or not isinstance(state[4], list):
        raise ValueError(f"must hold an array of shape {shape} as its header says")
    if len(state[4]) != shape[0]:
        raise ValueError(f"must hold {shape[0]} entries, got {len(state[4])}")
    return state[4]


def _pickled(path: Path, number: int, entry: Any) -> PickledArray:
    state = entry.state if isinstance(entry, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
        raise ValueError(f"entry {number} must be an array")
    _, shape, kind, fortran, data = state
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"entry {number} must have a shape of whole numbers, got {shape!r}")
    dtype = kind.resolve()
    raw = data.encode("latin1") if isinstance(data, str) else data
    if dtype.hasobject or not isinstance(raw, (bytes, _Span)):
        raise ValueError(f"entry {number} must be an array of numbers")
    wanted = math.prod(shape) * dtype.itemsize
    size = raw.size if isinstance(raw, _Span) else len(raw)
    exact = not isinstance(raw, _Span) or not raw.utf8  # text takes one or two bytes for each of its characters
    if size < wanted or (exact and size != wanted):
        raise ValueError(f"entry {number} of shape {shape} and dtype {dtype} must have {wanted} bytes, got {size}")
    return PickledArray(path, cast("tuple[int, ...]", shape), dtype, bool(fortran), raw)
