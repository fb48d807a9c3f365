"""What videos say of themselves before a frame is decoded, and which of them cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pyws.data.video.decoders import Header, PyAV
from pyws.data.video.frames import FrameFolder, check_rate
from pyws.data.video.sources import check_name_fits, twins_of
from pyws.errors import DataError, listed, printable


def header_of(path: Path, folder_fps: float | None = None) -> Header:
    """Length and size of a video by its header, or of a folder of frames by its first at the given rate.

    Raises
    ------
    DataError : it cannot be read
    """
    if not path.exists():
        raise DataError(path, "must be a folder of frames or a video file, found neither")
    if not path.is_dir():
        return PyAV(path).header()
    folder = FrameFolder(path)
    height, width = next(folder.read([0])).shape[:2]
    return Header(len(folder) / folder_fps if folder_fps else 0.0, len(folder), height, width)


def headers_of(
    videos: Iterable[Path], folder_fps: float | None = None, by_name: bool = True
) -> tuple[dict[Path, Header], dict[Path, DataError]]:
    """What each video says of itself, and what is wrong with those that cannot be read or, where results go by names,
    have the name of another."""
    headers: dict[Path, Header] = {}
    videos, problems = list(videos), dict[Path, DataError]()
    twins = twins_of(videos) if by_name else {}
    for path in videos:
        if path in twins:
            rule = f"is called as {printable(twins[path])} is, and results go by names"
            problems[path] = DataError(path, rule)
            continue
        try:
            if by_name:
                check_name_fits(path)
            headers[path] = header_of(path, folder_fps)
        except DataError as error:
            problems[path] = error
    return headers, problems


def check_videos(
    videos: Iterable[Path], by_name: bool = True, timed: bool = False, folder_fps: float | None = None
) -> None:
    """Raise DataError where videos cannot be used, as far as their headers tell: all of them in one report.

    Parameters
    ----------
    by_name : results go by the names of the videos, which must differ then
    timed : times of frames are needed, which folders of frames have at the rate of ``folder_fps`` alone
    folder_fps : frames a second of folders of frames

    Examples
    --------
    >>> check_videos([Path("films/a.mp4"), Path("films/b.mp4")])
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: films: 2 videos cannot be used; --on-error skip goes on with the rest
      films/a.mp4: must be a folder of frames or a video file, found neither
      films/b.mp4: must be a folder of frames or a video file, found neither
    """
    headers, problems = headers_of(videos, folder_fps, by_name)
    refuse(problems | (rates_missing(headers, folder_fps) if timed else {}))


def rates_missing(videos: Iterable[Path], folder_fps: float | None) -> dict[Path, DataError]:
    """What is wrong with videos that must have times: folders of frames whose rate nobody said."""
    problems = {}
    for path in videos:
        try:
            if path.is_dir():
                check_rate(path, folder_fps)
        except DataError as error:
            problems[path] = error
    return problems


def refuse(problems: Mapping[Path, DataError]) -> None:
    """Raise what is wrong with videos, all in one error, where anything is."""
    if len(problems) == 1:
        raise next(iter(problems.values()))
    if problems:
        where = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in problems])
        rule = f"{len(problems)} videos cannot be used; --on-error skip goes on with the rest"
        raise DataError(os.path.relpath(where), rule + listed([str(error) for error in problems.values()]))
