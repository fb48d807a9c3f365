"""CVAT XML 1.1: masks of images, and of video tracks with segments.

CVAT has no segments of time. A segment is a track of boxes that cover the whole frame from its first frame to its last;
such a track is read as a segment again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.rle import box_of, run_lengths_of
from pyws.exchange.media import Media
from pyws.exchange.results import Masks, Results, Video
from pyws.files import atomic_write

VERSION = "1.1"


def write_cvat_images(results: Results, out: Path) -> None:
    """Write "CVAT for images": ``annotations.xml`` and ``images``, which a task of CVAT is made from.

    Parameters
    ----------
    results : with masks
    out : the folder
    """
    root = _root(results.mask_labels(), "pyws", sum(len(masks.files) for _, masks in results.masked))
    for number, (_, masks, stem, name) in enumerate(results.pictures(out / "images")):
        height, width = masks.read(stem).shape
        image = SubElement(root, "image", id=str(number), name=f"{name}.jpg", width=str(width), height=str(height))
        for one in masks.objects(stem):
            SubElement(image, "mask", _mask(one.mask), label=one.label, source="auto", occluded="0", z_order="0")
    _save(out / "annotations.xml", root)


def write_cvat_video(results: Results, out: Path) -> None:
    """Write "CVAT for video", ``VIDEO.xml`` for each: masks as tracks, segments as tracks of whole frames.

    Parameters
    ----------
    results : with segments, masks or both
    out : the folder
    """
    for video in results.videos:
        if video.segments is None and video.masks is None:
            continue
        media = video.media()
        shown = () if video.masks is None else video.masks.tags or video.masks.names[1:]
        labels = dict.fromkeys((*(video.labels if video.segments is not None else ()), *shown))
        root = _root(tuple(labels), media.source.name, len(media.frames), media.size)
        tracks = [*_segment_tracks(video, media), *(_mask_tracks(video.masks, media) if video.masks else ())]
        for number, (label, shapes) in enumerate(tracks):
            SubElement(root, "track", id=str(number), label=label, source="auto").extend(shapes)
        _save(out / f"{video.name}.xml", root)


def _segment_tracks(video: Video, media: Media) -> Iterator[tuple[str, list[Element]]]:
    height, width = media.size
    box = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{width}.00", "ybr": f"{height}.00", "occluded": "0", "z_order": "0"}
    for one in video.segments or ():
        first, last = media.first_and_last(one.start, one.end)
        yield one.label, [*_shapes("box", {first: box, last: box}, len(media.frames))]


def _mask_tracks(masks: Masks, media: Media) -> Iterator[tuple[str, list[Element]]]:
    """A track for each object, a key frame for each of its masks; CVAT keeps a mask until the next key frame."""
    place = {stem: index for index, stem in enumerate(media.frames.stems)}
    found: dict[tuple[int, str], dict[int, dict[str, str]]] = {}
    for stem in masks.files:
        for one in masks.objects(stem):
            facts = {**_mask(one.mask), "occluded": "0", "z_order": "0"}
            found.setdefault((one.number, one.label), {})[place[stem]] = facts
    for (_, label), frames in sorted(found.items()):
        closed: list[Element] = []
        for frame, facts in frames.items():
            follows = frame + 1 in frames
            closed += _shapes("mask", {frame: facts}, frame + 1 if follows else len(media.frames))
        yield label, closed


def _shapes(kind: str, frames: dict[int, dict[str, str]], end: int) -> Iterator[Element]:
    """Key frames of a track, then one that takes the object out of sight, unless the video ends there."""
    for frame, facts in frames.items():
        yield Element(kind, {"frame": str(frame), "outside": "0", "keyframe": "1", **facts})
    if frame + 1 < end:
        yield Element(kind, {"frame": str(frame + 1), "outside": "1", "keyframe": "1", **facts})


def _mask(mask: NDArray[np.bool_]) -> dict[str, str]:
    """Attributes of a mask that is not empty: its box, and run lengths by rows within it, background first."""
    top, left, bottom, right = box_of(mask)
    lengths = run_lengths_of(mask[top:bottom, left:right].ravel())
    place = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {"rle": ", ".join(map(str, lengths.tolist())), **{key: str(value) for key, value in place.items()}}


def _root(labels: Sequence[str], name: str, frames: int, size: tuple[int, int] | None = None) -> Element:
    root = Element("annotations")
    SubElement(root, "version").text = VERSION
    task = SubElement(SubElement(root, "meta"), "task")
    for key, value in (("name", name), ("size", str(frames)), ("source", name)):
        SubElement(task, key).text = value
    if size is not None:
        original = SubElement(task, "original_size")
        for key, pixels in zip(("height", "width"), size, strict=True):
            SubElement(original, key).text = str(pixels)
    parent = SubElement(task, "labels")
    for label in labels:
        entry = SubElement(parent, "label")
        SubElement(entry, "name").text = label
        SubElement(entry, "type").text = "any"
        SubElement(entry, "attributes")
    return root


def _save(path: Path, root: Element) -> None:
    indent(root)
    with atomic_write(path) as file:
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n')
