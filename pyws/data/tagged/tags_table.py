"""Tags of videos from a table, as a spreadsheet writes it: CSV, TSV or xlsx, and which of the given videos it means."""

from __future__ import annotations

import codecs
import io
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat
from zipfile import ZipFile

from pyws.data.csv_table import rows_of
from pyws.data.video.sources import VIDEO_SUFFIXES
from pyws.errors import DataError, listed, loader_says, printable, reading
from pyws.files import check_bytes

VIDEO_COLUMNS = ("video", "videos", "video name", "video_name", "name", "file", "filename", "file name", "path", "clip")
TAG_COLUMNS = ("tag", "tags", "label", "labels", "class", "classes")
MAX_BYTES = 1 << 26
MAX_CELLS = 5_000_000  # in a workbook, those without contents too
_RANGE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})(?::([A-Z]{1,3})([0-9]{1,7}))?")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class TagsTable:
    """Tags by video, as a table has them.

    Parameters
    ----------
    path : the file
    tags : the tags of each video, in the order of the rows, under the name that the table has for the video; () where
        its rows have none
    lines : the first row of each video, counted from 1 with the header
    problems : a sentence for each row that names no video
    """

    path: Path
    tags: dict[str, tuple[str, ...]]
    lines: dict[str, int]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaggedSources:
    """Which videos have which tags, and everything that does not fit.

    Parameters
    ----------
    tags : the tags of each video that has any, in the order of the videos
    names : every tag of the table in the order of its rows, whichever videos are given
    problems : a sentence for each row without a video, video without a tag, and name of more than one video
    """

    tags: dict[Path, tuple[str, ...]]
    names: tuple[str, ...]
    problems: tuple[str, ...]


def read_tags_table(path: str | os.PathLike[str]) -> TagsTable:
    """Read a table of tags.

    The first row names the columns: one for the video (``video``, ``file``, ``name``, ``path``, ...) and one or more
    for tags (``tag``, ``tags``, ``label``, ``tag 2``, ...), in any case. A video may have several rows, and a cell
    several tags, parted by commas, semicolons or bars: ``dog, running``. Tags that differ in case or white space are
    one. Commas, semicolons, tabs or bars part cells; UTF-8 with or without byte order mark and UTF-16 with one are
    read.

    Parameters
    ----------
    path : .csv, .tsv, .txt, or .xlsx (the sheet that has these columns; needs openpyxl)

    Raises
    ------
    DataError : missing, unreadable, larger than 64 MiB, no such columns, or no row with a video and a tag

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tags.csv"
    >>> _ = path.write_text("Video;Tags\\npark.mp4;dog, running\\nzoo.mp4;Dog\\n")
    >>> read_tags_table(path).tags
    {'park.mp4': ('dog', 'running'), 'zoo.mp4': ('dog',)}
    """
    rows = _rows(Path(path))
    header = [cell.strip().lower() for cell in next(rows, [])]
    video, tag_columns = _columns(path, header)
    spelled: dict[str, str] = {}
    tags: dict[str, dict[str, None]] = {}
    lines: dict[str, int] = {}
    problems = []
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        name = row[video].strip() if video < len(row) else ""
        cells = [row[column] for column in tag_columns if column < len(row)]
        if tag_columns[-1] == len(header) - 1:
            cells += row[len(header) :]  # dog.mp4,dog,running: nobody quoted the tags
        found = [tag for cell in cells for tag in split_tags(cell)]
        if not name:
            problems.append(f"row {number}: names no video, but {', '.join(found) or 'something else'}")
            continue
        lines.setdefault(name, number)
        several = tags.setdefault(name, {})
        for tag in found:
            several[spelled.setdefault(_folded(tag), tag)] = None
    if not any(tags.values()):
        raise DataError(path, "must have a row with a video and a tag below the names of the columns, found none")
    return TagsTable(Path(path), {name: tuple(several) for name, several in tags.items()}, lines, tuple(problems))


def split_tags(cell: str) -> list[str]:
    """The tags of a cell; numbers of classes behind ``=`` stay with their name.

    Examples
    --------
    >>> split_tags("dog=151-268,273; Long  jump |running,")
    ['dog=151-268,273', 'Long jump', 'running']
    """
    parts: list[str] = []
    for part in re.split(r"[,;|]", cell):
        text = " ".join(part.split())
        if parts and "=" in parts[-1] and re.fullmatch(r"\d+( ?- ?\d+)?", text):
            parts[-1] += f",{text}"
        elif text:
            parts.append(text)
    return parts


