"""Results in the formats of other tools, read back by those tools' own libraries where they are installed."""

import contextlib
import csv
import errno
import gc
import json
import os
import shutil
import signal
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from review_sets import DETECTIONS, FPS, FRAMES, LABELS, SAMPLED, SIZE, write_first_masks, write_segments, write_videos

from pyws import cli
from pyws.data.tagged.rle import decode_mask
from pyws.data.video.frames import open_frames, palette, read_image, read_mask, write_mask
from pyws.errors import DataError
from pyws.exchange.brush_rle import decode_brush, encode_brush
from pyws.exchange.writers import mask_folders
from pyws.exchange.writers.formats import WITH_FRAMES
from pyws.files import read_json, write_json
from pyws.folders import only_writer

ITEMS = [f"{video}/{stem}" for video, stems in (("fox", ("frame1", "frame10", "frame11")),
                                                ("swan", ("00001", "00010", "00011"))) for stem in stems]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    videos = write_videos(folder)
    write_first_masks(folder, videos)
    write_segments(folder, videos)
    (folder / "alone.json").write_text(json.dumps({"results": {"swan": DETECTIONS["swan"]}}))
    return folder


@pytest.fixture
def export(made, tmp_path):
    """Runs pyws export on some of the results; returns the folder."""

    def run(form, *names, options=()):
        words = ["export", *(str(made / name) for name in names), "--format", form, "-o", str(tmp_path / form)]
        assert cli.main([*words, "--quiet", *options]) == 0
        return tmp_path / form

    return run


def truth(made, item):
    """(H, W) ids of an item such as fox/frame1; no format but COCO's says what is not known."""
    mask = read_mask(made / "first/pa/v0" / f"{item}.png").copy()
    mask[mask == 255] = 0
    return mask


def segments(made):
    return [(video, one["label"], *one["segment"], one["score"]) for video in DETECTIONS for one in DETECTIONS[video]]


# Segments


def test_activitynet_and_csv_are_exact(export, made):
    found = read_json(export("activitynet", "detections.json") / "segments.json")["results"]
    assert found == DETECTIONS
    with (export("csv", "detections.json") / "segments.csv").open() as file:
        table = csv.DictReader(file)
        rows = [tuple(row.values()) for row in table]
    assert table.fieldnames == ["video", "label", "start", "end", "score"]
    assert rows[0] == ("fox", "", "", "", "")
    assert [(v, label, *map(float, rest)) for v, label, *rest in rows[1:]] == segments(made)


def test_best_segments_alone(export):
    found = read_json(export("activitynet", "detections.json", options=["--top", "1"]) / "segments.json")["results"]
    assert [one["score"] for one in found["swan"]] == [0.9, 0.5]
    found = read_json(export("fiftyone", "alone.json", "features", options=["--min-score", "0.6"]) / "labels.json")
    assert [one["confidence"] for one in found["labels"]["swan"]] == [0.9]


def test_snippet_labels_are_segments(export, tmp_path, made):
    from pyws.segments.pseudo_labels import save_labels

    labels = np.zeros((20, 2), np.float32)
    labels[4:8, 1] = 0.25
    labels[10:20, 1] = 0.05
    counts = dict.fromkeys(("optimal", "relaxed", "empty", "approximate"), 0)
    import torch

    settings = {"snippets_per_second": 4.0, "rows": "sum"}
    save_labels(made / "labels.safetensors", {"v": torch.from_numpy(labels)}, ["a", "b"], settings, {"v": counts})
    found = read_json(export("activitynet", "labels.safetensors") / "segments.json")["results"]["v"]
    assert [(one["label"], one["segment"]) for one in found] == [("b", [1.0, 2.0]), ("b", [2.5, 5.0])]
    assert [one["score"] for one in found] == pytest.approx([1.0, 0.5])


def frames_of(segment):
    """Frames from 1, the last included, that are shown for half their time or more."""
    inside = [k for k in range(FRAMES) if segment[0] < (k + 0.5) / FPS <= segment[1]]
    return inside[0] + 1, inside[-1] + 1


