"""Holds corrections against what they correct, and writes them where training reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyws.data.annotations.corrections import CORRECTIONS, Corrected, read_corrections, write_corrections
from pyws.data.annotations.names import one_spelling
from pyws.data.features.dataset import FeatureSet, open_features
from pyws.data.tagged.corrected_masks import write_corrected
from pyws.data.tagged.label_space import IGNORE, LabelSpace
from pyws.data.video.frames import Pixels
from pyws.errors import SHOWN, DataError, reading
from pyws.exchange.label_folder import FORMAT as LABEL
from pyws.exchange.label_folder import LabelFolder, kind_of
from pyws.exchange.media import Media
from pyws.exchange.readers.review import Reviewed, Reviews, Span
from pyws.exchange.results import facts_of
from pyws.files import read_json
from pyws.run_manifest import read_manifest

Scope = Literal["whole", "marked"]
MASKS = "pyws masks init"  # refine writes the same
_SLACK = 0.5  # seconds that a segment may reach beyond the end of its video: players and headers round


@dataclass
class Target:
    """What is corrected: a data set of features, a folder of pseudo-annotations, or both.

    Parameters
    ----------
    features, masks : the folders; None where there is none
    folder_fps : frames a second of folders of frames
    """

    features: Path | None
    masks: Path | None
    folder_fps: float | None = None
    _media: dict[str, Media] = field(default_factory=dict)

    @cached_property
    def data(self) -> FeatureSet | None:
        """The videos with features."""
        return None if self.features is None else open_features(self.features, on_error="skip")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Manifest of the folder of masks."""
        if self.masks is None:
            return {}
        return read_manifest(self.masks / "manifest.json", MASKS, None)

    @cached_property
    def space(self) -> LabelSpace | None:
        """What the ids of the masks mean."""
        if self.masks is None:
            return None
        return LabelSpace.read(self.manifest.get("label_space"), self.masks / "manifest.json")

    @cached_property
    def sources(self) -> dict[str, Path]:
        """Where the videos are."""
        found: dict[str, Path] = {}
        for folder in (self.features, self.masks):
            if folder is not None and (folder / "manifest.json").is_file():
                manifest = self.manifest if folder == self.masks else read_json(folder / "manifest.json")
                with reading(folder / "manifest.json", "is damaged"):
                    entries = facts_of(manifest, "videos").items()
                    found |= {name: Path(one["source"]) for name, one in entries if "source" in one}
        return found

    def media(self, video: str) -> Media:
        """The frames of a video, opened once."""
        if video not in self._media:
            if video not in self.sources:
                raise DataError(video, "nothing says where this video is, whose frames the corrections count")
            self._media[video] = Media(self.sources[video], self.folder_fps)
        return self._media[video]


def find_target(path: Path, folder_fps: float | None = None) -> Target:
    """What a folder holds that corrections can change.

    Parameters
    ----------
    path : output of ``pyws label``, of ``pyws features``, or of ``pyws masks init`` or ``refine``
    folder_fps : frames a second of folders of frames

    Raises
    ------
    DataError : none of these
    """
    kind = kind_of(path)
    if kind == LABEL:
        parts = LabelFolder.of(path)
        if parts.features or parts.annotations:
            return Target(parts.features, parts.annotations, folder_fps)
    elif kind == MASKS:
        return Target(None, path, folder_fps)
    elif (path / "features").is_dir():
        return Target(path, None, folder_fps)
    raise DataError(path, "must be a folder of pyws label, of features, or of pyws masks init or refine")


@dataclass(frozen=True)
class Applied:
    """What was taken over.

    Parameters
    ----------
    videos : whose segments were corrected
    frames : whose masks were corrected
    """

    videos: int
    frames: int


def apply(reviews: Reviews, target: Target, source: str, scope: Scope = "whole", skip: bool = False) -> tuple[
    Applied, list[str]
]:  # fmt: skip
    """Write corrections into ``corrections.json`` of features and ``corrections`` of masks.

    Parameters
    ----------
    reviews : what people said
    target : what they said it of
    source : the file that says so
    scope : "whole": a video that was searched for segments has no others; "marked": only what is marked counts
    skip : leave out what does not fit, instead of raising

    Returns
    -------
    What was taken over, and a sentence for everything that does not fit.

    Raises
    ------
    DataError : anything that does not fit, all in one, unless ``skip``; nothing is written then
    """
    problems: list[str] = []
    before = {} if target.features is None else read_corrections(target.features)
    segments = dict(_segments(reviews, target, source, scope, before, problems))
    masks = list(_masks(reviews, target, problems))
    if problems and not skip:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(source, f"does not fit ({'; '.join(problems[:SHOWN])}{more}); --on-error skip takes the rest")
    if segments:
        assert target.features is not None
        write_corrections(target.features / CORRECTIONS, before | segments)
    frames = write_corrected(target.masks, masks, source) if masks and target.masks else 0
    return Applied(len(segments), frames), problems


# Segments


