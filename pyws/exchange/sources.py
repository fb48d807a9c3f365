"""Reads the results of ``pyws label``, ``masks`` and ``segments`` for export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyws.data.annotations.activitynet import read_detections
from pyws.data.annotations.names import first_synonym
from pyws.data.features.layouts import read_tags
from pyws.data.features.listing import FORMAT as FEATURES
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.time_base import SnippetGrids
from pyws.data.tagged.corrected_masks import corrected_frames, mask_file
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.video.frames import in_order, masks_in, open_frames
from pyws.data.video.sources import name_of
from pyws.errors import DataError, reading
from pyws.exchange.label_folder import FORMAT as LABEL
from pyws.exchange.label_folder import LabelFolder, kind_of
from pyws.exchange.results import Masks, Results, Segment, Video, facts_of, merged, of_instances
from pyws.files import check_regular, parse_json, read_json
from pyws.run_manifest import check_sealed, read_manifest

_KNOWN = (
    "a folder of pyws label, masks init, refine, predict or maps, or a file of pyws segments fuse, predict or labels"
)


def read_results(paths: Sequence[Path], videos: Sequence[Path] = (), folder_fps: float | None = None) -> Results:
    """Read results of any commands; what several say of one video is put together.

    Parameters
    ----------
    paths : folders of ``pyws label``, ``masks init``, ``refine``, ``predict`` and ``maps``, and of ``pyws features``,
        which says where videos are; files of ``segments fuse``, ``predict`` and ``labels``
    videos : files and folders of frames, in the place of what the results say
    folder_fps : frames a second of folders of frames

    Raises
    ------
    DataError : a path that is none of these, or damaged; results of two different videos of one name
    """
    return merged([video for path in paths for video in _read(path)], videos, folder_fps)


def _read(path: Path) -> Iterator[Video]:
    if not path.exists():
        raise DataError(path, f"does not exist; results are {_KNOWN}")
    if path.is_dir():
        yield from _folder(path)
    elif path.suffix == ".safetensors":
        yield from _labels(path)
    else:
        yield from of_instances(read_detections(path))


def _folder(path: Path) -> Iterator[Video]:
    kind = kind_of(path)
    if kind == LABEL:
        yield from _labelled(path)
        return
    if kind == "nothing" and (maps := _files_of_maps(path)):
        for file in maps:
            yield from _maps(file)
        return
    if kind not in _FOLDERS:
        hint = "; give what pyws masks predict makes with it" if kind == "pyws masks train" else ""
        raise DataError(path, f"must be {_KNOWN}, got a folder of {kind}{hint}")
    file = path / "manifest.json"
    with reading(file, "is damaged"):
        yield from _FOLDERS[kind](path, read_json(file) if kind == FEATURES else read_manifest(file, kind, None))


def _labelled(path: Path) -> Iterator[Video]:
    """A folder of ``pyws label``: whichever stages it has; masks of actions where there are no others."""
    parts = LabelFolder.of(path)
    folders = [folder for folder in (parts.features, parts.masks) if folder is not None]
    if parts.masks is None and _files_of_maps(path / "maps"):
        folders.append(path / "maps")
    if not folders and not parts.segments:
        raise DataError(path, "has no results yet; run pyws label again, it goes on")
    for folder in folders:
        yield from _folder(folder)
    for file in parts.segments:
        yield from of_instances(read_detections(file))


def _features(path: Path, document: dict[str, Any]) -> Iterator[Video]:
    """Where videos are, and their tags; features themselves are nothing to review."""
    tags = read_tags(path / "tags.csv") if (path / "tags.csv").is_file() else {}
    for name, entry in facts_of(document, "videos").items():
        if "source" in entry:
            yield Video(name, Path(entry["source"]), tags.get(name, ("", ()))[1])


def _first_masks(path: Path, document: dict[str, Any]) -> Iterator[Video]:
    names = LabelSpace.read(document.get("label_space"), path / "manifest.json").names
    corrected = corrected_frames(path)
    for name, entry in facts_of(document, "videos").items():
        if entry.get("status") == "done":
            files = masks_in(path / "pa/v0" / name, len(entry.get("sampled", [0])))
            files |= {stem: mask_file(path, name, stem) for video, stem in corrected if video == name}
            ordered = {file.stem: file for file in in_order(files.values())}
            drawn = (names[one] for (video, _), ids in corrected.items() if video == name for one in ids)
            tags = tuple(dict.fromkeys((*_tags(entry), *drawn)))
            yield Video(name, Path(entry["source"]), masks=Masks(ordered, names, tags=tags))


def _predicted_masks(path: Path, document: dict[str, Any]) -> Iterator[Video]:
    for name, entry in facts_of(document, "videos").items():
        if "error" not in entry:
            instances = path / "instances" / f"{name}.json"
            space = LabelSpace.read(document.get("label_space"), path / "manifest.json")
            masks = Masks(masks_in(path / "masks" / name, entry.get("frames", 1)), space.names, instances, _tags(entry))
            yield Video(name, Path(entry["source"]), masks=masks)


def _files_of_maps(path: Path) -> list[Path]:
    """Paths of maps.json: of ``pyws masks maps``, or of each video and action of ``pyws label``."""
    return [path / "maps.json"] if (path / "maps.json").is_file() else sorted(path.glob("*/*/maps.json"))


def _maps(file: Path) -> Iterator[Video]:
    """Masks of the frames that maps belong to; each clip has a label of its own."""
    check_sealed(file)
    document = read_json(file)
    source = Path(document["video"])
    stems = open_frames(source).stems
    by_label: dict[str, dict[str, Path]] = {}
    for clip in document["clips"]:
        frames = [row["frame"] for row in clip["maps"] if row["frame"] is not None]
        found = {stems[frame]: file.parent / "masks" / f"{stems[frame]}.png" for frame in frames}
        by_label.setdefault(first_synonym(clip["label"]), {}).update(found)
    for label, masks in by_label.items():
        yield Video(name_of(source), source, masks=Masks(masks, ("background", label), tags=(label,)))


def _tags(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, entry.get("tags", ())))


def _labels(path: Path) -> Iterator[Video]:
    """Snippet labels: each run of snippets with labels is a segment, whose score is what its labels keep."""
    from safetensors import SafetensorError, safe_open

    for file in (path, f"{path}.json"):
        check_sealed(file)
    facts = read_json(f"{path}.json")
    records, settings = facts_of(facts, "videos"), facts_of(facts, "settings")
    try:
        check_regular(path)
        with safe_open(path, framework="numpy") as file:
            classes = parse_json((file.metadata() or {}).get("classes", "null"))
            columns = {video: file.get_tensor(video) for video in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise DataError(path, f"is damaged, or no labels of pyws segments labels: {error}") from error
    if not isinstance(classes, list) or any(one.shape[1:] != (len(classes),) for one in columns.values()):
        raise DataError(path, "must hold labels of pyws segments labels: (snippets, classes) of each video")
    grids = SnippetGrids.read(f"{path}.json", settings, SNIPPETS_PER_SECOND)
    total = np.mean if settings.get("rows") == "mean" else np.sum
    for video, labels in columns.items():
        seconds = records.get(video, {}).get("seconds")
        if not (seconds or grids[video].snippets or isinstance(settings.get("snippets_per_second"), (int, float))):
            raise DataError(f"{path}.json", f"must say how long video {video!r} is, or snippets_per_second")
        edges = grids.edges_of(video, len(labels), seconds).tolist()
        segments = [
            Segment(name, edges[first], edges[last], float(total(labels[first:last, column])))
            for column, name in enumerate(classes)
            if name != "background"
            for first, last in _runs(labels[:, column] > 0)
        ]
        yield Video(video, segments=tuple(segments))


def _runs(on: np.ndarray) -> list[tuple[int, int]]:
    """First and one past the last place of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


_FOLDERS: dict[str, Callable[[Path, dict[str, Any]], Iterator[Video]]] = {
    FEATURES: _features,
    "pyws masks init": _first_masks,
    "pyws masks predict": _predicted_masks,
}