def test_label_studio_timeline(export, made):
    folder = export("label-studio", "alone.json", options=["--videos", str(made / "videos/swan.mkv")])
    (task,) = read_json(folder / "tasks.json")
    assert task["data"]["fps"] == pytest.approx(FPS, rel=1e-3)
    assert task["data"]["frames"] == FRAMES
    found = [(one["value"]["timelinelabels"], one["value"]["ranges"][0], one["score"])
             for one in task["predictions"][0]["result"]]  # fmt: skip
    wanted = [([one["label"]], dict(zip(("start", "end"), frames_of(one["segment"]), strict=True)), one["score"])
              for one in DETECTIONS["swan"]]  # fmt: skip
    assert found == wanted
    view = ElementTree.parse(folder / "labels.xml").getroot()
    assert view.find("Video").attrib["frameRate"] == "$fps"
    assert [one.attrib["value"] for one in view.iter("Label")] == [
        "dive & <turn>",
        "not dive & <turn>",
        "run",
        "not run",
    ]


def test_label_studio_takes_its_own(export, made):
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    timeline = export("label-studio", "alone.json", options=["--videos", str(made / "videos/swan.mkv")])
    for folder in (timeline, export("label-studio-masks", "first")):
        tool = interface((folder / "labels.xml").read_text())
        tool.validate()
        for task in read_json(folder / "tasks.json"):
            assert tool.validate_prediction(task["predictions"][0])


def test_fiftyone_segments(export, made):
    folder = export("fiftyone", "alone.json", options=["--videos", str(made / "videos")])
    found, places = read_json(folder / "labels.json"), read_json(folder / "data.json")
    assert places == {"swan": str(made / "videos/swan.mkv")}
    assert found["classes"] == ["dive & <turn>", "run"]
    first = found["labels"]["swan"][0]
    times = [round(k / FPS, 3) for k in range(FRAMES)]
    shown = [k + 1 for k, time in enumerate(times) if time + 1 / FPS > 0.2002 + 1e-3 and time < 0.7007 - 1e-3]
    assert (first["label"], first["support"], first["confidence"]) == (0, [shown[0], shown[-1]], 0.9)
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    with importers.FiftyOneTemporalDetectionDatasetImporter(dataset_dir=str(folder), data_path="data.json") as importer:
        read = {path: labels for path, _, labels, _ in importer}
    detections = read[str(made / "videos/swan.mkv")].detections
    assert (detections[0].label, tuple(detections[0].support)) == ("dive & <turn>", (shown[0], shown[-1]))


# Masks


def test_brush_by_hand():
    """Eight values of four channels each, in parts of eight: 0, 255, 0."""
    mask = np.array([[False, False, True, True], [False] * 4])
    bits = f"{32:032b}{7:05b}{2:04b}{5:04b}{11:04b}{15:04b}"
    bits += "100" + "111" + "0" * 8 + "100" + "111" + "1" * 8 + "101" + f"{15:06b}" + "0" * 8
    bits += "0" * (-len(bits) % 8)
    assert encode_brush(mask) == [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_a_brush_whose_values_stand_one_by_one():
    """Two pixels in a part of seven, each value by itself, and one that is repeated."""
    bits = f"{8:032b}{7:05b}{2:04b}{5:04b}{11:04b}{15:04b}"
    bits += "000" + "110" + "".join(f"{value:08b}" for value in (9, 9, 9, 0, 1, 2, 3)) + "100" + "000" + f"{7:08b}"
    bits += "0" * (-len(bits) % 8)
    assert decode_brush([int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)], (1, 2)).tolist() == [[False, True]]


@pytest.mark.parametrize("byte", [256, -1, 1.0, True, "1"])
def test_a_brush_is_a_list_of_bytes(byte):
    good = encode_brush(np.ones((2, 2), bool))
    assert decode_brush(good, (2, 2)).all()
    with pytest.raises(DataError, match="a list of bytes"):
        decode_brush([*good[:-1], byte], (2, 2))


