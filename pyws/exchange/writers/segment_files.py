"""Segments as ActivityNet JSON, CSV and FiftyOne temporal detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyws.data.annotations.activitynet import Instances, write_detections
from pyws.data.csv_table import write_table
from pyws.exchange.results import Results
from pyws.files import write_json

COLUMNS = ("video", "label", "start", "end", "score")


def write_activitynet(results: Results, out: Path) -> None:
    """Write ``segments.json``, detections in ActivityNet form, in seconds.

    Parameters
    ----------
    results : with segments
    out : the folder
    """
    labels = results.segment_labels()
    rows = [(index, one) for index, video in enumerate(results.segments) for one in video.segments or ()]
    place = {label: index for index, label in enumerate(labels)}
    found = Instances(
        tuple(video.name for video in results.segments),
        labels,
        np.array([index for index, _ in rows], np.int64),
        np.array([place[one.label] for _, one in rows], np.int64),
        *(np.array([getattr(one, name) for _, one in rows], np.float64) for name in ("start", "end", "score")),
    )
    write_detections(out / "segments.json", found, {"tool": "pyws export"})


def write_csv(results: Results, out: Path) -> None:
    """Write ``segments.csv``, a row for each segment, in seconds; a video without any has a row of its name alone.

    Parameters
    ----------
    results : with segments
    out : the folder
    """
    rows: list[tuple[object, ...]] = [COLUMNS]
    for video in results.segments:
        rows += [(video.name, one.label, one.start, one.end, one.score) for one in video.segments or ()]
        if not video.segments:
            rows.append((video.name, "", "", "", ""))
    write_table(out / "segments.csv", rows)


def write_fiftyone_segments(results: Results, out: Path) -> None:
    """Write a ``FiftyOneTemporalDetectionDataset``: ``labels.json`` with frames as FiftyOne counts them, from 1, and
    ``data.json``, which says where the videos are.

    Parameters
    ----------
    results : with segments
    out : the folder
    """
    classes = list(results.segment_labels())
    labels, places = {}, {}
    for video in results.segments:
        media = video.media()
        places[video.name] = media.file
        labels[video.name] = [
            {"label": classes.index(one.label), "support": [first + 1, last + 1], "confidence": one.score}
            for one in video.segments or ()
            for first, last in [media.first_and_last(one.start, one.end)]
        ]
    write_json(out / "labels.json", {"classes": classes, "labels": labels})
    write_json(out / "data.json", places)
