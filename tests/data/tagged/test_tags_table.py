"""Tables of tags as spreadsheets write them, and the videos that they mean."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from video_files import write_timed_video

from pyws import DataError
from pyws.data.tagged import tags_table
from pyws.data.tagged.tags_table import TagsTable, match_tags, read_tags_table, tags_of
from pyws.data.video.frames import open_frames
from pyws.data.video.headers import headers_of
from pyws.data.video.sources import find_videos
from pyws.files import atomic_write

WANTED = {"park.mp4": ("dog", "running"), "zoo": ("cat",)}


@pytest.mark.parametrize(
    "raw",
    [
        b"video,tag\npark.mp4,dog\npark.mp4,running\nzoo,cat\n",
        b'video,tag\r\npark.mp4,"dog, running"\r\nzoo,cat\r\n',
        b"\xef\xbb\xbfVideo;Tags\r\npark.mp4;dog, running\r\nzoo;cat\r\n;\r\n",
        "File\tLabels\npark.mp4\tdog|running\nzoo\tcat\n".encode("utf-16"),
        b"id,name,tag 1,tag 2\n1,park.mp4,dog,running\n2,zoo,cat,\n",
        b"video,tag\npark.mp4,dog,running\nzoo,cat\n",
        b"sep=;\r\nvideo;tag\r\npark.mp4;dog, running\r\nzoo;cat\r\n",
        b"video|tag|tag 2\npark.mp4|dog|running\nzoo|cat|\n",
        b'video, tag\npark.mp4, "dog, running"\n"zoo" , cat',
        b"video,tag\npark.mp4, Dog ;running\nzoo,cat\npark.mp4,dog\n".replace(b" Dog ", b"dog"),
    ],
    ids=[
        "rows",
        "quoted",
        "bom-semicolons",
        "utf-16-tabs",
        "columns",
        "unquoted",
        "excel",
        "bars",
        "spaced",
        "repeated",
    ],
)
def test_every_spelling_of_a_table_means_the_same(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_bytes(raw)
    assert read_tags_table(tmp_path / "tags.csv").tags == WANTED


def test_tags_that_differ_in_case_and_space_are_one(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("video,tag\na,Long jump\nb,long  jump \nc,LONG JUMP\n")
    assert set(read_tags_table(tmp_path / "tags.csv").tags.values()) == {("Long jump",)}


def test_workbooks_are_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["video", "tags"], ["park.mp4", "dog, running"], ["zoo", "cat"], [None, None]):
        book.active.append(row)
    book.save(tmp_path / "tags.xlsx")
    assert read_tags_table(tmp_path / "tags.xlsx").tags == WANTED


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "must have the columns video and tag in its first row, got an empty file"),
        (b"park.mp4,dog\n", "got park.mp4, dog"),
        (b"video,tag\n", "must have a row with a video and a tag"),
        (b"video,tag\n,dog\na,\n", "must have a row with a video and a tag"),
        (b"video,tag\nJos\xe9,dog\n", "byte 13 is not: save the table as CSV UTF-8"),
        (b'video,tag\n"a' + b"x" * 200_000 + b'",dog\n', "cannot be read as a table"),
        (b'video,tag\na,dog\nb,"cat\nc,dog\n', "line 3: has a quote that is not closed"),
        (b'video,tag\na,dog\nb,"cat', "line 3: has a quote that is not closed"),
    ],
)
def test_a_bad_table_is_named(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_bytes(raw)
    with pytest.raises(DataError, match="tags.csv") as caught:
        read_tags_table(tmp_path / "tags.csv")
    assert said in str(caught.value)


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tags.csv")
    with pytest.raises(DataError, match="must be a file"):
        read_tags_table(tmp_path / "tags.csv")


def table(*names: str) -> TagsTable:
    return TagsTable(Path("tags.csv"), dict.fromkeys(names, ("dog",)), {name: 2 + at for at, name in enumerate(names)})


@pytest.mark.parametrize(
    "name",
    [
        "park",
        "park.mp4",
        "PARK.MP4",
        "set/park",
        "set/park.mp4",
        "./set/park.mp4",
        "C:\\films\\set\\Park.mp4",
        "park.avi",
    ],
)
def test_a_video_is_found_by_any_of_its_names(name: str) -> None:
    found = match_tags(table(name), [Path("/data/set/park.mp4")])
    assert found.tags == {Path("/data/set/park.mp4"): ("dog",)}
    assert found.problems == ()


def test_names_of_several_videos_are_reported_and_paths_tell_them_apart() -> None:
    videos = [Path("x/clip.mp4"), Path("y/clip.mp4")]
    assert match_tags(table("x/clip", "y/clip.mp4"), videos).problems == ()
    found = match_tags(table("clip"), videos)
    assert found.tags == {}
    assert found.problems[0] == "row 2: clip is the name of 2 videos (x/clip.mp4, y/clip.mp4); give paths"


def test_everything_that_does_not_fit_is_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("video,tag\na,dog\nb, \n,cat\nnowhere,dog\nb.mp4,\n")
    videos = [Path("a.mp4"), Path("b.mp4"), Path("c\n.mp4")]
    wanted = ["row 4: names no video, but cat", "row 5: nowhere is none of the videos", "b.mp4 has no tags, row 3",
              "c\\n.mp4 has no tags"]  # fmt: skip
    with pytest.raises(DataError) as caught:
        tags_of(tmp_path / "tags.csv", videos)
    assert str(caught.value).split("\n  ")[1:] == wanted
    assert list(tags_of(tmp_path / "tags.csv", videos, "skip").tags) == [Path("a.mp4")]


def test_a_path_is_not_another_video_of_that_name() -> None:
    found = match_tags(table("x/clip", "y/clip"), [Path("y/clip.mp4")])
    assert list(found.tags) == [Path("y/clip.mp4")]
    assert found.problems == ("row 2: x/clip is none of the videos",)


def test_a_folder_of_frames_keeps_dots_in_its_name() -> None:
    assert match_tags(table("take.2"), [Path("take.2"), Path("take")]).tags == {Path("take.2"): ("dog",)}


def test_accents_match_however_they_are_composed() -> None:
    assert match_tags(table("Jose\u0301"), [Path("Jos\u00e9.mp4")]).problems == ()


def test_videos_of_nested_folders(tmp_path: Path) -> None:
    for name in ("b/two.mkv", "b/.hidden.mp4", "a/frames/1.jpg", "a/frames/10.jpg", "a/notes.txt", "one.MOV"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = find_videos([tmp_path, tmp_path / "one.MOV"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/frames", "b/two.mkv", "one.MOV"]
    with pytest.raises(DataError, match=r"must hold videos .* found 1 files \(.txt\)"):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "x.txt").touch()
        find_videos([tmp_path / "empty"])
    assert find_videos([tmp_path / "empty", tmp_path / "one.MOV"], "skip") == [tmp_path / "empty", tmp_path / "one.MOV"]
    assert find_videos([tmp_path / "none"]) == [tmp_path / "none"]


def test_workbooks_of_several_sheets_and_merged_cells(tmp_path: Path) -> None:
    """Merged cells hold for each of their rows; the sheet of tags is found, and two are an error."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["how these were chosen"])
    sheet = book.create_sheet("tags")
    for row in (["video", "tag"], ["park.mp4", "dog, running"], ["lake.mp4", None], ["zoo", "cat"]):
        sheet.append(row)
    sheet.merge_cells("B2:B3")
    book.save(tmp_path / "tags.xlsx")
    assert read_tags_table(tmp_path / "tags.xlsx").tags == WANTED | {"lake.mp4": ("dog", "running")}
    book.create_sheet("later").append(["video", "tag"])
    book.save(tmp_path / "tags.xlsx")
    with pytest.raises(DataError, match="must have one sheet with the columns video and tag, got tags, later"):
        read_tags_table(tmp_path / "tags.xlsx")


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("t.csv", "video,tag\nzoo,café\n".encode("cp1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        ("t.csv", "video,tag\nzoo,cat\n".encode("utf-16-le"), "UTF-16 has without a mark"),
        ("t.ods", b"PK", "must be CSV, TSV or xlsx, got .ods"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(name: str, raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=re.escape(said)):
        read_tags_table(tmp_path / name)


def test_links_are_videos_under_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x7.mp4").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dog.mp4").symlink_to(tmp_path / "store" / "x7.mp4")
    (tmp_path / "in" / "again.mp4").symlink_to("dog.mp4")
    (tmp_path / "in" / "gone.mp4").symlink_to("nowhere.mp4")
    names = ["again.mp4", "dog.mp4", "gone.mp4"]
    assert [path.name for path in find_videos([tmp_path / "in"])] == names
    assert [path.name for path in find_videos([tmp_path / "in", tmp_path / "in" / "dog.mp4"])] == names


def test_results_within_the_input_are_no_videos(tmp_path: Path) -> None:
    """The same command goes on where its output lies beside the videos; other folders with such a file are searched."""
    for name in ("dog.mp4", "out/masks/dog/0.png", "kept/0.png", "maps/clip_0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "out/manifest.json").write_text('{"format": "pyws label", "version": 1}')
    (tmp_path / "maps/maps.json").write_text('{"video": "dog.mp4"}')
    (tmp_path / "kept/manifest.json").write_text('{"format": "of somebody else"}')
    assert [path.name for path in find_videos([tmp_path])] == ["dog.mp4", "kept"]
    assert [path.name for path in find_videos([tmp_path / "out"])] == ["dog"]


def test_names_that_no_result_can_have(tmp_path: Path) -> None:
    long = tmp_path / ("ä" * 121 + ".mkv")
    write_timed_video(long, [0.0, 0.1])
    whole = write_timed_video(tmp_path / ("n" * 240 + ".mkv"), [0.0, 0.1])
    headers, problems = headers_of([long, whole])
    assert list(headers) == [whole]
    assert "must have a name of at most 240 bytes, got 242" in str(problems[long])
    assert not headers_of([long], by_name=False)[1]
    with atomic_write(tmp_path / ("n" * 240 + ".safetensors")) as file:  # whose temporary file has a longer name
        file.write("x")


def test_links_that_lead_to_each_other_are_kept_for_what_opens_them(tmp_path: Path) -> None:
    """Path.resolve fails on them before Python 3.13, with an error that is none of ours."""
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "dog.mp4").touch()
    assert find_videos([tmp_path / "loop.mp4", tmp_path]) == [tmp_path / "loop.mp4", tmp_path / "dog.mp4"]
    with pytest.raises(DataError, match="loop.mp4: must be a folder of frames or a video file, found neither"):
        open_frames(tmp_path / "loop.mp4")


def test_a_folder_that_cannot_be_read_is_one_bad_video_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "dog.mp4").touch()
    usual = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path.name == "locked":  # root may read every folder
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match="locked: cannot be read: Permission denied"):
        find_videos([tmp_path])
    assert find_videos([tmp_path], "skip") == [tmp_path / "dog.mp4", tmp_path / "locked"]
    with pytest.raises(DataError, match="locked: cannot be read: Permission denied"):
        open_frames(tmp_path / "locked")


def test_a_table_is_bounded_by_its_bytes(tmp_path, monkeypatch):
    path = tmp_path / "tags.csv"
    path.write_text("video,tag\na,cat\n")
    size = path.stat().st_size
    monkeypatch.setattr(tags_table, "MAX_BYTES", size)
    assert read_tags_table(path)
    monkeypatch.setattr(tags_table, "MAX_BYTES", size - 1)
    with pytest.raises(DataError, match=r"tags\.csv: must be at most 0 MiB, got 0"):
        read_tags_table(path)


def test_a_workbook_needs_its_package(tmp_path, monkeypatch):
    (tmp_path / "tags.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        DataError, match=r"tags\.xlsx: needs openpyxl \(pip install openpyxl\), or save the table as CSV"
    ):
        read_tags_table(tmp_path / "tags.xlsx")
