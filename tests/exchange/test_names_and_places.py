"""Names of uploads, files that speak for a folder, colours of labels, and objects that have no name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from pyws.data.video.frames import read_mask, write_mask
from pyws.errors import DataError
from pyws.exchange.label_folder import LabelFolder
from pyws.exchange.readers.formats import read_review
from pyws.exchange.readers.label_studio import video_path
from pyws.exchange.readers.review import video_of
from pyws.exchange.writers.formats import EXPORTS, WITH_FRAMES
from pyws.exchange.writers.label_studio import _choices
from pyws.exchange.writers.mask_folders import write_voc
from pyws.files import write_json
from pyws.report.colours import shown_colours


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/1/1a2b3c4d-dog.mp4", "dog"),
        ("/data/films/1a2b3c4d-dog.mp4", "1a2b3c4d-dog"),  # no upload
        ("/data/upload/1/1a2b-dog.mp4", "1a2b-dog"),  # not the eight letters that Label Studio puts there
        ("/data/upload/1/1a2b3c4dd-dog.mp4", "1a2b3c4dd-dog"),
        ("/data/upload/1/1a2b3c4z-dog.mp4", "1a2b3c4z-dog"),
    ],
)
def test_only_the_mark_of_an_upload_is_left_out(address: str, name: str) -> None:
    assert video_of(address) == name


@pytest.mark.parametrize(
    ("address", "path"),
    [(None, ""), ("", ""), (0, ""), ("/a/b.mp4", "/a/b.mp4"), ("/data/local-files/?d=a/b.mp4", "a/b.mp4"), (5, "5")],
)
def test_the_path_that_an_address_means(address: object, path: str) -> None:
    assert video_path(address) == path


def test_refined_masks_speak_for_a_label_folder_before_others(tmp_path: Path) -> None:
    shown, learned = [], []
    for kind in ("first", "predicted", "refined"):
        write_json(tmp_path / "masks" / kind / "manifest.json", {})
        found = LabelFolder.of(tmp_path)
        shown.append(found.masks and found.masks.name)
        learned.append(found.annotations and found.annotations.name)
    assert shown == ["first", "predicted", "refined"]
    assert learned == ["first", "first", "refined"]


def test_labels_have_the_colours_of_their_ids() -> None:
    view = Element("View")
    _choices(view, [f"l{k}" for k in range(256)])
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in shown_colours().tolist()]
    given = [label.attrib["background"] for label in view]
    assert given[:254] == colours[1:255]  # 255 is what nobody knows
    assert given[254:] == colours[1:3]


def test_names_of_objects_must_be_by_video(tmp_path: Path) -> None:
    write_mask(tmp_path / "v" / "0.png", np.zeros((2, 2), np.uint8))
    for document in ([], {"v": ["dog"]}):
        write_json(tmp_path / "objects.json", document)
        with pytest.raises(DataError, match="must be an object of videos with the names of their objects"):
            read_review(tmp_path)


def test_the_ending_of_a_file_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "A.XML").write_text("<annotations><version>1.1</version></annotations>")
    (tmp_path / "a.xml").write_text("<annotations><version>1.1</version></annotations>")
    said = []
    for name in ("a.xml", "A.XML"):
        try:
            said.append(str(read_review(tmp_path / name)))
        except DataError as error:
            said.append(error.rule)
    assert said[0] == said[1]


def test_formats_that_hold_frames_are_those_whose_writers_make_pictures() -> None:
    assert set(EXPORTS) > WITH_FRAMES
    assert {"voc", "coco", "davis", "youtube-vis", "semantic", "fiftyone-masks", "cvat-images"} <= WITH_FRAMES


def test_objects_beyond_what_a_mask_of_voc_counts_are_its_last(tmp_path: Path) -> None:
    """255 says "ignore" there: no object has it, however many there are."""
    shown = np.eye(3, dtype=bool)
    objects = [
        SimpleNamespace(mask=row[None].repeat(2, 0), number=number)
        for row, number in zip(shown, (1, 254, 300), strict=True)
    ]
    masks = SimpleNamespace(read_as=lambda stem, labels: np.ones((2, 3), np.uint8), objects=lambda stem: iter(objects))
    results = SimpleNamespace(mask_labels=lambda: ("dog",), pictures=lambda *_: [("v", masks, "0", "v_0")])
    write_voc(results, tmp_path)
    assert read_mask(tmp_path / "SegmentationObject/v_0.png").tolist() == [[1, 254, 254]] * 2
