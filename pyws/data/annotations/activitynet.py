"""Labelled segments of videos: ActivityNet JSON in and out, the ``.npy`` annotations of THUMOS14 in.

In memory they are columns (:class:`Instances`), so that thousands of videos are checked, filtered and matched at once.
Two documents travel as JSON, gzipped where the name ends in ``.gz``::

    ground truth  {"database": {VIDEO: {"subset": S, "duration": SECONDS, "annotations": [A, ...]}}}
    detections    {"results": {VIDEO: [D, ...]}}
    where A is {"label": L, "segment": [START, END]} in seconds, and D is the same with a "score"

``duration`` may be absent, ``annotations`` too (test sets have none). Labels that differ in case or spaces are one, the
spelling that comes first; whole numbers are read as text. Annotations of the label "Ambiguous" are ``ambiguous``.
pyws also writes and reads ``tags``, the labels of a whole video, in a video's record, and ``ambiguous``, segments
(VIDEO: [[s, e]]) that no score should count, beside ``database``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyws.data.annotations.names import AMBIGUOUS, label_name, one_spelling
from pyws.data.annotations.other_forms import read_annotations
from pyws.data.annotations.safe_pickle import load_npy
from pyws.errors import DataError
from pyws.files import read_json, read_text, write_json
from pyws.run_manifest import check_sealed

Source = str | os.PathLike[str] | Mapping[str, Any]
Intervals = Mapping[str, Sequence[tuple[float, float]]]
Row = tuple[str, str, float, float, float]
"""Video, label, start and end in seconds, score."""


@dataclass(frozen=True, eq=False)
class Instances:
    """Labelled segments of many videos, one row each, in the order of their file.

    Parameters
    ----------
    videos, labels : the names that the columns refer to
    video, label : (N,) int64 indices into them
    start, end : (N,) float64 seconds
    score : (N,) float64; 1 for ground truth
    """

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    video: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def rows(self) -> Iterator[Row]:
        """Video, label, start, end and score of each."""
        columns = (column.tolist() for column in (self.video, self.label, self.start, self.end, self.score))
        for video, label, start, end, score in zip(*columns, strict=True):
            yield self.videos[video], self.labels[label], start, end, score

    def sizes(self) -> dict[str, int]:
        """The number of rows of each video."""
        return dict(zip(self.videos, np.bincount(self.video, minlength=len(self.videos)).tolist(), strict=True))

    def where(self, chosen: np.ndarray) -> Instances:
        """The rows that a boolean mask or an index array picks; the names stay."""
        columns = (self.video, self.label, self.start, self.end, self.score)
        return Instances(self.videos, self.labels, *(column[chosen] for column in columns))

    def of_videos(self, names: Sequence[str]) -> Instances:
        """The rows of some videos, which keep their order; other names go."""
        wanted = set(names)
        place = np.array([name in wanted for name in self.videos], dtype=bool)
        rows = self.where(place[self.video])
        number = np.cumsum(place) - 1
        kept = tuple(name for name in self.videos if name in wanted)
        return replace(rows, videos=kept, video=number[rows.video])


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of a data set: its instances, and what is known of each video.

    Parameters
    ----------
    instances : the annotated segments
    subset : for each video, "training", "validation", "test", ...
    duration : (videos,) float64 seconds, NaN where it is not given
    tags : for each video, the labels of the video as a whole
    ambiguous : segments, in seconds, in which nothing should be scored
    """

    instances: Instances
    subset: tuple[str, ...]
    duration: np.ndarray
    tags: tuple[tuple[str, ...], ...]
    ambiguous: Intervals = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """Videos and instances of each subset, and where tags and annotations disagree."""
        names: dict[str, set[str]] = {name: set() for name in self.instances.videos}
        for video, label, *_ in self.instances.rows():
            names[video].add(label)
        owner = np.array(self.subset, dtype=object)[self.instances.video]
        subsets = sorted(set(self.subset))
        return {
            "videos": {name: self.subset.count(name) for name in subsets},
            "instances": {name: int((owner == name).sum()) for name in subsets},
            "labels": len(self.instances.labels),
            "label_mismatches": sum(set(tags) != found for tags, found in zip(self.tags, names.values(), strict=True)),
            "videos_without_tags": [v for v, tags in zip(self.instances.videos, self.tags, strict=True) if not tags],
        }


