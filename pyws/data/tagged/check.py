"""What is wrong with a data set of tagged videos and masks, video by video."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pyws.data.problem import Problem
from pyws.data.tagged.a2d import release_of
from pyws.data.tagged.a2d_files import read_videoset
from pyws.data.tagged.dataset import MaskSet, TaggedVideo
from pyws.data.tagged.layouts import Layout, open_mask_set
from pyws.data.video.frames import FrameFolder, VideoFile, open_frames
from pyws.errors import DataError
from pyws.progress import track

A2D_VIDEOS = 3782  # videos of the whole data set
A2D_SINGLE = {"actor": 2794, "action": 2639}  # training videos of one actor, of one action, as the WS^2 paper counts


@dataclass(frozen=True)
class MaskCheckReport:
    """What :func:`check_mask_set` found.

    Parameters
    ----------
    videos : by subset
    annotated : frames with true masks
    single : training videos of one actor (or object), and of one action
    """

    layout: str
    labels: tuple[str, ...]
    videos: dict[str, int]
    frames: int
    annotated: int
    single: dict[str, int]
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document; ``ok`` tells whether every video can be used."""
        document = {**vars(self), "labels": list(self.labels), "problems": [one.document() for one in self.problems]}
        return {"ok": not any(one.fatal for one in self.problems), **document}


def check_mask_set(root: str | os.PathLike[str], layout: Layout = "auto", quiet: bool = True) -> MaskCheckReport:
    """Open every video and every true mask of a data set once and list what is wrong.

    Unusable are videos that cannot be read, have frames of different sizes, or true masks that cannot be read, are of
    another shape than the frames, or belong to no frame. Odd, and used all the same, are another number of frames than
    videoset.csv says, and, for the whole of A2D, other counts than the paper has.

    Raises
    ------
    DataError : no layout that pyws knows, or a list of videos that cannot be read at all
    """
    data = open_mask_set(root, layout)
    promised = _promised(data)
    problems: list[Problem] = []
    frames = 0
    for video in track(data.videos, "checking videos", quiet=quiet):
        try:
            source = open_frames(video.source)
            frames += len(video.shown(len(source)))
            if promised.get(video.name, len(source)) != len(source):
                rule = f"videoset.csv says {promised[video.name]} frames, found {len(source)}"
                problems.append(Problem(video.name, rule, False))
            _check_masks(data, video, source)
        except DataError as error:
            problems.append(Problem(video.name, str(error), True))
    subsets = [video.subset for video in data.videos]
    single = _single(data)
    if data.layout == "a2d" and len(data.videos) == A2D_VIDEOS:
        for what, count in A2D_SINGLE.items():
            if single[what] != count:
                rule = f"{single[what]} training videos of one {what}, the paper counts {count}"
                problems.append(Problem("(all)", rule, False))
    return MaskCheckReport(
        data.layout,
        data.space.names[1:],
        {subset: subsets.count(subset) for subset in dict.fromkeys(subsets)},
        frames,
        sum(len(video.truth) for video in data.videos),
        single,
        tuple(problems),
    )


def _check_masks(data: MaskSet, video: TaggedVideo, source: FrameFolder | VideoFile) -> None:
    """Every frame has the size of the first, every true mask its shape."""
    shown = video.shown(len(source))
    pictures = zip(shown, source.read(shown), strict=True)
    size = next(pictures)[1].shape[:2]
    for index, picture in pictures:
        if picture.shape[:2] != size:
            found = f"{picture.shape[0]}x{picture.shape[1]}"
            raise DataError(
                source.path, f"frame {source.stems[index]} must be {size[0]}x{size[1]} as the first, is {found}"
            )
    stems = set(source.stems)
    for frame, path in video.truth.items():
        if frame not in stems:
            raise DataError(path, f"is the mask of frame {frame}, which the video has not")
        data.truth(video, frame, (size[0], size[1]))


def _single(data: MaskSet) -> dict[str, int]:
    """Videos to learn from whose tags agree in the actor, and in the action."""
    train = [video for video in data.videos if video.subset in data.learned]
    parts = {"actor": data.space.actor, "action": data.space.action}
    if not data.space.has_actions:
        del parts["action"]
    return {what: sum(len({part[tag] for tag in video.tags}) == 1 for video in train) for what, part in parts.items()}


def _promised(data: MaskSet) -> dict[str, int]:
    """Frames of each video by A2D's list; nothing for other layouts."""
    if data.layout != "a2d":
        return {}
    release = release_of(data.root)
    assert release is not None
    return {row.name: row.frames for row in read_videoset(release / "videoset.csv")}
