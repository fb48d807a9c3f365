"""Features of many videos in one file: packs, and the index that says which video lies in which.

A folder of features may hold, beside files of single videos::

    index.jsonl               a line a pack: {"pack": NAME, "bytes": size, "videos": {VIDEO: {"shape", "times"}}}
    pack-00000.safetensors    tensors VIDEO/features, VIDEO/seconds, VIDEO/scores; notes of the videos

A pack is never changed: of two lines that name a video the later one counts, and a file of its own counts before
both; a line ``{"removed": [VIDEO]}`` takes videos out. Packs are mapped into memory: only what is asked for is read.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pyws.data.features.time_base import TimeBase, read_time_base
from pyws.errors import DataError, reading
from pyws.files import append_line, atomic_write, check_bytes, check_regular, parse_json, read_text
from pyws.progress import track

INDEX = "index.jsonl"
NOT_SAFETENSORS = "is truncated or not safetensors"  # what is said of a file that cannot be read
MAX_VIDEOS = 10_000  # largest pack: the header of a safetensors file may have 100 MB
_PACK = re.compile(r"pack-\d{5,9}\.safetensors")
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4}
_OPEN = 64  # packs that stay open


@dataclass(frozen=True)
class PackedVideo:
    """The features of one video in a pack.

    Parameters
    ----------
    path : the pack
    name : name of the video
    size : bytes of the pack, as the index says
    dims : (snippets, width), as the index says
    timed : whether the pack says when the snippets are, as the index says
    """

    path: Path
    name: str
    size: int
    dims: tuple[int, ...]
    timed: bool

    def shape(self) -> tuple[int, ...]:
        """As the index says, of a pack that is all there."""
        with reading(self.path):
            size = os.stat(self.path).st_size
        if size != self.size:
            raise DataError(self.path, f"must have {self.size} bytes as {INDEX} says, got {size}")
        check_bytes(self.path, math.prod(self.dims) * 8)
        return self.dims

    def read(self) -> np.ndarray:
        array = self.tensor("features")
        if array is None:
            raise DataError(self.path, f"must hold features of {self.name!r} as {INDEX} says")
        return array

    def times(self) -> TimeBase | None:
        """When its snippets are, where the pack says so."""
        seconds = self.tensor("seconds") if self.timed else None
        return None if seconds is None else read_time_base(self.path, seconds, self.note())

    def note(self) -> dict[str, Any]:
        """What `pyws features` says of how the features were made; empty of others."""
        return self._pack().note(self.name)

    def tensor(self, name: str) -> np.ndarray | None:
        """A tensor of the video, such as "scores"; None where it has none of that name."""
        return self._pack().tensor(f"{self.name}/{name}")

    def _pack(self) -> _Pack:
        self.shape()
        state = os.stat(self.path)
        return _opened(self.path, (state.st_ino, state.st_size, state.st_mtime_ns))


class _Pack:
    """An open pack: mapped into memory, its header read."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        check_regular(path)
        self.path, self.file = path, safe_open(path, framework="numpy")
        self.keys = set(self.file.keys())
        said = self.file.metadata() or {}
        try:
            self.shared, self.own = (parse_json(said.get(key, "{}")) for key in ("pyws", "videos"))
        except (ValueError, RecursionError) as error:
            raise DataError(path, f"must have its notes in JSON: {error}") from error
        if not (isinstance(self.shared, dict) and isinstance(self.own, dict)):
            raise DataError(path, "must have its notes in objects of JSON")

    def note(self, video: str) -> dict[str, Any]:
        own = self.own.get(video, {})
        return {**self.shared, **(own if isinstance(own, dict) else {})}

    def tensor(self, key: str) -> np.ndarray | None:
        if key not in self.keys:
            return None
        with reading(self.path, NOT_SAFETENSORS):
            check_bytes(self.path, math.prod(self.file.get_slice(key).get_shape()) * 8)
            array: np.ndarray = self.file.get_tensor(key)
        return array


@lru_cache(maxsize=_OPEN)
def _opened(path: Path, state: tuple[int, ...]) -> _Pack:
    with reading(path, NOT_SAFETENSORS):
        return _Pack(path)


def note_of(path: Path, file: Any) -> dict[str, Any]:
    """The note of `pyws features` in an open safetensors file.

    Raises
    ------
    DataError : the note is not a JSON object
    """
    try:
        note = parse_json((file.metadata() or {}).get("pyws", "{}"))
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"must have a note in JSON: {error}") from error
    return note if isinstance(note, dict) else {}


def packed_in(folder: Path) -> dict[str, PackedVideo]:
    """The videos that the packs of a folder hold, by name; packs are not opened.

    Raises
    ------
    DataError : an index that cannot be
    """
    found: dict[str, PackedVideo] = {}
    for line in _lines(folder):
        if "removed" in line:
            for name in line["removed"]:
                found.pop(name, None)
        else:
            path = folder / line["pack"]
            for name, one in line["videos"].items():
                found[name] = PackedVideo(path, name, line["bytes"], tuple(one["shape"]), one["times"])
    return found


def check_videos_per_file(count: int | None) -> None:
    """Raise where there can be no packs of so many videos; None is no pack.

    Raises
    ------
    ValueError : not from 1 to 10,000
    """
    if count is not None and not 1 <= count <= MAX_VIDEOS:
        raise ValueError(f"--videos-per-file: must be from 1 to {MAX_VIDEOS}, got {count}")


