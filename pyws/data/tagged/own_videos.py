"""One's own videos: a folder with ``videos/`` and ``tags.csv``, perhaps with true masks.

::

    videos/<video>/<frame>.jpg   or   videos/<video>.mp4
    tags.csv                     video,tag   or   video,actor,action   (one tag a row; perhaps a column subset)
    labels.csv                   tag   or   actor,action: order of the ids, where it should not be alphabetical
    truth/<video>/<frame>.png    palette png of ids, 255 where nothing is known; any frames, or none
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyws.data.csv_table import columns_of, read_table
from pyws.data.tagged.dataset import MaskSet, TaggedVideo, Tags, check_tags
from pyws.data.tagged.label_space import LabelSpace, actor_actions, object_labels, read_ids
from pyws.data.video.frames import IMAGE_SUFFIXES
from pyws.errors import DataError

PAIR = ("actor", "action")
SHOWN = 10  # videos or problems that an error names


def fits(root: Path) -> bool:
    """Whether the folder has ``videos/`` and ``tags.csv``."""
    return (root / "videos").is_dir() and (root / "tags.csv").is_file()


def read(root: Path, tags: Tags = "all") -> MaskSet:
    """The data set of a folder; ``tags="main"`` takes the first tag of each video alone.

    Raises
    ------
    DataError : videos without a tag, tags without a video, tags that labels.csv has not, subsets other than train, val
        and test (all of them in one report), or two sources of one video; the file is named
    """
    path = root / "tags.csv"
    pairs = set(PAIR) <= set(columns_of(path))
    columns = PAIR if pairs else ("tag",)
    rows = list(read_table(path, ("video", *columns), ("subset",)))
    space = _space(root / "labels.csv", columns, [tuple(row[column] for column in columns) for _, row in rows])
    sources = video_sources(root / "videos")
    found: dict[str, list[int]] = {}
    subsets: dict[str, str] = {}
    problems = []
    for line, row in rows:
        name, subset = row["video"], row["subset"]
        if name not in sources:
            problems.append(f"line {line}: there is no video {name} in {root / 'videos'}")
        elif subset not in ("", "train", "val", "test") or subsets.setdefault(name, subset) != subset:
            problems.append(f"line {line}: subset must be one of train, val and test, got {subset!r}")
        else:
            try:
                found.setdefault(name, []).append(space.id_of(*(row[column] for column in columns)))
            except ValueError as error:
                problems.append(f"line {line}: {error}")
    tagged = {row["video"] for _, row in rows}
    untagged = [name for name in sources if name not in tagged]
    if untagged:
        problems.append(f"has no tag of video {', '.join(untagged[:SHOWN])}{_more(untagged)} of {len(sources)}")
    if problems:
        raise DataError(path, "; ".join(problems[:SHOWN]) + _more(problems))
    videos = []
    for name, source in sources.items():
        ids = check_tags(space, found[name][: 1 if tags == "main" else None], f"video {name}", root)
        truth = {file.stem: file for file in sorted((root / "truth" / name).glob("*.png"))}
        videos.append(TaggedVideo(name, source, ids, subsets[name], truth))
    return MaskSet("plain", root, space, tuple(videos), lambda path, video: read_ids(path, len(space)))


def _more(shown: Sequence[str]) -> str:
    return f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""


def _space(path: Path, columns: tuple[str, ...], used: list[tuple[str, ...]]) -> LabelSpace:
    names = sorted(set(used))
    if path.exists():
        names = [tuple(row[column] for column in columns) for _, row in read_table(path, columns)]
    try:
        if len(columns) == 1:
            return object_labels(name for (name,) in names)
        return actor_actions([(actor, action) for actor, action in names])
    except ValueError as error:
        raise DataError(path if path.exists() else path.parent / "tags.csv", str(error)) from error


def video_sources(folder: Path) -> dict[str, Path]:
    """Folders and video files by the name of the video."""
    sources: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name[0] == "." or path.suffix.lower() in IMAGE_SUFFIXES:
            continue
        name = path.name if path.is_dir() else path.stem
        if name in sources:
            raise DataError(folder, f"must hold one source a video, found {sources[name].name} and {path.name}")
        sources[name] = path
    if not sources:
        raise DataError(folder, "has no videos")
    return sources
