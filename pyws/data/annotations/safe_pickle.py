"""NumPy files that hold pickled objects, read without running anything that they say.

Annotations of temporal localisation travel as ``.npy`` files of object arrays, which NumPy reads only by
``allow_pickle=True``: whoever made the file may then run any code. Here the pickle is read by an interpreter that knows
the instructions and the three NumPy constructors that such arrays need, and nothing else. What the constructors make
are plain records; real arrays are built from them after their sizes were checked against the bytes that are there.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from pyws.data.npy import read_npy_header
from pyws.errors import DataError, reading
from pyws.files import check_bytes, open_regular
from pyws.pickles import BoundedUnpickler, Instructions, Record, instructions

MIB = 2**20
_DEPTH = 32  # depth of lists and arrays within each other


def load_npy(path: str | os.PathLike[str], limit_mib: int = 4096) -> np.ndarray:
    """Read a ``.npy`` file; object arrays may hold numbers, strings, bytes, lists, tuples and further arrays.

    Parameters
    ----------
    path : the file
    limit_mib : files larger than this are refused

    Returns
    -------
    The array. Python 2 strings come as str, their bytes taken as Latin-1.

    Raises
    ------
    DataError : the file is missing, too large, truncated, not ``.npy``, or its pickle asks for anything else: another
        class or function, a dictionary, an instruction that arrays do not need, an array larger than its bytes

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.npy"
    >>> np.save(path, np.array([["Diving"], []], dtype=object), allow_pickle=True)
    >>> load_npy(path).tolist()
    [['Diving'], []]
    """
    with reading(path, "is not a safe .npy file"):
        size = Path(path).stat().st_size
        if size > limit_mib * MIB:
            raise DataError(path, f"must be at most {limit_mib} MiB, got {size / MIB:.0f}")
        with open_regular(path) as file:
            shape, dtype = read_npy_header(file)
            if not dtype.hasobject:
                if math.prod(shape) * dtype.itemsize > size:
                    raise ValueError(f"array of shape {shape} and dtype {dtype} does not fit into {size} bytes")
                file.seek(0)
                return cast(np.ndarray, np.load(file, allow_pickle=False))
            array = load_pickled_array(file.read())
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise DataError(path, f"must hold an array of shape {shape} as its header says")
    return array


def load_pickled_array(data: bytes) -> Any:
    """What a pickle of arrays, numbers, strings, bytes, lists and tuples holds; :func:`load_npy` tells what is refused.

    Raises
    ------
    pickle.UnpicklingError, ValueError and others : the bytes are not such a pickle
    """
    reader = _ArrayUnpickler(io.BytesIO(data), len(data))
    return _resolve(reader.load(), {}, 0, reader.spend)


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """What a pickle file of arrays holds, which may be in lists, tuples and dictionaries.

    Raises
    ------
    DataError : missing, larger than :func:`pyws.files.max_bytes`, or the pickle asks for anything else

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "features.pkl"
    >>> _ = path.write_bytes(pickle.dumps({"v1": np.ones((2, 3))}))
    >>> load_pickle(path)["v1"].shape
    (2, 3)
    """
    with reading(path, "is not a safe pickle of arrays"), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_bytes(path, size)
        reader = _TableUnpickler(file, size)
        return _resolve(reader.load(), {}, 0, reader.spend)


class _Array(Record):
    """numpy.ndarray before its state was checked."""


class _DType(Record):
    """numpy.dtype before its state was checked."""

    def __init__(self, text: Any, align: Any = False, copy: Any = True) -> None:
        self.text = text

    def resolve(self) -> np.dtype:
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not (
            isinstance(self.text, str) and re.fullmatch(r"b1|[iufcSUO]\d{1,6}", self.text) and order in tuple("<>|=")
        ):
            raise ValueError(f"dtype must be a number, string or object, got {self.text!r} {order!r}")
        return np.dtype(object if self.text[0] == "O" else order + self.text)


def _new_array(kind: Any, shape: Any, code: Any) -> _Array:
    """numpy's _reconstruct: an empty array that BUILD fills."""
    if kind is not _NDARRAY:
        raise pickle.UnpicklingError("an array must be a plain numpy.ndarray")
    return _Array()


