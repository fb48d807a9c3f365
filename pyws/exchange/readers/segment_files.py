"""Corrected segments of ActivityNet JSON, CSV and FiftyOne temporal detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyws.data.annotations.activitynet import Instances, read_detections, read_truth
from pyws.data.annotations.names import label_name
from pyws.data.csv_table import read_table
from pyws.errors import DataError
from pyws.exchange.readers.review import Reviews, Span, number
from pyws.exchange.writers.label_studio import NOT


def add_span(reviews: Reviews, video: str, span: Span) -> None:
    """A segment, or where its label begins with "not ", a stretch without it."""
    present = reviews.searched(video)
    if span.label.startswith(NOT):
        absent = Span(span.label.removeprefix(NOT), span.start, span.end, span.in_frames)
        reviews[video].absent.append(absent)
    else:
        present.append(span)


def read_activitynet(path: Path, document: Any) -> Reviews:
    """Segments of ground truth or of detections; videos without any were searched too."""
    instances: Instances
    instances = read_truth(path).instances if "database" in document else read_detections(path)
    reviews = Reviews()
    for video in instances.videos:
        reviews.searched(video)
    for video, label, start, end, _ in instances.rows():
        add_span(reviews, video, Span(label, start, end))
    return reviews


def read_csv(path: Path) -> Reviews:
    """Rows of video, label, start, end; a row without a label says that the video was searched.

    Raises
    ------
    DataError : no such columns, a time that is none; names the line
    """
    reviews = Reviews()
    for line, row in read_table(path, ("video",), ("label", "start", "end")):
        reviews.searched(row["video"])
        label = label_name(row["label"])
        if label:
            where = f"{path}: line {line}"
            add_span(reviews, row["video"], Span(label, number(where, row, "start"), number(where, row, "end")))
    return reviews


def read_fiftyone(path: Path, document: Any) -> Reviews:
    """``labels.json`` of a FiftyOneTemporalDetectionDataset: frames from 1 as ``support``, or seconds as
    ``timestamps``.

    Raises
    ------
    DataError : a label that is none, or an entry without times
    """
    classes, reviews = document.get("classes") or [], Reviews()
    for video, entries in document["labels"].items():
        reviews.searched(video)
        if not isinstance(entries, list):
            raise DataError(path, f"video {video!r} must have a list of entries, got {str(entries)[:40]}")
        for index, one in enumerate(entries):
            where = f"{path}: video {video!r}, entry {index}"
            label = one.get("label") if isinstance(one, dict) else None
            if type(label) is int and isinstance(classes, list):
                label = classes[label] if 0 <= label < len(classes) else None
            name = label_name(label)
            key = next((key for key in ("support", "timestamps") if isinstance(one, dict) and key in one), None)
            pair = one[key] if key else None
            if name is None or not isinstance(pair, list) or len(pair) != 2:
                raise DataError(where, "must have a label of classes, and support or timestamps of two numbers")
            start, end = (number(where, dict(enumerate(pair)), at) for at in (0, 1))  # type: ignore[arg-type]
            frames = key == "support"
            add_span(reviews, video, Span(name, start - frames, end - frames, frames))
    return reviews
