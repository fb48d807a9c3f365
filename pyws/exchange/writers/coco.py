"""Masks as COCO and YouTube-VIS JSON, with the pictures that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.rle import box_of, encode_mask
from pyws.exchange.results import Results
from pyws.files import write_json

SUBSET = "default"


def write_coco(results: Results, out: Path) -> None:
    """Write ``annotations/instances_default.json`` and ``images/default``, to which its ``file_name`` are relative.

    ``track_id`` is the same in all frames that show an object, and differs between videos.

    Parameters
    ----------
    results : with masks
    out : the folder
    """
    labels = results.mask_labels()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    tracks: dict[tuple[str, int], int] = {}
    for image, (video, masks, stem, name) in enumerate(results.pictures(out / "images" / SUBSET), 1):
        height, width = masks.read(stem).shape
        images.append({"id": image, "file_name": f"{name}.jpg", "height": height, "width": width})
        for one in masks.objects(stem):
            track = tracks.setdefault((video.name, one.number), len(tracks) + 1)
            found = {"id": len(annotations) + 1, "image_id": image, "category_id": labels.index(one.label) + 1,
                     "iscrowd": 0, "track_id": track}  # fmt: skip
            annotations.append({**found, **_region(one.mask)})
    document = {"images": images, "categories": _categories(labels), "annotations": annotations}
    write_json(out / "annotations" / f"instances_{SUBSET}.json", document, None)


def write_youtube_vis(results: Results, out: Path) -> None:
    """Write YouTube-VIS: ``instances.json``, an annotation for each object of a video with a mask or null for each
    frame, and ``JPEGImages``.

    Parameters
    ----------
    results : with masks
    out : the folder
    """
    labels = results.mask_labels()
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (video, masks) in enumerate(results.masked, 1):
        names = {stem: f"{video.name}/{stem}.jpg" for stem in masks.files}
        video.media().write((stem, out / "JPEGImages" / name) for stem, name in names.items())
        height, width = masks.read(next(iter(names))).shape
        facts = {"id": number, "width": width, "height": height, "length": len(names)}
        videos.append({**facts, "file_names": list(names.values())})
        regions: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}
        for frame, stem in enumerate(names):
            for one in masks.objects(stem):
                regions.setdefault((one.number, one.label), {})[frame] = _region(one.mask)
        for (_, label), shown in sorted(regions.items()):
            columns = {key: [shown[k][key] if k in shown else None for k in range(len(names))]
                       for key in ("segmentation", "bbox", "area")}  # fmt: skip
            annotations.append(
                {"id": len(annotations) + 1, "video_id": number, "category_id": labels.index(label) + 1, "iscrowd": 0,
                 "width": width, "height": height, "length": len(names),
                 "segmentations": columns["segmentation"], "bboxes": columns["bbox"], "areas": columns["area"]}
            )  # fmt: skip
    document = {"info": {"description": "pyws export"}, "videos": videos, "categories": _categories(labels),
                "annotations": annotations}  # fmt: skip
    write_json(out / "instances.json", document, None)


def _categories(labels: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": index, "name": name, "supercategory": ""} for index, name in enumerate(labels, 1)]


def _region(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Run lengths, box (left, top, width, height) and pixels of a mask that is not empty."""
    top, left, bottom, right = box_of(mask)
    box = [left, top, right - left, bottom - top]
    return {"segmentation": encode_mask(mask), "bbox": box, "area": int(mask.sum())}
