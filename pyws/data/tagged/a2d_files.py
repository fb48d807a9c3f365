"""The files of A2D: videoset.csv, annotations in HDF5 and in colour, the README's table; read and written."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.csv_table import csv_rows, write_table
from pyws.data.hdf5 import check_dataset, open_hdf5
from pyws.data.tagged.label_space import A2D_CODES, A2D_PAIRS, IGNORE, shown_ids
from pyws.data.tagged.rle import box_of
from pyws.data.video.decoders import MAX_PIXELS
from pyws.data.video.frames import palette, read_image, write_picture
from pyws.errors import DataError, loader_says
from pyws.files import atomic_write, read_text

Colours = dict[int, tuple[int, int, int]]
HDF5_SUFFIXES = (".mat", ".h5")
_NUMBER = re.compile(r"[0-9]{1,9}")
_LINE_OF_TABLE = re.compile(r"\s*(\S+)\s+(\d{1,3})\s+([01])\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s*")


@dataclass(frozen=True)
class VideoRow:
    """A row of videoset.csv; ``code`` is 10 * actor + action of its main label, ``usage`` "train" or "test"."""

    name: str
    code: int
    start: str
    end: str
    height: int
    width: int
    frames: int
    annotated: int
    usage: str


@dataclass(frozen=True)
class Annotation:
    """The truth of one frame: ``codes`` (H, W) uint8, the A2D code of each pixel; ``instances`` (N,) codes."""

    codes: NDArray[np.uint8]
    instances: tuple[int, ...]


def read_videoset(path: str | os.PathLike[str]) -> list[VideoRow]:
    """The rows of videoset.csv, which has no header.

    Raises
    ------
    DataError : missing, not text, a row without nine columns, a number that is none, a usage other than 0 and 1, two
        rows of one video; it names the line
    """
    rows: list[VideoRow] = []
    names: set[str] = set()
    for line, cells in csv_rows(path):
        rows.append(_row(path, line, cells))
        if rows[-1].name in names:
            raise DataError(path, f"line {line}: video {rows[-1].name} comes twice")
        names.add(rows[-1].name)
    if not rows:
        raise DataError(path, "has no videos")
    return rows


def _row(path: str | os.PathLike[str], line: int, cells: list[str]) -> VideoRow:
    if len(cells) != 9:
        raise DataError(path, f"line {line}: must have 9 columns, got {len(cells)}")
    name, code, start, end, *numbers, usage = cells
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise DataError(path, f"line {line}: the first column must be the name of a video, got {name!r}")
    if not all(_NUMBER.fullmatch(cell) for cell in (code, *numbers)) or usage not in ("0", "1"):
        rule = "label, height, width, frames and annotated frames must be numbers, usage 0 or 1"
        raise DataError(path, f"line {line}: {rule}, got {','.join(cells)[:200]}")
    height, width, frames, annotated = map(int, numbers)
    return VideoRow(name, int(code), start, end, height, width, frames, annotated, ("train", "test")[int(usage)])


def write_videoset(path: str | os.PathLike[str], rows: Iterable[VideoRow]) -> None:
    """Write videoset.csv, whole or not at all."""
    write_table(path, ((*astuple(row)[:-1], ("train", "test").index(row.usage)) for row in rows))


def read_annotation(path: str | os.PathLike[str], table: Colours | None = None) -> Annotation:
    """The truth of a frame from ``.mat``/``.h5`` (HDF5, as MATLAB 7.3 writes: transposed) or a coloured ``.png``.

    Parameters
    ----------
    path : the file
    table : colours of the codes, needed for a png; a colour that it has not becomes 255

    Raises
    ------
    DataError : missing, unreadable, truncated, without a label map ``reS_id``, of more than MAX_PIXELS; or h5py is
        not installed
    """
    if Path(path).suffix in HDF5_SUFFIXES:
        return _read_hdf5(path)
    if not table:
        raise DataError(path, "is coloured; the colours are in the README of the data set, found none")
    picture = read_image(path).astype(np.int32)
    flat = picture[..., 0] << 16 | picture[..., 1] << 8 | picture[..., 2]
    codes = np.full(flat.shape, IGNORE, np.uint8)
    for code, (red, green, blue) in table.items():
        codes[flat == (red << 16 | green << 8 | blue)] = code
    return Annotation(codes, tuple(shown_ids(codes)))


def read_instances(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The codes of the instances of an HDF5 annotation, without its pixels where it lists them."""
    with open_hdf5(path) as file:
        if "id" in file:
            return tuple(int(code) for code in np.ravel(_numbers(path, file, "id")))
    return _read_hdf5(path).instances


