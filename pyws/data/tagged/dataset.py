"""What a data set of tagged videos is, whatever its layout: videos, tags, subsets, and true masks of some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.label_space import IGNORE, LabelSpace
from pyws.errors import DataError

Tags = Literal["all", "main"]
Masks = NDArray[np.uint8]
FEW_VIDEOS = 10  # fewer of a class teach a classifier their places rather than what they show


def classes_of_few_videos(counts: Mapping[str, int]) -> dict[str, int]:
    """The classes that are learned from fewer than ``FEW_VIDEOS`` videos, and from how many.

    Examples
    --------
    >>> classes_of_few_videos({"running": 40, "jumping": 3})
    {'jumping': 3}
    """
    return {name: count for name, count in counts.items() if count < FEW_VIDEOS}


@dataclass(frozen=True)
class TaggedVideo:
    """A video, its tags, and where its true masks are.

    Parameters
    ----------
    name : differs from the names of all others; fit for a folder's name
    source : folder of frames or video file
    tags : train ids of what it shows, the main one first
    subset : "train", "val", "test", or "" where the data set has no such parts
    truth : file of the true mask by the name of the frame (the stem of its file; 00000, 00001, ... in a video file)
    span : the first frame of the source that belongs to it and the one after its last; None for all frames
    """

    name: str
    source: Path
    tags: tuple[int, ...]
    subset: str = ""
    truth: Mapping[str, Path] = field(default_factory=dict, repr=False)
    span: tuple[int, int] | None = None

    def shown(self, length: int) -> range:
        """The frames of a source of so many frames that belong to the video.

        Raises
        ------
        DataError : none of them

        Examples
        --------
        >>> TaggedVideo("v", Path("v.mp4"), (1,), span=(30, 120)).shown(100)
        range(30, 100)
        """
        first, end = self.span or (0, length)
        if first >= length:
            raise DataError(self.source, f"must reach frame {first}, where {self.name} begins, has {length}")
        return range(first, min(end, length))


@dataclass(frozen=True)
class MaskSet:
    """The videos of a data set and what the ids in their masks mean.

    Parameters
    ----------
    read : the true mask of a file, train ids
    """

    layout: str
    root: Path
    space: LabelSpace
    videos: tuple[TaggedVideo, ...]
    read: Callable[[Path, TaggedVideo], Masks] = field(repr=False)

    def __post_init__(self) -> None:
        names = [video.name for video in self.videos]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(self.root, f"two videos have the name {twice}, and so would their masks")

    def part(self, *subsets: str) -> MaskSet:
        """The videos of the given subsets, all where none is named; DataError where there are none."""
        if not subsets:
            return self
        videos = tuple(video for video in self.videos if video.subset in subsets)
        if not videos:
            known = ", ".join(sorted({video.subset or "(none)" for video in self.videos}))
            raise DataError(self.root, f"has no videos of subset {' or '.join(subsets)}; it has {known}")
        return replace(self, videos=videos)

    @property
    def learned(self) -> tuple[str, ...]:
        """The subsets to learn from where none are named: "train" where there is one, or else all but val and test."""
        subsets = tuple(dict.fromkeys(video.subset for video in self.videos))
        return ("train",) if "train" in subsets else tuple(name for name in subsets if name not in ("val", "test"))

    @property
    def measured(self) -> tuple[str, ...]:
        """The subset to measure on where none is named: "test" where there is one, or else "val"."""
        subsets = {video.subset for video in self.videos}
        return next(((name,) for name in ("test", "val") if name in subsets), ())

    def truth(self, video: TaggedVideo, frame: str, size: tuple[int, int] | None = None) -> Masks:
        """The true mask of a frame, (H, W) train ids, 255 where nothing is known.

        Parameters
        ----------
        size : (H, W) that the mask should have. One of another size of the same shape, such as the half-size labels of
            YouTube-Objects, is brought to it by nearest neighbour

        Raises
        ------
        DataError : unreadable, or of another size that is no scaling of the wanted one
        """
        path = video.truth[frame]
        return resized(self.read(path, video), size or (0, 0), path)


def with_validation(data: MaskSet, count: int, seed: int) -> MaskSet:
    """Move ``count`` of the videos of "train" to "val": of each main tag its share, drawn by ``seed``.

    Examples
    --------
    >>> from pyws.data.tagged.label_space import object_labels
    >>> videos = tuple(TaggedVideo(f"v{k}", Path("v"), (1 + k % 2,), "train") for k in range(10))
    >>> data = MaskSet("plain", Path("."), object_labels("ab"), videos, lambda path, video: None)
    >>> split = with_validation(data, 4, seed=0)
    >>> sorted(video.tags[0] for video in split.part("val").videos)
    [1, 1, 2, 2]
    """
    train = [index for index, video in enumerate(data.videos) if video.subset == "train"]
    if not 0 < count < len(train):
        raise DataError(data.root, f"validation must take 1..{len(train) - 1} of {len(train)} videos, got {count}")
    random = np.random.default_rng([seed, 4])
    main = np.array([data.videos[index].tags[0] for index in train])
    # Videos of a tag lie evenly in [0, 1); every count-th part of the whole range then takes each tag's share.
    place = np.empty(len(train))
    for tag in np.unique(main):
        of_tag = random.permutation(np.flatnonzero(main == tag))
        place[of_tag] = (np.arange(len(of_tag)) + random.random()) / len(of_tag)
    chosen = {train[k] for k in np.argsort(place, kind="stable")[:count]}
    videos = tuple(
        replace(video, subset="val") if index in chosen else video for index, video in enumerate(data.videos)
    )
    return replace(data, videos=videos)


def resized(mask: Masks, size: tuple[int, int], path: Path) -> Masks:
    """The mask at ``size`` by nearest neighbour, as it is where ``size`` is (0, 0); see :meth:`MaskSet.truth`."""
    if size in ((0, 0), mask.shape):
        return mask
    height, width = mask.shape
    # Rounding of a side by a pixel is allowed: 225 lines halved are 112 or 113.
    if abs(height * size[1] - width * size[0]) > max(*size, height, width):
        raise DataError(path, f"must have the shape of the frame {size[0]}x{size[1]}, got {height}x{width}")
    rows = (np.arange(size[0]) * 2 + 1) * height // (2 * size[0])
    columns = (np.arange(size[1]) * 2 + 1) * width // (2 * size[1])
    return mask[rows[:, None], columns]


def check_tags(space: LabelSpace, tags: Iterable[int], where: str, root: Path) -> tuple[int, ...]:
    """Different tags in the order they come; DataError names what is outside the label space."""
    tags = tuple(dict.fromkeys(tags))
    bad = [tag for tag in tags if not 0 < tag < min(len(space), IGNORE)]
    if bad or not tags:
        raise DataError(root, f"{where}: tags must be among the {len(space) - 1} labels, got {bad or 'none'}")
    return tags
