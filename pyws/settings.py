"""Settings of a command from a TOML file (``--config FILE``) and by path (``--set a.b=c``), as options."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pyws.errors import DataError, reading
from pyws.files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_NO_SETTINGS = ("help", "help-all", "config", "set")
_DEEPEST = 16  # tables within each other; options have two


@dataclass(frozen=True, eq=False)
class Presets:
    """Annotation of a command's parameter ``preset``: what each of its values sets, as a document of --config."""

    documents: Mapping[str, Mapping[str, Any]]


def expand(words: list[str], command: Callable[..., Any]) -> list[str]:
    """Options in the place of --config FILE and --set PATH=VALUE; what stands on the command line itself wins. Those of
    the command's --preset come before all, so that any other wins.

    Raises
    ------
    DataError : a file that is missing or no TOML, or a value that no option can have
    ValueError : --config without a file, --set without PATH=VALUE

    Examples
    --------
    >>> expand(["data", "--set", "optimizer.lr=1e-3", "--epochs", "5"], lambda data, optimizer=None, epochs=1: None)
    ['data', '--optimizer.lr', '1e-3', '--epochs', '5']
    """
    found: list[str] = []
    rest: list[str] = []
    position = iter(words)
    for word in position:
        option, _, value = word.partition("=")
        if option not in ("--config", "--set"):
            rest.append(word)
            continue
        value = value or next(position, "")
        if option == "--config":
            if not value:
                raise ValueError("--config: must be followed by a TOML file")
            found += options_of(value, read_toml(value), command)
        else:
            name, equals, setting = value.partition("=")
            if not (name and equals):
                raise ValueError(f"--set: must be PATH=VALUE, e.g. optimizer.lr=1e-3, got {value!r}")
            truth = {"true": True, "false": False}
            found += _option("--set", name, truth.get(setting, setting), command)
    # Behind the positional words, which a list of values would swallow, and before the options, which win.
    first = next((index for index, word in enumerate(rest) if word.startswith("-")), len(rest))
    found += rest[first:]
    return rest[:first] + _of_preset(found, command) + found


def files_of(words: Sequence[str]) -> list[str]:
    """The files that --config names among the words of a command line."""
    found = [word.partition("=")[2] or after for word, after in pairwise([*words, ""]) if _is_config(word)]
    return [path for path in found if path]


def without_files(words: Sequence[str]) -> list[str]:
    """The words less --config and what follows it."""
    before = ["", *words]
    return [word for word, last in zip(words, before, strict=False) if not (_is_config(word) or last == "--config")]


def _is_config(word: str) -> bool:
    return word.partition("=")[0] == "--config"


def _of_preset(options: Sequence[str], command: Callable[..., Any]) -> list[str]:
    """The options that a preset stands for; none where none is asked for, or an unknown one."""
    marks = marks_of(command, "preset")
    documents = next((mark.documents for mark in marks if isinstance(mark, Presets)), {})
    name = ""
    for option, following in pairwise([*options, ""]):
        if option.partition("=")[0] == "--preset":
            name = option.partition("=")[2] or following
    return options_of(f"--preset {name}", documents.get(name, {}), command)


def marks_of(command: Callable[..., Any], parameter: str) -> list[Any]:
    """What a parameter of a command is annotated with besides its type.

    Python 3.10 makes a parameter of the default None an Optional, around what is annotated.
    """
    hint = get_type_hints(command, include_extras=True).get(parameter)
    return [mark for part in (hint, *get_args(hint)) for mark in getattr(part, "__metadata__", ())]


def read_toml(path: str) -> dict[str, Any]:
    """The document of a TOML file.

    Raises
    ------
    DataError : missing, or no TOML; the message has the line
    """
    with reading(path, "must be TOML"):  # deep nesting and long numbers raise what Python's parser raises
        return tomllib.loads(read_text(path, "utf-8-sig"))  # editors of Windows begin files with a mark


def options_of(path: str, document: Mapping[str, Any], command: Callable[..., Any], prefix: str = "") -> list[str]:
    """The options that a TOML document means: a table is the first part of the names of those within."""
    if prefix.count(".") > _DEEPEST:
        raise DataError(path, f"must have tables within each other at most {_DEEPEST} deep")
    words: list[str] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            words += options_of(path, value, command, f"{prefix}{key}.")
        else:
            words += _option(path, prefix + key, value, command)
    return words


def _option(source: str, name: str, value: Any, command: Callable[..., Any]) -> list[str]:
    """The words of one option; a flag stands alone."""
    option = _spelled(command, name)
    if option in _NO_SETTINGS or not re.fullmatch(r"[A-Za-z][\w.-]*", option):
        raise DataError(source, f"must have names of options as keys, got {name!r}")
    if isinstance(value, bool):
        group, dot, last = option.rpartition(".")
        return [f"--{option}" if value else f"--{group}{dot}no-{last}"]
    values = value if isinstance(value, list) else [value]
    for each in values:
        if not isinstance(each, str | int | float):
            rule = f"{name} must be a string, a number, true, false or a list of those, got {each!r}"
            raise DataError(source, rule)
        if isinstance(each, str) and (re.match(r"-[^\d.]", each) or "\0" in each):
            raise DataError(source, f"{name} must be a value without a dash before it, or a NUL, got {each!r}")
    return [f"--{option}", *map(str, values)]


def _spelled(command: Callable[..., Any], name: str) -> str:
    """How an option is written on the command line: options of a group without a name stand alone."""
    group, dot, rest = name.replace("_", "-").partition(".")
    notes = marks_of(command, group.replace("-", "_"))
    return rest if dot and any(getattr(note, "name", None) == "" for note in notes) else group + dot + rest


def toml_lines(settings: Mapping[str, Any]) -> Iterator[str]:
    """A TOML document of the settings; what is None is left out.

    Examples
    --------
    >>> list(toml_lines({"epochs": 5, "lr": None, "tious": (0.1, 0.3)}))
    ['epochs = 5', 'tious = [0.1, 0.3]']
    """
    tables = {key: value for key, value in settings.items() if is_dataclass(value)}
    for key, value in settings.items():
        if key not in tables and value is not None:
            yield f"{key.replace('_', '-')} = {_toml(value)}"
    for key, value in tables.items():
        yield ""
        yield f"[{key.replace('_', '-')}]"
        yield from toml_lines({each.name: getattr(value, each.name) for each in fields(value)})


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
