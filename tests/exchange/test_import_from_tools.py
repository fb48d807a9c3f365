"""What people corrected comes back: out of every format, and what does not fit is said in one report."""

import shutil

import numpy as np
import pytest
from review_sets import DETECTIONS, FPS, SIZE, write_first_masks, write_segments, write_videos

from pyws import DataError, cli
from pyws.data.annotations.corrections import read_corrections
from pyws.data.tagged.corrected_masks import corrected_frames, mask_file
from pyws.data.video.frames import read_mask
from pyws.exchange.brush_rle import encode_brush
from pyws.exchange.readers.formats import read_review
from pyws.files import read_json, write_json
from pyws.folders import only_writer

FRAMES = [
    ("fox", "frame1"),
    ("fox", "frame10"),
    ("fox", "frame11"),
    ("swan", "00001"),
    ("swan", "00010"),
    ("swan", "00011"),
]
END = 1.5  # seconds of the features of swan


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    videos = write_videos(folder)
    write_first_masks(folder, videos)
    write_segments(folder, videos)
    write_json(folder / "swan.json", {"results": {"swan": DETECTIONS["swan"]}})
    return folder


@pytest.fixture
def made(original, tmp_path):
    """The results, in a copy that corrections may change; videos stay where they are."""
    for name in ("first", "features"):
        shutil.copytree(original / name, tmp_path / name)
    return tmp_path


def bring(*words):
    return cli.main(["import", *map(str, words), "--quiet"])


def export(original, form, *names, options=(), out):
    words = ["export", *(str(original / name) for name in names), "--format", form, "-o", str(out), *options]
    assert cli.main([*words, "--quiet"]) == 0
    return out


def truth(original, video, frame):
    return read_mask(original / "first/pa/v0" / video / f"{frame}.png").copy()


# Masks


def submitted(tasks):
    """Tasks as Label Studio exports them when somebody accepted every prediction."""
    return [{**task, "annotations": [{"result": task["predictions"][0]["result"]}]} for task in tasks]


@pytest.mark.parametrize(
    ("form", "file"),
    [("coco", "annotations/instances_default.json"), ("youtube-vis", "instances.json"), ("davis", ""),
     ("cvat-images", "annotations.xml"), ("cvat", ""), ("label-studio-masks", "tasks.json")],
)  # fmt: skip
def test_masks_come_back_as_they_went(form, file, original, made):
    out = export(original, form, "first", options=["--folder-fps", "8"], out=made / "out")
    if form == "label-studio-masks":
        write_json(out / file, submitted(read_json(out / file)))
    assert bring(out / file, "--into", made / "first", "--folder-fps", "8") == 0
    found = corrected_frames(made / "first")
    empty = ("swan", "00010")  # a track says nothing of a frame that shows nothing
    assert set(found) == set(FRAMES) - ({empty} if form == "cvat" else set())
    for video, frame in found:
        wanted = truth(original, video, frame)
        wanted[wanted == 255] = 0
        got = read_mask(mask_file(made / "first", video, frame))
        assert np.array_equal(got, wanted), (video, frame)
    assert found["fox", "frame1"] == (1,)


def test_ids_of_a_palette_folder_without_names_are_those_of_the_masks(original, made):
    shutil.copytree(original / "first/pa/v0", made / "drawn")
    assert bring(made / "drawn", "--into", made / "first") == 0
    assert np.array_equal(read_mask(mask_file(made / "first", "swan", "00011")), truth(original, "swan", "00011"))


def test_polygons_and_plain_run_lengths(made):
    height, width = SIZE
    inside = [[4.0, 4.0, 20.0, 4.0, 20.0, 12.0, 4.0, 12.0]]
    counts = [height * 3, height * 2, height * (width - 5)]  # the columns 3 and 4
    document = {
        "images": [{"id": 7, "file_name": "fox/frame2.jpg", "height": height, "width": width}],
        "categories": [{"id": 3, "name": "FOX"}, {"id": 4, "name": "white swan"}],
        "annotations": [
            {"image_id": 7, "category_id": 4, "segmentation": {"size": [height, width], "counts": counts}},
            {"image_id": 7, "category_id": 3, "segmentation": inside},
        ],
    }
    write_json(made / "c.json", document)
    assert bring(made / "c.json", "--into", made / "first") == 0
    mask = read_mask(mask_file(made / "first", "fox", "frame2"))  # a frame that had no mask before
    assert (mask[:4, 3:5] == 2).all()
    assert (mask[5:12, 5:20] == 1).all()
    assert not mask[:, 22:].any()
    polygon = ("<annotations><image id='0' name='fox/frame3.jpg' width='32' height='24'>"
               "<polygon label='fox' points='4,4;20,4;20,12;4,12'/></image></annotations>")  # fmt: skip
    (made / "c.xml").write_text(polygon)
    assert bring(made / "c.xml", "--into", made / "first") == 0
    assert np.array_equal(read_mask(mask_file(made / "first", "fox", "frame3"))[:, 5:], mask[:, 5:])


