"""Activation maps in files: those that pyws writes, and class scores of any network."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyws.checkpoint import read_tensors, write_checkpoint
from pyws.data.annotations.activitynet import Instances, Truth
from pyws.data.csv_table import ROW_NUMBERS, columns_of, is_number
from pyws.data.features.archives import ArchivedArray
from pyws.data.features.dataset import FeatureSet, check_finite
from pyws.data.features.files import stored_in, stored_videos
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.streams import Stored
from pyws.data.features.time_base import read_label_note, to_seconds
from pyws.errors import DataError, reading
from pyws.ops.segments.linpro import linpro
from pyws.ragged import Segments
from pyws.segments.config import ProposalConfig
from pyws.segments.detection.inference import Maps
from pyws.segments.detection.postprocess import GRID, PostprocessConfig, postprocess
from pyws.segments.detection.proposals import propose

KIND = "pyws activation maps"
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # thresholds of maps in [0, 1]
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda values: values,
    "sigmoid": torch.sigmoid,
    "softmax": lambda values: values.softmax(1),
}
_SECONDS = "/seconds"  # ends the name of the tensor that says when the snippets of a video are
_NUMBERS = {torch.float16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_MOST = float(np.finfo(np.float32).max)
_TOP = 8  # a class is scored by the mean of its highest eighth


@dataclass(frozen=True, eq=False)
class VideoMap:
    """The activation map of one video.

    Parameters
    ----------
    values : (L, K) float32
    edges : (L+1,) float64 seconds: where each snippet begins, and where the last ends
    scores : (K,) float32 of the video; None where nobody scored it
    """

    values: np.ndarray
    edges: np.ndarray
    scores: np.ndarray | None = None

    @property
    def video_scores(self) -> np.ndarray:
        """(K,) the scores, or else of each class the mean of its highest eighth of the snippets, at least one.

        Examples
        --------
        >>> VideoMap(np.array([[0.2, 0.9], [0.6, 0.1]]), np.arange(3.0)).video_scores.tolist()
        [0.6, 0.9]
        """
        if self.scores is not None:
            return self.scores
        top = -(-len(self.values) // _TOP)
        found: np.ndarray = np.sort(self.values, axis=0)[-top:].mean(axis=0)
        return found

    def document(self) -> dict[str, Any]:
        """The same as JSON holds it, bit for bit."""
        arrays = {"values": self.values, "edges": self.edges, "scores": self.scores}
        return {name: None if array is None else packed(array) for name, array in arrays.items()}

    @staticmethod
    def of(document: Mapping[str, Any]) -> VideoMap:
        """What :meth:`document` gave."""
        return VideoMap(*(None if document[name] is None else unpacked(document[name])
                          for name in ("values", "edges", "scores")))  # type: ignore[arg-type]  # fmt: skip


def packed(array: np.ndarray) -> list[Any]:
    """An array as JSON holds it, bit for bit."""
    raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return [raw.dtype.str, list(raw.shape), base64.b64encode(zlib.compress(raw.tobytes(), 1)).decode()]


def unpacked(document: Sequence[Any]) -> np.ndarray:
    """The array that :func:`packed` was given."""
    kind, shape, text = document
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).reshape(shape).copy()


class KeptMaps:
    """Filled by :func:`pyws.segments.detection.inference.detect` with the whole map of each video.

    Parameters
    ----------
    data : the videos
    """

    def __init__(self, data: FeatureSet) -> None:
        self.data = data
        self.maps: dict[int, VideoMap] = {}

    def add(self, maps: Maps, found: dict[str, Segments], keys: torch.Tensor) -> None:
        """As :meth:`pyws.segments.detection.inference.Observer.add`."""
        offsets, tcam, scores = maps.offsets, maps.tcam, maps.scores
        classes = len(self.data.classes)
        for row, video in enumerate(maps.videos):
            values = tcam[int(offsets[row]) : int(offsets[row + 1]), :classes].float().numpy()
            places = np.arange(len(values) + 1, dtype=np.float64)
            edges = self.data.seconds(np.full(len(places), video), places)
            self.maps[video] = VideoMap(values, edges, scores[row, :classes].float().numpy())


def labels_of(one: VideoMap, rows: Instances) -> np.ndarray:
    """(L, K) snippet labels that LinPro makes of the segments of a video, each as high as the segment's score.

    Parameters
    ----------
    one : the map, which says when the snippets are
    rows : the segments of this video, labels as the columns of the map
    """
    start, end = (
        np.interp(bound, one.edges, np.arange(len(one.edges))).round(GRID) for bound in (rows.start, rows.end)
    )
    columns = np.unique(rows.label)
    groups = [
        list(zip(*(column[rows.label == label].tolist() for column in (start, end, rows.score)), strict=True))
        for label in columns
    ]
    labels = np.zeros(one.values.shape, np.float32)
    if groups:
        lengths = torch.full((len(groups),), len(one.values))
        solved = linpro(Segments.of(groups), lengths, rows="mean")
        labels[:, columns] = solved.labels.numpy().reshape(len(groups), -1).T
    return labels


def segments_of(
    name: str,
    found: VideoMap,
    classes: Sequence[str],
    proposals: ProposalConfig,
    config: PostprocessConfig,
    wanted: np.ndarray | None = None,
) -> Instances:
    """The segments of one video by its activation map.

    Parameters
    ----------
    name : name of the video
    found : its map
    classes : classes of its columns
    proposals : how the map becomes candidates
    config : how candidates become segments
    wanted : (K,) bool, propose these classes only

    Examples
    --------
    >>> one = VideoMap(np.array([[0.1], [0.9], [0.8], [0.1]]), np.arange(5.0))
    >>> rules = ProposalConfig(thresholds=(0.5,), margin=0.5)
    >>> rows = segments_of("v", one, ["jump"], rules, PostprocessConfig("none"))
    >>> rows.start.tolist(), rows.end.tolist(), rows.score.round(6).tolist()
    ([1.0], [3.0], [0.75])
    """
    values, scores = torch.from_numpy(found.values), torch.from_numpy(found.video_scores)[None]
    if wanted is not None:
        scores = scores.masked_fill(~torch.from_numpy(wanted), -torch.inf)
        # Even "all classes" leaves out those that are not wanted.
        proposals = replace(proposals, class_threshold=max(proposals.class_threshold, float(np.finfo("f4").min)))
    segments, _ = postprocess(propose(proposals, values, torch.tensor([0, len(values)]), scores), config)
    label = np.repeat(np.arange(len(classes)), segments.offsets.diff().numpy())
    places = np.arange(len(found.edges))
    start, end = (np.interp(bound.numpy().round(GRID), places, found.edges) for bound in (segments.start, segments.end))
    rows = Instances((name,), tuple(classes), np.zeros_like(label), label, start, end, segments.score.numpy())
    return rows.where(end > start)


def write_maps(path: str | os.PathLike[str], maps: Mapping[str, VideoMap], classes: Sequence[str]) -> None:
    """Write activation maps as one safetensors file: of each video its (L, K) float32 values by the video's name, and
    ``VIDEO/seconds``, the (L+1,) edges of its snippets."""
    tensors = {}
    for name, one in maps.items():
        tensors[name] = torch.from_numpy(np.ascontiguousarray(one.values, dtype=np.float32))
        tensors[name + _SECONDS] = torch.from_numpy(np.ascontiguousarray(one.edges, dtype=np.float64))
    scores = {name: one.scores.tolist() for name, one in maps.items() if one.scores is not None}
    write_checkpoint(path, KIND, tensors, {"classes": list(classes), "videos": list(maps), "scores": scores})


@dataclass(frozen=True, eq=False)
class MapFiles:
    """Activation maps that lie in files, read one at a time.

    Parameters
    ----------
    path : the file or folder
    classes : classes of the columns
    edges : (L+1,) seconds of each video, where the files say
    stored : the arrays, by video
    scores : scores of videos, where the files say
    """

    path: Path
    classes: tuple[str, ...]
    stored: Mapping[str, Stored]
    edges: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]

    def read(self, video: str, snippets_per_second: float | None = None, truth: Truth | None = None) -> VideoMap:
        """The map of a video.

        Parameters
        ----------
        video : its name
        snippets_per_second : rate of the map; if None, as the file says, or else the map spans the duration of the
            video
        truth : gives the durations

        Raises
        ------
        DataError : not (snippets, classes) finite numbers, or nothing says when the snippets are
        """
        values = self._values(video)
        scores = self.scores.get(video)
        if video in self.edges:
            return VideoMap(values, self.edges[video], scores)
        places = np.arange(len(values) + 1)
        if snippets_per_second is not None:
            return VideoMap(values, to_seconds(places, snippets_per_second), scores)
        durations = {} if truth is None else dict(zip(truth.instances.videos, truth.duration, strict=True))
        duration = durations.get(video, np.nan)
        if not duration > 0:
            rule = f"nothing says when the snippets of {video!r} are: give --snippets-per-second, or --truth with its"
            raise DataError(self.path, f"{rule} duration")
        return VideoMap(values, to_seconds(places, len(values) / duration), scores)

    def _values(self, video: str) -> np.ndarray:
        stored, classes = self.stored[video], len(self.classes)
        shape = stored.shape()
        where = getattr(stored, "path", self.path)
        if len(shape) != 2 or min(shape) < 1 or shape[1] != classes:
            turned = "; it looks transposed" if len(shape) == 2 and shape[0] == classes else ""
            rule = f"the map of {video!r} must have shape (snippets, {classes} classes), got {shape}{turned}"
            raise DataError(where, rule)
        values = stored.read()
        if values.dtype.kind not in "fiu":
            raise DataError(where, f"the map of {video!r} must be numbers, got {values.dtype}")
        values = np.require(values, np.float32, ["C", "W"])
        check_finite(where, f"the map of {video!r}", values)
        return values


@dataclass(frozen=True, eq=False)
class _Held:
    """An array that is read already."""

    path: Path
    array: np.ndarray

    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self) -> np.ndarray:
        return self.array


def open_maps(path: str | os.PathLike[str], classes: Sequence[str] = ()) -> MapFiles:
    """Activation maps or frame scores, of one video or many.

    Parameters
    ----------
    path : a safetensors file of :func:`write_maps` or of ``pyws segments labels``, or any with an array for each
        video; a file ``.npy`` or ``.csv`` of one video, ``.npz``, HDF5 or a pickle of one or many; or a folder of these
    classes : classes of the columns; may be left out where the file or the header of a table names them

    Raises
    ------
    DataError : nothing there, no classes known, or other classes than the file's
    """
    path = Path(path)
    if not path.exists():
        raise DataError(path, "is missing")
    edges: dict[str, np.ndarray] = {}
    scores: dict[str, np.ndarray] = {}
    named: tuple[str, ...] = ()
    if path.is_file() and path.suffix == ".safetensors":
        tensors, header = read_tensors(path)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor.dtype in _NUMBERS}
        stored: dict[str, Stored] = {name: _Held(path, array) for name, array in arrays.items()}
        if header.get("kind") == KIND:
            with reading(path, "does not say its videos, classes and scores as pyws segments predict does"):
                named, edges, scores = _of_facts(header["facts"], arrays)
            stored = {video: stored[video] for video in edges}
        elif header:
            raise DataError(path, f"must hold activation maps, got a {header.get('kind')}")
        else:
            named, edges = _of_labels(path, stored)
    else:
        stored = stored_in(path) if path.is_dir() else stored_videos(path)
        named = _of_tables(stored)
    if not stored:
        raise DataError(path, "must hold activation maps (.safetensors, .npy, .npz, .csv, ...), got none")
    if named and classes and tuple(classes) != named:
        raise DataError(path, f"is of the classes {', '.join(named)}; --classes says {', '.join(classes)}")
    if not (named or classes):
        raise DataError(path, "does not say the classes of its columns: name them with --classes")
    return MapFiles(path, named or tuple(classes), stored, edges, scores)


def _of_facts(
    facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[tuple[str, ...], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Classes, and edges and scores of the videos, that :func:`write_maps` noted.

    Raises
    ------
    KeyError, TypeError, ValueError : facts that it does not note, or that are of other arrays
    """
    videos, classes = facts["videos"], facts["classes"]
    for names in (videos, classes):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"names must be a list of texts, got {str(names)[:80]}")
    edges = {video: arrays[video + _SECONDS] for video in videos}
    scores = {video: np.array(facts["scores"][video], np.float64) for video in videos if video in facts["scores"]}
    for video in videos:
        if edges[video].shape != (len(arrays[video]) + 1,) or not (np.diff(edges[video]) >= 0).all():
            raise ValueError(f"{video!r} must have an edge more than snippets, in their order")
        if video in scores and not (scores[video].shape == (len(classes),) and (abs(scores[video]) <= _MOST).all()):
            raise ValueError(f"{video!r} must have a finite score of each class")
    return tuple(classes), edges, {video: found.astype(np.float32) for video, found in scores.items()}