def needed_h5py(folder: Path) -> Any:
    """The module h5py, which annotations in ``folder`` are written with.

    Raises
    ------
    DataError : it is not installed
    """
    try:
        import h5py
    except ImportError as error:
        rule = "annotations of A2D are HDF5 files: pip install 'pyws-video[hdf5]'"
        raise DataError(folder, rule + loader_says(error, "h5py")) from error
    return h5py


def write_annotation(
    folder: Path, video: str, frame: int, codes: Sequence[int], masks: NDArray[np.bool_], table: Colours
) -> None:
    """Write the truth of frame ``frame`` (from 1): ``mat/<video>/<frame>.mat`` and ``col/<video>/<frame>.png``.

    Parameters
    ----------
    codes : (N,) codes of the instances; of pixels that several claim the last has the label
    masks : (N, H, W) bool
    table : colour of each code
    """
    h5py = needed_h5py(folder)
    labels = np.zeros(masks.shape[1:], np.uint8)
    for code, mask in zip(codes, masks, strict=True):
        labels[mask] = code
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_dataset("reS_id", data=labels.T, compression="gzip")
        file["id"] = np.array([codes], np.float64)
        stack = masks[0].T if len(masks) == 1 else masks.transpose(0, 2, 1)
        file.create_dataset("reMask", data=stack.astype(np.uint8), compression="gzip")
        file["reBBox"] = np.array([_box(mask) for mask in masks], np.float64).T
    with atomic_write(folder / "mat" / video / f"{frame:05d}.mat", "wb") as out:
        out.write(memory.getvalue())
    picture = np.zeros((*labels.shape, 3), np.uint8)
    for code, colour in table.items():
        picture[labels == code] = colour
    write_picture(folder / "col" / video / f"{frame:05d}.png", picture)


def colours(codes: Iterable[int] = A2D_CODES) -> Colours:
    """A colour for each code; the background is black."""
    return {code: (int(r), int(g), int(b)) for code in (0, *codes) for r, g, b in [palette()[code]]}


def read_readme(path: str | os.PathLike[str]) -> tuple[tuple[int, ...], Colours]:
    """The codes that are valid, and the colour of each code, from the lines ``NAME ID Valid R G B`` of a README.

    Both are empty where there is no README or it has no such lines.
    """
    lines_of = read_text(path, errors="replace").splitlines() if os.path.isfile(path) else []
    lines = [match.groups() for match in map(_LINE_OF_TABLE.fullmatch, lines_of) if match]
    table = {int(code): (int(r), int(g), int(b)) for _, code, _, r, g, b in lines}
    return tuple(sorted({int(code) for _, code, valid, *_ in lines if valid == "1"} & A2D_PAIRS.keys())), table


def write_readme(path: str | os.PathLike[str], title: str, codes: Sequence[int]) -> None:
    """Write a README with a title and the table of codes and colours; only ``codes`` are valid."""
    table = colours(A2D_PAIRS)
    with atomic_write(path) as file:
        file.write(f"{title}\n\nNAME ID Valid R G B\nbackground 0 0 0 0 0\n")
        for code, pair in A2D_PAIRS.items():
            file.write(f"{'-'.join(pair)} {code} {int(code in codes)} {' '.join(map(str, table[code]))}\n")


def _read_hdf5(path: str | os.PathLike[str]) -> Annotation:
    with open_hdf5(path) as file:
        labels = _numbers(path, file, "reS_id")
        if labels.ndim != 2 or not labels.size:
            raise DataError(path, f"reS_id must be (width, height), got {labels.shape}")
        listed = np.ravel(_numbers(path, file, "id")) if "id" in file else np.unique(labels)
    codes = np.where((labels >= 0) & (labels < IGNORE), labels, IGNORE).astype(np.uint8).T
    return Annotation(np.ascontiguousarray(codes), tuple(int(code) for code in listed if 0 < code < IGNORE))


def _numbers(path: str | os.PathLike[str], file: Any, name: str) -> NDArray[Any]:
    dataset = file.get(name)
    if getattr(dataset, "shape", None) is None or dataset.dtype.kind not in "uifb":
        raise DataError(path, f"must hold numbers under {name!r}, it holds {', '.join(sorted(file)) or 'nothing'}")
    check_dataset(path, name, dataset)
    if dataset.size > MAX_PIXELS:
        raise DataError(path, f"{name} must have at most {MAX_PIXELS} values, got {dataset.shape}")
    return np.nan_to_num(dataset[()].astype(np.float64), nan=IGNORE)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """left, top, right, bottom, from 1 as MATLAB counts; zeros where nothing can be seen."""
    if not mask.any():
        return 0, 0, 0, 0
    top, left, bottom, right = box_of(mask)
    return left + 1, top + 1, right, bottom