def test_corrected_masks_are_exported_again(original, made):
    """Also those of a label that the video was not tagged with."""
    tabby = {"image_id": 1, "category_id": 1, "segmentation": [[4, 4, 20, 4, 20, 12]]}
    document = {"images": [{"id": 1, "file_name": "fox/frame2.jpg", "height": 24, "width": 32}],
                "categories": [{"id": 1, "name": "tabby"}], "annotations": [tabby]}  # fmt: skip
    write_json(made / "c.json", document)
    assert bring(made / "c.json", "--into", made / "first") == 0
    out = export(made, "davis", "first", out=made / "out")
    stems = sorted(path.stem for path in (out / "Annotations/Full-Resolution/fox").iterdir())
    assert stems == ["frame1", "frame10", "frame11", "frame2"]
    names = read_json(export(made, "coco", "first", out=made / "coco") / "annotations/instances_default.json")
    assert [one["name"] for one in names["categories"]] == ["fox", "white swan", "tabby"]


def label_folder(original, made):
    """As pyws label leaves it, with refined masks."""
    write_json(made / "labels/manifest.json", {"format": "pyws label"})
    shutil.copytree(original / "first", made / "labels/masks/refined")
    shutil.copytree(original / "features", made / "labels/features")
    (made / "labels/segments").mkdir()
    shutil.copy(original / "swan.json", made / "labels/segments/detections.json")
    return made / "labels"


def test_a_folder_of_label_goes_out_and_comes_back_as_one(original, made):
    folder = label_folder(original, made)
    task = export(made, "label-studio", "labels", out=made / "timeline")
    assert "fox" not in (task / "labels.xml").read_text()  # an object is no label of segments
    write_json(made / "reviewed.json", submitted(read_json(task / "tasks.json")))
    masks = export(made, "davis", "labels", out=made / "davis")
    assert bring(made / "reviewed.json", masks, "--into", folder) == 0
    assert len(read_corrections(folder / "features")["swan"].present) == 3
    assert set(corrected_frames(folder / "masks/refined")) == set(FRAMES)


# Segments


@pytest.mark.parametrize(
    ("form", "file", "near"),
    [("activitynet", "segments.json", 1e-9), ("csv", "segments.csv", 1e-9), ("fiftyone", "labels.json", 1.01 / FPS),
     ("label-studio", "tasks.json", 0.51 / FPS), ("cvat", "swan.xml", 1.01 / FPS)],
)  # fmt: skip
def test_segments_come_back_as_they_went(form, file, near, original, made):
    """Within a frame, where a format counts frames; where nothing is, is said too."""
    options = ["--videos", str(original / "videos/swan.mkv")]
    out = export(original, form, "swan.json", options=options, out=made / "out")
    if form == "label-studio":
        write_json(out / file, submitted(read_json(out / file)))
    assert bring(out / file, "--into", made / "features") == 0
    one = read_corrections(made / "features")["swan"]
    wanted = sorted((row["label"], *row["segment"]) for row in DETECTIONS["swan"])
    for (label, start, end), (name, first, last) in zip(sorted(one.present), wanted, strict=True):
        assert label == name
        assert abs(start - first) <= near
        assert abs(end - last) <= near
    run = [(start, end) for label, start, end in one.absent if label == "run"]
    assert run[0][0] == 0
    assert run[0][1] == pytest.approx(1.0, abs=near)


def test_only_what_is_marked(made):
    (made / "s.csv").write_text("video,label,start,end\nswan,Run,0.5,0.75\nswan,not run,0.75,1.0\n")
    assert bring(made / "s.csv", "--into", made / "features", "--scope", "marked") == 0
    one = read_corrections(made / "features")["swan"]
    assert (one.present, one.absent) == ((("run", 0.5, 0.75),), (("run", 0.75, 1.0),))


