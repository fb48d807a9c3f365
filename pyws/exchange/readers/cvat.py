"""Corrections of CVAT XML 1.1: masks and polygons of images and tracks, and segments as tracks of whole frames."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pyws.errors import DataError
from pyws.exchange.readers.review import (
    Regions,
    Reviews,
    Span,
    frame_of,
    number,
    polygon_mask,
    run_lengths,
    whole,
)  # fmt: skip
from pyws.files import read_text

_COVERS = 0.95  # share of each side of the frame from which on a box stands for all of it


def read_cvat(path: Path) -> Reviews:
    """Images or tracks of a file.

    Raises
    ------
    DataError : no XML of CVAT, one with a document type (which could name other files), or a shape that is none
    """
    root = _root(path)
    reviews = Reviews()
    for index, image in enumerate(root.iter("image")):
        where = f"{path}: image {index}"
        video, frame = frame_of(image.attrib.get("name", ""))
        size = whole(where, image.attrib, "height"), whole(where, image.attrib, "width")
        shapes = [shape for shape in image if shape.tag in ("mask", "polygon")]
        for shape in image:
            if shape.tag not in ("mask", "polygon", "tag", "attribute"):
                raise DataError(where, f"shapes must be masks or polygons, got {shape.tag}")
        labelled = [(str(shape.attrib.get("label")), shape) for shape in shapes]
        reviews[video].masks[frame] = partial(_regions, where, size, labelled)
    tracks = list(root.iter("track"))
    if tracks or root.find("meta/task/source") is not None:
        _tracks(reviews, path, root, tracks)
    return reviews


def _root(path: Path) -> Any:
    text = read_text(path, "utf-8-sig")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(path, "must have no document type: it could name other files")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(path, f"is not XML: {error}") from error
    if root.tag != "annotations":
        raise DataError(path, f"must be annotations of CVAT, got <{root.tag[:40]}>")
    return root


def _tracks(reviews: Reviews, path: Path, root: Any, tracks: list[Any]) -> None:
    task = root.find("meta/task")
    facts = {} if task is None else {one.tag: (one.text or "") for one in task.iter()}
    name = facts.get("source") or facts.get("name") or path.name
    if list(root.iter("image")) and not tracks:
        return
    video = Path(name).stem
    frames = whole(path, facts, "size") if facts.get("size") else 0
    size = (whole(path, facts, "height"), whole(path, facts, "width")) if "height" in facts else None
    shown: dict[int, list[tuple[str, Any]]] = {}
    for index, track in enumerate(tracks):
        where = f"{path}: track {index}"
        label = str(track.attrib.get("label"))
        shapes = sorted(track, key=lambda shape: whole(where, shape.attrib, "frame"))
        if shapes and all(shape.tag == "box" for shape in shapes):
            for shape in shapes:
                _check_whole_frame(where, shape, size)
            for span in _spans(where, label, shapes, frames):
                reviews.searched(video).append(span)
            continue
        for shape in shapes:
            if shape.tag not in ("mask", "polygon"):
                raise DataError(where, f"shapes must be masks, polygons or boxes of whole frames, got {shape.tag}")
            if shape.attrib.get("outside") != "1":
                shown.setdefault(whole(where, shape.attrib, "frame"), []).append((label, shape))
    for frame, labelled in shown.items():
        if size is None:
            raise DataError(path, "must say the size of the video in meta/task/original_size")
        reviews[video].masks[frame] = partial(_regions, f"{path}: frame {frame}", size, labelled)
    if not shown:
        reviews.searched(video)  # whoever removed every track found no segment


def _spans(where: str, label: str, shapes: list[Any], frames: int) -> list[Span]:
    """Stretches in which a track is in sight: until it is said to be outside, or to the end of the video."""
    found, first = [], None
    for shape in shapes:
        frame = whole(where, shape.attrib, "frame")
        if shape.attrib.get("outside") == "1":
            if first is not None and frame > first:
                found.append(Span(label, first, frame - 1, True))
            first = None
        elif first is None:
            first = frame
    if first is not None:
        found.append(Span(label, first, max(frames - 1, whole(where, shapes[-1].attrib, "frame")), True))
    return found


def _check_whole_frame(where: str, box: Any, size: tuple[int, int] | None) -> None:
    if size is None:
        return
    left, top, right, bottom = (number(where, box.attrib, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if right - left < _COVERS * size[1] or bottom - top < _COVERS * size[0]:
        rule = f"a box must cover the whole frame {size[0]}x{size[1]}, which makes it a segment; draw masks of objects"
        raise DataError(where, rule)


def _regions(where: str, size: tuple[int, int], shapes: list[tuple[str, Any]]) -> Regions:
    ordered = sorted(shapes, key=lambda one: whole(where, {"z_order": 0, **one[1].attrib}, "z_order"))
    return [(label, _mask(where, shape, size)) for label, shape in ordered]


def _mask(where: str, shape: Any, size: tuple[int, int]) -> Any:
    import numpy as np

    if shape.tag == "polygon":
        try:
            points = [tuple(map(float, pair.split(","))) for pair in shape.attrib.get("points", "").split(";")]
            corners = [(x, y) for x, y in points]
        except ValueError as error:
            raise DataError(where, "points of a polygon must be x,y;x,y;...") from error
        return polygon_mask(where, corners, size)
    left, top, width, height = (whole(where, shape.attrib, key) for key in ("left", "top", "width", "height"))
    if top + height > size[0] or left + width > size[1]:
        raise DataError(where, f"a mask must lie within its frame {size[0]}x{size[1]}")
    try:
        lengths = [int(one) for one in shape.attrib.get("rle", "").split(",")]
    except ValueError as error:
        raise DataError(where, "rle must be run lengths parted by commas") from error
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = run_lengths(where, lengths, (height, width), "C")
    return mask
