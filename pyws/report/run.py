"""The report of a run of any command, from its files alone, at any time: of runs that go on or were interrupted too."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pyws.data.features.listing import FORMAT as FEATURES
from pyws.errors import DataError, reading
from pyws.files import read_json, write_json
from pyws.folders import run_entries
from pyws.report.page.html import write_html
from pyws.report.runs.classifier import CLASSIFIER, classifier_page
from pyws.report.runs.features import features_page
from pyws.report.runs.label import label_page
from pyws.report.runs.masks import masks_page
from pyws.report.runs.masks_training import masks_training_page
from pyws.report.runs.parts import INPUTS, Page, Place
from pyws.report.runs.segments import detections_page, labels_page
from pyws.report.runs.segments_training import segments_training_page
from pyws.run_manifest import MANIFESTS, read_manifest

Maker = Callable[[Place, Mapping[str, Any]], Page]
_BY_FORMAT: dict[str, Maker] = {
    "pyws masks init": masks_page,
    "pyws masks predict": masks_page,
    "pyws masks train": masks_training_page,
    "pyws segments train": segments_training_page,
    FEATURES: features_page,
    "pyws label": label_page,
}
_FILES = "pyws segments predict, fuse, labels or pyws masks classify"


def write_report(
    run: str | os.PathLike[str],
    truth: str | os.PathLike[str] | None = None,
    quiet: bool = True,
    inputs: Mapping[str, Path] | None = None,
) -> Path:
    """Write the page of a run; returns its path.

    Parameters
    ----------
    run : folder of a run
    truth : what to compare it with: a folder of true masks ``VIDEO/FRAME.png``, or segments in ActivityNet form
    quiet : show no progress
    inputs : files that the run was made of, by what they are; remembered beside the page for the next time

    Raises
    ------
    DataError : no run that is known, or a damaged file of it
    """
    place = replace(place_of(Path(run)), truth=None if truth is None else Path(truth), quiet=quiet)
    if inputs is not None:
        write_json(place.pictures / INPUTS, {name: os.path.abspath(path) for name, path in inputs.items()})
    page = _page(place)
    write_html(place.page, **{one.name: getattr(page, one.name) for one in fields(page)})
    return place.page


def place_of(run: Path) -> Place:
    """Where the page of a run goes: into its folder, or beside its file.

    Examples
    --------
    >>> place_of(Path("found.json.gz")).page.name, place_of(Path("found.json.gz")).pictures.name
    ('found.html', 'found-report')
    """
    if run.is_dir():
        return Place(run, run / "report.html", run / "report")
    stem = run.name
    for suffix in (".gz", ".json", ".safetensors"):
        stem = stem.removesuffix(suffix)
    return Place(run, run.with_name(f"{stem}.html"), run.with_name(f"{stem}-report"))


def _page(place: Place) -> Page:
    if place.run.is_file():
        if place.run.name.endswith((".json", ".json.gz")):
            return detections_page(place)
        if Path(f"{place.run}.json").is_file():
            about = read_json(f"{place.run}.json")
            return classifier_page(place, about) if about.get("format") == CLASSIFIER else labels_page(place)
        raise DataError(place.run, f"must be a folder of a run, or a file of {_FILES}")
    manifest = _manifest(place.run)
    kind = manifest.get("format")
    if kind not in _BY_FORMAT:
        rule = f"must be the folder of a run ({', '.join(_BY_FORMAT)}), or a file of {_FILES}"
        raise DataError(place.run, f"{rule}; got {'none of their manifests' if kind is None else repr(kind)}")
    with reading(place.run, "is damaged"):
        return _BY_FORMAT[kind](place, manifest)


def _manifest(root: Path) -> dict[str, Any]:
    """The manifest of a run, with what a run that goes on has added to it; empty where there is none."""
    path = next((root / name for name in MANIFESTS if (root / name).is_file()), None)
    if path is None:  # features that were begun have no manifest before the first run of them ends
        begun = run_entries(root) if (root / "features").is_dir() else {}
        return {"format": FEATURES, "videos": begun} if begun else {}
    document = read_json(path)
    if not isinstance(document, dict):
        return {}
    kind = document.get("format")
    if isinstance(kind, str) and kind != FEATURES:
        return read_manifest(path, kind, None)
    return {**document, "videos": document.get("videos", {}) | run_entries(root)} if kind == FEATURES else document
