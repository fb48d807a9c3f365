"""Docstrings of the house as reStructuredText: sections of ``name : text`` entries, and plain text in which only
double-backquoted literals and roles are markup."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "Examples")
_KEPT = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|\$[^$]+\$)")
_ENTRY = re.compile(r"(?P<names>[\w*.]+(?:, [\w*.]+)*)(?: : (?P<text>.*))?$")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}


def _process(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    lines[:] = list(rendered(lines))


def _skip(app: Any, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what Python says of the fields of a named tuple: that they are fields."""
    return True if type(item).__name__ == "_tuplegetter" else None


def rendered(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring as reStructuredText.

    Examples
    --------
    >>> print("\\n".join(rendered(["Sum of *S.", "", "Parameters", "----------", "maps : (B, *S)", "    float32"])))
    Sum of \\*S.
    <BLANKLINE>
    :Parameters:
    <BLANKLINE>
        **maps**
            (B, \\*S)
            float32
    <BLANKLINE>
    """
    for title, body in _sections(lines):
        if title in ("Notes", "Examples"):
            yield from (f".. rubric:: {title}", "", *_plain(body), "")
        elif title:
            content = _plain(body) if title in ("Returns", "Yields") else _entries(body)
            yield from (f":{title}:", "", *textwrap.indent("\n".join(content), "    ").splitlines(), "")
        else:
            yield from _plain(body)


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(title or "", lines below it) in order."""
    title, body = "", []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line in SECTIONS and below.startswith("---"):
            yield title, body
            title, body = line, []
        elif not (title and not body and line.startswith("---")):
            body.append(line)
    yield title, body


def _entries(body: list[str]) -> Iterator[str]:
    """A definition for each ``name : text`` with what is indented below it; other lines are paragraphs."""
    for line, below in zip(body, [*body[1:], ""], strict=True):
        entry = _ENTRY.match(line)
        if entry and (entry["text"] or below.startswith("    ")):
            yield from ("", f"**{_escaped(entry['names'])}**")
            if entry["text"]:
                yield from _plain(["    " + entry["text"]])
        else:
            yield from _plain([line])


def _plain(body: list[str]) -> Iterator[str]:
    """Text whose stars, bars and final underscores mean themselves; doctests, tables and directives stay."""
    verbatim = False
    for line in body:
        text = line.strip()
        verbatim = bool(text) and (verbatim or text.startswith((">>>", "+-", "+=", "|", "..", "=====")))
        yield line if verbatim else _escaped(line)


def _escaped(line: str) -> str:
    parts = _KEPT.split(line)
    return "".join(
        part if i % 2 else re.sub(r"((?!^\s*\* )[*|]|(?<=\w)_(?!\w))", r"\\\1", part) for i, part in enumerate(parts)
    )