def _new_scalar(dtype: Any, data: Any) -> Any:
    """numpy's scalar."""
    if not isinstance(dtype, _DType):
        raise pickle.UnpicklingError("a scalar must have a dtype")
    return _from_bytes((), dtype.resolve(), data).item()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the pickle protocols of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes must be encoded as latin1, got {encoding!r}")
    return text.encode("latin1")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> _Array:
    """numpy's _frombuffer, by which protocol 5 writes arrays."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", bytes(data) if isinstance(data, bytearray) else data)
    return array


def _new_table() -> dict[Any, Any]:
    """OrderedDict, which is filled afterwards."""
    return {}


_NDARRAY = object()  # the class, which _reconstruct is given and nothing calls


class _ArrayUnpickler(BoundedUnpickler):
    """Arrays of numbers, text and objects.

    Honest values are not made twice of one text. The dearest is an entry of a list, one byte in the file and a pointer
    of eight in an array.
    """

    stray, foreign = " has no place in an array", "is not part of an array"
    makers: ClassVar[Mapping[str, Any]] = {
        r"numpy\.ndarray": _NDARRAY,
        r"numpy\.dtype": _DType,
        r"numpy\._?core\.multiarray\._reconstruct": _new_array,
        r"numpy\._?core\.multiarray\.scalar": _new_scalar,
        r"_codecs\.encode": _encode,
    }
    dispatch: ClassVar[Instructions] = BoundedUnpickler.dispatch | instructions(
        "FRAME INT FLOAT STRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE SHORT_BINUNICODE BINUNICODE8 LIST PUT "
        "MEMOIZE GET STACK_GLOBAL"
    )

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, 8 * size + MIB, "latin1")

    def make(self, maker: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        made = maker(*arguments)
        if isinstance(made, (bytes, str)):
            self.spend(sys.getsizeof(made))
        return made


class _TableUnpickler(_ArrayUnpickler):
    """Dictionaries too, and arrays as protocol 5 writes them."""

    makers: ClassVar[Mapping[str, Any]] = {
        **_ArrayUnpickler.makers,
        r"collections\.OrderedDict": _new_table,
        r"numpy\._?core\.numeric\._frombuffer": _from_buffer,
    }
    dispatch: ClassVar[Instructions] = _ArrayUnpickler.dispatch | instructions("EMPTY_DICT DICT SETITEM SETITEMS")

    def load_bytearray8(self) -> None:
        """What is there of it: the size that the file claims is not allocated."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _resolve(value: Any, done: dict[int, Any], depth: int, spend: Callable[[int], None]) -> Any:
    """Build the real arrays. Shared values are visited once, so that references cannot multiply the work."""
    if depth > _DEPTH:
        raise ValueError(f"must not be nested deeper than {_DEPTH}")
    if isinstance(value, (str, bytes, bool, int, float, complex, type(None))):
        return value
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, (list, tuple)):
        resolved: Any = type(value)(_resolve(item, done, depth + 1, spend) for item in value)
    elif isinstance(value, dict):
        resolved = {_key(key): _resolve(item, done, depth + 1, spend) for key, item in value.items()}
    elif isinstance(value, _Array):
        resolved = _build(value.state, done, depth, spend)
    else:
        raise ValueError(f"must hold numbers, strings, lists and arrays, got {type(value).__name__.strip('_')}")
    done[id(value)] = value, resolved  # value is kept alive, so that its id stays its own
    return resolved


def _key(key: Any) -> str:
    if not isinstance(key, (str, bytes, int)):
        raise ValueError(f"must have names as keys, got {type(key).__name__.strip('_')}")
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _build(state: Any, done: dict[int, Any], depth: int, spend: Callable[[int], None]) -> np.ndarray:
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
        raise ValueError("array must have a version, shape, dtype, order and data")
    _, shape, dtype, fortran, data = state
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"array must have a shape of whole numbers, got {shape!r}")
    kind = dtype.resolve()
    if not kind.hasobject:
        spend(math.prod(shape) * kind.itemsize)
        return _from_bytes(shape, kind, data, "F" if fortran else "C").copy()
    if not isinstance(data, list) or len(data) != math.prod(shape):
        raise ValueError(f"object array of shape {shape} must have as many values")
    spend(8 * len(data))
    array = np.empty(len(data), dtype=object)
    for index, item in enumerate(data):
        array[index] = _resolve(item, done, depth + 1, spend)
    return array.reshape(shape, order="F" if fortran else "C")


def _from_bytes(shape: tuple[int, ...], dtype: np.dtype, data: Any, order: Any = "C") -> np.ndarray:
    raw = data.encode("latin1") if isinstance(data, str) else data
    if (
        not dtype.itemsize
        or dtype.hasobject
        or not isinstance(raw, bytes)
        or len(raw) != math.prod(shape) * dtype.itemsize
    ):
        raise ValueError(f"array of shape {shape} and dtype {dtype} must have as many bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)
