"""One HTML page that needs no server and no network: text, tables, charts, pictures and videos, light and dark."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from pyws.errors import DataError, reading
from pyws.files import atomic_write
from pyws.report.page.charts import Chart, draw_chart
from pyws.report.page.videos import Measure, Video, page_data

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
VIDEOS = "The videos"  # the heading over the list of videos
_NUMBER = ' class="number"'
_NAMED = 12  # videos that a finding names at once; the others are folded


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column names the row, numbers stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A png or jpg file, embedded as it is."""

    path: str | os.PathLike[str]
    caption: str = ""
    wide: bool = False  # over the whole page; others stand side by side


@dataclass(frozen=True)
class Movie:
    """A video file beside the page, which the browser plays; ``path`` is relative to the page."""

    path: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, charts, tables, then pictures and movies."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    charts: Sequence[Chart] = ()
    movies: Sequence[Movie] = ()


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong, and the videos that it is wrong with."""

    text: str
    videos: Sequence[str] = ()


@dataclass(frozen=True)
class VideoList:
    """Videos that can be searched and sorted, each with its timeline and player."""

    videos: Sequence[Video]
    measures: Sequence[Measure] = ()


def write_html(
    path: str | os.PathLike[str],
    title: str,
    lead: str,
    sections: Sequence[Section],
    videos: VideoList | None = None,
    findings: Sequence[Finding] = (),
    links: Mapping[str, str] | None = None,
) -> None:
    """Write a report as one HTML file, whole or not at all; the same page again is left as it is. All text is escaped.

    Parameters
    ----------
    path : the page; pictures of videos and movies lie beside it, all else is in it
    title, lead : what it is
    sections : in their order
    videos : listed between the findings and the sections
    findings : what looks wrong
    links : caption to the path of another page, relative to this one

    Raises
    ------
    DataError : a picture is missing, or is neither png nor jpg

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "report.html"
    >>> write_html(path, "a < b", "what it is", [Section("numbers", tables=[Table(["name", "IoU"], [["cat", 0.75]])])])
    >>> "<h1>a &lt; b</h1>" in path.read_text(), '<td class="number">0.750</td>' in path.read_text()
    (True, True)
    """
    parts = [_findings(findings)] if findings else []
    if videos is not None and videos.videos:
        parts.append(_asset("list.html"))
    parts += [_section(section) for section in sections]
    titles = [*(["What looks wrong"] if findings else []), *([VIDEOS] if videos and videos.videos else []),
              *(section.title for section in sections)]  # fmt: skip
    shown = VideoList(()) if videos is None else videos
    script = _asset("page.js")
    page = _asset("page.html").format(
        title=escape(title), lead=escape(lead), style=_asset("page.css"), body="\n".join(parts),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(), script=script,
        data=page_data(shown.videos, shown.measures), links=_links(links or {}), contents=_contents(titles),
    )  # fmt: skip
    raw = page.encode("utf-8", "replace")  # names of files may be no text
    if Path(path).is_file() and Path(path).read_bytes() == raw:
        return
    with atomic_write(path, "wb") as file:
        file.write(raw)


@cache
def _asset(name: str) -> str:
    return (files("pyws.report.page") / "assets" / name).read_text("utf-8")


def _links(links: Mapping[str, str]) -> str:
    if not links:
        return ""
    items = "".join(
        f'<li><a href="{quote(os.fsencode(path))}">{escape(caption)}</a></li>' for caption, path in links.items()
    )
    return f'<nav aria-label="related pages"><ul class="links">{items}</ul></nav>'


def _contents(titles: Sequence[str]) -> str:
    if len(titles) < 3:
        return ""
    items = "".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in titles)
    return f'<nav aria-label="contents"><ul class="contents">{items}</ul></nav>'


def _anchor(title: str) -> str:
    return quote(title.lower().replace(" ", "-"), safe="")


def _findings(findings: Sequence[Finding]) -> str:
    items = "\n".join(f"<li>{escape(one.text)}{_named(one.videos)}</li>" for one in findings)
    return f'<section class="wrong" id="what-looks-wrong"><h2>What looks wrong</h2><ul>{items}</ul></section>'


def _named(videos: Sequence[str]) -> str:
    if not videos:
        return ""
    links = [f'<a href="#video={quote(name, safe="", errors="replace")}">{escape(name)}</a>' for name in videos]
    more = f"<details><summary>{len(links) - _NAMED} more</summary>{', '.join(links[_NAMED:])}</details>"
    return ": " + ", ".join(links[:_NAMED]) + (more if len(links) > _NAMED else "")


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.text]
    if section.charts:
        parts += ['<div class="charts">', *map(draw_chart, section.charts), "</div>"]
    parts += [_table(table) for table in section.tables]
    if section.pictures or section.movies:
        parts += ['<div class="pictures">', *map(_picture, section.pictures), *map(_movie, section.movies), "</div>"]
    return f'<section id="{_anchor(section.title)}">\n' + "\n".join(parts) + "\n</section>"


def _table(table: Table) -> str:
    numbers = [all(row[k] is None or _is_number(row[k]) for row in table.rows) for k in range(len(table.columns))]
    head = "".join(f'<th scope="col"{_NUMBER if number and index else ""}>{escape(str(column))}</th>'
                   for index, (column, number) in enumerate(zip(table.columns, numbers, strict=True)))  # fmt: skip
    rows = [
        f'<tr><th scope="row">{escape(str(row[0]))}</th>' + "".join(map(_cell, row[1:])) + "</tr>" for row in table.rows
    ]
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="table"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div>"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _cell(value: object) -> str:
    if value is None:
        return '<td class="number">-</td>'
    if isinstance(value, float):
        return f'<td class="number">{value:.3f}</td>'
    kind = _NUMBER if isinstance(value, int) else ""
    return f"<td{kind}>{escape(str(value))}</td>"


def _picture(picture: Picture) -> str:
    path = Path(picture.path)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(path, f"must be a picture that a browser shows ({', '.join(KINDS)})")
    with reading(path):
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    wide = ' class="wide"' if picture.wide else ""
    words = escape(picture.caption or path.stem)
    image = f'<img alt="{words}" src="data:{kind};base64,{data}">'
    return (
        f'<figure{wide}><button aria-label="enlarge {words}">{image}</button><figcaption>{words}</figcaption></figure>'
    )


def _movie(movie: Movie) -> str:
    words = escape(movie.caption)
    source = f'<video controls preload="none" src="{quote(os.fsencode(movie.path))}" aria-label="{words}"></video>'
    return f"<figure>{source}<figcaption>{words}</figcaption></figure>"
