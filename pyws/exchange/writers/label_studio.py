"""Label Studio: segments as timeline labels of videos, masks as brush labels of frames.

A folder for each of the two: ``labels.xml`` is the labeling interface, ``tasks.json`` what is imported; frames lie
beside them. What pyws must know to take a task back stands in its data, which Label Studio keeps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pyws.exchange.brush_rle import encode_brush
from pyws.exchange.media import Media
from pyws.exchange.results import Masks, Results, Segment, Video
from pyws.files import atomic_write, write_json
from pyws.report.pictures import shown_colours

NOT = "not "  # before a label: marks where it is not


def write_label_studio_segments(results: Results, out: Path) -> None:
    """Write segments as timeline labels: frames from 1, the last one included, at the rate of each video.

    Parameters
    ----------
    results : with segments
    out : the folder; ``LOCAL_FILES_DOCUMENT_ROOT=/`` lets Label Studio serve the videos from where they are
    """
    tasks = [_timeline(video, video.media()) for video in results.segments]
    labels = results.segment_labels()
    view = Element("View")
    SubElement(view, "Header", value="$name")
    SubElement(view, "Video", name="video", value="$video", frameRate="$fps", timelineHeight="120")
    _choices(SubElement(view, "TimelineLabels", name="segments", toName="video"), labels, negative=True)
    _write(out, view, tasks)


def write_label_studio_masks(results: Results, out: Path) -> None:
    """Write masks as brush labels, a task for each frame that has one, and the frames.

    Parameters
    ----------
    results : with masks
    out : the folder; ``LOCAL_FILES_DOCUMENT_ROOT=/`` lets Label Studio serve the frames
    """
    tasks = []
    for video, masks in results.masked:
        frames = {stem: out / "frames" / video.name / f"{stem}.jpg" for stem in masks.files}
        video.media().write(frames.items())
        tasks += [_brush(video.name, stem, file, masks) for stem, file in frames.items()]
    view = Element("View")
    SubElement(view, "Header", value="$name")
    SubElement(view, "Image", name="image", value="$image", zoom="true")
    _choices(SubElement(view, "BrushLabels", name="masks", toName="image"), results.mask_labels())
    _write(out, view, tasks)


def served(path: str | os.PathLike[str]) -> str:
    """The address at which Label Studio serves a local file.

    Examples
    --------
    >>> served("/films/a dog.mp4")
    '/data/local-files/?d=films/a%20dog.mp4'
    """
    return f"/data/local-files/?d={quote(os.fsencode(os.path.abspath(path)).lstrip(b'/'))}"


def _timeline(video: Video, media: Media) -> dict[str, Any]:
    result = [_range(video.name, one, media) for one in video.segments or ()]
    about = {"name": video.name, "video": served(media.file), "fps": media.fps, "frames": len(media.frames),
             "pyws": {"video": video.name, "labels": list(video.labels)}}  # fmt: skip
    return _task(about, result, [one.score for one in video.segments or ()])


def _range(video: str, one: Segment, media: Media) -> dict[str, Any]:
    """Label Studio knows a constant rate alone: its frame n is on show from (n - 1) / fps to n / fps."""
    first, last = round_frames(one.start, one.end, media.fps, len(media.frames))
    value = {"ranges": [{"start": first, "end": last}], "timelinelabels": [one.label]}
    return {"id": _id(video, one.label, one.start, one.end), "type": "timelinelabels", "from_name": "segments",
            "to_name": "video", "origin": "prediction", "value": value, "score": one.score}  # fmt: skip


def round_frames(start: float, end: float, fps: float, frames: int) -> tuple[int, int]:
    """Frames from 1, both included, whose bounds are nearest to two times; at least one frame.

    Examples
    --------
    >>> round_frames(0.0, 1.0, 25.0, 100), round_frames(1.0, 1.001, 25.0, 100), round_frames(3.9, 9.0, 25.0, 100)
    ((1, 25), (26, 26), (99, 100))
    """
    first = min(max(int(start * fps + 0.5) + 1, 1), frames)
    return first, min(max(first, int(end * fps + 0.5)), frames)


def _brush(video: str, stem: str, frame: Path, masks: Masks) -> dict[str, Any]:
    result = []
    for one in masks.objects(stem):
        height, width = one.mask.shape
        value = {"format": "rle", "rle": encode_brush(one.mask), "brushlabels": [one.label]}
        result.append(
            {"id": _id(video, stem, one.label, one.number), "type": "brushlabels", "from_name": "masks",
             "to_name": "image", "origin": "prediction", "original_width": width, "original_height": height,
             "image_rotation": 0, "value": value}
        )  # fmt: skip
    about = {"name": f"{video} {stem}", "image": served(frame), "pyws": {"video": video, "frame": stem}}
    return _task(about, result, ())


def _task(data: dict[str, Any], result: list[dict[str, Any]], scores: Sequence[float]) -> dict[str, Any]:
    prediction: dict[str, Any] = {"model_version": "pyws", "result": result}
    if scores:
        prediction["score"] = max(scores)
    return {"data": data, "predictions": [prediction]}


def _id(*parts: Any) -> str:
    """Ten letters that are the same for the same region."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]


def _choices(parent: Element, labels: Sequence[str], negative: bool = False) -> None:
    for index, label in enumerate(labels):
        red, green, blue = shown_colours()[1 + index % 254].tolist()
        SubElement(parent, "Label", value=label, background=f"#{red:02x}{green:02x}{blue:02x}")
        if negative:
            SubElement(parent, "Label", value=f"{NOT}{label}", background="#808080")


def _write(out: Path, view: Element, tasks: list[dict[str, Any]]) -> None:
    indent(view)
    with atomic_write(out / "labels.xml") as file:
        file.write(tostring(view, encoding="unicode") + "\n")
    write_json(out / "tasks.json", tasks, None)
