"""Where a data set of features keeps what: every layout becomes one listing, before a feature is read.

The native layout, which ``pyws data convert`` writes::

    truth.json or truth.json.gz   ActivityNet form with tags; or else
    tags.csv                      video,tag (or video,tag,subset), a line for each tag of a video
    features/VIDEO.npy            (snippets, width), or .safetensors
    *.json, annotations/*.json    without the two above, the one that has ground truth, whatever its name
    dataset.json                  may be absent: {"snippets_per_second", "classes", "rescaled", "description"}

``"rescaled": true`` says that every video was brought to some number of snippets, as is common for ActivityNet: a
snippet then lasts the video's duration over its snippets. The layouts of the literature may have ``dataset.json`` too.

:mod:`pyws.data.features.literature_layouts` has the layouts of the literature.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pyws.data.annotations.names import label_name, one_spelling
from pyws.data.csv_table import columns_of, read_table
from pyws.data.features.files import stored_in
from pyws.data.features.listing import SNIPPETS_PER_SECOND, Listing, annotated, checked_name, read_about, safe_truth
from pyws.data.features.literature_layouts import is_split, is_wtalc, list_split, list_wtalc
from pyws.errors import DataError
from pyws.files import read_json


def list_features(source: str | os.PathLike[str], annotations: str | os.PathLike[str] | None = None) -> Listing:
    """Find out which layout a folder has, and list its videos.

    Parameters
    ----------
    source : the folder
    annotations : a file in ActivityNet form that is read instead of those of the folder; features are then those of
        ``features/``, or else of the folder itself

    Raises
    ------
    DataError : no such folder, no layout that pyws knows, annotations that cannot be read at all
    """
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(source, "must be a folder with features")
    if annotations is not None:
        place = folder / "features" if _is_native(folder) else folder
        truth, problems = safe_truth(Path(annotations), read_json(annotations))
        return annotated(folder, "native", truth, stored_in(place), problems, **read_about(folder))
    for recognise, listing in _LAYOUTS:
        if recognise(folder):
            return listing(folder)
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise DataError(source, f"must be a data set of features in a layout that pyws knows, got {found}")


def _is_native(folder: Path) -> bool:
    return (folder / "features").is_dir()


def _native(folder: Path) -> Listing:
    about = read_about(folder)
    stored = stored_in(folder / "features")
    for name in ("truth.json", "truth.json.gz"):
        if (folder / name).exists():
            truth, problems = safe_truth(folder / name, read_json(folder / name))
            return annotated(folder, "native", truth, stored, problems, **about)
    if not (folder / "tags.csv").exists() and (others := _other_annotations(folder)):
        if len(others) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in others)
            raise DataError(folder, f"has annotations under names that pyws does not know: {listed}; give one as"
                            " --annotations FILE")  # fmt: skip
        truth, problems = safe_truth(others[0], read_json(others[0]))
        return annotated(folder, "native", truth, stored, problems, **about)
    rows = read_tags(folder / "tags.csv") if (folder / "tags.csv").exists() else {}
    videos = (*rows, *(name for name in stored if name not in rows))
    tags = tuple(rows.get(name, ("", ()))[1] for name in videos)
    subset = tuple(rows.get(name, ("", ()))[0] for name in videos)
    classes = about.pop("classes", None) or sorted({tag for names in tags for tag in names})
    about = {"rate_is_assumed": "snippets_per_second" not in about, "snippets_per_second": SNIPPETS_PER_SECOND, **about}
    return Listing(folder, "native", videos, subset, tags, tuple(classes), stored, None, **about)


def _other_annotations(folder: Path) -> list[Path]:
    """Files of ground truth beside the features, whatever their names."""
    files = [path for place in (folder, folder / "annotations") for path in sorted(place.glob("*.json*"))]
    named = [path for path in files if path.name.endswith((".json", ".json.gz")) and path.name != "dataset.json"]
    return [path for path in named if path.is_file() and "database" in _keys(read_json(path))]


def _keys(document: Any) -> set[str]:
    return set(document) if isinstance(document, dict) else set()


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
