"""YouTube-Objects (Prest et al., CVPR 2012) with the masks of Jain and Grauman (ECCV 2014).

``<class>/data/<NNNN>/shots/<MMM>/images/frame%04d.{jpg,png}`` and ``.../labels/%05d.jpg``; labels are JPEG pictures of
two levels, some of half the size of the frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyws.data.tagged.dataset import Masks, MaskSet, TaggedVideo, Tags
from pyws.data.tagged.label_space import YOUTUBE_OBJECTS
from pyws.data.tagged.label_space import youtube_objects as label_space
from pyws.data.video.frames import IMAGE_SUFFIXES, read_image
from pyws.errors import DataError

LEVEL = 127  # JPEG blurs the two levels; brighter pixels are the object


def fits(root: Path) -> bool:
    """Whether the folder has one of the ten classes with its ``data``."""
    return any((root / name / "data").is_dir() for name in YOUTUBE_OBJECTS)


def read(root: Path, tags: Tags = "all") -> MaskSet:
    """Every shot as a video named <class>_<NNNN>_<MMM>; a shot has the one tag of its class, whatever ``tags`` says.

    Shots with masks are of the subset "test", all others of "train": 126 and 5,381 in the whole set, as WS^2 and those
    before it part them.

    Raises
    ------
    DataError : no shots, or a label whose frame is not there
    """
    space = label_space()
    videos = []
    for index, name in enumerate(YOUTUBE_OBJECTS, start=1):
        for shot in sorted((root / name / "data").glob("*/shots/*")):
            if (shot / "images").is_dir():
                title = f"{name}_{shot.parent.parent.name}_{shot.name}"
                truth = _truth(shot)
                videos.append(TaggedVideo(title, shot / "images", (index,), "test" if truth else "train", truth))
    if not videos:
        raise DataError(root, "must hold <class>/data/<NNNN>/shots/<MMM>/images, found none")
    return MaskSet("youtube-objects", root, space, tuple(videos), _read_label)


def shot_of(video: TaggedVideo) -> str:
    """ "<class>/<NNNN>/<MMM>", as the literature names shots."""
    *_, name, _, number, _, shot, _ = video.source.parts
    return f"{name}/{number}/{shot}"


def _truth(shot: Path) -> dict[str, Path]:
    """Labels by the name of their frame: both end in the frame's number."""
    frames = {_number(file): file.stem for file in (shot / "images").iterdir() if file.suffix.lower() in IMAGE_SUFFIXES}
    truth = {}
    for label in sorted((shot / "labels").glob("*")):
        if label.suffix.lower() not in IMAGE_SUFFIXES or label.name[0] == ".":
            continue
        frame = frames.get(_number(label))
        if frame is None:
            raise DataError(label, f"labels a frame that is not in {shot / 'images'}")
        truth[frame] = label
    return truth


def _number(path: Path) -> int:
    digits = "".join(character for character in path.stem if character.isdecimal())
    return int(digits or -1)


def _read_label(path: Path, video: TaggedVideo) -> Masks:
    return np.where(read_image(path).max(2) > LEVEL, video.tags[0], 0).astype(np.uint8)
