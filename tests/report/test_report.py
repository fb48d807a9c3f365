"""Timelines and the HTML report: whole, offline, and safe for any name."""

import re

import numpy as np
import pytest
from PIL import Image

from pyws import DataError
from pyws.report import timelines
from pyws.report.colours import COLOURS
from pyws.report.page.html import Picture, Section, Table, write_html
from pyws.report.timelines import Timeline, draw_lines, draw_timeline


def timeline(**changes):
    fields = {
        "title": "video $1 <b>",
        "duration": 10.0,
        "labels": ["run", "jump"],
        "curves": {"activation": np.linspace(0, 1, 20).reshape(10, 2)},
        "bars": {"truth": [(1.0, 4.0, "run", 1.0)], "found": [(1.5, 4.5, "run", 0.7), (6.0, 7.0, "jump", 0.2)]},
    }
    return Timeline(**{**fields, **changes})


def colours_in(path):
    with Image.open(path) as image:
        pixels = {pixel for _, pixel in image.convert("RGB").getcolors(maxcolors=1 << 24)}
    return {f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in pixels}


def test_timeline_is_a_picture_with_the_colours_of_its_classes(tmp_path):
    draw_timeline(tmp_path / "deep" / "t.png", timeline())
    assert set(COLOURS[:2]) <= colours_in(tmp_path / "deep" / "t.png")


def test_timeline_is_the_same_every_time(tmp_path):
    for name in ("a.png", "b.png"):
        draw_timeline(tmp_path / name, timeline())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pictures_have_no_frame(tmp_path, monkeypatch):
    """Lines stand where there is an axis with numbers: below, and to the left of curves."""
    sides, figures = ("left", "bottom", "top", "right"), []
    monkeypatch.setattr(timelines, "_save", lambda figure, path: figures.append(figure))
    draw_timeline(tmp_path / "t.png", timeline())
    draw_lines(tmp_path / "u.png", {"mAP": ([1, 2], [3.0, 4.0])}, "epoch", "mAP")
    shown = [[axis.spines[side].get_visible() for side in sides] for one in figures for axis in one.axes]
    curves, bars, lines = shown
    assert curves == lines == [True, True, False, False]
    assert bars == [False, True, False, False]


def test_timeline_without_segments_or_curves(tmp_path):
    draw_timeline(tmp_path / "t.png", timeline(curves={}, bars={"truth": [], "found": []}))
    draw_timeline(tmp_path / "u.png", timeline(bars={}))
    assert (tmp_path / "t.png").stat().st_size > 1000


def test_scores_beyond_0_and_1_are_as_pale_and_as_strong_as_these(tmp_path):
    for name, scores in (("a.png", (-0.5, 7.0)), ("b.png", (0.0, 1.0))):
        bars = {"found": [(0.0, 2.0, "run", scores[0]), (3.0, 5.0, "run", scores[1])]}
        draw_timeline(tmp_path / name, timeline(bars=bars))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 0.0}, "duration must be > 0, got 0.0"),
        ({"duration": float("nan")}, "duration must be > 0, got nan"),
        ({"curves": {"activation": np.zeros((4, 3))}}, r"activation must be \(snippets, 2 classes\), got \(4, 3\)"),
        ({"bars": {"truth": [(0.0, 1.0, "fly", 1.0)]}}, r"labels of the timeline, got \['fly'\]"),
    ],
)
def test_timeline_refuses(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        draw_timeline(tmp_path / "t.png", timeline(**changes))
    assert not list(tmp_path.iterdir())


def test_lines(tmp_path):
    draw_lines(tmp_path / "l.png", {"a": ([1, 2], [3.0, 4.0]), "b_$": ([1, 2], [1.0, 0.0])}, "epoch", "loss")
    assert set(COLOURS[:2]) <= colours_in(tmp_path / "l.png")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / 'a"onerror=x.png'
    Image.new("RGB", (4, 4)).save(path)
    return path


def test_report_is_one_file_that_needs_nothing_else(tmp_path, picture):
    rows = [["none", 3, 0.25, None], ["<img src=x>", 4, 1.0, "text"]]
    section = Section("A & B", ["first", "second"], [Table(["method", "n", "mAP", "more"], rows)], [Picture(picture)])
    write_html(tmp_path / "report.html", "<script>alert(1)</script>", "lead", [section])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2  # the page's own: its data and what draws them
    assert "<img src=x>" not in page
    assert "A &amp; B" in page
    assert 'alt="a&quot;onerror=x"' in page
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)', page) == []
    assert re.findall(r"https?:(?!//www\.w3\.org/2000/svg)", page) == []
    assert "prefers-color-scheme: dark" in page
    for cell in ("3", "0.250", "-"):
        assert f'<td class="number">{cell}</td>' in page


def test_report_names_the_picture_that_is_wrong(tmp_path):
    (tmp_path / "a.svg").write_text("<svg/>")
    for name, message in (("none.png", "cannot be read"), ("a.svg", "must be a picture that a browser shows")):
        with pytest.raises(DataError, match=message):
            write_html(tmp_path / "report.html", "t", "l", [Section("s", pictures=[Picture(tmp_path / name)])])
    assert not (tmp_path / "report.html").exists()
