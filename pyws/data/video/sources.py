"""Which videos an input means: files, folders of frames, and folders of those, however deep."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pyws.data.video.frames import IMAGE_SUFFIXES, in_order
from pyws.errors import DataError, reading
from pyws.files import check_depth, files_within, read_json

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
LONGEST_NAME = 240  # bytes of a video's name: a file name has at most 255, and results add their endings


def find_videos(inputs: Sequence[str | os.PathLike[str]], on_error: Literal["error", "skip"] = "error") -> list[Path]:
    """The videos of some inputs, in their order: a file is a video, a folder of pictures is one, any other folder is
    searched for both.

    Parameters
    ----------
    inputs : video files, folders of jpg or png frames, or folders that hold such, nested or not
    on_error : what is said of folders that cannot be read and given ones without a video

    Returns
    -------
    Paths of video files and frame folders, each once; a link of another name is another video. A file that is named
    itself is taken whatever its ending; within a folder only files with the ending of a video are. Hidden files and
    folders are left out, and folders within that a command of pyws wrote. A path that does not exist is kept, with
    "skip" also a folder that cannot be read, and a given one without a video: what opens it names it, or skips it.

    Raises
    ------
    DataError : a folder without a video; says what it holds instead; or one that is nested too deeply

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "zoo").mkdir()
    >>> (folder / "zoo" / "cat 2.MP4").touch(), (folder / "zoo" / "notes.txt").touch()
    (None, None)
    >>> [path.name for path in find_videos([folder])]
    ['cat 2.MP4']
    """
    found: dict[tuple[str, str], Path] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            within = list(_within(given, on_error))
            if not within and on_error == "skip":
                within = [given]
            elif not within:
                raise DataError(given, f"must hold videos or jpg or png frames, at any depth, found {_contents(given)}")
        else:
            within = [given]
        for path in within:
            found.setdefault((os.path.realpath(path), name_of(path)), path)
    return list(found.values())


def name_of(path: Path) -> str:
    """The name of a video: of a folder its own, of a file that without the ending.

    Examples
    --------
    >>> name_of(Path("films/dog.mp4"))
    'dog'
    """
    return os.path.basename(os.path.realpath(path)) if path.is_dir() else path.stem


def check_name_fits(path: Path) -> None:
    """Raise DataError where the results of a video cannot be files of its name.

    Examples
    --------
    >>> check_name_fits(Path("a" * 241 + ".mp4"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: aaa...a.mp4: must have a name of at most 240 bytes, got 241: results are files of that name
    """
    length = len(os.fsencode(name_of(path)))
    if length > LONGEST_NAME:
        rule = f"must have a name of at most {LONGEST_NAME} bytes, got {length}: results are files of that name"
        raise DataError(path, rule)


def twins_of(videos: Iterable[Path]) -> dict[Path, Path]:
    """Videos whose name one before them has, and that one.

    Examples
    --------
    >>> {str(path): str(other) for path, other in twins_of(map(Path, ["a/clip.mp4", "b/clip.mp4", "c.mp4"])).items()}
    {'b/clip.mp4': 'a/clip.mp4'}
    """
    named: dict[str, Path] = {}
    each = ((path, named.setdefault(name_of(path), path)) for path in videos)
    return {path: other for path, other in each if other is not path}


def check_names(videos: Iterable[str | os.PathLike[str]]) -> None:
    """Raise DataError where two videos have one name, and so would what is written of them.

    Examples
    --------
    >>> check_names(["a/clip.mp4", "b/clip.mp4"])
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: b/clip.mp4: two videos are called clip, the other is a/clip.mp4; use two output folders
    """
    for path, other in twins_of(map(Path, videos)).items():
        raise DataError(path, f"two videos are called {name_of(path)}, the other is {other}; use two output folders")


def check_same_source(entry: Mapping[str, Any], source: str | os.PathLike[str], out: Path) -> None:
    """Raise DataError where a folder has results of another video of this name, as its manifest's entry says."""
    if entry.get("source", os.path.abspath(source)) != os.path.abspath(source):
        rule = f"{out} has results of another video of this name, {entry['source']}; choose another folder"
        raise DataError(source, rule)


def _within(folder: Path, on_error: str, depth: int = 0) -> Iterator[Path]:
    check_depth(folder, depth)
    try:
        with reading(folder):
            entries = [entry for entry in in_order(folder.iterdir()) if entry.name[0] != "."]
    except DataError:
        if on_error == "error":
            raise
        yield folder
        return
    if any(entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file() for entry in entries):
        yield folder
    for entry in entries:
        # A link may lead back to a folder above it.
        if entry.is_dir() and not entry.is_symlink() and not _is_written_by_pyws(entry):
            yield from _within(entry, on_error, depth + 1)
        elif entry.suffix.lower() in VIDEO_SUFFIXES and (entry.is_file() or _leads_nowhere(entry)):
            yield entry


def _is_written_by_pyws(folder: Path) -> bool:
    """Whether a command wrote the folder, whose masks and pictures are no videos of the user's."""
    for name in ("manifest.json", "maps.json"):
        with suppress(DataError):
            document = read_json(folder / name)
            if isinstance(document, dict) and (name == "maps.json" or str(document.get("format")).startswith("pyws ")):
                return True
    return False


def _leads_nowhere(entry: Path) -> bool:
    """A link to a file that is gone: what opens it says so."""
    return entry.is_symlink() and not entry.exists()


def _contents(folder: Path) -> str:
    files = sorted(path.suffix.lower() or path.name for path in files_within(folder))
    kinds = list(dict.fromkeys(files))
    return f"{len(files)} files ({', '.join(kinds[:5])}{', ...' if len(kinds) > 5 else ''})" if files else "nothing"