def read_truth(source: Source | Truth) -> Truth:
    """Read ground truth in ActivityNet form.

    Parameters
    ----------
    source : a ``.json`` or ``.json.gz`` file, or one of :mod:`pyws.data.annotations.other_forms`, the document itself
        (numbers may be written as strings, as some releases do), or ground truth already read

    Raises
    ------
    DataError : no such file, not JSON, a missing key, a segment that is not [start, end] with finite start <= end, a
        label that is not a string; names the file, the video and the rule

    Examples
    --------
    >>> record = {"subset": "test", "annotations": [{"label": "Diving", "segment": [1, 4]}]}
    >>> truth = read_truth({"database": {"v1": record}})
    >>> truth.instances.videos, truth.instances.start, truth.tags
    (('v1',), array([1.]), (('Diving',),))
    """
    if isinstance(source, Truth):
        return source
    where, document = _load(source, read_annotations)
    database = _member(where, document, "database", dict)
    records: list[tuple[int, Any]] = []
    for index, (video, record) in enumerate(database.items()):
        if not isinstance(record, dict) or not isinstance(record.get("subset"), str):
            raise DataError(where, f"video {video!r} must be an object with a subset")
        if not isinstance(record.get("annotations", []), list):
            raise DataError(where, f"video {video!r} must have a list of annotations")
        records += ((index, annotation) for annotation in record.get("annotations", []))
    instances, stretches = _without_ambiguous(_columns(where, tuple(database), records, scored=False))
    found: list[dict[str, None]] = [{} for _ in database]
    for index, label in zip(instances.video.tolist(), instances.label.tolist(), strict=True):
        found[index][instances.labels[label]] = None
    tags = [_tags(where, video, database[video], found[index]) for index, video in enumerate(database)]
    spelling = one_spelling((tag for several in tags for tag in several), instances.labels)
    ambiguous = _intervals(where, document.get("ambiguous", {}))
    for video, pairs in stretches.items():
        listed = ambiguous.get(video, [])
        ambiguous[video] = [*listed, *(pair for pair in pairs if pair not in listed)]
    return Truth(
        instances,
        tuple(record["subset"] for record in database.values()),
        np.array([_duration(where, video, record) for video, record in database.items()], dtype=np.float64),
        tuple(tuple(dict.fromkeys(spelling[tag] for tag in several)) for several in tags),
        ambiguous,
    )


def _without_ambiguous(rows: Instances) -> tuple[Instances, dict[str, list[tuple[float, float]]]]:
    """The instances of classes, and the stretches that are labelled as ambiguous, by video."""
    kept = [label for label in range(len(rows.labels)) if rows.labels[label].casefold() != AMBIGUOUS]
    if len(kept) == len(rows.labels):
        return rows, {}
    place = np.full(len(rows.labels), -1)
    place[kept] = np.arange(len(kept))
    stretches: dict[str, list[tuple[float, float]]] = {}
    for row in np.flatnonzero(place[rows.label] < 0):
        stretches.setdefault(rows.videos[rows.video[row]], []).append((float(rows.start[row]), float(rows.end[row])))
    named = replace(rows, labels=tuple(rows.labels[label] for label in kept), label=place[rows.label])
    return named.where(named.label >= 0), stretches


def read_detections(source: Source | Instances) -> Instances:
    """Read detections or proposals in ActivityNet form.

    Parameters
    ----------
    source : a ``.json`` or ``.json.gz`` file, the document itself, or detections already read

    Raises
    ------
    DataError : no such file, not JSON, a missing key, a segment that is not [start, end] with finite
        start <= end, a score that is not finite, a label that is not a string; names the file, the video and the rule

    Examples
    --------
    >>> document = {"results": {"v1": [{"label": "Diving", "score": 0.9, "segment": [1.0, 4.0]}]}}
    >>> read_detections(document).score
    array([0.9])
    >>> document["results"]["v1"][0]["score"] = float("nan")
    >>> read_detections(document)
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: results: video 'v1', entry 0: score must be a finite number, got nan
    """
    return source if isinstance(source, Instances) else read_noted_detections(source)[0]


def read_noted_detections(source: Source) -> tuple[Instances, Mapping[str, Any]]:
    """The same, and what the file says of how they were made (``external_data``)."""
    where, document = _load(source, read_json)
    note = document.get("external_data")
    results = _member(where, document, "results", dict)
    for video, entries in results.items():
        if not isinstance(entries, list):
            raise DataError(where, f"video {video!r} must have a list of entries, got {type(entries).__name__}")
    records = [(index, entry) for index, entries in enumerate(results.values()) for entry in entries]
    return _columns(where, tuple(results), records, scored=True), note if isinstance(note, dict) else {}


def write_truth(path: str | os.PathLike[str], truth: Truth) -> None:
    """Write ground truth in ActivityNet form, with ``tags`` and ``ambiguous``; whole or not at all."""
    write_json(path, truth_document(truth))