def match_tags(table: TagsTable, videos: Sequence[Path]) -> TaggedSources:
    """Find the videos that a table means: by path, name or stem, with or without the ending, in any case.

    Parameters
    ----------
    table : the tags
    videos : video files and folders of frames

    Examples
    --------
    >>> table = TagsTable(Path("tags.csv"), {"Park.MP4": ("dog",), "zoo": ("cat",)}, {"Park.MP4": 2, "zoo": 3})
    >>> found = match_tags(table, [Path("set/park.mp4"), Path("set/beach.mp4")])
    >>> found.tags
    {PosixPath('set/park.mp4'): ('dog',)}
    >>> print(*found.problems, sep="\\n")
    row 3: zoo is none of the videos
    set/beach.mp4 has no tags
    """
    index: dict[tuple[str, ...], list[Path]] = {}
    for video in videos:
        for key in _names_of(video):
            index.setdefault(key, []).append(video)
    count = Counter(_without_ending(parts[-1]) for parts in map(_parts, table.tags) if parts)
    found: dict[Path, dict[str, None]] = {}
    rows: dict[Path, int] = {}
    problems = list(table.problems)
    for name, tags in table.tags.items():
        parts = _parts(name)
        meant = _meant(parts, index, whole=count[_without_ending(parts[-1])] > 1) if parts else []
        if not meant:
            problems.append(f"row {table.lines[name]}: {printable(name)} is none of the videos")
        elif len(meant) > 1:
            listed = ", ".join(map(printable, meant[:3]))
            problems.append(
                f"row {table.lines[name]}: {printable(name)} is the name of {len(meant)} videos ({listed}); give paths"
            )
        else:
            rows.setdefault(meant[0], table.lines[name])
            found.setdefault(meant[0], {}).update(dict.fromkeys(tags))
    by_video = {video: tuple(found[video]) for video in videos if found.get(video)}
    bare = [video for video in videos if video not in by_video]
    problems += [f"{printable(video)} has no tags{f', row {rows[video]}' if video in rows else ''}" for video in bare]
    names = dict.fromkeys(tag for tags in table.tags.values() for tag in tags)
    return TaggedSources(by_video, tuple(names), tuple(problems))


def tags_of(path: str | os.PathLike[str], videos: Sequence[Path], on_error: str = "error") -> TaggedSources:
    """Read a table and find its videos; everything that does not fit is said at once, before any work starts.

    Parameters
    ----------
    path : the table, see :func:`read_tags_table`
    videos : video files and folders of frames
    on_error : "error" raises where anything does not fit, "skip" leaves it to the caller to say

    Raises
    ------
    DataError : the table cannot be read, or with "error" its rows and the videos do not fit; lists every problem
    """
    found = match_tags(read_tags_table(path), videos)
    if found.problems and on_error == "error":
        raise misfit(path, found.problems)
    return found


def misfit(path: str | os.PathLike[str], problems: Sequence[str]) -> DataError:
    """The error that lists every row and video that cannot be used, a line each."""
    rule = "has rows or videos that cannot be used; --on-error skip goes on with the rest"
    return DataError(path, rule + listed(list(problems)))


def _names_of(video: Path) -> Iterator[tuple[str, ...]]:
    """Each end of the path, with and without the ending of the file."""
    parts = [_folded(part) for part in video.parts]
    bare = [*parts[:-1], _without_ending(parts[-1])] if parts else []
    for length in range(1, len(parts) + 1):
        yield tuple(parts[-length:])
        if bare[-1] != parts[-1]:
            yield tuple(bare[-length:])


def _parts(name: str) -> list[str]:
    return [_folded(part) for part in re.split(r"[/\\]", name) if part not in ("", ".")]


def _meant(parts: list[str], index: dict[tuple[str, ...], list[Path]], whole: bool) -> list[Path]:
    """The videos that end in the parts of a name; in the most of its last parts that any does, unless ``whole``."""
    for length in range(len(parts), len(parts) - 1 if whole else 0, -1):
        end = parts[-length:]
        for key in (tuple(end), (*end[:-1], _without_ending(end[-1]))):
            if key in index:
                return index[key]
    return []


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending}" in VIDEO_SUFFIXES else name


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _columns(path: str | os.PathLike[str], header: Sequence[str]) -> tuple[int, list[int]]:
    """The column of the video and the columns of tags."""
    videos = [at for name in VIDEO_COLUMNS for at, cell in enumerate(header) if cell == name]
    pattern = re.compile(rf"({'|'.join(TAG_COLUMNS)})[ _]?\d*")
    tags = [at for at, cell in enumerate(header) if pattern.fullmatch(cell)]
    if not videos or not tags:
        got = ", ".join(filter(None, header)) or "an empty file"
        raise DataError(path, f"must have the columns video and tag in its first row, got {got}")
    return videos[0], tags


