"""The report of a run of any command, from its files alone, at any time: of runs that go on or were interrupted too."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pyws.errors import DataError
from pyws.files import read_json
from pyws.report.page.html import write_html
from pyws.report.runs.masks import masks_page
from pyws.report.runs.masks_training import masks_training_page
from pyws.report.runs.parts import Page, Place
from pyws.run_manifest import read_manifest

Maker = Callable[[Place, Mapping[str, Any]], Page]
_BY_FORMAT: dict[str, Maker] = {
    "pyws masks init": masks_page,
    "pyws masks predict": masks_page,
    "pyws masks train": masks_training_page,
}
_MANIFESTS = ("manifest.json", "run.json")


def write_report(run: str | os.PathLike[str], truth: str | os.PathLike[str] | None = None, quiet: bool = True) -> Path:
    """Write the page of a run; returns its path.

    Parameters
    ----------
    run : folder of a run
    truth : what to compare it with: a folder of true masks ``VIDEO/FRAME.png``, or segments in ActivityNet form
    quiet : show no progress

    Raises
    ------
    DataError : no run that is known, or a damaged file of it
    """
    root = Path(run)
    place = Place(root, root / "report.html", root / "report", None if truth is None else Path(truth), quiet)
    manifest = _manifest(root)
    kind = manifest.get("format")
    if kind not in _BY_FORMAT:
        rule = f"must be the folder of a run ({', '.join(_BY_FORMAT)})"
        raise DataError(root, f"{rule}, got {'none of their manifests' if kind is None else repr(kind)}")
    page = _BY_FORMAT[kind](place, manifest)
    write_html(place.page, **{one.name: getattr(page, one.name) for one in fields(page)})
    return place.page


def _manifest(root: Path) -> dict[str, Any]:
    """The manifest of a run, with what a run that goes on has added to it; empty where there is none."""
    path = next((root / name for name in _MANIFESTS if (root / name).is_file()), None)
    if path is None:
        return {}
    document = read_json(path)
    if not isinstance(document, dict):
        return {}
    kind, version = document.get("format"), document.get("version")
    if isinstance(kind, str) and isinstance(version, int):
        return read_manifest(path, kind, version)
    return document
