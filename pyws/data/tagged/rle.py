"""Masks as COCO's compressed run lengths: what pycocotools and annotation tools read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.decoders import MAX_PIXELS
from pyws.errors import DataError

_LONGEST = 60  # bits of a run length


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a mask (H, W) that is not empty; the last two outside."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def run_lengths_of(flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of equal values, the first of them of False."""
    changes = np.flatnonzero(np.diff(flat, prepend=False)) if flat.size else np.zeros(0, np.int64)
    return np.diff(np.concatenate([[0], changes, [flat.size]]))


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as ``{"size": [H, W], "counts": text}``.

    Runs go down the columns, background first. Each length, from the fourth on as a difference to the one two
    before, is written in groups of five bits, lowest first; a sixth bit says that more follow; 48 makes it a letter.

    Parameters
    ----------
    mask : (H, W) bool

    Examples
    --------
    >>> encode_mask(np.array([[0, 1], [1, 1]], bool))
    {'size': [2, 2], 'counts': '13'}
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"encode_mask: mask must be (H, W) bool, got {mask.shape} {mask.dtype}")
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(0)) if mask.size else np.zeros(0, np.int64)
    left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
    lengths = run_lengths_of(mask[:, left:right].ravel(order="F"))
    lengths[0] += height * left
    if len(lengths) % 2:  # the last run is background
        lengths[-1] += height * (width - right)
    elif right < width:
        lengths = np.append(lengths, height * (width - right))
    lengths[3:] -= lengths[1:-2].copy() if len(lengths) > 3 else 0
    return {"size": [height, width], "counts": _letters(lengths)}


def decode_mask(document: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask (H, W) that :func:`encode_mask` was given.

    Raises
    ------
    DataError : not such a document, more than MAX_PIXELS, or runs that do not fill the size exactly

    Examples
    --------
    >>> decode_mask({"size": [2, 2], "counts": "13"}).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    if not isinstance(document, dict) or not isinstance(document.get("counts"), str):
        raise DataError("mask", "must be an object with size [H, W] and counts, a text")
    size = document.get("size")
    if (
        not isinstance(size, (list, tuple))
        or len(size) != 2
        or not all(type(n) is int and 0 <= n <= MAX_PIXELS for n in size)
    ):
        raise DataError("mask", f"size must be two whole numbers of at most {MAX_PIXELS}, got {str(size)[:80]}")
    height, width = size
    if height * width > MAX_PIXELS:
        raise DataError("mask", f"must have at most {MAX_PIXELS} pixels, got {height}x{width}")
    lengths, cut = _lengths(document["counts"], height * width)
    if lengths.sum() != height * width or lengths.min(initial=0) < 0 or cut:
        raise DataError("mask", f"runs must fill {height}x{width} pixels, got {lengths.sum()} of them")
    ids = np.arange(len(lengths)) % 2 == 1
    return np.repeat(ids, lengths).reshape(width, height).T


def _lengths(text: str, pixels: int) -> tuple[NDArray[np.int64], bool]:
    """Lengths of runs that may fill so many pixels, and whether the last one is cut, or there are more than that."""
    bits = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(bits & 32 == 0)
    first = np.concatenate([[0], last + 1])
    strange = np.flatnonzero((bits < 0) | (bits > 63))
    if len(strange) or np.diff(first, append=len(bits)).max() > _LONGEST // 5:
        place = strange[0] if len(strange) else np.diff(first, append=len(bits)).argmax()
        raise DataError("mask", f"counts must be run lengths in letters of '0' to 'o', got {text[place]!r}")
    cut = int(first[-1]) < len(bits) or len(last) > pixels + 1
    bits, first = bits[: first[-1]], first[:-1]
    sizes = last + 1 - first
    shifts = 5 * (np.arange(len(bits)) - np.repeat(first, sizes))
    lengths = np.add.reduceat((bits & 31) << shifts, first) if len(first) else bits
    lengths = lengths - np.where(bits[last] & 16, 1 << 5 * sizes, 0)
    lengths = lengths[: pixels + 2].clip(-pixels - 1, pixels + 1)  # what is beyond fills too much either way
    for start in (1, 2):
        lengths[start::2] = lengths[start::2].cumsum()
    return lengths, cut


def _letters(values: NDArray[np.int64]) -> str:
    """Whole numbers in groups of five bits, as many as hold each with its sign."""
    shifts = 5 * np.arange(1 + _LONGEST // 5)
    groups = 1 + ((values[:, None] >> (shifts + 4)) != (values[:, None] >> _LONGEST)).sum(1)
    ends = np.cumsum(groups)
    letters = np.empty(ends[-1], np.uint8)
    for place in range(int(groups.max())):
        more = groups > place
        bits = values[more] >> shifts[place] & 31
        letters[(ends - groups)[more] + place] = 48 + (bits | np.where(groups[more] > place + 1, 32, 0))
    return letters.tobytes().decode("ascii")
