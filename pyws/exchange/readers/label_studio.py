"""Corrections of Label Studio: timeline labels of videos and brush labels of frames, from its JSON export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pyws.data.annotations.names import label_name
from pyws.errors import DataError, named_as
from pyws.exchange.brush_rle import decode_brush
from pyws.exchange.readers.review import Regions, Reviews, Span, frame_of, number, video_of, whole
from pyws.exchange.readers.segment_files import add_span


def read_label_studio(path: Path, tasks: Any) -> Reviews:
    """The last annotation of each task that has one; predictions that nobody looked at say nothing.

    Raises
    ------
    DataError : no export of tasks, or a result that is none; names the task
    """
    reviews = Reviews()
    for index, task in enumerate(tasks):
        where = f"{path}: task {index}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise DataError(where, "must be an object with data; export as JSON, not JSON_MIN")
        done = [one for one in task.get("annotations") or [] if isinstance(one, dict) and not one.get("was_cancelled")]
        if not done:
            continue
        results = done[-1].get("result")
        if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
            raise DataError(where, "the result of an annotation must be a list of objects")
        _task(reviews, where, task["data"], results)
    return reviews


def _task(reviews: Reviews, where: str, data: dict[str, Any], results: list[dict[str, Any]]) -> None:
    about = data.get("pyws") if isinstance(data.get("pyws"), dict) else {}
    assert isinstance(about, dict)
    if "image" in data or "frame" in about:
        video, frame = about.get("video"), about.get("frame")
        if not isinstance(video, str) or not isinstance(frame, str):
            video, frame = frame_of(video_path(data.get("image")))
        brushes = [one for one in results if one.get("type") == "brushlabels"]
        reviews[video].masks[frame] = partial(_regions, where, brushes)
        return
    video = about.get("video") if isinstance(about.get("video"), str) else video_of(str(data.get("video", "")))
    assert isinstance(video, str)
    reviews.searched(video)
    labels = about.get("labels")
    reviews[video].labels = tuple(map(str, labels)) if isinstance(labels, list) else ()
    for one in results:
        if one.get("type") == "timelinelabels":
            _timeline(reviews, where, video, data, one)


def _timeline(reviews: Reviews, where: str, video: str, data: dict[str, Any], result: dict[str, Any]) -> None:
    """Frame n is on show from (n - 1) / fps to n / fps."""
    fps = number(where, data, "fps", 1e-6)
    value = result.get("value")
    names, ranges = (value.get(key) if isinstance(value, dict) else None for key in ("timelinelabels", "ranges"))
    if not isinstance(names, list) or not isinstance(ranges, list):
        raise DataError(where, "timeline labels must have ranges and timelinelabels, lists")
    for name in names:
        label = label_name(name)
        if not label:
            raise DataError(where, f"a label must be a text, got {name!r}")
        for one in ranges:
            if not isinstance(one, dict):
                raise DataError(where, f"a range must be an object with start and end, got {one!r}")
            first, last = number(where, one, "start"), number(where, one, "end")
            add_span(reviews, video, Span(label, (first - 1) / fps, last / fps))


def _regions(where: str, results: list[dict[str, Any]]) -> Regions:
    found: Regions = []
    for one in results:
        value = one.get("value")
        names = value.get("brushlabels") if isinstance(value, dict) else None
        if not isinstance(names, list) or not names or not isinstance(value, dict):
            raise DataError(where, "brush labels must have a value with rle and brushlabels")
        size = whole(where, one, "original_height"), whole(where, one, "original_width")
        with named_as(mask=where):
            found.append((str(names[0]), decode_brush(value.get("rle"), size)))
    return found


def video_path(address: Any) -> str:
    """The path that an address of a local file means."""
    text = str(address or "")
    return text.partition("?d=")[2] or text
