"""Names of uploads, files that speak for a folder, colours of labels, and objects that have no name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from safetensors.numpy import save_file

from pyws.data.tagged.label_space import object_labels
from pyws.data.tagged.rle import encode_mask
from pyws.data.video.frames import read_mask, write_mask
from pyws.errors import DataError
from pyws.exchange.applying import _id_of
from pyws.exchange.label_folder import LabelFolder
from pyws.exchange.readers.formats import read_review
from pyws.exchange.readers.label_studio import video_path
from pyws.exchange.readers.mask_folders import read_palette_folder
from pyws.exchange.readers.review import video_of
from pyws.exchange.results import Masks, Results, Video, merged
from pyws.exchange.sources import _labels, _predicted_masks
from pyws.exchange.writers.formats import EXPORTS, WITH_FRAMES
from pyws.exchange.writers.label_studio import _choices
from pyws.exchange.writers.mask_folders import write_voc
from pyws.files import read_json, write_json
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


def _tracked(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A folder of pyws masks predict: an object in both frames of a video, another in the second alone."""
    first, second = np.zeros((2, 4, 6), bool)
    first[1:3, 1:3], second[0, 4:] = True, True
    space = object_labels(["cat", "dog"])
    video = {"source": str(folder / "v"), "tags": ["dog"], "frames": 2}
    write_json(folder / "manifest.json", {
        "format": "pyws masks predict", "version": 1, "label_space": space.document(),
        "videos": {"v": video, "w": {"error": "cannot be read"}},
    })  # fmt: skip
    for frame, mask in (("0", first), ("1", first | second)):
        write_mask(folder / "masks/v" / f"{frame}.png", mask.astype(np.uint8))
    write_json(folder / "instances/v.json", {
        "images": [{"id": 7, "file_name": "v/0.jpg"}, {"id": 8, "file_name": "v/1.jpg"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": image, "category_id": category, "track_id": track, "segmentation": encode_mask(mask)}
            for image, category, track, mask in ((7, 2, 0, first), (8, 1, 3, second), (8, 2, 0, first))
        ],
    })  # fmt: skip
    return first, second


def test_tracks_are_objects_that_keep_their_number(tmp_path: Path) -> None:
    first, second = _tracked(tmp_path)
    (video,) = _predicted_masks(tmp_path, read_json(tmp_path / "manifest.json"))
    assert (video.name, video.source, video.tags) == ("v", tmp_path / "v", ())
    masks = video.masks
    assert masks is not None
    assert (masks.names, masks.tags, masks.count) == (("background", "cat", "dog"), ("dog",), 4)
    found = {stem: [(one.label, one.number) for one in masks.objects(stem)] for stem in masks.files}
    assert found == {"0": [("dog", 1)], "1": [("cat", 4), ("dog", 1)]}
    assert all(np.array_equal(one.mask, second if one.label == "cat" else first) for one in masks.objects("1"))
    assert masks.objects("2") == []
    empty = replace(masks, instances=tmp_path / "none.json")
    write_json(tmp_path / "none.json", {"images": [], "categories": [], "annotations": []})
    assert (empty.count, empty.objects("0")) == (0, [])


def test_labels_of_masks_are_tags_or_what_is_shown(tmp_path: Path) -> None:
    for stem, ids in (("0", [[0, 2]]), ("1", [[3, 0]])):
        write_mask(tmp_path / f"{stem}.png", np.array(ids, np.uint8))
    masks = Masks({stem: tmp_path / f"{stem}.png" for stem in "01"}, ("background", "cat", "dog", "fox"))
    assert Results((Video("v", masks=masks),)).mask_labels() == ("dog", "fox")
    assert Results((Video("v", masks=replace(masks, tags=("cat",))),)).mask_labels() == ("cat",)


def test_a_name_is_of_one_video(tmp_path: Path) -> None:
    one, same, other = (Video("v", tmp_path / part) for part in ("a/v", "b/../a/v", "b/v"))
    assert len(merged([one, same]).videos) == 1
    with pytest.raises(DataError, match="v: is the name of two videos, .*a/v and .*b/v"):
        merged([one, other])


def test_objects_without_a_name_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold palette PNG, VIDEO/FRAME.png, found none"):
        read_palette_folder(tmp_path)
    write_mask(tmp_path / "v" / "0.png", np.array([[1, 2, 255]], np.uint8))
    write_json(tmp_path / "objects.json", {"v": {"1": "dog"}})
    with pytest.raises(DataError, match=r"0\.png: objects\.json must name object 2"):
        read_palette_folder(tmp_path)["v"].masks["0"]()
    write_json(tmp_path / "objects.json", {"v": {"1": "dog", "2": "cat"}})
    found = read_palette_folder(tmp_path)["v"].masks["0"]()
    assert [(label, mask.tolist()) for label, mask in found] == [
        ("dog", [[True, False, False]]), ("cat", [[False, True, False]]), (255, [[False, False, True]]),
    ]  # fmt: skip


@pytest.mark.parametrize("label", [0, 3, 254, -1, "background", "hen"])
def test_ids_and_labels_that_nothing_has(label: int | str) -> None:
    space = object_labels(["Cat", "dog"])
    with pytest.raises(DataError, match="ids must be 1 to 2, got|is none of Cat, dog"):
        _id_of("here", label, space)
    assert [_id_of("here", one, space) for one in (1, 2, 255, "Cat", "cAT", "dog")] == [1, 2, 255, 1, 1, 2]


def _snippet_labels(path: Path, metadata: dict[str, str], columns: dict[str, np.ndarray], note: object) -> Path:
    save_file(columns, path, metadata)
    write_json(f"{path}.json", note)
    return path


def test_files_that_are_no_snippet_labels(tmp_path: Path) -> None:
    path, two = tmp_path / "l.safetensors", {"v": np.ones((3, 2), np.float32)}
    note = {"videos": {"v": {"seconds": 3.0}}, "settings": {"snippets_per_second": 1.0}}
    classes = {"classes": '["a", "b"]'}
    (video,) = _labels(_snippet_labels(path, classes, two, note))
    assert [(one.label, one.start, one.end) for one in video.segments or ()] == [("a", 0.0, 3.0), ("b", 0.0, 3.0)]
    for metadata, columns in (({}, two), ({"classes": '"ab"'}, two), (classes, {"v": np.ones((3, 1), np.float32)}),
                              (classes, {"v": np.ones(2, np.float32)})):  # fmt: skip
        with pytest.raises(DataError, match="must hold labels of pyws segments labels: "):
            list(_labels(_snippet_labels(path, metadata, columns, note)))
    with pytest.raises(DataError, match="is damaged, or no labels of pyws segments labels: "):
        list(_labels(_snippet_labels(path, {"classes": "["}, two, note)))
    with pytest.raises(DataError, match="must say how long video 'v' is, or snippets_per_second"):
        list(_labels(_snippet_labels(path, classes, two, {"videos": {}, "settings": {}})))
