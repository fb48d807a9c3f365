"""The run lengths in which Label Studio keeps brush masks: pictures of four channels, packed bit by bit.

The bits of a list of bytes, highest first: 32 bits with the number of values, 5 with the size of a value less one, four
times 4 with the sizes of a length less one. Then parts, until all values are there: 1 bit that says whether one value
is repeated, 2 bits that choose the size of the length, the length less one, and the value, or as many as the length
says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.decoders import MAX_PIXELS
from pyws.errors import DataError

_SIZES = (3, 6, 12, 16)  # bits of a length
_CHANNELS = 4


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask as Label Studio's ``rle``: 255 in all four channels inside, 0 outside.

    Parameters
    ----------
    mask : (H, W) bool

    Examples
    --------
    >>> decode_brush(encode_brush(np.eye(3, dtype=bool)), (3, 3)).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges]) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * _CHANNELS
    bits = [f"{flat.size * _CHANNELS:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if flat[start] else "00000000"
        while length:
            size = next((size for size in _SIZES if length <= 1 << size), _SIZES[-1])
            part = min(length, 1 << size)
            bits.append(f"1{_SIZES.index(size):02b}{part - 1:0{size}b}{value}")
            length -= part
    text = "".join(bits)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tolist()


def decode_brush(rle: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of Label Studio's ``rle``: where the fourth channel is above 0.

    Parameters
    ----------
    rle : list of bytes
    size : (H, W) size of the picture

    Raises
    ------
    DataError : no such list, cut off, or of another size than the picture

    Examples
    --------
    >>> decode_brush([0, 0, 0, 99], (3, 3))
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: mask: rle must be Label Studio's run lengths of a picture, is cut off
    """
    where = "rle must be Label Studio's run lengths of a picture"
    if not isinstance(rle, list) or not all(type(one) is int and 0 <= one < 256 for one in rle):
        raise DataError("mask", f"{where}, a list of bytes")
    height, width = size
    if not 0 < height * width <= MAX_PIXELS:
        raise DataError("mask", f"must be of 1 to {MAX_PIXELS} pixels, got {height}x{width}")
    bits = _Bits(rle)
    count, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if count != height * width * _CHANNELS:
        raise DataError("mask", f"{where} {height}x{width} in four channels, got {count} values")
    values = np.zeros(count, np.int64)
    place = 0
    while place < count:
        repeated = bits.read(1)
        length = bits.read(sizes[bits.read(2)]) + 1
        if place + length > count:
            raise DataError("mask", f"{where}, runs beyond its end")
        if repeated:
            values[place : place + length] = bits.read(word)
        else:
            values[place : place + length] = bits.words(length, word)
        place += length
    return values.reshape(height, width, _CHANNELS)[..., 3] > 0


class _Bits:
    """Bits of bytes, highest first."""

    def __init__(self, data: list[int]) -> None:
        self.bits = np.unpackbits(np.array(data, np.uint8))
        self.place = 0

    def read(self, size: int) -> int:
        """The next ``size`` bits as a number."""
        return int(self.words(1, size)[0])

    def words(self, count: int, size: int) -> NDArray[np.int64]:
        """The next ``count`` numbers of ``size`` bits."""
        end = self.place + count * size
        if end > len(self.bits):
            raise DataError("mask", "rle must be Label Studio's run lengths of a picture, is cut off")
        found = self.bits[self.place : end].reshape(count, size).astype(np.int64)
        self.place = end
        return found @ (1 << np.arange(size - 1, -1, -1))
