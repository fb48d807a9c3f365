"""A page for each package of pyws with the public functions and classes of its modules that the API pages leave out."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import generated

SUBPACKAGES = ("data", "evaluation", "exchange", "masks", "models", "ops", "report", "segments")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    return generated.connect(app, "modules", pages)


def pages() -> dict[str, str]:
    """The text of every page, by its name."""
    found = dict(packages())
    index = ["# All modules", "", "What stands behind the API, package by package. These functions may change between"]
    index += ["minor versions; those of the [API](../../api/index.md) do not.", "", "```{toctree}", *found, "```"]
    return {name: "\n".join(lines) + "\n" for name, lines in {"index": index, **found}.items()}


def packages() -> Iterator[tuple[str, list[str]]]:
    """(name of a package, lines of its page) of each package whose modules have something to show."""
    import pyws

    exported = exported_entries()
    modules = defaultdict(list)
    for found in pkgutil.walk_packages(pyws.__path__, "pyws."):
        if found.name.split(".")[1] in SUBPACKAGES and "._" not in found.name:
            modules[found.name if found.ispkg else found.name.rpartition(".")[0]].append(found.name)
    for package, names in sorted(modules.items()):
        lines = [line for name in names for line in _module(importlib.import_module(name), exported)]
        if lines:
            yield package, [f"# {package}", "", *lines]


def exported_entries() -> set[int]:
    """The ids of all that a package lists in ``__all__``; each has a place on an API page."""
    import pyws

    packages = [
        pyws,
        *(importlib.import_module(f.name) for f in pkgutil.walk_packages(pyws.__path__, "pyws.") if f.ispkg),
    ]
    return {id(getattr(package, name)) for package in packages for name in getattr(package, "__all__", ())}


def own_entries(module: ModuleType) -> list[str]:
    """The public functions and classes that a module defines, in its own order."""
    found = [
        (inspect.getsourcelines(entry)[1], name)
        for name, entry in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(inspect.unwrap(entry)) or inspect.isclass(entry))
        and entry.__module__ == module.__name__
    ]
    return [name for _, name in sorted(found)]


def _module(module: ModuleType, exported: set[int]) -> Iterator[str]:
    names = [name for name in own_entries(module) if id(getattr(module, name)) not in exported]
    if not names:
        return
    yield f"## {module.__name__}\n"
    yield f"```{{eval-rst}}\n.. automodule:: {module.__name__}\n   :no-members:\n   :no-index:\n"
    for name in names:
        kind = "class" if inspect.isclass(getattr(module, name)) else "function"
        yield f".. auto{kind}:: {module.__name__}.{name}" + ("\n   :members:\n" if kind == "class" else "\n")
    yield "```\n"
