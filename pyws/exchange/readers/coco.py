"""Corrected masks of COCO and YouTube-VIS JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.rle import decode_mask
from pyws.errors import DataError, named_as
from pyws.exchange.readers.review import Regions, Reviews, check_size, frame_of, polygon_mask, run_lengths, whole


def read_coco(path: Path, document: Any) -> Reviews:
    """Masks of every picture that the file lists; one without annotations shows nothing.

    Raises
    ------
    DataError : a member that is missing or none, an annotation of no picture or category
    """
    frames: dict[int, tuple[tuple[str, str], tuple[int, int], list[Any]]] = {}
    for index, image in enumerate(_objects(path, document, "images")):
        where = f"{path}: image {index}"
        size = whole(where, image, "height"), whole(where, image, "width")
        frames[whole(where, image, "id")] = (frame_of(str(image.get("file_name", ""))), size, [])
    for _, one, number, label in _annotations(path, document, "image_id", frames):
        frames[number][2].append((label, one.get("segmentation")))
    reviews = Reviews()
    for index, ((video, frame), size, found) in enumerate(frames.values()):
        reviews[video].masks[frame] = partial(_regions, f"{path}: image {index}", size, found)
    return reviews


def read_youtube_vis(path: Path, document: Any) -> Reviews:
    """Masks of every frame of every video that the file lists.

    Raises
    ------
    DataError : as :func:`read_coco`; or an annotation that has not one region a frame
    """
    videos: dict[int, tuple[list[tuple[str, str]], tuple[int, int], list[list[Any]]]] = {}
    for index, video in enumerate(_objects(path, document, "videos")):
        where = f"{path}: video {index}"
        files = video.get("file_names")
        if not isinstance(files, list):
            raise DataError(where, "must have file_names, a list")
        size = whole(where, video, "height"), whole(where, video, "width")
        videos[whole(where, video, "id")] = ([frame_of(str(file)) for file in files], size, [[] for _ in files])
    for where, one, number, label in _annotations(path, document, "video_id", videos):
        regions, found = one.get("segmentations"), videos[number][2]
        if not isinstance(regions, list) or len(regions) != len(found):
            raise DataError(where, f"segmentations must be {len(found)}, one for each frame")
        for frame, region in zip(found, regions, strict=True):
            if region is not None:
                frame.append((label, region))
    reviews = Reviews()
    for index, (keys, size, frames) in enumerate(videos.values()):
        for (name, stem), regions in zip(keys, frames, strict=True):
            reviews[name].masks[stem] = partial(_regions, f"{path}: video {index}", size, regions)
    return reviews


def _annotations(
    path: Path, document: Any, key: str, known: Collection[int]
) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """What errors call each annotation, its record, the number under ``key`` and the name of its category."""
    categories = enumerate(_objects(path, document, "categories"))
    names = {whole(f"{path}: category {k}", one, "id"): str(one.get("name")) for k, one in categories}
    for index, one in enumerate(_objects(path, document, "annotations")):
        where = f"{path}: annotation {index}"
        number, category = whole(where, one, key), whole(where, one, "category_id")
        if number not in known or category not in names:
            raise DataError(where, f"{key} and category_id must be listed, got {number} and {category}")
        yield where, one, number, names[category]


def _objects(path: Path, document: Any, key: str) -> list[dict[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DataError(path, f"{key} must be a list of objects")
    return value


def _regions(where: str, size: tuple[int, int], found: list[tuple[str, Any]]) -> Regions:
    """Large regions first, so that small ones lie on top."""
    regions: Regions = [(label, _mask(where, one, size)) for label, one in found]
    return sorted(regions, key=lambda region: -int(region[1].sum()))


def _mask(where: str, region: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Compressed or plain run lengths, or polygons."""
    check_size(where, *size)
    if isinstance(region, dict):
        if region.get("size") != list(size):
            raise DataError(where, f"a mask must have the size of its picture {list(size)}, got {region.get('size')}")
        if isinstance(region.get("counts"), list):
            return run_lengths(where, region["counts"], size, "F")
        with named_as(mask=where):
            return decode_mask(region)
    total = np.zeros(size, bool)
    for polygon in region if isinstance(region, list) else [None]:
        if (
            not isinstance(polygon, list)
            or len(polygon) % 2
            or not all(isinstance(one, (int, float)) for one in polygon)
        ):
            raise DataError(where, "a segmentation must be run lengths or polygons of x, y, x, y, ...")
        total |= polygon_mask(where, zip(polygon[0::2], polygon[1::2], strict=True), size)
    return total
