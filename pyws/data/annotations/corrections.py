"""What people said of segments that were found: where a label is, and where it is not.

``corrections.json`` beside a data set of features, as ``pyws import`` writes it::

    {"format": "pyws corrections", "version": 1,
     "videos": {VIDEO: {"present": [A, ...], "absent": [A, ...], "from": FILE}}}
    where A is {"label": L, "segment": [START, END]} in seconds

Of a label that a video says nothing of, and between its segments, nothing is known.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.errors import DataError
from pyws.files import read_json, write_json

CORRECTIONS = "corrections.json"
_FORMAT = {"format": "pyws corrections", "version": 1}

Spans = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Corrected:
    """What people said of one video.

    Parameters
    ----------
    present, absent : (label, start, end) in seconds
    source : the file that says so
    """

    present: Spans = ()
    absent: Spans = ()
    source: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that something is said of."""
        return tuple(dict.fromkeys(label for label, *_ in (*self.present, *self.absent)))

    def known(self, label: str, middles: NDArray[np.float64], rows: str = "sum") -> NDArray[np.float64]:
        """Snippet labels that follow, NaN where nothing does; see ``known`` of :func:`pyws.segments.linpro`.

        Parameters
        ----------
        label : label of the column
        middles : (L,) seconds of the middle of each snippet
        rows : "sum": the labels of a segment add up to 1; "mean": each is 1

        Examples
        --------
        >>> one = Corrected((("Diving", 1.0, 3.0),), (("Diving", 3.0, 4.0),))
        >>> one.known("Diving", np.arange(6) + 0.5).tolist()
        [nan, 0.5, 0.5, 0.0, nan, nan]
        """
        found = np.full(len(middles), np.nan)
        for name, start, end in self.absent:
            if name == label:
                found[(start <= middles) & (middles < end)] = 0.0
        for name, start, end in self.present:
            if name == label and len(middles):
                inside = np.flatnonzero((start <= middles) & (middles < end))
                if not len(inside):  # shorter than a snippet
                    inside = np.array([np.abs(middles - (start + end) / 2).argmin()])
                found[inside] = 1.0 if rows == "mean" else 1.0 / len(inside)
        return found


def read_corrections(path: str | os.PathLike[str]) -> dict[str, Corrected]:
    """Read a file of corrections; a folder's ``corrections.json``, empty where it has none.

    Raises
    ------
    DataError : no such file, of another format, or a segment that is none; names the video
    """
    if os.path.isdir(path):
        path = Path(path) / CORRECTIONS
        if not path.exists():
            return {}
    document = read_json(path)
    fits = isinstance(document, dict) and _FORMAT.items() <= document.items()
    if not fits or not isinstance(document.get("videos"), dict):
        raise DataError(path, "must be corrections that pyws import wrote")
    found = {}
    for video, record in document["videos"].items():
        if not isinstance(record, dict):
            raise DataError(path, f"video {video!r} must be an object")
        present, absent = (_spans(path, video, record.get(key, [])) for key in ("present", "absent"))
        found[video] = Corrected(present, absent, str(record.get("from", "")))
    return found


def write_corrections(path: str | os.PathLike[str], corrections: Mapping[str, Corrected]) -> None:
    """Write a file of corrections, whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / CORRECTIONS
    >>> write_corrections(path, {"v": Corrected((("Diving", 1.0, 2.5),))})
    >>> read_corrections(path.parent)
    {'v': Corrected(present=(('Diving', 1.0, 2.5),), absent=(), source='')}
    """
    write_json(path, corrections_document(corrections))


def corrections_document(corrections: Mapping[str, Corrected]) -> dict[str, Any]:
    """Corrections as JSON."""
    videos = {
        video: {
            key: [{"label": label, "segment": [start, end]} for label, start, end in getattr(one, key)]
            for key in ("present", "absent")
        }
        | {"from": one.source}
        for video, one in corrections.items()
    }
    return {**_FORMAT, "videos": videos}


def _spans(path: str | os.PathLike[str], video: str, listed: Any) -> Spans:
    found = []
    for one in listed if isinstance(listed, list) else [listed]:
        try:
            (start, end), label = map(float, one["segment"]), one["label"]
            good = isinstance(label, str) and bool(np.isfinite([start, end]).all()) and start < end
        except (TypeError, KeyError, ValueError):
            good = False
        if not good:
            rule = "must have segments {label, segment: [start, end]} with finite start < end"
            raise DataError(path, f"video {video!r} {rule}, got {str(one)[:80]}")
        found.append((label, start, end))
    return tuple(found)