def truth_document(truth: Truth) -> dict[str, Any]:
    """Ground truth as the ActivityNet document that :func:`read_truth` reads."""
    rows = truth.instances
    database: dict[str, Any] = {}
    for video, subset, duration, tags in zip(rows.videos, truth.subset, truth.duration, truth.tags, strict=True):
        record = {"subset": subset, "tags": list(tags), "annotations": []}
        database[video] = record if np.isnan(duration) else {"duration": float(duration), **record}
    for video, label, start, end, _ in rows.rows():
        database[video]["annotations"].append({"label": label, "segment": [start, end]})
    ambiguous = {video: [list(pair) for pair in pairs] for video, pairs in truth.ambiguous.items()}
    return {"database": database, "ambiguous": ambiguous}


def write_detections(path: str | os.PathLike[str], detections: Instances, made_by: Mapping[str, Any]) -> None:
    """Write detections in ActivityNet form, whole or not at all; ``made_by`` goes to ``external_data``."""
    write_results(path, results_of(detections), made_by)


def write_results(path: str | os.PathLike[str], results: Mapping[str, Any], made_by: Mapping[str, Any]) -> None:
    """As :func:`write_detections`, from what :func:`results_of` gives."""
    write_json(path, {"version": "pyws", "results": dict(results), "external_data": dict(made_by)}, indent=None)


def results_of(detections: Instances) -> dict[str, list[Any]]:
    """Detections in ActivityNet form: of each video its segments, with label and score."""
    results: dict[str, list[Any]] = {video: [] for video in detections.videos}
    for video, label, start, end, score in detections.rows():
        results[video].append({"label": label, "score": score, "segment": [start, end]})
    return results


def read_wtalc(folder: str | os.PathLike[str]) -> Truth:
    """Read the annotation folder that weakly-supervised work on THUMOS14 shares: ``.npy`` files, some of them pickled.

    Parameters
    ----------
    folder : holds videoname, subset, labels_all, labels, segments and duration (``.npy``), and where the test videos
        have ambiguous stretches ``Ambiguous_test.txt`` with lines ``VIDEO START END``

    Raises
    ------
    DataError : a missing file, an unsafe pickle, files that do not fit together, a bad segment
    """
    return read_truth(wtalc_document(folder))


