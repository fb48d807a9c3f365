"""Masks as folders of pictures: DAVIS, PASCAL VOC, CommonSemanticSegmentation and FiftyOne."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyws.data.tagged.label_space import BACKGROUND, IGNORE
from pyws.data.video.frames import palette, write_mask, write_picture
from pyws.exchange.results import Results
from pyws.files import write_json, write_lines

FLAT = "__"  # between video and frame, where a format has no folders
DAVIS_SIZE = "Full-Resolution"
VOC_SUBSET = "train"


def write_davis(results: Results, out: Path) -> None:
    """Write DAVIS 2017's layout: ``JPEGImages``, ``Annotations`` (palette PNG, ids are objects of their video) and
    ``ImageSets``; ``objects.json`` names the objects of each video.

    Parameters
    ----------
    results : with masks
    out : the folder
    """
    named: dict[str, dict[str, str]] = {}
    for video, masks in results.masked:
        files = {stem: out / "JPEGImages" / DAVIS_SIZE / video.name / f"{stem}.jpg" for stem in masks.files}
        video.media().write(files.items())
        objects: dict[int, int] = {}  # number in the results: number in the pictures, without gaps
        names = named.setdefault(video.name, {})
        for stem in masks.files:
            ids = np.zeros(masks.read(stem).shape, np.uint8)
            for one in masks.objects(stem):
                number = objects.setdefault(one.number, len(objects) + 1)
                if number >= IGNORE:
                    continue  # an 8-bit picture holds no more
                names[str(number)] = one.label
                ids[one.mask] = number
            write_mask(out / "Annotations" / DAVIS_SIZE / video.name / f"{stem}.png", ids)
    write_json(out / "objects.json", named)
    write_lines(out / "ImageSets/2017/val.txt", [video.name for video, _ in results.masked])


def write_voc(results: Results, out: Path) -> None:
    """Write PASCAL VOC's layout of segmentation: ``JPEGImages``, ``SegmentationClass``, ``SegmentationObject``,
    ``ImageSets/Segmentation/train.txt`` and ``labelmap.txt``.

    Parameters
    ----------
    results : with masks
    out : the folder; called ``VOCdevkit/VOC2012`` torchvision finds it too
    """
    labels = (BACKGROUND, *results.mask_labels())
    items, ignored = [], False
    for _, masks, stem, item in results.pictures(out / "JPEGImages", FLAT):
        classes = masks.read_as(stem, labels)
        ignored |= bool((classes == IGNORE).any())
        write_mask(out / "SegmentationClass" / f"{item}.png", classes)
        ids = np.zeros(classes.shape, np.uint8)
        for one in masks.objects(stem):
            ids[one.mask] = min(one.number, IGNORE - 1)
        write_mask(out / "SegmentationObject" / f"{item}.png", ids)
        items.append(item)
    write_lines(out / "ImageSets/Segmentation" / f"{VOC_SUBSET}.txt", items)
    colours = palette().tolist()
    header = "# label:color_rgb:parts:actions"
    named = {**dict(enumerate(labels)), **({IGNORE: "ignored"} if ignored else {})}
    rows = [f"{name}:{','.join(map(str, colours[index]))}::" for index, name in named.items()]
    write_lines(out / "labelmap.txt", [header, *rows])


def write_semantic(results: Results, out: Path) -> None:
    """Write CommonSemanticSegmentation: ``images``, ``masks`` (RGB in the palette's colours) and
    ``dataset_meta.json``.

    Parameters
    ----------
    results : with masks
    out : the folder
    """
    labels = (BACKGROUND, *results.mask_labels())
    colours = palette()
    for _, masks, stem, item in results.pictures(out / "images", FLAT):
        ids = masks.read_as(stem, labels)
        ids[ids == IGNORE] = 0  # the format has no word for what is not known
        write_picture(out / "masks" / f"{item}.png", colours[ids])
    write_json(
        out / "dataset_meta.json",
        {
            "labels": list(labels),
            "label_map": {str(index): name for index, name in enumerate(labels)},
            "segmentation_colors": colours[: len(labels)].tolist(),
            "background_label": "0",
        },
    )


def write_fiftyone_masks(results: Results, out: Path) -> None:
    """Write FiftyOne's ``ImageSegmentationDirectory``: ``data``, ``labels`` (PNG of ids) and ``mask_targets.json``.

    Parameters
    ----------
    results : with masks
    out : the folder
    """
    labels = (BACKGROUND, *results.mask_labels())
    for _, masks, stem, item in results.pictures(out / "data", FLAT):
        write_picture(out / "labels" / f"{item}.png", masks.read_as(stem, labels))
    write_json(out / "mask_targets.json", {str(index): name for index, name in enumerate(labels)})
