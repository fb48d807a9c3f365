"""Files of rows: tables in CSV, objects of JSON, plain lines. Errors name the line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from pyws.errors import DataError
from pyws.files import atomic_write, open_text, parse_json, read_text

_END = "\x1e"  # a line that no table has
ROW_NUMBERS = ("", "index", "frame", "snippet")  # names of columns that number the rows of a table of numbers


def csv_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, each with the number of its line; cells are stripped.

    Raises
    ------
    DataError : missing, not UTF-8, or no CSV
    """
    with open_text(path, "utf-8-sig") as file:
        for number, row in rows_of(path, file):
            if row:
                yield number, [cell.strip() for cell in row]


def rows_of(
    path: str | os.PathLike[str], lines: Iterable[str], delimiter: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """The rows of the text of a table, each with the number of its last line.

    Spaces before a quote do not make it a letter: ``a, "b, c"`` has two cells. A quote that is not closed would take
    all that follows it as one cell; a line behind the last one tells whether one is open there.

    Raises
    ------
    DataError : no CSV, or a quote that is not closed; it names the line where its row begins
    """
    reader = csv.reader(chain(lines, ("\n", _END)), delimiter=delimiter, skipinitialspace=True)
    begun = 1
    try:
        for row in reader:
            if row == [_END]:
                return
            if row and row[-1].endswith(_END):
                break
            yield reader.line_num, row
            begun = reader.line_num + 1
    except csv.Error as error:
        raise DataError(path, f"line {begun}: cannot be read as a table: {error}; is a quote left open?") from error
    raise DataError(path, f"line {begun}: has a quote that is not closed")


def read_table(
    path: str | os.PathLike[str], columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header: (number of the line, cells by column), stripped.

    Parameters
    ----------
    columns : that must be there, with something in every cell
    optional : that may be there, "" where they are not

    Raises
    ------
    DataError : missing, not UTF-8, no such columns, or an empty cell; it names the line
    """
    rows = csv_rows(path)
    _, header = next(rows, (0, []))
    if not header or not set(columns) <= set(header):
        wanted = f"{', '.join(columns[:-1])} and {columns[-1]}" if len(columns) > 1 else columns[0]
        raise DataError(path, f"must have the columns {wanted}, got {header or 'an empty file'}")
    for line, row in rows:
        given = dict(zip(header, row, strict=False))
        cells = {column: given.get(column, "") for column in (*columns, *optional)}
        if not all(cells[column] for column in columns):
            named = " and ".join(("an " if column[0] in "aeiou" else "a ") + column for column in columns)
            got = ", ".join(repr(cells[column]) for column in columns)
            raise DataError(path, f"line {line}: must name {named}, got {got}")
        yield line, cells


def write_table(path: str | os.PathLike[str], rows: Iterable[Iterable[object]]) -> None:
    """Write rows as CSV, whole or not at all."""
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def columns_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the columns, empty where the file cannot be read."""
    try:
        return tuple(next(csv_rows(path), (0, []))[1])
    except DataError:
        return ()


def read_json_lines(path: str | os.PathLike[str], what: str, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The objects of a file that has one a line.

    Parameters
    ----------
    what : what a line is, for the error
    keys : members that each must have

    Raises
    ------
    DataError : the file cannot be read, or a line is no such object; it names the line
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            rows.append(parse_json(line))
            good = isinstance(rows[-1], dict) and all(key in rows[-1] for key in keys)
        except (ValueError, RecursionError):
            good = False
        if not good:
            raise DataError(path, f"line {number}: must be {what}")
    return rows


def is_number(cell: str) -> bool:
    """Whether a cell, in small letters, is a number as tables write them.

    Examples
    --------
    >>> [is_number(cell) for cell in ("-1.5e3", "nan", "jump", "")]
    [True, True, False, False]
    """
    return bool(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", cell))