def _rows(path: Path) -> Iterator[list[str]]:
    with reading(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(path, "must be a file with a table of tags, found a folder, pipe or device")
        if status.st_size > MAX_BYTES:
            raise DataError(path, f"must be at most {MAX_BYTES >> 20} MiB, got {status.st_size >> 20}")
        raw = path.read_bytes()
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return _sheet(path, raw)
    if path.suffix.lower() in (".xls", ".ods", ".numbers"):
        raise DataError(path, f"must be CSV, TSV or xlsx, got {path.suffix}: save the table as one of these")
    encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        rule = f"must be UTF-8 text, byte {error.start} is not: save the table as CSV UTF-8, or convert it"
        raise DataError(path, f"{rule} (iconv -f WINDOWS-1252 -t UTF-8, of Western European Windows)") from error
    if "\0" in text:
        raise DataError(path, "must be text, got NUL characters, as UTF-16 has without a mark: save as CSV UTF-8")
    first, _, rest = text.partition("\n")
    if named := re.fullmatch(r"sep=(.)\s*", first):  # a line for Excel
        return (row for _, row in rows_of(path, io.StringIO(rest, newline=""), named[1]))
    return (row for _, row in rows_of(path, io.StringIO(text, newline=""), max("\t;,|", key=first.count)))


def _sheet(path: Path, raw: bytes) -> Iterator[list[str]]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        rule = "needs openpyxl (pip install openpyxl), or save the table as CSV UTF-8"
        raise DataError(path, rule + loader_says(error, "openpyxl")) from error
    with reading(path, "cannot be read as a workbook"):  # openpyxl raises what zipfile and the XML parser raise
        with ZipFile(io.BytesIO(raw)) as packed:
            check_bytes(path, sum(member.file_size for member in packed.infolist()))
            _check_ranges(path, packed)
        workbook = load_workbook(io.BytesIO(raw), data_only=True).worksheets
        _check_cells(path, sum(one.max_row * one.max_column for one in workbook))
        sheets = {one.title: _table_of(one) for one in workbook}
    found = [name for name, rows in sheets.items() if _has_columns(rows)]
    if len(found) > 1:
        raise DataError(path, f"must have one sheet with the columns video and tag, got {', '.join(found)}")
    return iter(sheets[found[0]] if found else next(iter(sheets.values()), []))


def _check_cells(path: Path, count: int) -> None:
    if count > MAX_CELLS:
        raise DataError(path, f"must have at most {MAX_CELLS} cells to its last row and column, got {count}")


def _check_ranges(path: Path, packed: ZipFile) -> None:
    """Raise DataError where merged or linked cells are too many: openpyxl makes each of them, though the file only says
    where the first and the last is."""
    from openpyxl.utils import column_index_from_string

    total = 0

    def element(name: str, attributes: dict[str, str]) -> None:
        nonlocal total
        if name.rpartition(" ")[2] in ("mergeCell", "hyperlink"):
            corners = _RANGE.fullmatch(attributes.get("ref", ""))
            if corners is None:
                raise DataError(path, f"must name merged cells by two of them, got {attributes.get('ref', '')[:40]!r}")
            left, top, right, bottom = corners.groups()
            columns = column_index_from_string(right or left) - column_index_from_string(left) + 1
            total += columns * (int(bottom or top) - int(top) + 1)
            _check_cells(path, total)

    for member in packed.infolist():
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = element
        with packed.open(member) as file, suppress(expat.ExpatError):  # a picture, or what openpyxl refuses too
            parser.ParseFile(file)


def _table_of(sheet: Any) -> list[list[str]]:
    """The cells of a sheet as text; those that are merged have the text of all."""
    rows = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
    for merged in sheet.merged_cells.ranges:
        for row in rows[merged.min_row - 1 : merged.max_row]:
            for column in range(merged.min_col - 1, min(merged.max_col, len(row))):
                row[column] = rows[merged.min_row - 1][merged.min_col - 1]
    return rows


def _has_columns(rows: Sequence[Sequence[str]]) -> bool:
    try:
        return bool(rows) and bool(_columns("", [cell.strip().lower() for cell in rows[0]]))
    except DataError:
        return False