def test_brush_of_any_masks():
    random = np.random.default_rng(0)
    brush = None
    with contextlib.suppress(ImportError):
        from label_studio_sdk.converter import brush
    for size, share in (((1, 1), 0), ((7, 5), 0.5), ((40, 3), 1), ((120, 200), 0.02), ((90, 700), 0.0)):
        mask = random.random(size) < share
        packed = encode_brush(mask)
        assert np.array_equal(decode_brush(packed, size), mask)
        if brush is not None:
            assert np.array_equal(brush.decode_rle(packed).reshape(*size, 4)[..., 3] > 0, mask)
            assert np.array_equal(decode_brush(brush.mask2rle(mask.astype(np.uint8) * 255), size), mask)


def test_label_studio_brush(export, made):
    folder = export("label-studio-masks", "first")
    tasks = read_json(folder / "tasks.json")
    assert [f"{task['data']['pyws']['video']}/{task['data']['pyws']['frame']}" for task in tasks] == ITEMS
    for item, task in zip(ITEMS, tasks, strict=True):
        ids = np.zeros(SIZE, np.uint8)
        for one in task["predictions"][0]["result"]:
            mask = decode_brush(one["value"]["rle"], (one["original_height"], one["original_width"]))
            ids[mask] = 1 + LABELS.index(one["value"]["brushlabels"][0])
        assert np.array_equal(ids, truth(made, item))
        assert read_image(folder / "frames" / f"{item}.jpg").shape[:2] == SIZE


def write_maps(folder, source, stems, label):
    """What ``pyws masks maps`` writes of a clip: a mask of each frame that a map belongs to."""
    masks = {}
    for number, stem in enumerate(stems.values()):
        masks[stem] = np.zeros(SIZE, np.uint8)
        masks[stem][8:20, number : number + 20] = 1
        write_mask(folder / "masks" / f"{stem}.png", masks[stem])
    clip = {"label": label, "maps": [{"map": k, "frame": frame} for k, frame in enumerate([*stems, None])]}
    write_json(folder / "maps.json", {"video": str(source), "clips": [clip]})
    return masks


def test_masks_of_objects_and_of_actions_together(made, tmp_path):
    """Both may cover a pixel; where a format has one label a pixel, who is shown stands before what they do."""
    stems = {1: "frame1", 2: "frame2"}
    actions = write_maps(tmp_path / "maps/fox/dance", made / "videos/fox", stems, "dancing, to dance")
    for form, out in (("coco", tmp_path / "coco"), ("fiftyone-masks", tmp_path / "flat")):
        given = ["export", str(tmp_path / "maps"), str(made / "first"), "--format", form, "-o", str(out), "--quiet"]
        assert cli.main(given) == 0
    document = read_json(tmp_path / "coco/annotations/instances_default.json")
    labels = {one["id"]: one["name"] for one in document["categories"]}
    assert set(labels.values()) == {"fox", "white swan", "dancing"}
    assert [one["file_name"] for one in document["images"]][:2] == ["fox/frame1.jpg", "fox/frame2.jpg"]
    found = {(one["image_id"], labels[one["category_id"]]): decode_mask(one["segmentation"])
             for one in document["annotations"]}  # fmt: skip
    fox = truth(made, "fox/frame1") == 1
    assert np.array_equal(found[1, "fox"], fox)
    for image, stem in enumerate(stems.values(), 1):
        assert np.array_equal(found[image, "dancing"], actions[stem] > 0)
    tracks = {(labels[one["category_id"]], one["track_id"]) for one in document["annotations"] if one["image_id"] < 3}
    assert len({track for _, track in tracks}) == len({label for label, _ in tracks}) == 2
    places = {name: int(index) for index, name in read_json(tmp_path / "flat/mask_targets.json").items()}
    flat = read_mask(next((tmp_path / "flat/labels").glob("fox*frame1.png")))
    assert (fox & (actions["frame1"] > 0)).any()
    assert np.array_equal(flat, np.where(fox, places["fox"], np.where(actions["frame1"], places["dancing"], 0)))