def test_a_video_without_segments_shows_none_of_its_tags(made):
    (made / "s.csv").write_text("video,label,start,end\nswan,,,\nfox,run,0,1\n")
    assert bring(made / "s.csv", "--into", made / "features") == 0
    found = read_corrections(made / "features")
    assert found["swan"].present == ()
    assert set(found["swan"].absent) == {("dive & <turn>", 0.0, END), ("run", 0.0, END)}
    assert found["swan"].source.endswith("s.csv")
    assert bring(made / "s.csv", "--into", made / "features") == 0
    assert read_corrections(made / "features") == found  # a tag that is nowhere is one no more, and stays nowhere
    (made / "s.csv").write_text("video,label,start,end\nfox,run,0.5,1\n")
    assert bring(made / "s.csv", "--into", made / "features") == 0
    again = read_corrections(made / "features")
    assert again["swan"] == found["swan"]  # others stay
    assert again["fox"].present == (("run", 0.5, 1.0),)


def test_tasks_that_nobody_submitted_say_nothing(original, made, capsys):
    options = ["--videos", str(original / "videos/swan.mkv")]
    out = export(original, "label-studio", "swan.json", options=options, out=made / "out")
    assert cli.main(["import", str(out / "tasks.json"), "--into", str(made / "features")]) == 0
    assert "only those with a submitted annotation count" in capsys.readouterr().out
    assert not (made / "features/corrections.json").exists()


# What does not fit


def test_everything_that_does_not_fit_is_one_report(made, capsys):
    rows = ["swan,run,0.5,9", "hen,run,0,1", "swan,fly,0,1", "fox,run,0.5,1"]
    (made / "s.csv").write_text("video,label,start,end\n" + "\n".join(rows) + "\n")
    assert bring(made / "s.csv", "--into", made / "features") == 1
    said = capsys.readouterr().err
    for part in ("'run' from 0.500 to 9.000 s is out of 0 to 1.500 s", "video 'hen' is none of the 2 videos",
                 "label 'fly' is none of dive & <turn>, run", "--on-error skip takes the rest"):  # fmt: skip
        assert part in said
    assert not (made / "features/corrections.json").exists()
    assert cli.main(["import", str(made / "s.csv"), "--into", str(made / "features"), "--on-error", "skip"]) == 0
    left = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert len(left) == 3
    for part in ("'run' from 0.500", "'hen' is none", "'fly' is none"):
        assert sum(part in line for line in left) == 1
    assert read_corrections(made / "features")["fox"].present == (("run", 0.5, 1.0),)


@pytest.mark.parametrize(("count", "more"), [(50, ""), (51, "; and 1 more")])
def test_a_report_is_of_fifty_problems_and_says_how_many_there_are_besides(count, more, made, capsys):
    (made / "s.csv").write_text("video,label,start,end\n" + "".join(f"hen{k},run,0,1\n" for k in range(count)))
    assert bring(made / "s.csv", "--into", made / "features") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("is none of the 2 videos") == 50
    assert f"'hen49' is none of the 2 videos{more}); --on-error skip" in said


def image(name, height=24, width=32):
    return {"id": 1, "file_name": name, "height": height, "width": width}


def coco(*images, annotations=(), categories=({"id": 1, "name": "fox"},)):
    return {"images": [{**one, "id": k} for k, one in enumerate(images)], "annotations": list(annotations),
            "categories": list(categories)}  # fmt: skip


def annotation(segmentation, category=1):
    return {"image_id": 0, "category_id": category, "segmentation": segmentation}


def timeline(value):
    result = {"type": "timelinelabels", "value": value}
    return [{"data": {"video": "swan.mkv", "fps": 5}, "annotations": [{"result": [result]}]}]


def brush(value, height=24):
    result = {"type": "brushlabels", "original_width": 32, "original_height": height, "value": value}
    return [{"data": {"pyws": {"video": "fox", "frame": "frame1"}}, "annotations": [{"result": [result]}]}]


