"""What the pages of all kinds of runs share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyws.files import read_json
from pyws.report.page.html import Finding, Section, Table, VideoList
from pyws.report.page.videos import Video

INPUTS = "inputs.json"  # beside the page of a file
_MAX_TEXT = 2000  # characters of a setting


@dataclass(frozen=True)
class Place:
    """A run, and where its page goes.

    Parameters
    ----------
    run : folder or file of the run
    page : the HTML file
    pictures : folder beside it
    truth : true masks (VIDEO/FRAME.png) or segments (ActivityNet JSON) to compare with
    quiet : show no progress
    """

    run: Path
    page: Path
    pictures: Path
    truth: Path | None = None
    quiet: bool = True

    def inputs(self) -> dict[str, Path]:
        """Files that the run was made of, those that are still there."""
        file = self.pictures / INPUTS
        found = read_json(file) if file.is_file() else {}
        return {name: Path(path) for name, path in found.items() if Path(path).is_file()}

    def link(self, path: str | os.PathLike[str]) -> str:
        """A path as the page has to write it."""
        return Path(os.path.relpath(path, self.page.parent)).as_posix()

    def link_of_run(self, run: str | os.PathLike[str]) -> str | None:
        """The path of another run's page as the page has to write it; None where that run has no page."""
        page = Path(run) / "report.html"
        return self.link(page) if page.is_file() else None


@dataclass(frozen=True)
class Page:
    """What :func:`pyws.report.page.html.write_html` writes; its parameters are explained there."""

    title: str
    lead: str
    sections: Sequence[Section]
    videos: VideoList = field(default_factory=lambda: VideoList(()))
    findings: Sequence[Finding] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def settings(manifest: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Section:
    """Everything that a run was made with: options, hashes, versions of packages."""
    tables = [Table(("of the run", "value"), [[name, str(value)] for name, value in (facts or {}).items()])]
    tables.append(Table(("setting", "value"), [list(row) for row in flat(manifest.get("parameters", {}))]))
    tables.append(Table(("package", "version"), [list(row) for row in manifest.get("packages", {}).items()]))
    return Section("Settings", tables=[table for table in tables if table.rows])


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Paths of settings and their values.

    Examples
    --------
    >>> list(flat({"seed": 0, "loop": {"patience": 2, "rates": [1, 2]}}))
    [('seed', '0'), ('loop.patience', '2'), ('loop.rates', '1, 2')]
    """
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
            yield f"{prefix}{name}", _shortened(", ".join(map(str, value)))
        else:
            yield f"{prefix}{name}", _shortened(str(value))


def problems_of(videos: Sequence[Video]) -> list[Finding]:
    """Each kind of problem once, with the videos that have it; a kind is what stands before a colon."""
    kinds: dict[str, list[str]] = {}
    for video in videos:
        for kind in dict.fromkeys(problem.split(":")[0] for problem in video.problems):
            kinds.setdefault(kind, []).append(video.name)
    return [Finding(f"{kind} ({len(names)} of {len(videos)} videos)", names) for kind, names in kinds.items()]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} ... ({len(text)} characters)"