def wtalc_document(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The annotations that :func:`read_wtalc` reads as an ActivityNet document whose segments nobody has checked."""
    root = Path(folder)
    columns = {}
    for name in ("videoname", "subset", "labels_all", "labels", "segments", "duration"):
        columns[name] = load_npy(root / f"{name}.npy", limit_mib=64)
        wanted, got = len(columns["videoname"]), len(columns[name])
        if got != wanted:
            raise DataError(root / f"{name}.npy", f"must have one entry for each of {wanted} videos, got {got}")
    videos = [_text(name) for name in columns["videoname"]]
    database = {}
    for index, video in enumerate(videos):
        labels, segments = columns["labels"][index], columns["segments"][index]
        if not isinstance(labels, list) or not isinstance(segments, list) or len(labels) != len(segments):
            raise DataError(root / "segments.npy", f"video {video!r} must have as many segments as labels")
        database[video] = {
            "subset": _text(columns["subset"][index]),
            "duration": float(columns["duration"].reshape(len(videos), -1)[index, 0]),
            "tags": [_text(tag) for tag in columns["labels_all"][index]],
            "annotations": [{"label": _text(a), "segment": b} for a, b in zip(labels, segments, strict=True)],
        }
    ambiguous = root / "Ambiguous_test.txt"
    return {"database": database, "ambiguous": read_ambiguous(ambiguous) if ambiguous.exists() else {}}


def read_ambiguous(source: str | os.PathLike[str] | Intervals) -> dict[str, list[tuple[float, float]]]:
    """Read ``VIDEO START END`` lines (seconds) into segments of each video; a mapping is checked and passed on."""
    if isinstance(source, Mapping):
        return _intervals("ambiguous", source)
    found: dict[str, list[Any]] = {}
    for number, line in enumerate(read_text(source).splitlines(), 1):
        words = line.split()
        if len(words) not in (0, 3):
            raise DataError(source, f"line {number} must be VIDEO START END, got {line!r}")
        if words:
            found.setdefault(words[0], []).append(words[1:])
    return _intervals(source, found)


def _load(source: Source, read: Callable[[Any], Any]) -> tuple[str | os.PathLike[str], Mapping[str, Any]]:
    """What errors should name, and the document."""
    if isinstance(source, Mapping):
        return next((name for name in ("database", "results") if name in source), "document"), source
    check_sealed(source)
    document = read(source)
    if not isinstance(document, dict):
        raise DataError(source, f"must be a JSON object, got {type(document).__name__}")
    return source, document


def _member(where: str | os.PathLike[str], document: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(document.get(key), kind):
        known = ", ".join(map(repr, document)) or "nothing"
        raise DataError(where, f"must hold an object {key!r}, got {known}")
    return document[key]


def _columns(
    where: str | os.PathLike[str], videos: tuple[str, ...], records: list[tuple[int, Any]], scored: bool
) -> Instances:
    """Check all records at once; only where something is wrong they are looked at one by one, to say what."""
    try:
        name_of = {label: label_name(label) for label in dict.fromkeys(record["label"] for _, record in records)}
        segments = np.array([record["segment"] for _, record in records] or np.empty((0, 2)), dtype=np.float64)
        score = np.array([record["score"] if scored else 1 for _, record in records], dtype=np.float64)
        good = segments.shape == (len(records), 2) and score.ndim == 1 and None not in name_of.values()
        good = good and bool(np.isfinite(segments).all() and np.isfinite(score).all())
        good = good and bool((segments[:, 0] <= segments[:, 1]).all())
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        good = False
    if not good:
        _explain(where, videos, records, scored)
    spelling = one_spelling(name for name in name_of.values() if name is not None)
    names = [spelling[name_of[record["label"]] or ""] for _, record in records]
    labels = {label: index for index, label in enumerate(dict.fromkeys(names))}
    return Instances(
        videos,
        tuple(labels),
        np.array([index for index, _ in records], dtype=np.int64),
        np.array([labels[name] for name in names], dtype=np.int64),
        segments[:, 0].copy(),
        segments[:, 1].copy(),
        score,
    )


def _explain(
    where: str | os.PathLike[str], videos: tuple[str, ...], records: Iterable[tuple[int, Any]], scored: bool
) -> NoReturn:
    """Raise for the first record that breaks a rule."""
    number, before = 0, -1
    for index, record in records:
        number, before = number + 1 if index == before else 0, index
        place = f"video {videos[index]!r}, entry {number}:"
        if not isinstance(record, dict):
            raise DataError(where, f"{place} must be an object, got {type(record).__name__}")
        for key in ("label", "segment", "score")[: 3 if scored else 2]:
            if key not in record:
                raise DataError(where, f"{place} {key} is missing")
        if label_name(record["label"]) is None:
            raise DataError(where, f"{place} label must be a string or a whole number, got {record['label']!r}")
        if _pair(record["segment"]) is None:
            rule = f"segment must be [start, end] with finite start <= end, got {record['segment']!r}"
            raise DataError(where, f"{place} {rule}")
        if scored and not np.isfinite(_number(record["score"])):
            raise DataError(where, f"{place} score must be a finite number, got {record['score']!r}")
    raise DataError(where, "segments must be pairs of numbers")


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _pair(value: Any) -> tuple[float, float] | None:
    """A start and an end, both finite, start <= end; None where it is anything else."""
    numbers = [_number(one) for one in value] if isinstance(value, (list, tuple)) else []
    good = len(numbers) == 2 and bool(np.isfinite(numbers).all()) and numbers[0] <= numbers[1]
    return (numbers[0], numbers[1]) if good else None


def _duration(where: str | os.PathLike[str], video: str, record: Mapping[str, Any]) -> float:
    if "duration" not in record:
        return np.nan
    duration = _number(record["duration"])
    if not (np.isfinite(duration) and duration >= 0):
        raise DataError(where, f"video {video!r}: duration must be a number of seconds, got {record['duration']!r}")
    return duration


def _tags(
    where: str | os.PathLike[str], video: str, record: Mapping[str, Any], default: Iterable[str]
) -> tuple[str, ...]:
    tags = record.get("tags", list(default))
    names = [label_name(tag) for tag in tags] if isinstance(tags, list) else [None]
    if None in names:
        raise DataError(where, f"video {video!r}: tags must be a list of strings, got {tags!r}")
    return tuple(name for name in names if name is not None and name.casefold() != AMBIGUOUS)


def _intervals(where: str | os.PathLike[str], listed: Any) -> dict[str, list[tuple[float, float]]]:
    if not isinstance(listed, Mapping):
        raise DataError(where, f"ambiguous must be an object VIDEO: [[start, end]], got {type(listed).__name__}")
    found: dict[str, list[tuple[float, float]]] = {}
    for video, pairs in listed.items():
        found[video] = []
        for pair in pairs if isinstance(pairs, (list, tuple)) else [pairs]:
            bounds = _pair(pair)
            if bounds is None:
                rule = f"ambiguous {video!r} must be [start, end] with finite start <= end, got {pair!r}"
                raise DataError(where, rule)
            found[video].append(bounds)
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
