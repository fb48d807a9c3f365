"""Tables of text in CSV files, whose errors name the line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence

from pyws.errors import DataError
from pyws.files import open_text

ROW_NUMBERS = ("", "index", "frame", "snippet")  # names of columns that number the rows of a table of numbers


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
    try:
        with open_text(path, "utf-8-sig") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames is None or not set(columns) <= set(rows.fieldnames):
                wanted = f"{', '.join(columns[:-1])} and {columns[-1]}" if len(columns) > 1 else columns[0]
                raise DataError(path, f"must have the columns {wanted}, got {rows.fieldnames or 'an empty file'}")
            for row in rows:
                cells = {column: (row.get(column) or "").strip() for column in (*columns, *optional)}
                if not all(cells[column] for column in columns):
                    named = " and ".join(("an " if column[0] in "aeiou" else "a ") + column for column in columns)
                    got = ", ".join(repr(cells[column]) for column in columns)
                    raise DataError(path, f"line {rows.line_num}: must name {named}, got {got}")
                yield rows.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read as CSV: {error}") from error


def columns_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the columns, empty where the file cannot be read."""
    try:
        with open_text(path, "utf-8-sig") as file:
            return tuple(cell.strip() for cell in next(csv.reader(file), []))
    except (OSError, DataError, UnicodeDecodeError, csv.Error):
        return ()


def is_number(cell: str) -> bool:
    """Whether a cell, in small letters, is a number as tables write them.

    Examples
    --------
    >>> [is_number(cell) for cell in ("-1.5e3", "nan", "jump", "")]
    [True, True, False, False]
    """
    return bool(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", cell))
