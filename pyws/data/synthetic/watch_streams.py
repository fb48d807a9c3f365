"""Untrimmed streams of real recordings: the watch data of the seglearn package, joined.

Ten people did seven shoulder exercises with each arm, wearing a watch that recorded acceleration and rotation at 50 Hz
(140 recordings of 19 to 52 seconds). A stream joins excerpts of one person's recordings. Five exercises are classes;
TRAP and ROW, the last two of the data's own list, are the untagged background. Every boundary is real up to the cut:
nothing is blended, and no excerpt of a stream overlaps another. Recordings recur in the streams of their person.

A snippet is 32 samples, 0.64 s, as 16 frames are at 25 a second; 64 fixed statistics describe it, 32 of each sensor,
acceleration first: of every axis mean, standard deviation, least, largest, mean absolute difference and the logarithm
of the power in the bands 1.6-3.1, 4.7-6.3, 7.8-12.5 and 14-25 Hz; the correlations of the axes; mean and standard
deviation of the norm. They are standardised by the snippets of the training streams. Nothing is learned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.writers import FeatureVideo, write_data_set
from pyws.errors import DataError, loader_says
from pyws.files import check_bytes, open_regular

WIDTH = 64
BACKGROUND = ("TRAP", "ROW")
TEST_SUBJECTS = (8, 9, 10)
_HERTZ = 50
_WINDOW = 32  # samples of a snippet
_BANDS = ((1, 3), (3, 5), (5, 9), (9, 17))  # bands of the 17 bins of a window's spectrum, 1.5625 Hz apart
_TINY = 1e-4  # smallest power, below what the sensors resolve


@dataclass(frozen=True, eq=False)
class WatchRecordings:
    """The recordings: signals of shape (samples, 6), and of each its exercise (by name) and person."""

    signals: tuple[np.ndarray, ...]
    exercise: tuple[str, ...]
    subject: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Stream:
    """A joined stream: (samples, 6), and its excerpts (exercise, first sample, last sample + 1)."""

    signal: np.ndarray
    excerpts: tuple[tuple[str, int, int], ...]


def read_watch(source: str | os.PathLike[str] | None = None) -> WatchRecordings:
    """Read the recordings from an ``.npz`` file, or from the installed package ``seglearn``.

    Parameters
    ----------
    source : holds X (all samples, 6), length (recordings,), y, subject (recordings,) and y_labels; without it the
        package's own file is read by the package

    Raises
    ------
    DataError : the file is not such an archive, or the package is not installed
    """
    if source is None:
        return _from_package()
    try:
        with open_regular(source) as file, ZipFile(file) as packed:
            check_bytes(source, sum(member.file_size for member in packed.infolist()))
        with np.load(source, allow_pickle=False) as archive:
            parts = {name: archive[name] for name in ("X", "length", "y", "subject", "y_labels")}
        exercise = tuple(str(parts["y_labels"][label]) for label in parts["y"])
    except KeyError as error:
        raise DataError(source, f"must hold an array {error.args[0]!r}") from error
    except IndexError as error:
        raise DataError(source, f"y must be indices into y_labels: {error}") from error
    except DataError:
        raise
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(source, f"is not an .npz archive: {error}") from error
    samples, length = parts["X"], parts["length"]
    if samples.ndim != 2 or samples.shape[1] != 6 or length.sum() != len(samples) or (length < _WINDOW).any():
        rule = f"X must hold the {length.sum()} samples of length, six axes each, {_WINDOW} or more in a recording"
        raise DataError(source, f"{rule}, got {samples.shape}")
    if not len(length) == len(parts["y"]) == len(parts["subject"]):
        raise DataError(source, "length, y and subject must have one entry for each recording")
    signals = tuple(np.split(samples, np.cumsum(length)[:-1]))
    return WatchRecordings(signals, exercise, tuple(parts["subject"].tolist()))


def _from_package() -> WatchRecordings:
    try:
        from seglearn.datasets import load_watch
    except ImportError as error:
        rule = "must be installed (pip install seglearn), or its data given as .npz"
        raise DataError("seglearn", rule + loader_says(error, "seglearn")) from error
    data = load_watch()
    exercise = tuple(str(data["y_labels"][int(label)]) for label in data["y"])
    signals = tuple(np.asarray(signal, dtype=np.float32) for signal in data["X"])
    return WatchRecordings(signals, exercise, tuple(int(subject) for subject in data["subject"]))


def window_features(signal: np.ndarray) -> np.ndarray:
    """The statistics of each whole snippet of a (samples, 6) signal: (snippets, 64) float64.

    Examples
    --------
    >>> window_features(np.zeros((70, 6))).shape
    (2, 64)
    """
    windows = signal[: len(signal) // _WINDOW * _WINDOW].reshape(-1, _WINDOW, 6).astype(np.float64)
    return np.concatenate([_sensor_features(windows[:, :, :3]), _sensor_features(windows[:, :, 3:])], axis=1)


def _sensor_features(windows: np.ndarray) -> np.ndarray:
    mean, deviation = windows.mean(1), windows.std(1)
    power = np.abs(np.fft.rfft(windows - mean[:, None], axis=1)) ** 2 / _WINDOW
    bands = [np.log(power[:, low:high].mean(1) + _TINY) for low, high in _BANDS]
    change = np.abs(np.diff(windows, axis=1)).mean(1)
    centred = (windows - mean[:, None]) / np.maximum(deviation, np.sqrt(_TINY))[:, None]
    pairs = [(centred[:, :, a] * centred[:, :, b]).mean(1, keepdims=True) for a, b in ((0, 1), (0, 2), (1, 2))]
    norm = np.linalg.norm(windows, axis=2)
    spread = np.stack([norm.mean(1), norm.std(1)], axis=1)
    return np.concatenate([mean, deviation, windows.min(1), windows.max(1), change, *bands, *pairs, spread], axis=1)


def join_stream(recordings: WatchRecordings, subject: int, generator: np.random.Generator) -> Stream:
    """Draw one stream: background, then three to eight actions of one or two classes, background between most."""
    mine = [index for index, owner in enumerate(recordings.subject) if owner == subject]
    classes = sorted({recordings.exercise[index] for index in mine} - set(BACKGROUND))
    tags = generator.permutation(classes)[: 1 + int(generator.random() < 0.3)]
    actions = [*tags, *generator.choice(tags, size=generator.integers(3, 9) - len(tags))]
    order = ["background"]
    for action in generator.permutation(actions):
        if order[-1] == action or (order[-1] != "background" and generator.random() < 0.8):
            order.append("background")
        order.append(str(action))
    used: list[tuple[int, int, int]] = []
    pieces: list[np.ndarray] = []
    excerpts: list[tuple[str, int, int]] = []
    length = 0
    for name in [*order, "background"]:
        if excerpts and excerpts[-1][0] == name:
            continue  # no background was left to stand between the two
        wanted = BACKGROUND if name == "background" else (name,)
        sources = [index for index in mine if recordings.exercise[index] in wanted]
        piece = _excerpt(recordings, sources, name == "background", used, generator)
        if piece is not None:
            index, first, last = piece
            used.append(piece)
            pieces.append(recordings.signals[index][first:last])
            excerpts.append((recordings.exercise[index], length, length + last - first))
            length += last - first
    return Stream(np.concatenate(pieces), tuple(excerpts))


def _excerpt(
    recordings: WatchRecordings,
    sources: Sequence[int],
    background: bool,
    used: Sequence[tuple[int, int, int]],
    generator: np.random.Generator,
) -> tuple[int, int, int] | None:
    """A recording and the range of its samples, clear of those in use; None where twenty draws found none."""
    for _ in range(20):
        seconds = float(np.clip(generator.lognormal(np.log(10 if background else 8), 0.5), 3, 20))
        index = int(generator.choice(sources))
        size = min(round(seconds * _HERTZ), len(recordings.signals[index]))
        first = int(generator.integers(len(recordings.signals[index]) - size + 1))
        if all(other != index or first + size <= begin or end <= first for other, begin, end in used):
            return index, first, first + size
    return None


def write_watch(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    streams: int = 8,
    test_subjects: Sequence[int] = TEST_SUBJECTS,
    seed: int = 0,
) -> dict[str, Any]:
    """Write the streams as a data set in the native layout; returns its counts.

    Parameters
    ----------
    folder : new or empty
    source : source of :func:`read_watch`
    streams : streams of each person
    test_subjects : the persons of subset ``test``; the others' streams are for ``training``
    seed : seed of what is joined

    Raises
    ------
    DataError : a bad source, persons that it does not have
    """
    recordings = read_watch(source)
    people = sorted(set(recordings.subject))
    if not set(test_subjects) < set(people) or not test_subjects:
        raise DataError(source or "seglearn", f"test subjects must be some of {people}, got {list(test_subjects)}")
    joined: list[tuple[str, str, Stream]] = []
    for subject in people:
        subset = "test" if subject in test_subjects else "training"
        for number in range(streams):
            generator = np.random.default_rng([seed, subject, number])
            joined.append((f"watch_{subject:02d}_{number:03d}", subset, join_stream(recordings, subject, generator)))
    features = [window_features(stream.signal) for _, _, stream in joined]
    training = np.concatenate([rows for rows, (_, subset, _) in zip(features, joined, strict=True) if subset != "test"])
    mean, deviation = training.mean(0), np.maximum(training.std(0), _TINY)
    videos = [
        _to_write(name, subset, stream, (rows - mean) / deviation)
        for (name, subset, stream), rows in zip(joined, features, strict=True)
    ]
    about = {
        "snippets_per_second": SNIPPETS_PER_SECOND,
        "classes": sorted(set(recordings.exercise) - set(BACKGROUND)),
        "description": "streams joined of the seglearn watch recordings, fixed statistics of 0.64 s windows",
    }
    origin = {"source": os.path.realpath(source) if source else "seglearn", "streams": streams, "seed": seed,
              "test_subjects": list(test_subjects)}  # fmt: skip
    return write_data_set(folder, videos, about, origin)


def _to_write(name: str, subset: str, stream: Stream, features: np.ndarray) -> FeatureVideo:
    annotations = [
        {"label": exercise, "segment": [first / _HERTZ, last / _HERTZ]}
        for exercise, first, last in stream.excerpts
        if exercise not in BACKGROUND
    ]
    tags = sorted({exercise for exercise, _, _ in stream.excerpts} - set(BACKGROUND))
    record = {"subset": subset, "duration": len(stream.signal) / _HERTZ, "tags": tags, "annotations": annotations}
    shape = (len(features), WIDTH)
    return FeatureVideo(name, record, shape, lambda: features)
