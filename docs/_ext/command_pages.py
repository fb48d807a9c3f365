"""A page for each command of pyws, made from its parser and its docstring: every option, its default, the examples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import generated

WIDTH = "1000"  # columns, so that nothing wraps
_OPTION = re.compile(r"  (?P<names>\S.*?)(?:\s{2,}(?P<text>.*))?$")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    return generated.connect(app, "commands", pages)


def pages() -> dict[str, str]:
    """The text of every page, by its name."""
    from pyws import cli

    found = {name.replace(" ", "-"): "\n".join(page(name)) + "\n" for name in cli.COMMANDS}
    return {"index": "\n".join(_index(cli.GROUPS)), **found}


def _index(groups: dict[str, tuple[str, ...]]) -> Iterator[str]:
    yield "# Commands\n"
    yield "`pyws COMMAND --help` shows the options that matter first, `--help-all` every one, as these pages do."
    yield "Every command takes its settings from a TOML file too (`--config run.toml`) and by path (`--set lr=1e-3`).\n"
    for title, names in groups.items():
        yield f"```{{toctree}}\n:caption: {title}"
        yield from (name.replace(" ", "-") for name in names)
        yield "```\n"


def page(name: str) -> Iterator[str]:
    """The lines of a command's page, in MyST Markdown."""
    from pyws import cli
    from pyws.commands import usage

    command = cli.load(name)
    os.environ["COLUMNS"], before = WIDTH, os.environ.get("COLUMNS")
    try:
        text = usage.command_help(command, name, everything=True)
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    head, *groups = re.split(r"^ (\S.*)\n -{20,}\n", text.partition("\n\nexamples:\n")[0], flags=re.M)
    synopsis, _, description = head.partition("\n\n")
    yield f"# pyws {name}\n"
    yield _escaped(re.sub(r"(?<!\n)\n(?!\n)", " ", description.strip())) + "\n"
    yield f"```text\n{synopsis.removeprefix('usage: ')}\n```\n"
    if examples := usage.examples_of(command):
        yield "## Examples\n\n```bash\n" + "\n".join(examples) + "\n```\n"
    for title, body in zip(groups[::2], groups[1::2], strict=True):
        yield f"## {title[0].upper()}{title[1:]}\n"
        yield from _options(body)


def _options(body: str) -> Iterator[str]:
    """A definition for each option."""
    open_entry = False
    for line in body.splitlines():
        if entry := _OPTION.match(line) if line[2:3].strip() else None:
            yield f"\n`{entry['names']}`"
            open_entry = False
            line = entry["text"] or ""
        if text := line.strip():
            yield ("  " if open_entry else ": ") + _escaped(text)
            open_entry = True
        elif entry and "--help" in entry["names"]:
            yield ": "
    yield ""


def _escaped(text: str) -> str:
    """Plain text as Markdown; options are code."""
    parts = re.split(r"`([^`]+)`|(?<![\w-])(--[a-z][\w.-]*\w)", text)
    plain = [re.sub(r"([*_<>`\[\]#$|\\])", r"\\\1", part) for part in parts[::3]]
    code = [f"`{quoted or option}`" for quoted, option in zip(parts[1::3], parts[2::3], strict=True)]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)