def is_pack(name: str) -> bool:
    """Whether a file is called as packs are."""
    return _PACK.fullmatch(name) is not None


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of an index, checked; the last one of a run that was killed may not be whole, and does not count."""
    path = folder / INDEX
    if not path.exists():
        return []
    *lines, _ = read_text(path).split("\n")
    return [_checked(path, number, line) for number, line in enumerate(lines, 1) if line]


def _checked(path: Path, number: int, text: str) -> dict[str, Any]:
    rule = f"line {number} must name a pack, its bytes and its videos with their shapes"
    try:
        line = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"{rule}: {error}") from error
    if isinstance(line, dict) and set(line) == {"removed"} and isinstance(line["removed"], list):
        if all(isinstance(name, str) for name in line["removed"]):
            return line
    elif isinstance(line, dict) and isinstance(line.get("pack"), str) and is_pack(line["pack"]):
        videos = line.get("videos")
        if type(line.get("bytes")) is int and isinstance(videos, dict) and all(map(_is_entry, videos.values())):
            return line
    raise DataError(path, rule)


def _is_entry(entry: Any) -> bool:
    if not (isinstance(entry, dict) and type(entry.get("times")) is bool and isinstance(entry.get("shape"), list)):
        return False
    return all(type(size) is int and 0 <= size < 2**48 for size in entry["shape"])


def pack_videos(folder: Path, videos: Sequence[str], count: int, quiet: bool = True) -> None:
    """Move the features of videos from files of their own, ``VIDEO.safetensors`` in a folder, into packs.

    A pack that was written is named by the index before the files are removed: interrupted, the next call goes on, and
    the packs are the same bytes.

    Parameters
    ----------
    folder : where the files lie
    videos : in the order in which they are packed; those without a file of their own are packed already
    count : number of videos in a pack; the last one has what is left
    quiet : show no progress
    """
    left = [name for name in videos if (folder / f"{name}.safetensors").is_file()]
    first = sum("pack" in line for line in _lines(folder))
    _mend(folder / INDEX)
    chunks = [left[start : start + count] for start in range(0, len(left), count)]
    for number, chunk in enumerate(track(chunks, "packing", quiet=quiet), first):
        path = folder / f"pack-{number:05}.safetensors"
        entries = _write_pack(path, [folder / f"{name}.safetensors" for name in chunk], chunk)
        said = {"pack": path.name, "bytes": path.stat().st_size, "videos": entries}
        append_line(folder / INDEX, json.dumps(said, allow_nan=False))
        for name in chunk:
            (folder / f"{name}.safetensors").unlink()


def remove_packed(folder: Path, videos: Sequence[str]) -> None:
    """Take videos out of the index of a folder, those that are there."""
    packed = packed_in(folder)
    gone = [name for name in videos if name in packed]
    if gone:
        _mend(folder / INDEX)
        append_line(folder / INDEX, json.dumps({"removed": gone}))


def move_packs(source: Path, target: Path) -> None:
    """Move packs and their index into another folder, the index last; interrupted, the next call goes on."""
    if not (source / INDEX).is_file():
        return
    for name in [*filter(is_pack, sorted(os.listdir(source))), INDEX]:
        with contextlib.suppress(FileNotFoundError):  # another shard moved it
            os.replace(source / name, target / name)


def _mend(index: Path) -> None:
    """Drop a last line that is not whole."""
    if index.is_file():
        text = index.read_bytes()
        if text and not text.endswith(b"\n"):
            os.truncate(index, text.rfind(b"\n") + 1)


def _write_pack(path: Path, files: Sequence[Path], videos: Sequence[str]) -> dict[str, Any]:
    """Write a pack, a video in memory at a time; returns the entries of the index."""
    from safetensors import safe_open

    header: dict[str, Any] = {}
    notes: dict[str, dict[str, Any]] = {}
    for file, video in zip(files, videos, strict=True):
        with reading(file, NOT_SAFETENSORS), safe_open(file, framework="numpy") as one:
            notes[video] = note_of(file, one)
            for key in sorted(one.keys()):
                part = one.get_slice(key)
                header[f"{video}/{key}"] = {"dtype": part.get_dtype(), "shape": part.get_shape()}
    # Eight bytes first: what is read in place must lie at a multiple of its size.
    order = sorted(header, key=lambda key: -_ITEM_BYTES[header[key]["dtype"]])
    end = 0
    for key in order:
        start, end = end, end + math.prod(header[key]["shape"]) * _ITEM_BYTES[header[key]["dtype"]]
        header[key]["data_offsets"] = [start, end]
    shared = _shared(list(notes.values()))
    own = {video: {key: note[key] for key in note if key not in shared} for video, note in notes.items()}
    about = {"__metadata__": {"pyws": json.dumps(shared), "videos": json.dumps(own)}}
    text = json.dumps(about | {key: header[key] for key in order}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            video, _, name = key.rpartition("/")
            file = path.with_name(f"{video}.safetensors")
            with reading(file, NOT_SAFETENSORS), safe_open(file, framework="numpy") as one:
                out.write(one.get_tensor(name).tobytes())
    return {
        video: {"shape": header[f"{video}/features"]["shape"], "times": f"{video}/seconds" in header}
        for video in videos
    }


def _shared(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all notes say."""
    first, *others = notes
    return {key: value for key, value in first.items() if all(key in one and one[key] == value for one in others)}
