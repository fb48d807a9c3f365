"""AVA: boxes of people and what they do at key frames; its files are read as they are published.

Gu et al., AVA, CVPR 2018. Boxes are x1, y1, x2, y2 in [0, 1]; key frames come once a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyws.data.csv_table import csv_rows
from pyws.errors import DataError
from pyws.files import read_text

# Actions that need an object, which attention finds (WS^2, section 4.5), by AVA's ids.
AVA10 = {
    15: "answer phone", 27: "drink", 29: "eat", 41: "play musical instrument", 48: "read", 49: "ride", 54: "smoke",
    63: "write", 64: "fight/hit", 65: "give/serve",
}  # fmt: skip
FIRST_SECOND, FRAMES_PER_SECOND = 900, 30


Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class KeyFrame:
    """The truth at one second of a video: ``boxes`` (N, 4) float64 in [0, 1] and ``actions`` (N,) ids."""

    video: str
    second: int
    boxes: Boxes
    actions: NDArray[np.int64]

    @property
    def frame(self) -> int:
        """Index of the frame, where frames were cut out from second 900 on at 30 a second."""
        return (self.second - FIRST_SECOND) * FRAMES_PER_SECOND


@dataclass(frozen=True)
class Attention:
    """What a classifier says of one action at one key frame.

    ``key`` index of the key frame; ``action`` id; ``boxes`` (N, 4) x1, y1, x2, y2 in [0, 1]; ``scores`` (N,); ``peak``
    (x, y) in [0, 1] of the map's highest value, None where the map is constant.
    """

    key: int
    action: int
    boxes: Boxes
    scores: NDArray[np.float64]
    peak: tuple[float, float] | None


def read_ava(
    path: str | os.PathLike[str], excluded: str | os.PathLike[str] | None = None, actions: set[int] | None = None
) -> list[KeyFrame]:
    """Key frames of an AVA file, by video and second.

    Parameters
    ----------
    path : ava_{train,val}_v2.x.csv without a header: video, second, x1, y1, x2, y2, action, person
    excluded : csv of (video, second) that do not count
    actions : ids that are kept, e.g. ``set(AVA10)``; key frames without any of them are left out

    Raises
    ------
    DataError : missing or malformed; it names the line
    """
    skipped = {(row[0], _second(excluded, n, row[1])) for n, row in _rows(excluded, 2)} if excluded else set()
    found: dict[tuple[str, int], list[tuple[tuple[float, ...], int]]] = {}
    for line, row in _rows(path, 7):
        key = (row[0], _second(path, line, row[1]))
        if key in skipped or not row[6]:  # a key frame that was looked at and holds nobody has empty cells
            continue
        try:
            box, action = tuple(float(cell) for cell in row[2:6]), int(row[6])
        except ValueError as error:
            raise DataError(path, f"line {line}: must hold numbers, got {','.join(row)}") from error
        if not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise DataError(path, f"line {line}: a box must be 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1, got {box}")
        if actions is None or action in actions:
            found.setdefault(key, []).append((box, action))
    return [
        KeyFrame(video, second, np.array([box for box, _ in rows]), np.array([action for _, action in rows]))
        for (video, second), rows in sorted(found.items())
    ]


def read_action_list(path: str | os.PathLike[str]) -> dict[int, str]:
    """Names of AVA's actions by id, from the pbtxt list: either ``item { name: ... id: ... }`` or ``label { ... }``.

    Raises
    ------
    DataError : missing, or no action in it
    """
    names: dict[int, str] = {}
    for block in re.findall(r"\{([^{}]*)\}", read_text(path)):
        name = re.search(r"\bname:\s*\"([^\"]*)\"", block)
        number = re.search(r"\b(?:label_)?id:\s*(\d{1,6})\b", block)
        if name and number:
            names[int(number[1])] = name[1]
    if not names:
        raise DataError(path, 'must hold blocks with name: "..." and id: N, found none')
    return names


def _rows(path: str | os.PathLike[str], min_columns: int) -> Iterator[tuple[int, list[str]]]:
    for line, row in csv_rows(path):
        if len(row) < min_columns:
            raise DataError(path, f"line {line}: must have at least {min_columns} columns, got {len(row)}")
        yield line, row


def _second(path: str | os.PathLike[str] | None, line: int, cell: str) -> int:
    """Seconds are written 902 or 0902 or 902.0."""
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6 or value != int(value):
        raise DataError(path or "", f"line {line}: the second must be a whole number, got {cell!r}")
    return int(value)
