"""Where a data set of features keeps what: every layout becomes one listing, before a feature is read.

The native layout, which ``pyws data convert`` writes::

    truth.json or truth.json.gz   ActivityNet form with tags; or else
    tags.csv                      video,tag (or video,tag,subset), a line for each tag of a video
    features/VIDEO.npy            (snippets, width), or .safetensors
    dataset.json                  may be absent: {"snippets_per_second", "classes", "description", "synthetic"}
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyws.data.feature_files import Stored, stored_in
from pyws.data.temporal import Truth, read_truth
from pyws.errors import DataError
from pyws.files import read_json

SNIPPETS_PER_SECOND = 25 / 16  # I3D features of the literature: 25 frames a second, 16 frames a snippet


@dataclass(frozen=True)
class Problem:
    """Something wrong with one video of a data set."""

    video: str
    rule: str
    """What must hold, and what was found."""
    fatal: bool = True
    """The video cannot be used; otherwise it is odd, and used all the same."""

    def __str__(self) -> str:
        return f"video {self.video!r}: {self.rule}"


@dataclass(frozen=True, eq=False)
class Listing:
    """What a data set says that it has.

    Parameters
    ----------
    where : the folder
    layout : its name
    videos, subset, tags : of each video; the subset is "" where none is given
    classes : names of all classes
    stored : features by video
    truth : annotated segments, where the data set has them
    snippets_per_second : of the features
    problems : what the annotations say that cannot be; such videos are not among ``videos``
    description : a line for people
    """

    where: Path
    layout: str
    videos: tuple[str, ...]
    subset: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    stored: Mapping[str, Stored]
    truth: Truth | None
    snippets_per_second: float
    problems: tuple[Problem, ...] = ()
    description: str = ""
    unlisted: tuple[str, ...] = field(default=())
    """Videos that have features and nothing else."""


def list_features(source: str | os.PathLike[str]) -> Listing:
    """Find out which layout a folder has, and list its videos.

    Raises
    ------
    DataError : no such folder, no layout that pyws knows, annotations that cannot be read at all
    """
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(source, "must be a folder with features")
    for recognise, listing in _LAYOUTS:
        if recognise(folder):
            return listing(folder)
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise DataError(source, f"must be a data set of features in a layout that pyws knows, got {found}")


def safe_truth(where: Path, document: Any) -> tuple[Truth, tuple[Problem, ...]]:
    """Ground truth of the videos whose records can be read, and a problem for each of the others."""
    try:
        return read_truth(document), ()
    except DataError as error:
        if not isinstance(document, Mapping) or not isinstance(document.get("database"), Mapping):
            raise DataError(where, error.rule) from error
    good: dict[str, Any] = {}
    problems = []
    for video, record in document["database"].items():
        try:
            read_truth({"database": {video: record}})
            good[video] = record
        except DataError as error:
            problems.append(Problem(video, error.rule.removeprefix(f"video {video!r}").lstrip(":, ")))
    return read_truth({**document, "database": good}), tuple(problems)


def checked_name(where: str | os.PathLike[str], video: str) -> str:
    """A video's name, which becomes part of paths."""
    if not video or video.startswith(".") or any(character in video for character in "/\\\0"):
        raise DataError(where, f"video name must be a plain file name, got {video!r}")
    return video


def _is_native(folder: Path) -> bool:
    return (folder / "features").is_dir() and not (folder / "gt.json").exists()


def _native(folder: Path) -> Listing:
    about = _about(folder / "dataset.json")
    stored = stored_in(folder / "features")
    for name in ("truth.json", "truth.json.gz"):
        if (folder / name).exists():
            truth, problems = safe_truth(folder / name, read_json(folder / name))
            return annotated(folder, "native", truth, stored, problems, **about)
    rows = read_tags(folder / "tags.csv") if (folder / "tags.csv").exists() else {}
    videos = (*rows, *(name for name in stored if name not in rows))
    tags = tuple(rows.get(name, ("", ()))[1] for name in videos)
    subset = tuple(rows.get(name, ("", ()))[0] for name in videos)
    classes = about.pop("classes", None) or sorted({tag for names in tags for tag in names})
    return Listing(folder, "native", videos, subset, tags, tuple(classes), stored, None, **about)


def annotated(
    folder: Path,
    layout: str,
    truth: Truth,
    stored: Mapping[str, Stored],
    problems: tuple[Problem, ...] = (),
    classes: tuple[str, ...] | None = None,
    snippets_per_second: float = SNIPPETS_PER_SECOND,
    description: str = "",
) -> Listing:
    """The listing of a data set whose videos are those of its ground truth."""
    videos = tuple(checked_name(folder, video) for video in truth.instances.videos)
    if classes is None:
        classes = tuple(sorted({*truth.instances.labels, *(tag for tags in truth.tags for tag in tags)}))
    listed = {*videos, *(problem.video for problem in problems)}
    unlisted = tuple(name for name in stored if name not in listed)
    return Listing(folder, layout, videos, truth.subset, truth.tags, classes, stored, truth, snippets_per_second,
                   problems, description, unlisted)  # fmt: skip


def read_tags(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Read ``video,tag`` or ``video,tag,subset`` lines under such a header: {VIDEO: (subset, tags)}.

    A line with an empty tag lists a video that has none.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read: {error}") from error
    header = rows[0] if rows else []
    if header not in (["video", "tag"], ["video", "tag", "subset"]):
        raise DataError(path, f"line 1 must be video,tag or video,tag,subset, got {','.join(header)!r}")
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) != len(header) or not row[0]:
            raise DataError(path, f"line {number} must be {','.join(header)}, got {','.join(row)!r}")
        video, tag, subset = checked_name(path, row[0]), row[1], row[2] if len(row) == 3 else ""
        before, tags = found.get(video, (subset, ()))
        if before != subset:
            raise DataError(
                path, f"line {number}: video {video!r} must be in one subset, got {before!r} and {subset!r}"
            )
        found[video] = subset, tags if not tag or tag in tags else (*tags, tag)
    return found


def _about(path: Path) -> dict[str, Any]:
    """What ``dataset.json`` says, as arguments of a listing."""
    said = read_json(path) if path.exists() else {}
    if not isinstance(said, dict):
        raise DataError(path, f"must be a JSON object, got {type(said).__name__}")
    about: dict[str, Any] = {"snippets_per_second": said.get("snippets_per_second", SNIPPETS_PER_SECOND)}
    rate = about["snippets_per_second"]
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        raise DataError(path, f"snippets_per_second must be a number > 0, got {rate!r}")
    about["description"] = str(said.get("description", ""))
    if "classes" in said:
        classes = said["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise DataError(path, f"classes must be a list of strings, got {classes!r}")
        if len(set(classes)) != len(classes):
            raise DataError(path, "classes must differ from each other")
        about["classes"] = tuple(classes)
    return about


_LAYOUTS = [(_is_native, _native)]
