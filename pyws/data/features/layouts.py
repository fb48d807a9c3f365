"""Where a data set of features keeps what: every layout becomes one listing, before a feature is read.

The native layout, which ``pyws data convert`` writes::

    truth.json or truth.json.gz   ActivityNet form with tags; or else
    tags.csv                      video,tag (or video,tag,subset), a line for each tag of a video
    features/VIDEO.npy            (snippets, width), or .safetensors, .npz, .h5, .pkl, .pt, .csv
    *.json, *.csv, annotations/   without the two above, the one file of ground truth, whatever its name
    dataset.json                  may be absent: {"snippets_per_second", "classes", "rescaled", "description"}

Feature files may lie in the folder itself, in ``rgb/`` and ``flow/``, or be one file of all videos
(:mod:`pyws.data.features.archives`); such a file alone is a data set too.

``"rescaled": true`` says that every video was brought to some number of snippets, as is common for ActivityNet: a
snippet then lasts the video's duration over its snippets. The layouts of the literature may have ``dataset.json`` too.

:mod:`pyws.data.features.literature_layouts` has the layouts of the literature.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyws.data.annotations.names import label_name, one_spelling
from pyws.data.annotations.other_forms import holds_annotations, read_annotations
from pyws.data.csv_table import columns_of, read_table
from pyws.data.features.files import READ_SUFFIXES, stored_in, stored_videos
from pyws.data.features.listing import SNIPPETS_PER_SECOND, Listing, annotated, checked_name, read_about, safe_truth
from pyws.data.features.literature_layouts import is_split, is_wtalc, list_split, list_wtalc
from pyws.data.features.streams import Stored
from pyws.errors import DataError


def list_features(source: str | os.PathLike[str], annotations: str | os.PathLike[str] | None = None) -> Listing:
    """Find out which layout a folder has, and list its videos.

    Parameters
    ----------
    source : the folder
    annotations : a file of ground truth (ActivityNet form or :mod:`pyws.data.annotations.other_forms`) that is read
        instead of the folder's own; features are then taken from ``features/``, or else from the folder itself

    Raises
    ------
    DataError : no such folder, no layout that pyws knows, annotations that cannot be read at all
    """
    folder = Path(source)
    if folder.is_file():
        return _of_file(folder, annotations)
    if not folder.is_dir():
        raise DataError(source, "must be a folder with features, or a file of them")
    if annotations is not None:
        return _of_truth(folder, "native", stored_in(_place(folder)), Path(annotations), read_about(folder))
    for recognise, listing in _LAYOUTS:
        if recognise(folder):
            listed = listing(folder)
            return replace(listed, unread=_unread(folder, listed.annotations))
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise DataError(source, f"must be a data set of features in a layout that pyws knows, got {found}")


def _of_file(path: Path, annotations: str | os.PathLike[str] | None) -> Listing:
    """The videos of one file; what dataset.json says is beside it, or beside its folder ``features``."""
    if path.suffix not in READ_SUFFIXES:
        raise DataError(path, f"must be a file of features: {', '.join(READ_SUFFIXES)}")
    stored = stored_videos(path)
    beside = path.absolute().parent
    about = read_about(beside.parent if beside.name == "features" else beside)
    if annotations is not None:
        return _of_truth(path, "file", stored, Path(annotations), about)
    return _without_truth(path, "file", stored, {}, about)


def _is_native(folder: Path) -> bool:
    return (folder / "features").is_dir() or any(path.suffix in READ_SUFFIXES for path in folder.iterdir())


def _place(folder: Path) -> Path:
    """Where the feature files lie: ``features/``, or the folder itself."""
    return folder / "features" if (folder / "features").is_dir() else folder


def _native(folder: Path) -> Listing:
    about = read_about(folder)
    stored = stored_in(_place(folder))
    for name in ("truth.json", "truth.json.gz"):
        if (folder / name).exists():
            return _of_truth(folder, "native", stored, folder / name, about)
    if not (folder / "tags.csv").exists():
        others = [path for path in _annotation_files(folder) if holds_annotations(path)]
        if len(others) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in others)
            raise DataError(folder, f"has annotations under names that pyws does not know: {listed}; give one as"
                            " --annotations FILE")  # fmt: skip
        if others:
            return _of_truth(folder, "native", stored, others[0], about)
    rows = read_tags(folder / "tags.csv") if (folder / "tags.csv").exists() else {}
    return _without_truth(folder, "native", stored, rows, about)


def _without_truth(
    where: Path,
    layout: str,
    stored: Mapping[str, Stored],
    rows: Mapping[str, tuple[str, tuple[str, ...]]],
    about: dict[str, Any],
) -> Listing:
    """The listing of features with nothing but tags, ``rows`` of :func:`read_tags`."""
    videos = (*rows, *(name for name in stored if name not in rows))
    tags = tuple(rows.get(name, ("", ()))[1] for name in videos)
    subset = tuple(rows.get(name, ("", ()))[0] for name in videos)
    classes = about.pop("classes", None) or sorted({tag for names in tags for tag in names})
    about = {"rate_is_assumed": "snippets_per_second" not in about, "snippets_per_second": SNIPPETS_PER_SECOND, **about}
    return Listing(where, layout, videos, subset, tags, tuple(classes), stored, None, **about)


def _of_truth(where: Path, layout: str, stored: Mapping[str, Stored], path: Path, about: Mapping[str, Any]) -> Listing:
    """The listing of features with a file of ground truth."""
    truth, problems = safe_truth(path, read_annotations(path))
    return replace(annotated(where, layout, truth, stored, problems, **about), annotations=path)


def _annotation_files(folder: Path) -> list[Path]:
    """Files beside the features that may be annotations, whatever their names."""
    own = ("dataset.json", "manifest.json", "hashes.json", "tags.csv")
    files = [path for place in (folder, folder / "annotations") for path in sorted(place.glob("*.*"))]
    return [path for path in files if path.name.endswith((".json", ".json.gz", ".csv")) and path.name not in own]


def _unread(folder: Path, read: Path | None) -> tuple[str, ...]:
    """Names of annotations beside the features other than the file that was read; damaged ones may be annotations."""
    found = []
    for path in _annotation_files(folder):
        try:
            is_other = path != read and holds_annotations(path)
        except DataError:
            is_other = path != read
        if is_other:
            found.append(str(path.relative_to(folder)))
    return tuple(found)


def read_tags(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Read ``video,tag`` or ``video,tag,subset`` lines under such a header: {VIDEO: (subset, tags)}.

    A line with an empty tag lists a video that has none. Semicolons and bars part several tags of a cell; tags that
    differ only in case or spaces are one, the spelling that comes first.
    """
    columns = columns_of(path)
    if "tag" not in columns:
        raise DataError(path, f"must have the columns video and tag, got {','.join(columns) or 'no such line'}")
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for number, row in read_table(path, ("video",), ("tag", "subset")):
        video, tag, subset = checked_name(path, row["video"]), row["tag"], row["subset"]
        before, tags = found.get(video, (subset, ()))
        if before != subset:
            raise DataError(
                path, f"line {number}: video {video!r} must be in one subset, got {before!r} and {subset!r}"
            )
        names = (label_name(name) for name in re.split("[;|]", tag))
        found[video] = subset, tuple(dict.fromkeys((*tags, *(name for name in names if name))))
    spelling = one_spelling(tag for _, tags in found.values() for tag in tags)
    return {
        video: (subset, tuple(dict.fromkeys(spelling[tag] for tag in tags))) for video, (subset, tags) in found.items()
    }


_LAYOUTS = [(is_wtalc, list_wtalc), (is_split, list_split), (_is_native, _native)]
