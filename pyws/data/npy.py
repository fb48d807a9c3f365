"""The header of a ``.npy`` file, which says what array follows."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import IO

import numpy as np

_MAX_HEADER = 1 << 16  # bytes


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype; the file is then where the array starts.

    Raises
    ------
    ValueError : no such header

    Examples
    --------
    >>> np.save(memory := io.BytesIO(), np.zeros((2, 3), np.float32))
    >>> _ = memory.seek(0)
    >>> read_npy_header(memory)
    ((2, 3), dtype('float32'))
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format version must be 1.0 or 2.0, got {version[0]}.{version[1]}")
    size = file.read(2 if version == (1, 0) else 4)
    return _parsed(version, size + file.read(min(int.from_bytes(size, "little"), _MAX_HEADER)))


@lru_cache(maxsize=4096)
def _parsed(version: tuple[int, int], header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Files of equally long videos have one header."""
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(io.BytesIO(header))
    return shape, dtype
