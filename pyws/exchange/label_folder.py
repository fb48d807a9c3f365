"""Which stages a folder of ``pyws label`` has, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyws.files import read_json

FORMAT = "pyws label"


@dataclass(frozen=True)
class LabelFolder:
    """The stages that are there.

    Parameters
    ----------
    features : data set of features
    segments : files of detections
    masks : the masks to look at: refined ones, which are the best by all that was measured, predicted or first ones
    annotations : the pseudo-annotations that ``pyws masks train`` reads: refined or first ones
    """

    features: Path | None
    segments: tuple[Path, ...]
    masks: Path | None
    annotations: Path | None

    @classmethod
    def of(cls, path: Path) -> LabelFolder:
        """A label folder from a folder whose :func:`kind_of` is :data:`FORMAT`."""
        files = tuple(path / "segments" / name for name in ("known-classes.json", "detections.json"))
        return cls(
            _first(path, ["features"]),
            tuple(file for file in files if file.is_file()),
            _first(path, ["masks/refined", "masks/predicted", "masks/first"]),
            _first(path, ["masks/refined", "masks/first"]),
        )


def kind_of(path: Path) -> str:
    """The format that the manifest of a folder names; "nothing" of a folder without one."""
    document: Any = read_json(path / "manifest.json") if (path / "manifest.json").is_file() else None
    return str(document.get("format", "nothing")) if isinstance(document, dict) else "nothing"


def _first(path: Path, names: Sequence[str]) -> Path | None:
    return next((path / name for name in names if (path / name / "manifest.json").is_file()), None)
