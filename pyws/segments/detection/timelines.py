"""What a network says of each video, thinned to what a report shows: activation, proposals, segments, truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyws.data.features.dataset import FeatureSet
from pyws.distributed import Group
from pyws.errors import DataError
from pyws.files import read_json, write_json
from pyws.ragged import Segments
from pyws.segments.detection.inference import Maps
from pyws.segments.detection.postprocess import GRID

POINTS, SEGMENTS = 240, 60  # points of a curve; best scored segments of a video
FORMAT = "pyws timelines"


class Timelines:
    """Filled by :func:`pyws.segments.detection.inference.detect`, which sees all of it pass by.

    Parameters
    ----------
    data : the videos
    """

    def __init__(self, data: FeatureSet) -> None:
        self.data = data
        self._seen: list[tuple[int, dict[str, Any]]] = []

    def add(self, maps: Maps, found: dict[str, Segments], keys: Tensor) -> None:
        """As :meth:`pyws.segments.detection.inference.Observer.add`."""
        offsets, scores = maps.offsets, maps.scores
        classes = len(self.data.classes)
        for row, video in enumerate(maps.videos):
            tags = np.flatnonzero(self.data.tags[video])
            others = [label for label in scores[row, :classes].argsort(descending=True).tolist() if label not in tags]
            shown = [*tags.tolist(), *others[:1]]
            curves = maps.tcam[int(offsets[row]) : int(offsets[row + 1])]
            document = {
                "activation": {self.data.classes[label]: _thinned(curves[:, label]) for label in shown},
                "scores": [round(float(score), 4) for score in scores[row, :classes]],
            }
            groups = ((keys >= row * classes) & (keys < (row + 1) * classes)).nonzero().squeeze(1).tolist()
            document |= {name: self._rows(video, segments, groups, keys) for name, segments in found.items()}
            self._seen.append((video, document))

    def _rows(self, video: int, segments: Segments, groups: list[int], keys: Tensor) -> list[list[Any]]:
        """The best segments of a video: start and end in seconds, class, score."""
        rows: list[list[Any]] = []
        for group in groups:
            one = segments.group(group)
            places = torch.stack([one.start, one.end]).numpy().round(GRID)
            start, end = (self.data.seconds(np.full(len(row), video), row) for row in places)
            label = self.data.classes[int(keys[group]) % len(self.data.classes)]
            columns = zip(start.tolist(), end.tolist(), one.score.tolist(), strict=True)
            rows += [[round(s, 3), round(e, 3), label, round(score, 5)] for s, e, score in columns if e > s]
        return sorted(rows, key=lambda row: -row[3])[:SEGMENTS]

    def documents(self, group: Group = Group()) -> dict[int, dict[str, Any]]:  # noqa: B008
        """What all processes have seen, by the index of the video."""
        return dict(sorted(group.gather(self._seen), key=lambda entry: entry[0]))


def write_timelines(path: Path, data: FeatureSet, documents: Mapping[int, Mapping[str, Any]]) -> None:
    """Write what a network says of videos, with what is known of them.

    Parameters
    ----------
    path : ``.json.gz``
    data : the videos
    documents : results of :meth:`Timelines.documents`
    """
    sources = sources_of(data)
    truth = None if data.truth is None else data.truth.instances
    videos = {}
    for video, document in documents.items():
        name = data.names[video]
        tags = [data.classes[label] for label in np.flatnonzero(data.tags[video])]
        facts = {"seconds": round(float(data.ends[video]), 3), "tags": tags, "source": sources.get(name)}
        videos[name] = {
            **facts,
            **document,
            "truth": []
            if truth is None
            else [[start, end, label] for _, label, start, end, _ in truth.of_videos([name]).rows()],
        }
    about = {"format": FORMAT, "classes": list(data.classes), "has_truth": truth is not None and len(truth) > 0}
    write_json(path, {**about, "videos": videos}, None)


def sources_of(data: FeatureSet) -> dict[str, str]:
    """The videos that features were made of, where `pyws features` made them."""
    folders = {path.parent.parent for stored in data.stored if (path := getattr(stored, "path", None)) is not None}
    found: dict[str, str] = {}
    for folder in folders:
        try:
            entries = read_json(folder / "manifest.json")["videos"]
            found |= {name: entry["source"] for name, entry in entries.items() if "source" in entry}
        except (DataError, KeyError, TypeError, AttributeError):
            continue  # none, or the manifest of something else
    return found


def _thinned(values: Tensor) -> list[float]:
    """At most POINTS values, each the highest of its stretch."""
    parts = torch.tensor_split(values, POINTS) if len(values) > POINTS else values[:, None]
    return [round(float(part.max()), 4) for part in parts]
