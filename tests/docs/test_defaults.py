"""Defaults are promises: each one of every public function, class and command is in ``defaults.txt`` beside this file.

Whoever changes one on purpose says so in CHANGELOG.md and writes the list anew: ``python tests/docs/test_defaults.py``.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyws

LIST = Path(__file__).with_name("defaults.txt")
PLAIN = (int, float, str, bool, bytes, type(None), tuple, frozenset)


def words_of(default: Any) -> str | None:
    """A default in words; None of what has no words that stay, such as a function."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return f"{type(default).__name__}()"  # its own defaults have a line of their own
    return str(default) if isinstance(default, enum.Enum) else repr(default) if isinstance(default, PLAIN) else None


def callables_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes that a module defines, and public methods of the classes; no enumerations, whose
    signature is Python's."""
    for name, one in vars(module).items():
        if name.startswith("_") or getattr(one, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(one) and issubclass(one, enum.Enum):
            continue
        if inspect.isfunction(one) or inspect.isclass(one):
            yield name, one
        for method in vars(one) if inspect.isclass(one) else ():
            if not method.startswith("_") and inspect.isroutine(getattr(one, method)):
                yield f"{name}.{method}", getattr(one, method)


def defaults() -> list[str]:
    """A line for each callable that has any."""
    found = []
    for info in pkgutil.walk_packages(pyws.__path__, "pyws."):
        if any(part.startswith("_") for part in info.name.split(".")):
            continue
        for name, one in callables_of(importlib.import_module(info.name)):
            try:
                parameters = inspect.signature(one).parameters.values()
            except (TypeError, ValueError):  # as of some exceptions
                continue
            given = [(each.name, each.default) for each in parameters if each.default is not each.empty]
            said = [f"{key}={words}" for key, default in given if (words := words_of(default)) is not None]
            if said:
                found.append(f"{info.name}.{name}: {', '.join(said)}")
    return found


def test_no_default_changes_unsaid() -> None:
    kept = LIST.read_text().splitlines()
    assert len(kept) > 300
    found = defaults()
    assert sorted(set(kept) ^ set(found)) == [], "see the head of this file"


if __name__ == "__main__":
    LIST.write_text("".join(f"{line}\n" for line in defaults()))
