"""What the commands of pyws found, as people review it: videos with tags, segments and masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.annotations.activitynet import Instances
from pyws.data.tagged.label_space import IGNORE, read_ids, shown_ids
from pyws.data.tagged.rle import decode_mask
from pyws.data.video.frames import in_order
from pyws.errors import DataError
from pyws.exchange.media import Media
from pyws.files import read_json


@dataclass(frozen=True)
class Segment:
    """When a video shows a label, in seconds of its file."""

    label: str
    start: float
    end: float
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class Object:
    """Something that a frame shows.

    Parameters
    ----------
    label : its name
    number : number of the object in its video, from 1; the same in all frames that show it
    mask : (H, W) bool
    """

    label: str
    number: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Masks:
    """Masks of a video.

    Parameters
    ----------
    files : palette PNG by the name of the frame, in the order of the frames
    names : names of the ids in the masks, background first
    instances : COCO file with the tracks of ``pyws masks predict``; None where ids are all there is
    tags : names that the video may show; () where any may be
    layers : masks of different labels that these put together, from back to front; () where the files hold all
    """

    files: Mapping[str, Path]
    names: tuple[str, ...]
    instances: Path | None = None
    tags: tuple[str, ...] = ()
    layers: tuple[Masks, ...] = ()

    def over(self, below: Masks | None) -> Masks:
        """These masks, and those ``below`` that are of other labels: of who is shown, and of what they do."""
        under = () if below is None else below.layers or (below,)
        kept = tuple(layer for layer in under if not set(layer.names[1:]) & set(self.names[1:]))
        if not kept:
            return self
        layers = (*kept, *(self.layers or (self,)))
        files = {path.stem: path for path in in_order(file for layer in layers for file in layer.files.values())}
        names = dict.fromkeys(name for layer in layers for name in layer.names)
        tags = dict.fromkeys(name for layer in layers for name in layer.tags or layer.names[1:])
        return Masks(files, tuple(names), tags=tuple(tags), layers=layers)

    def objects(self, stem: str) -> list[Object]:
        """What a frame shows: tracked instances where there are any, or else a region for each label."""
        if self.layers:
            return [
                replace(one, number=one.number + sum(layer.count for layer in self.layers[:place]))
                for place, layer in enumerate(self.layers)
                if stem in layer.files
                for one in layer.objects(stem)
            ]
        if self.instances is not None:
            return list(self._tracked.get(stem, ()))
        ids = self.read(stem)
        return [Object(self.names[one], one, ids == one) for one in shown_ids(ids)]

    @property
    def count(self) -> int:
        """The greatest number that an object may have."""
        if self.instances is None:
            return len(self.names) - 1
        return max((one.number for several in self._tracked.values() for one in several), default=0)

    def read(self, stem: str) -> NDArray[np.uint8]:
        """(H, W) ids of a frame; where layers overlap, the last one counts.

        Raises
        ------
        DataError : no such picture, or an id that has no name
        """
        if self.layers:
            return self._flattened(stem)
        return read_ids(self.files[stem], len(self.names))

    def _flattened(self, stem: str) -> NDArray[np.uint8]:
        first, *others = (layer.read_as(stem, self.names) for layer in self.layers if stem in layer.files)
        return reduce(lambda below, ids: np.where(ids > 0, ids, below), others, first)

    def read_as(self, stem: str, names: Sequence[str]) -> NDArray[np.uint8]:
        """(H, W) places in ``names`` of the ids of a frame, 0 for other ids; 255 stays."""
        place = {name: index for index, name in enumerate(names)}
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self.names)] = [place.get(name, 0) for name in self.names]
        return table[self.read(stem)]

    @cached_property
    def _tracked(self) -> dict[str, list[Object]]:
        assert self.instances is not None
        document = read_json(self.instances)
        stems = {image["id"]: Path(image["file_name"]).stem for image in document["images"]}
        names = {category["id"]: category["name"] for category in document["categories"]}
        found: dict[str, list[Object]] = {}
        for one in document["annotations"]:
            mask = decode_mask(one["segmentation"])
            shown = Object(names[one["category_id"]], one["track_id"] + 1, mask)
            found.setdefault(stems[one["image_id"]], []).append(shown)
        return found


@dataclass(frozen=True)
class Video:
    """What is known of a video.

    Parameters
    ----------
    name : as its results are called
    source : its file or folder of frames; None where nothing says
    tags : tags of the video as a whole, that segments were searched for
    segments : found in it; None where it was not searched
    masks : masks of its frames, where there are any
    folder_fps : frames a second, where it is a folder of frames
    """

    name: str
    source: Path | None = None
    tags: tuple[str, ...] = ()
    segments: tuple[Segment, ...] | None = None
    masks: Masks | None = None
    folder_fps: float | None = None

    def media(self) -> Media:
        """Its frames and their times.

        Raises
        ------
        DataError : nothing says where it is, or it cannot be read
        """
        if self.source is None:
            raise DataError(self.name, "the results do not say where this video is; name it or its folder by --videos")
        return Media(self.source, self.folder_fps)

    @property
    def labels(self) -> tuple[str, ...]:
        """Its tags, and the other labels of its segments."""
        return tuple(dict.fromkeys((*self.tags, *(one.label for one in self.segments or ()))))


@dataclass(frozen=True)
class Results:
    """The videos, each once."""

    videos: tuple[Video, ...]

    @property
    def segments(self) -> tuple[Video, ...]:
        """The videos that were searched for segments.

        Raises
        ------
        DataError : none was
        """
        found = tuple(video for video in self.videos if video.segments is not None)
        if not found:
            raise DataError("export", "this format holds segments, and the results have none; choose a format of masks")
        return found

    @property
    def masked(self) -> tuple[tuple[Video, Masks], ...]:
        """The videos that have masks.

        Raises
        ------
        DataError : none has
        """
        found = tuple((video, video.masks) for video in self.videos if video.masks is not None)
        if not found:
            raise DataError("export", "this format holds masks, and the results have none; choose a format of segments")
        return found

    def pictures(self, out: Path, joint: str = "/") -> Iterator[tuple[Video, Masks, str, str]]:
        """Write the frames that have masks as JPEG; give the video, the masks, the frame and the name of each.

        Parameters
        ----------
        out : folder of the pictures
        joint : between the video and the frame in the name of a picture
        """
        for video, masks in self.masked:
            names = {stem: f"{video.name}{joint}{stem}" for stem in masks.files}
            video.media().write((stem, out / f"{item}.jpg") for stem, item in names.items())
            yield from ((video, masks, stem, item) for stem, item in names.items())

    def segment_labels(self) -> tuple[str, ...]:
        """Labels of segments, and tags of the videos that were searched, in alphabetical order."""
        return tuple(sorted({label for video in self.segments for label in video.labels}))

    def mask_labels(self) -> tuple[str, ...]:
        """Labels that some mask shows or some video with masks is tagged with, in the order of their ids."""
        order = dict.fromkeys(name for _, masks in self.masked for name in masks.names[1:])
        there = {tag for _, masks in self.masked for tag in masks.tags}
        for _, masks in self.masked:
            if not masks.tags:
                there |= {shown.label for stem in masks.files for shown in masks.objects(stem)}
        return tuple(name for name in order if name in there)

    def chosen(self, min_score: float, max_count: int | None) -> Results:
        """The results with the ``max_count`` best segments of each video and label that score ``min_score`` or more."""
        return Results(
            tuple(replace(video, segments=_best(video.segments, min_score, max_count)) for video in self.videos)
        )


def _best(segments: tuple[Segment, ...] | None, min_score: float, max_count: int | None) -> tuple[Segment, ...] | None:
    if segments is None:
        return None
    ranked: dict[str, list[Segment]] = {}
    for one in sorted(segments, key=lambda one: -one.score):
        ranked.setdefault(one.label, []).append(one)
    kept = {id(one) for several in ranked.values() for one in several[:max_count] if one.score >= min_score}
    return tuple(one for one in segments if id(one) in kept)


def of_instances(found: Instances) -> Iterator[Video]:
    """The videos of detections, those without any too."""
    segments: dict[str, list[Segment]] = {video: [] for video in found.videos}
    for video, label, start, end, score in found.rows():
        segments[video].append(Segment(label, start, end, score))
    for name, several in segments.items():
        yield Video(name, segments=tuple(several))


def merged(videos: Sequence[Video], sources: Sequence[Path] = (), folder_fps: float | None = None) -> Results:
    """One entry a video, from what several results say of it.

    Parameters
    ----------
    videos : as the results have them, the same name perhaps several times
    sources : where the videos are, in the place of what the results say
    folder_fps : frames a second of folders of frames

    Raises
    ------
    DataError : results of two different videos of one name
    """
    from pyws.data.video.sources import check_names, name_of

    check_names(sources)
    found: dict[str, Video] = {}
    for video in videos:
        before = found.get(video.name, Video(video.name))
        if before.source and video.source and os.path.abspath(before.source) != os.path.abspath(video.source):
            raise DataError(video.name, f"is the name of two videos, {before.source} and {video.source}")
        segments = before.segments if video.segments is None else (*(before.segments or ()), *video.segments)
        tags = tuple(dict.fromkeys((*before.tags, *video.tags)))
        source = video.source or before.source
        masks = video.masks.over(before.masks) if video.masks else before.masks
        found[video.name] = Video(video.name, source, tags, segments, masks, folder_fps)
    places = {name_of(path): path for path in sources}
    return Results(tuple(replace(video, source=places.get(name, video.source)) for name, video in found.items()))


def facts_of(document: Any, key: str) -> dict[str, Any]:
    """A member of a document that should be an object; empty where it is none."""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}
