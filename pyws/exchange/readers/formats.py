"""Which format a file of corrections has."""

from __future__ import annotations

from pathlib import Path

from pyws.errors import DataError
from pyws.exchange.readers.coco import read_coco, read_youtube_vis
from pyws.exchange.readers.cvat import read_cvat
from pyws.exchange.readers.label_studio import read_label_studio
from pyws.exchange.readers.mask_folders import read_palette_folder
from pyws.exchange.readers.review import Reviews
from pyws.exchange.readers.segment_files import read_activitynet, read_csv, read_fiftyone
from pyws.files import read_json


def read_review(path: Path) -> Reviews:
    """Corrections of a file, or of a folder of palette PNG or of files; its contents say which format it has.

    Raises
    ------
    DataError : no format that pyws knows, or damaged; names the file and the place
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".xml")
        if not files:
            return read_palette_folder(path)
        together = Reviews()
        for file in files:
            together.update(read_cvat(file))
        return together
    if path.suffix.lower() == ".xml":
        return read_cvat(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return read_csv(path)
    if path.suffix.lower() == ".zip":
        raise DataError(path, "is an archive; unpack it and give what is in it")
    document = read_json(path)
    if isinstance(document, list):
        return read_label_studio(path, document)
    keys = set(document) if isinstance(document, dict) else set()
    if keys & {"database", "results"}:
        return read_activitynet(path, document)
    if isinstance(document, dict) and isinstance(document.get("labels"), dict):
        return read_fiftyone(path, document)
    if {"videos", "annotations"} <= keys:
        return read_youtube_vis(path, document)
    if {"images", "annotations"} <= keys:
        return read_coco(path, document)
    known = "Label Studio, CVAT, FiftyOne, COCO, YouTube-VIS, ActivityNet, CSV or a folder of palette PNG"
    raise DataError(path, f"must be corrections of {known}; its members are {', '.join(sorted(keys)[:6]) or 'none'}")
