"""Pseudo labels of a training set: a column of snippet labels for each video and class that has any."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyws.data.features.dataset import FeatureSet
from pyws.files import atomic_write, write_json
from pyws.ops.linpro import Status


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """The labels of one generation, without the columns that are zero.

    Parameters
    ----------
    video, label : (G,) int64, which column each is, a class or after the last one background; sorted by both, no pair
        twice
    offsets : (G+1,) int64
    values : (sum of lengths,) float32; column g is values[offsets[g] : offsets[g+1]], a value for each snippet
    status : (G,) int64, :class:`pyws.segments.Status` of each column
    residual : (G,) float64, what the column misses of the scores of its segments
    segments : (G,) int64, segments that it keeps the scores of
    """

    video: Tensor
    label: Tensor
    offsets: Tensor
    values: Tensor
    status: Tensor
    residual: Tensor
    segments: Tensor

    @classmethod
    def of(cls, columns: Mapping[tuple[int, int], Sequence[float] | Tensor]) -> PseudoLabels:
        """From the columns by (video, class); status optimal, nothing missed."""
        rows = [Column(*key, torch.as_tensor(values), 0, 0.0, 0) for key, values in columns.items()]
        return collect(rows)

    @cached_property
    def _by_video(self) -> dict[int, list[tuple[int, Tensor]]]:
        found: dict[int, list[tuple[int, Tensor]]] = {}
        parts = self.values.split(self.offsets.diff().tolist())
        for video, label, values in zip(self.video.tolist(), self.label.tolist(), parts, strict=True):
            found.setdefault(video, []).append((label, values))
        return found

    def columns(self, video: int) -> list[tuple[int, Tensor]]:
        """(class, (snippets,) labels) of one video."""
        return self._by_video.get(video, [])

    def dense(self, video: int, shape: tuple[int, int]) -> Tensor:
        """(snippets, classes) labels of one video."""
        labels = torch.zeros(shape)
        for label, values in self.columns(video):
            labels[:, label] = values
        return labels

    def statuses(self) -> dict[str, int]:
        """How many columns became what; videos and classes without segments are not among them."""
        return {status.name.lower(): int((self.status == status).sum()) for status in Status}

    def tensors(self) -> dict[str, Tensor]:
        """Its fields, for a checkpoint."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class Column:
    """One column of :class:`PseudoLabels`, as a process hands it over."""

    video: int
    label: int
    values: Tensor
    status: int
    residual: float
    segments: int


def collect(columns: Sequence[Column]) -> PseudoLabels:
    """Columns of any processes, in any order."""
    rows = sorted(columns, key=lambda column: (column.video, column.label))
    values = [row.values.float() for row in rows]
    sizes = torch.tensor([0, *(len(part) for part in values)], dtype=torch.int64)
    return PseudoLabels(
        video=torch.tensor([row.video for row in rows], dtype=torch.int64),
        label=torch.tensor([row.label for row in rows], dtype=torch.int64),
        offsets=sizes.cumsum(0),
        values=torch.cat([*values, torch.empty(0)]),
        status=torch.tensor([row.status for row in rows], dtype=torch.int64),
        residual=torch.tensor([row.residual for row in rows], dtype=torch.float64),
        segments=torch.tensor([row.segments for row in rows], dtype=torch.int64),
    )


def write_labels(
    path: str | os.PathLike[str], labels: PseudoLabels, data: FeatureSet, settings: Mapping[str, Any]
) -> None:
    """Write a generation as ``pyws segments labels`` does: a (snippets, classes) float32 tensor for each video in a
    safetensors file, and beside it ``PATH.json`` with the classes, the settings and what became of each video. Labels
    of background are one column more, after the classes."""
    tensors, records = {}, {}
    columns = [*data.classes, "background"] if len(data.classes) in labels.label else list(data.classes)
    for video, (name, length) in enumerate(zip(data.names, data.lengths.tolist(), strict=True)):
        mine = (labels.video == video).nonzero().squeeze(1)
        tensors[name] = labels.dense(video, (length, len(columns)))
        counts = {status.name.lower(): int((labels.status[mine] == status).sum()) for status in Status}
        counts["empty"] += len(columns) - len(mine)
        missed = float(labels.residual[mine].sum())
        segments, seconds = int(labels.segments[mine].sum()), length / float(data.rates[video])
        records[name] = {"snippets": length, "seconds": seconds, "segments": segments, "residual": missed, **counts}
    save_labels(path, tensors, columns, settings, records)


def save_labels(
    path: str | os.PathLike[str],
    labels: Mapping[str, Tensor],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    videos: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the labels of videos to a safetensors file and what became of each video to ``PATH.json``.

    Parameters
    ----------
    path : the safetensors file
    labels : (snippets, classes) float32 of each video
    classes : names of the columns
    settings : how the labels were made
    videos : of each video the counts of each :class:`pyws.segments.Status`, by its name in lower case, and more

    Returns
    -------
    What ``PATH.json`` holds.
    """
    from safetensors.torch import save

    names = [status.name.lower() for status in Status]
    report = {
        "out": str(path), "classes": list(classes), "settings": dict(settings),
        "statuses": {name: sum(record[name] for record in videos.values()) for name in names}, "videos": dict(videos),
    }  # fmt: skip
    with atomic_write(path, "wb") as file:
        file.write(save(dict(labels), {"classes": json.dumps(classes)}))  # of several keys the order would vary
    write_json(f"{path}.json", report)
    return report