FOX = image("fox/frame1.jpg")
WHOLE = {"size": [24, 32], "counts": [0, 24 * 32]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (coco(image("hen/frame1.jpg")), "video 'hen' is none of the 2 videos with masks"),
        (coco(image("fox/frame99.jpg")), "frame frame99: the video has 12 frames, frame0 to frame11"),
        (coco(FOX, annotations=[annotation(WHOLE)], categories=[{"id": 1, "name": "hen"}]), "'hen' is none of"),
        (coco(FOX, annotations=[annotation({"size": [1, 1], "counts": [0, 1]})]), "must have the size of its picture"),
        (coco(FOX, annotations=[annotation({"size": [32, 24], "counts": [768]})]), "must have the size of its picture"),
        (coco(image("fox/frame1.jpg", 5, 5), annotations=[annotation({"size": [5, 5], "counts": [25]})]),
         "masks must have the size of the frame (24, 32), got (5, 5)"),
        (coco(FOX, annotations=[annotation({"size": [24, 32], "counts": [5, -2, 765]})]), "fill 24x32 pixels"),
        (coco(FOX, annotations=[annotation({"size": [24, 32], "counts": "zzz~"})]), "run lengths in letters"),
        (coco(FOX, annotations=[annotation([[1, 2, "a", 4]])]), "run lengths or polygons"),
        (coco(FOX, annotations=[annotation([[1, 2]])]), "a polygon must have three or more points"),
        (coco(image("fox/frame1.jpg", 10**9, 10**9), annotations=[annotation([[0, 0, 1, 1, 1, 0]])]), "pixels, got"),
        (coco(FOX, annotations=[annotation(WHOLE, 5)]), "image_id and category_id must be listed, got 0 and 5"),
        (coco(FOX, annotations=[{"image_id": "x"}]), "image_id must be a number"),
        ({"images": 3, "annotations": []}, "images must be a list of objects"),
        ({"videos": [{"id": 1, "height": 2, "width": 2}], "annotations": []}, "must have file_names"),
        ({"a": 1}, "must be corrections of Label Studio"),
        ([1], "task 0: must be an object with data"),
        ([{"data": {"video": "x"}, "annotations": [{"result": 5}]}], "result of an annotation must be a list"),
        ([{"data": {"pyws": {"video": "fox", "frame": "frame1"}}, "annotations": [{"result": [
            {"type": "brushlabels", "original_width": 32, "original_height": 24,
             "value": {"rle": encode_brush(np.ones((2, 2), bool)), "brushlabels": ["fox"]}}]}]}], "got 16 values"),
        ([{"data": {"pyws": {"video": "fox", "frame": "frame1"}}, "annotations": [{"result": [
            {"type": "brushlabels", "original_width": 32, "original_height": 24,
             "value": {"rle": [0, 0, 12, 0, 57, 44, 37, 78], "brushlabels": ["fox"]}}]}]}], "is cut off"),
        ([{"data": {"video": "swan.mkv"}, "annotations": [{"result": [
            {"type": "timelinelabels", "value": {"ranges": [], "timelinelabels": ["run"]}}]}]}], "fps must be"),
        ({"labels": {"swan": [{"label": 0, "support": [1]}]}, "classes": ["run"]}, "support or timestamps"),
        ({"labels": {"swan": [{"label": 9, "support": [1, 2]}]}, "classes": ["run"]}, "must have a label of classes"),
        ({"labels": {"swan": 5}, "classes": ["run"]}, "must have a list of entries"),
        ({"results": {"swan": [{"label": "run", "segment": [2, 1], "score": 1}]}}, "segment must be [start, end]"),
        ({"videos": [{"id": 1, "height": 2, "width": 2, "file_names": ["fox/frame1.jpg"]}], "annotations": [
            {"video_id": 1, "category_id": 1, "segmentations": []}], "categories": [{"id": 1}]},
         "annotation 0: segmentations must be 1, one for each frame"),
        ({"videos": [{"id": 1, "height": 2.5, "width": 2, "file_names": []}], "annotations": []},
         "height must be a whole number, got '2.5"),
        ({"videos": [{"id": 2.0**41, "height": 2, "width": 2, "file_names": []}], "annotations": []},
         "id must be a whole number, got '2199"),
        (timeline({"timelinelabels": ["run"]}), "timeline labels must have ranges and timelinelabels, lists"),
        (timeline({"ranges": []}), "timeline labels must have ranges and timelinelabels, lists"),
        (timeline(5), "timeline labels must have ranges and timelinelabels, lists"),
        (timeline({"ranges": [], "timelinelabels": [""]}), "a label must be a text, got ''"),
        (timeline({"ranges": [[1, 2]], "timelinelabels": ["run"]}), "a range must be an object with start and end"),
        (brush(5), "brush labels must have a value with rle and brushlabels"),
        (brush({"rle": [1], "brushlabels": []}), "brush labels must have a value with rle and brushlabels"),
        (brush({"rle": [1], "brushlabels": "fox"}), "brush labels must have a value with rle and brushlabels"),
        (brush({"rle": [0, 0, 12, 0, 0x3F, 0xFF, 0xFC, 0xFF, 0xFF, 0], "brushlabels": ["fox"]}), "runs beyond its end"),
        (brush({"rle": [], "brushlabels": ["fox"]}, height=0), "must be of 1 to "),
        (brush({"rle": [], "brushlabels": ["fox"]}, height=2**39), "must be of 1 to "),
    ],
)  # fmt: skip
def test_hostile_json(document, said, made, capsys):
    write_json(made / "c.json", document)
    assert bring(made / "c.json", "--into", made / "first") == 1
    assert said in capsys.readouterr().err


