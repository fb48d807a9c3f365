"""Ground truth in forms other than ActivityNet's, as the document that :func:`read_truth` reads.

- BSN's ``anet_anno_action.json``: {VIDEO: {"duration_second", "annotations", ...}}; the subsets are in
  ``video_info_new.csv`` beside it (columns video and subset), where it is there.
- Tables of segments, a row each: G-TAD's and BSN's ``val_Annotation.csv`` (video, type, start, end),
  ``thumos14_test_groundtruth.csv`` (video-name, t-init, t-end, video-duration, label-idx; label -1 is ambiguous), and
  one's own with such columns. Without a column ``subset`` it is what the name of the file says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyws.data.annotations.names import AMBIGUOUS
from pyws.data.csv_table import columns_of, read_table
from pyws.errors import DataError
from pyws.files import read_json

_COLUMNS = {  # columns of a table, the first that is there counts
    "video": ("video", "video-name", "video_name", "video_id"),
    "label": ("label", "type", "class", "label-idx"),
    "start": ("start", "t-init", "t_start"),
    "end": ("end", "t-end", "t_end"),
    "duration": ("duration", "video-duration"),
    "subset": ("subset",),
}
_NEEDED = ("video", "label", "start", "end")
_SUBSETS = {
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "train": "training",
    "training": "training",
}
_SUBSETS_BESIDE = "video_info_new.csv"


def read_annotations(path: str | os.PathLike[str]) -> Any:
    """Read a file of ground truth in any form that pyws knows, as an ActivityNet document that nobody has checked.

    Raises
    ------
    DataError : missing, neither a JSON object nor such a table

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "val_Annotation.csv"
    >>> _ = path.write_text("video,type,start,end\\nv1,Diving,1.5,4\\n")
    >>> read_annotations(path)["database"]["v1"]
    {'subset': 'validation', 'annotations': [{'label': 'Diving', 'segment': ['1.5', '4']}]}
    """
    if Path(path).suffix == ".csv":
        return _of_table(Path(path))
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(path, f"must be a JSON object, got {type(document).__name__}")
    return _of_anet_anno(Path(path), document) if _is_anet_anno(document) else document


def holds_annotations(path: Path) -> bool:
    """Whether a file is ground truth of a form that pyws knows.

    Raises
    ------
    DataError : JSON that cannot be read
    """
    if path.suffix == ".csv":
        return all(columns_as_named(path).get(name) for name in _NEEDED)
    document = read_json(path)
    return isinstance(document, dict) and ("database" in document or _is_anet_anno(document))


def columns_as_named(path: Path) -> dict[str, str]:
    """The names that a table has for the columns of annotations."""
    there = columns_of(path)
    found = {wanted: next((name for name in names if name in there), "") for wanted, names in _COLUMNS.items()}
    return {wanted: name for wanted, name in found.items() if name}


def _of_table(path: Path) -> dict[str, Any]:
    named = columns_as_named(path)
    missing = [" or ".join(_COLUMNS[name]) for name in _NEEDED if name not in named]
    if missing:
        got = ", ".join(columns_of(path)) or "no such line"
        raise DataError(path, f"must have the columns of annotations, {'; '.join(missing)} too, got {got}")
    words = re.split(r"[^a-z]+", path.stem.lower())
    usual = next((_SUBSETS[word] for word in words if word in _SUBSETS), "")
    database: dict[str, Any] = {}
    others = [name for key, name in named.items() if key not in _NEEDED]
    for number, row in read_table(path, [named[name] for name in _NEEDED], others):
        video, label, start, end = (row[named[name]] for name in _NEEDED)
        subset = row[named["subset"]] if "subset" in named else usual
        record = database.setdefault(video, {"subset": subset, "annotations": []})
        if record["subset"] != subset:
            rule = f"line {number}: video {video!r} must be in one subset, got {record['subset']!r} and {subset!r}"
            raise DataError(path, rule)
        if "duration" in named:
            record["duration"] = row[named["duration"]]
        name = AMBIGUOUS if (named["label"], label) == ("label-idx", "-1") else label
        record["annotations"].append({"label": name, "segment": [start, end]})
    return {"database": database}


def _is_anet_anno(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(
        isinstance(record, dict) and "duration_second" in record and "annotations" in record
        for record in document.values()
    )  # fmt: skip


def _of_anet_anno(path: Path, document: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    beside = path.with_name(_SUBSETS_BESIDE)
    subsets: dict[str, str] = {}
    if beside.exists():
        subsets = {row["video"]: row["subset"] for _, row in read_table(beside, ("video", "subset"))}
    return {
        "database": {
            video: {
                "subset": str(record.get("subset", subsets.get(video, ""))),
                "duration": record["duration_second"],
                "annotations": record["annotations"],
            }
            for video, record in document.items()
        }
    }