def test_coco_by_pycocotools(export, made, capsys):
    coco = pytest.importorskip("pycocotools.coco").COCO
    folder = export("coco", "first")
    data = coco(str(folder / "annotations/instances_default.json"))
    assert [category["name"] for category in data.cats.values()] == ["fox", "white swan"]  # no video shows a tabby
    assert [image["file_name"] for image in data.imgs.values()] == [f"{item}.jpg" for item in ITEMS]
    for image in data.imgs.values():
        ids = np.zeros(SIZE, np.uint8)
        for one in data.loadAnns(data.getAnnIds(image["id"])):
            mask = data.annToMask(one) > 0
            assert mask.sum() == one["area"]
            left, top, width, height = one["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
            ids[mask] = one["category_id"]
        assert np.array_equal(ids, truth(made, image["file_name"].removesuffix(".jpg")))
    pictures = folder / "images/default"
    assert (pictures / "fox/frame1.jpg").read_bytes() == (made / "videos/fox/frame1.jpg").read_bytes()
    shown = next(open_frames(made / "videos/swan.mkv").read([10]))
    assert abs(read_image(pictures / "swan/00010.jpg").astype(int) - shown).max() <= 2


def test_youtube_vis(export, made):
    folder = export("youtube-vis", "first")
    document = read_json(folder / "instances.json")
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert list(names.values()) == ["fox", "white swan"]
    found = {f"{video['id']}/{k}": np.zeros(SIZE, np.uint8) for video in document["videos"] for k in range(3)}
    for one in document["annotations"]:
        assert len(one["segmentations"]) == len(one["bboxes"]) == len(one["areas"]) == 3
        for frame, region in enumerate(one["segmentations"]):
            assert (one["areas"][frame] is None) == (region is None)
            if region is not None:
                found[f"{one['video_id']}/{frame}"][decode_mask(region)] = one["category_id"]
    for mask, item in zip(found.values(), ITEMS, strict=True):
        assert np.array_equal(mask, truth(made, item))
    files = [file for video in document["videos"] for file in video["file_names"]]
    assert files == [f"{item}.jpg" for item in ITEMS]
    assert all((folder / "JPEGImages" / file).is_file() for file in files)


def test_davis(export, made):
    folder = export("davis", "first")
    assert (folder / "ImageSets/2017/val.txt").read_text().split() == ["fox", "swan"]
    named = read_json(folder / "objects.json")
    assert named == {"fox": {"1": "fox"}, "swan": {"1": "white swan", "2": "fox"}}
    for item in ITEMS:
        image = Image.open(folder / "Annotations/Full-Resolution" / f"{item}.png")
        assert image.mode == "P"
        ids = np.asarray(image)
        table = [0, *(1 + LABELS.index(name) for name in named[item.split("/")[0]].values())]
        assert np.array_equal(np.array(table)[ids], truth(made, item))
        assert (folder / "JPEGImages/Full-Resolution" / f"{item}.jpg").is_file()


def test_voc_by_torchvision(export, made):
    from torchvision.datasets import VOCSegmentation

    folder = export("voc", "first")
    (folder.parent / "VOCdevkit").mkdir()
    folder.rename(folder.parent / "VOCdevkit/VOC2012")
    data = VOCSegmentation(folder.parent, "2012", "train")
    assert len(data) == len(ITEMS)
    for item, (picture, mask) in zip(ITEMS, data, strict=True):
        assert picture.size == SIZE[::-1]
        ids = np.asarray(mask).copy()
        assert (ids == 255).sum() == (item == ITEMS[-1])
        ids[ids == 255] = 0
        assert np.array_equal(ids, truth(made, item))


def test_semantic(export, made):
    folder = export("semantic", "first")
    about = read_json(folder / "dataset_meta.json")
    assert about["label_map"] == {"0": "background", "1": "fox", "2": "white swan"}
    for item in ITEMS:
        picture = np.asarray(Image.open(folder / "masks" / f"{item.replace('/', '__')}.png"))
        assert np.array_equal(picture, palette()[truth(made, item)])
        assert about["segmentation_colors"][1] == palette()[1].tolist()


def test_fiftyone_masks(export, made):
    folder = export("fiftyone-masks", "first")
    assert read_json(folder / "mask_targets.json") == {"0": "background", "1": "fox", "2": "white swan"}
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    with importers.ImageSegmentationDirectoryImporter(dataset_dir=str(folder), shuffle=False) as importer:
        read = {path: label for path, _, label in importer}
    assert len(read) == len(ITEMS)
    for path, label in read.items():
        item = path.split("/")[-1].removesuffix(".jpg").replace("__", "/")
        ids = np.asarray(Image.open(label.mask_path) if label.mask is None else label.mask).copy()
        ids[ids == 255] = 0
        assert np.array_equal(ids, truth(made, item))


@pytest.mark.parametrize(
    ("form", "reader"),
    [("coco", "coco_instances"), ("voc", "voc_segmentation"), ("semantic", "common_semantic_segmentation"),
     ("cvat-images", "cvat")],
)  # fmt: skip
def test_datumaro_reads(form, reader, export, made):
    datumaro = pytest.importorskip("datumaro")
    data = datumaro.Dataset.import_from(str(export(form, "first")), reader)
    names = [label.name for label in data.categories()[datumaro.AnnotationType.label]]
    assert [name for name in names if name not in ("background", "ignored")] == ["fox", "white swan"]
    found = {item.id.replace("__", "/"): item for item in data}
    assert sorted(found) == sorted(ITEMS)
    for name, item in found.items():
        assert item.media.data.shape[:2] == SIZE
        ids = np.zeros(SIZE, np.uint8)
        for one in item.annotations:
            if one.type == datumaro.AnnotationType.mask and names[one.label] in LABELS:
                ids[np.asarray(one.image) > 0] = 1 + LABELS.index(names[one.label])
        assert np.array_equal(ids, truth(made, name))


def unpacked(element):
    """(H, W) bool of a mask of CVAT, by its documented format."""
    left, top, width, height = (int(element.attrib[key]) for key in ("left", "top", "width", "height"))
    flat = np.concatenate([np.full(int(n), k % 2 == 1) for k, n in enumerate(element.attrib["rle"].split(","))])
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = flat.reshape(height, width)
    return mask


def test_cvat_video(export, made):
    folder = export("cvat", "first", "detections.json", options=["--folder-fps", "8"])
    root = ElementTree.parse(folder / "swan.xml").getroot()
    labels = [one.text for one in root.iterfind("meta/task/labels/label/name")]
    assert sorted(labels) == ["dive & <turn>", "fox", "run", "white swan"]
    shown = {index: np.zeros(SIZE, np.uint8) for index in range(FRAMES)}
    for track in root.iter("track"):
        for mask in track.iter("mask"):
            if mask.attrib["outside"] == "0":
                assert not shown[int(mask.attrib["frame"])][unpacked(mask)].any()
                shown[int(mask.attrib["frame"])][unpacked(mask)] = 1 + LABELS.index(track.attrib["label"])
    for index, mask in shown.items():
        wanted = truth(made, f"swan/{index:05d}") if index in SAMPLED else np.zeros(SIZE, np.uint8)
        assert np.array_equal(mask, wanted)
    white = next(one for one in root.iter("track") if one.attrib["label"] == "white swan")
    gone = [int(one.attrib["frame"]) for one in white if one.attrib["outside"] == "1"]
    assert gone == [2, 12]  # a mask stays in sight until it is said to be gone
    boxes = [[(int(box.attrib["frame"]), box.attrib["outside"]) for box in track.iter("box")]
             for track in root.iter("track")]  # fmt: skip
    assert boxes[0] == [(6, "0"), (20, "0"), (21, "1")]  # 0.2002 s is within frame 6, 0.7007 s where frame 21 begins


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["detections.json", "--format", "coco"], "the results have none; choose a format of segments"),
        (["first", "--format", "csv"], "the results have none; choose a format of masks"),
        (["detections.json", "--format", "label-studio"], "fox: the results do not say where this video is"),
        (
            ["detections.json", "features", "--format", "fiftyone"],
            "is a folder of frames, and the tool plays video files",
        ),
        (["first", "--format", "cvat", "--folder-fps", "0"], "--folder-fps: must be > 0, got 0.0"),
        (["videos", "--format", "csv"], "got a folder of nothing"),
        (["nowhere", "--format", "csv"], "does not exist; results are"),
        (["first", "--format", "coco", "--top", "0"], "--top: must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_exported_is_named(words, said, made, tmp_path, capsys):
    (made / "videos").mkdir(exist_ok=True)
    assert cli.main(["export", str(made / words[0]), *(str(made / w) if w == "features" else w for w in words[1:]),
                     "-o", str(tmp_path / "out")]) == 1  # fmt: skip
    assert said in capsys.readouterr().err


def test_a_folder_that_is_not_empty_is_left_alone_and_no_frame_is_written_first(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mask_folders, "write_mask", None)
    (tmp_path / "mine.txt").write_text("mine")
    results = (("detections.json", "csv", "1/1"), ("detections.json", "csv", "1/2"), ("first", "voc", "1/2"))
    for name, form, shard in results:
        words = ["export", str(made / name), "--format", form, "-o", str(tmp_path), "--shard", shard]
        assert cli.main(words) == 1
        assert "must be a new or empty folder" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_failed_leaves_nothing_and_what_was_killed_is_begun_anew(made, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ["export", str(made / "first"), "--format", "voc", "--quiet", "-o"]
    assert cli.main([*words, str(whole)]) == 0
    write = mask_folders.write_mask

    def fail(path, mask):
        write(path, mask)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mask_folders, "write_mask", fail)
        assert cli.main([*words, str(out)]) == 1
        assert list(out.iterdir()) == []
        gc.collect()  # a decoder of another test that the child collects waits for threads that it does not have
        process = os.fork()
        if process == 0:
            try:
                patch.setattr(mask_folders, "write_mask", lambda path, mask: os.kill(os.getpid(), signal.SIGKILL))
                cli.main([*words, str(out)])
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert {path.name for path in out.iterdir()} >= {".run", ".unfinished", "JPEGImages"}
    (out / "of-another-format.txt").write_text("")
    assert cli.main([*words, str(out)]) == 0
    assert {str(path.relative_to(out)) for path in out.rglob("*")} == {
        str(path.relative_to(whole)) for path in whole.rglob("*")
    }


def test_the_folder_of_a_run_that_was_killed_is_not_taken_for_an_export(made, tmp_path, capsys):
    with only_writer(tmp_path / "out") as writer:
        writer.append("fox", {})
        shutil.copytree(tmp_path / "out", tmp_path / "killed")
    (tmp_path / "killed" / "mine.txt").write_text("mine")
    words = ["export", str(made / "detections.json"), "--format", "csv", "-o", str(tmp_path / "killed")]
    assert cli.main(words) == 1
    assert "must be a new or empty folder" in capsys.readouterr().err
    assert (tmp_path / "killed" / "mine.txt").exists()


@pytest.mark.parametrize("form", sorted(WITH_FRAMES))
def test_frames_are_parted_among_shards(form, made, tmp_path, capsys):
    """The same bytes of two and three shards as of one, in any order, the first of which was killed once."""

    def files(folder):
        paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "hashes.json")
        return {
            str(path.relative_to(folder)): path.read_bytes().replace(folder.name.encode(), b"OUT") for path in paths
        }

    words = ["export", str(made / "first"), "--format", form, "--quiet", "-o"]
    assert cli.main([*words, str(tmp_path / "whole")]) == 0
    for count in (2, 3):
        out = tmp_path / f"of{count}"
        half = out.with_name(f"{out.name}.parts") / "frames/0/images/fox"
        half.mkdir(parents=True)
        (half / "frame1.jpg").write_bytes(b"half")
        for index in range(count, 0, -1):
            assert not out.exists()
            assert cli.main([*words, str(out), "--shard", f"{index}/{count}"]) == 0
        assert files(out) == files(tmp_path / "whole")
        assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".parts")] == []


def test_formats_of_one_file_are_written_by_the_first_shard(made, tmp_path):
    words = ["export", str(made / "detections.json"), "--format", "csv", "--quiet", "-o"]
    assert cli.main([*words, str(tmp_path / "whole")]) == 0
    assert cli.main([*words, str(tmp_path / "out"), "--shard", "2/2"]) == 0
    assert not (tmp_path / "out").exists()
    assert cli.main([*words, str(tmp_path / "out"), "--shard", "1/2"]) == 0
    assert (tmp_path / "out/segments.csv").read_bytes() == (tmp_path / "whole/segments.csv").read_bytes()
