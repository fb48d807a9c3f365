"""Pictures of pseudo labels: a timeline for each video, from files of labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pyws.checkpoint import read_tensors
from pyws.data.annotations.activitynet import Instances
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.time_base import read_label_note
from pyws.errors import DataError
from pyws.progress import track
from pyws.report.colours import COLOURS
from pyws.report.timelines import Timeline, bars_of, draw_timeline, picture_name


def draw_labels(
    files: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    segments: Mapping[str, Instances] | None = None,
    limit: int | None = None,
    quiet: bool = True,
) -> dict[str, Path]:
    """Write ``out/VIDEO.png`` for each video that has labels: a curve for each class, and bars of segments.

    Parameters
    ----------
    files : caption to a ``.safetensors`` file of labels with its ``.json``, as ``pyws segments labels`` and ``train``
        write them; a panel each. The last one decides which videos and classes are drawn
    out : the folder of the pictures
    segments : caption to segments, a row of bars each
    limit : number of pictures, None for all
    quiet : show no progress

    Returns
    -------
    Video to picture.

    Raises
    ------
    DataError : a file is missing or damaged, or does not have the video
    """
    note = [read_label_note(path, SNIPPETS_PER_SECOND) for path in files.values()][-1]
    labels = [{name: each.numpy() for name, each in read_tensors(path)[0].items()} for path in files.values()]
    pictures: dict[str, Path] = {}
    for video, values in track(sorted(labels[-1].items()), "drawing", quiet=quiet):
        columns = np.flatnonzero(values.any(axis=0))[: len(COLOURS)]
        if not len(columns) or (limit is not None and len(pictures) >= limit):
            continue
        for path, found in zip(files.values(), labels, strict=True):
            if video not in found or video not in note.lasting or found[video].shape[1] != len(note.classes):
                raise DataError(path, f"must have labels of video {video!r}, a column for each of its classes")
        names = [note.classes[column] for column in columns]
        edges = note.grids.edges_of(video, len(values), note.lasting[video][1])
        curves = {caption: found[video][:, columns] for caption, found in zip(files, labels, strict=True)}
        bars = {caption: bars_of(rows.of_videos([video]), names) for caption, rows in (segments or {}).items()}
        pictures[video] = Path(out) / f"{picture_name(video)}.png"
        draw_timeline(pictures[video], Timeline(video, float(edges[-1]), names, curves, bars, edges))
    return pictures