TRACK = (
    "<annotations><meta><task><size>45</size><source>swan.mkv</source></task></meta>"
    "<track label='fox'>{}</track></annotations>"
)
SIZED = TRACK.replace("</source>", "</source><original_size><width>32</width><height>24</height></original_size>")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotations>", "is not XML"),
        ("", "is not XML"),
        ("<svg/>", "must be annotations of CVAT, got <svg>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "must have no document type"),
        ("<annotations><image name='fox/frame1.jpg' width='x' height='2'/></annotations>", "width must be a number"),
        ("<annotations><image name='fox/frame1.jpg' width='4' height='2'><box/></image></annotations>",
         "shapes must be masks or polygons, got box"),
        (TRACK.format("<mask frame='1' left='0' top='0' width='1' height='1' rle='0,1'/>"), "must say the size"),
        (SIZED.format("<mask frame='99' left='0' top='0' width='1' height='1' rle='0,1'/>"), "frame 99: the video"),
        (SIZED.format("<mask frame='1' left='31' top='0' width='9' height='1' rle='0,9'/>"), "must lie within"),
        (SIZED.format("<mask frame='1' left='0' top='0' width='2' height='1' rle='0,x'/>"), "parted by commas"),
        (SIZED.format("<mask frame='1' left='0' top='0' width='2' height='1' rle='0,1'/>"), "fill 1x2 pixels"),
        (SIZED.format("<polygon frame='1' points='1,2;3'/>"), "points of a polygon must be"),
        (SIZED.format("<ellipse frame='1'/>"), "got ellipse"),
        (SIZED.format("<box frame='1' xtl='0' ytl='0' xbr='9' ybr='9'/>"), "a box must cover the whole frame 24x32"),
        (SIZED.format("<mask frame='-1'/>"), "frame must be a number of 0 or more"),
    ],
)  # fmt: skip
def test_hostile_xml(text, said, made, capsys):
    (made / "c.xml").write_text(text)
    assert bring(made / "c.xml", "--into", made / "first") == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.csv", b"video,label,start,end\nswan,run,a,2\n", "line 2: start must be a number, got 'a'"),
        ("c.csv", b"film\nswan\n", "must have the columns"),
        ("c.csv", b"\xff\xfe\x00", "is not UTF-8 text: byte 0"),
        ("c.zip", b"PK", "is an archive; unpack it"),
        ("c.json", b"{", "is not valid JSON"),
        ("c.xml", b"\xff\xfe<\x00", "is not UTF-8 text: byte 0"),
    ],
)
def test_hostile_files(name, content, said, made, capsys):
    (made / name).write_bytes(content)
    assert bring(made / name, "--into", made / "features") == 1
    assert said in capsys.readouterr().err


def test_any_bytes_are_an_error_or_corrections(original, made):
    """Cut off or with single bytes changed, every format is read or refused by a DataError; nothing else."""
    random = np.random.default_rng(0)
    for form, file in (("coco", "annotations/instances_default.json"), ("cvat-images", "annotations.xml"),
                       ("label-studio-masks", "tasks.json")):  # fmt: skip
        out = export(original, form, "first", out=made / form)
        if form == "label-studio-masks":
            write_json(out / file, submitted(read_json(out / file)))
        whole = (out / file).read_bytes()
        for trial in range(25):
            changed = bytearray(whole)
            for place in random.integers(0, len(whole), 3):
                changed[place] = random.integers(32, 127)
            (out / file).write_bytes(changed if trial % 5 else changed[: random.integers(len(whole))])
            try:
                for one in read_review(out / file).values():
                    for regions in one.masks.values():
                        regions()
            except DataError:
                pass


def test_where_corrections_do_not_go(made, capsys):
    (made / "s.csv").write_text("video,label,start,end\nfox,run,0.5,1\n")
    assert bring(made / "s.csv", "--into", made / "first") == 1
    assert "1 videos have segments, and the folder has masks alone" in capsys.readouterr().err
    (made / "empty").mkdir()
    assert bring(made / "s.csv", "--into", made / "empty") == 1
    assert "must be a folder of pyws label, of features, or of pyws masks init" in capsys.readouterr().err


@pytest.mark.parametrize("into", ["first", "features"])
def test_nothing_is_corrected_where_another_run_writes(into, made, capsys):
    (made / "s.csv").write_text("video,label,start,end\nfox,run,0.5,1\n")
    before = {path: path.read_bytes() for path in (made / into).rglob("*") if path.is_file()}
    with only_writer(made / into):
        assert bring(made / "s.csv", "--into", made / into) == 1
        assert f"{into}: is being written by another run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (made / into).rglob("*") if path.is_file()} == before
