"""One HTML file that needs nothing else: text, tables and pictures, no scripts, no network, light and dark."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from pyws.errors import DataError
from pyws.files import atomic_write

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


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
class Section:
    """A heading, paragraphs, tables, then pictures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = field(default_factory=tuple)


def write_html(path: str | os.PathLike[str], title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write a report as one HTML file, whole or not at all. All text is escaped.

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
    body = "\n".join(_section(section) for section in sections)
    with atomic_write(path) as file:
        file.write(_PAGE.format(title=escape(title), lead=escape(lead), style=_STYLE, body=body))


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.text]
    parts += [_table(table) for table in section.tables]
    if section.pictures:
        parts += ['<div class="pictures">', *(_picture(picture) for picture in section.pictures), "</div>"]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in table.columns)
    rows = [
        f'<tr><th scope="row">{escape(str(row[0]))}</th>' + "".join(map(_cell, row[1:])) + "</tr>" for row in table.rows
    ]
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="table"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div>"
    )


def _cell(value: object) -> str:
    if value is None:
        return '<td class="number">-</td>'
    if isinstance(value, float):
        return f'<td class="number">{value:.3f}</td>'
    kind = ' class="number"' if isinstance(value, int) else ""
    return f"<td{kind}>{escape(str(value))}</td>"


def _picture(picture: Picture) -> str:
    path = Path(picture.path)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(path, f"must be a picture that a browser shows ({', '.join(KINDS)})")
    try:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error
    wide = ' class="wide"' if picture.wide else ""
    words = escape(picture.caption or path.stem)
    return f'<figure{wide}><img alt="{words}" src="data:{kind};base64,{data}"><figcaption>{words}</figcaption></figure>'


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6472; --line: #d9dde4; --page: #fbfbfc; --card: #ffffff;
  --accent: #0b62b0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaf0; --soft: #a2abba; --line: #333b48; --page: #14181f; --card: #1c222b; --accent: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { margin: 0 0 .4rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 0 0 .6rem; font-size: 1.25rem; }
p { margin: 0 0 .8rem; max-width: 48rem; }
.lead { color: var(--soft); font-size: 1.08rem; }
section { margin-top: 2rem; padding: 1.4rem 1.5rem 1.6rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.table { overflow-x: auto; margin: .4rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; font-size: .88rem; }
tbody th { font-weight: 500; padding-right: 1.6rem; }
.number { text-align: right; }
thead th:not(:first-child) { text-align: right; }
td:not(.number) { text-align: right; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.1rem; }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; }
img { display: block; width: 100%; height: auto; border-radius: 8px; background: #ffffff; }
figcaption { margin-top: .35rem; color: var(--soft); font-size: .88rem; overflow-wrap: anywhere; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{body}
</body>
</html>
"""