def _segments(
    reviews: Reviews, target: Target, source: str, scope: Scope, before: Mapping[str, Corrected], problems: list[str]
) -> Iterable[tuple[str, Corrected]]:
    searched = {name: one for name, one in reviews.items() if one.present is not None}
    if not searched:
        return
    data = target.data
    if data is None:
        problems.append(f"{len(searched)} videos have segments, and the folder has masks alone")
        return
    places = {name: index for index, name in enumerate(data.names)}
    spelling = one_spelling(
        (span.label for one in searched.values() for span in (*(one.present or ()), *one.absent)), data.classes
    )
    for name, one in searched.items():
        if name not in places:
            problems.append(f"video {name!r} is none of the {len(places)} videos")
            continue
        end = float(data.ends[places[name]])
        tags = [data.classes[k] for k in np.flatnonzero(data.tags[places[name]])]
        spans = []
        for several in (one.present or [], one.absent):
            seconds = (_in_seconds(span, name, target, end, data.classes, spelling, problems) for span in several)
            spans.append([span for span in seconds if span is not None])
        present, absent = spans
        if scope == "whole":
            # A tag that was said to be nowhere is no tag of the data any more, and stays nowhere.
            labels = {*tags, *one.labels, *before.get(name, Corrected()).labels, *(label for label, *_ in present)}
            known = [label for label in data.classes if label in labels]
            absent += [span for label in known for span in _between(label, present, end)]
        yield name, Corrected(tuple(present), tuple(absent), source)


def _in_seconds(
    span: Span, video: str, target: Target, end: float, classes: Sequence[str], spelling: dict[str, str],
    problems: list[str],
) -> tuple[str, float, float] | None:  # fmt: skip
    """The span in seconds of its video; None, and a problem, where it does not fit."""
    label = spelling[span.label]
    if label not in classes:
        problems.append(f"video {video!r}: label {span.label!r} is none of {', '.join(classes[:10])}")
        return None
    start, stop = span.start, span.end
    if span.in_frames:
        try:
            media = target.media(video)
            count = len(media.frames)
        except DataError as error:
            problems.append(f"video {video!r}: {error}")
            return None
        if not 0 <= start <= stop < count:
            problems.append(f"video {video!r}: frames {start:g} to {stop:g} of {label!r} are out of 0 to {count - 1}")
            return None
        start, stop = media.seconds(int(start), int(stop))
    if not -_SLACK <= start < stop <= end + _SLACK or start >= end:
        problems.append(f"video {video!r}: {label!r} from {start:.3f} to {stop:.3f} s is out of 0 to {end:.3f} s")
        return None
    return label, max(start, 0.0), min(stop, end)


def _between(label: str, present: Sequence[tuple[str, float, float]], end: float) -> list[tuple[str, float, float]]:
    """The stretches of a video of ``end`` seconds without the segments of a label.

    Examples
    --------
    >>> _between("a", [("a", 1.0, 2.0), ("b", 3.0, 4.0), ("a", 1.5, 3.0)], 5.0)
    [('a', 0.0, 1.0), ('a', 3.0, 5.0)]
    """
    found, last = [], 0.0
    for start, stop in sorted((start, stop) for name, start, stop in present if name == label):
        if start > last:
            found.append((label, last, start))
        last = max(last, stop)
    return [*found, (label, last, end)] if last < end else found


# Masks


def _masks(reviews: Reviews, target: Target, problems: list[str]) -> Iterable[tuple[str, str, Pixels]]:
    masked = {name: one for name, one in reviews.items() if one.masks}
    if not masked:
        return
    space = target.space
    if space is None:
        problems.append(f"{len(masked)} videos have masks, and the folder has segments alone")
        return
    with reading(target.masks or "", "is damaged"):
        done = {name for name, one in facts_of(target.manifest, "videos").items() if one.get("status") == "done"}
    for name, one in masked.items():
        if name not in done:
            problems.append(f"video {name!r} is none of the {len(done)} videos with masks")
            continue
        try:
            media = target.media(name)
        except DataError as error:
            problems.append(str(error))
            continue
        yield from _of_video(one, media, space, problems)


def _of_video(one: Reviewed, media: Media, space: LabelSpace, problems: list[str]) -> Iterable[tuple[str, str, Pixels]]:
    stems: dict[str | int, str] = {stem: stem for stem in media.frames.stems}
    stems.update(enumerate(media.frames.stems))
    for frame, regions in one.masks.items():
        where = f"video {one.video!r}, frame {frame}"
        if frame not in stems:
            problems.append(f"{where}: the video has {len(media.frames)} frames, {media.frames.stems[0]} to"
                            f" {media.frames.stems[-1]}")  # fmt: skip
            continue
        ids = np.zeros(media.size, np.uint8)
        try:
            for label, mask in regions():
                if mask.shape != media.size:
                    raise DataError(where, f"masks must have the size of the frame {media.size}, got {mask.shape}")
                ids[mask] = _id_of(where, label, space)
        except DataError as error:
            problems.append(str(error))
            continue
        yield one.video, stems[frame], ids


def _id_of(where: str, label: str | int, space: LabelSpace) -> int:
    """The id of a label in any case; ids stand for themselves."""
    if isinstance(label, int):
        if label != IGNORE and not 0 < label < len(space):
            raise DataError(where, f"ids must be 1 to {len(space) - 1}, got {label}")
        return label
    if label in space.names[1:]:
        return space.names.index(label)
    folded = [name.casefold() for name in space.names]
    if label.casefold() not in folded[1:]:
        raise DataError(where, f"label {label!r} is none of {', '.join(space.names[1:11])}")
    return folded.index(label.casefold())