def _of_labels(path: Path, stored: Mapping[str, Stored]) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Classes, and edges of snippets, that the report beside labels says; nothing without one."""
    if not Path(f"{path}.json").exists():
        return (), {}
    note = read_label_note(path, SNIPPETS_PER_SECOND)
    return note.classes, {
        video: note.grids.edges_of(video, *lasting) for video, lasting in note.lasting.items() if video in stored
    }


def _of_tables(stored: Mapping[str, Stored]) -> tuple[str, ...]:
    """Classes that the headers of tables name, in one order; nothing without tables or headers."""
    tables = sorted(
        {one.path for one in stored.values() if isinstance(one, ArchivedArray) and one.path.suffix == ".csv"}
    )
    headers = [_header_of(table) for table in tables]
    for table, names in zip(tables, headers, strict=True):
        if names != headers[0]:
            rule = f"must have the columns of {tables[0].name}, in their order ({', '.join(headers[0]) or 'no header'})"
            raise DataError(table, f"{rule}, got {', '.join(names) or 'no header'}")
    return headers[0] if headers else ()


def _header_of(table: Path) -> tuple[str, ...]:
    """Names of the columns of a table of numbers, but of those that number its rows; empty without a header."""
    names = [name for name in columns_of(table) if name.lower() not in ROW_NUMBERS]
    return () if any(is_number(name.lower()) for name in names) else tuple(names)
