"""Segments of videos: files of pyws segments predict, fuse and labels, and what pages of segments share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyws.checkpoint import read_tensors
from pyws.data.annotations.activitynet import Instances, Truth, read_detections, read_truth
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.time_base import SnippetGrids
from pyws.data.video.frames import Pixels, VideoFile, open_frames
from pyws.data.video.thumbnails import Thumbnails
from pyws.errors import DataError, counted
from pyws.files import read_json
from pyws.progress import track
from pyws.report.page.html import Finding, Section, Table, VideoList
from pyws.report.page.strips import PICTURE_BYTES, Strip, Tile, rungs, write_strip
from pyws.report.page.videos import Lane, Measure, Span, Video
from pyws.report.runs.parts import Page, Place, problems_of, settings

TIOU, ALL = 0.5, 0.95  # overlap from which a segment is right; share of a video that a segment must not cover
CANNOT_TELL = 0.6  # AUC of a class's scores, videos with the tag against those without
MEASURES = (
    Measure("ap", f"AP at tIoU {TIOU}"),
    Measure("best", "highest score"),
    Measure("segments", "segments", None),
    Measure("relaxed", "relaxed or approximate programs", False),
)


@dataclass
class Seen:
    """What is known of a video, from whichever files say it.

    Parameters
    ----------
    curves : caption to label to values
    spans : caption to segments: "truth", "proposals", "segments"
    programs : linear programs by status
    """

    seconds: float = 0.0
    tags: Sequence[str] = ()
    source: str | None = None
    curves: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    spans: dict[str, list[Span]] = field(default_factory=dict)
    scores: Sequence[float] = ()
    programs: Mapping[str, int] = field(default_factory=dict)


def detections_page(place: Place) -> Page:
    """The page of detections in ActivityNet form: what pyws segments predict and fuse write."""
    document = read_json(place.run)
    about = document.get("external_data") or {} if isinstance(document, dict) else {}
    found = read_detections(document if isinstance(document, dict) else place.run)
    timelines = place.pictures / "timelines.json.gz"
    seen, classes = read_timelines(timelines) if timelines.is_file() else ({}, [])
    for video in found.videos:
        seen.setdefault(video, Seen())
    add_spans(seen, "segments", found)
    inputs = place.inputs()
    if "proposals" in inputs:
        add_spans(seen, "proposals", read_detections(inputs["proposals"]))
    lead = f"{counted(len(found), 'segment')} in {counted(len(found.videos), 'video')}."
    made = settings({"parameters": _without_times(about)})
    return segments_page(place, "Segments of videos", lead, seen, classes, [made])


def labels_page(place: Place) -> Page:
    """The page of snippet labels that pyws segments labels writes."""
    about = read_json(f"{place.run}.json")
    seen = labels_seen(place.run, "labels")
    inputs = place.inputs()
    if "proposals" in inputs:
        add_spans(seen, "proposals", read_detections(inputs["proposals"]), known=True)
    if "truth" in inputs:
        add_truth(seen, read_truth(inputs["truth"]))
    counts = ", ".join(f"{count} {name}" for name, count in about["statuses"].items())
    lead = f"Labels of {counted(len(seen), 'video')}, a linear program for each video and class: {counts}."
    facts = {"classes": ", ".join(about["classes"])}
    return segments_page(
        place, "Snippet labels", lead, seen, [], [settings({"parameters": _without_times(about["settings"])}, facts)]
    )


def _without_times(note: Mapping[str, Any]) -> dict[str, Any]:
    """What a note says of all videos: all but the times of each one's snippets."""
    return {name: value for name, value in note.items() if name != "times"}


def segments_page(
    place: Place, title: str, lead: str, seen: Mapping[str, Seen], classes: Sequence[str], sections: Sequence[Section],
    findings: Sequence[Finding] = (), links: Mapping[str, str] | None = None,
) -> Page:  # fmt: skip
    """A page of videos with timelines."""
    if place.truth is not None:
        add_truth(seen, read_truth(place.truth))
    videos = [_video(place, name, one, len(seen))
              for name, one in track(seen.items(), "pictures of the report", len(seen), place.quiet)]  # fmt: skip
    told = _classes(seen, classes)
    wrong = [Finding(f"the network cannot tell {row[0]} from other videos: AUC {row[3]:.2f}")
             for row in told.rows if isinstance(row[3], float) and row[3] < CANNOT_TELL]  # fmt: skip
    by_class = [Section("Classes", tables=[told])] if told.rows else []
    return Page(title, lead, [*by_class, *sections], VideoList(videos, MEASURES),
                [*findings, *wrong, *problems_of(videos)], links or {})  # fmt: skip


def read_timelines(path: Path) -> tuple[dict[str, Seen], list[str]]:
    """What a network said of videos, and its classes."""
    document = read_json(path)
    found = {}
    for name, one in document["videos"].items():
        spans: dict[str, list[Span]] = {
            kind: [(*row[:3], row[3]) for row in one[kind]] for kind in ("proposals", "segments")
        }
        if document["has_truth"]:
            spans["truth"] = [(start, end, label, None) for start, end, label in one["truth"]]
        curves = {label: np.array(values) for label, values in one["activation"].items()}
        found[name] = Seen(one["seconds"], one["tags"], one["source"], {"activation": curves}, spans, one["scores"])
    return found, document["classes"]


def labels_seen(path: Path, caption: str) -> dict[str, Seen]:
    """Videos of a file of labels: curves and linear programs."""
    about = read_json(f"{path}.json")
    grids = SnippetGrids.read(path, about["settings"], SNIPPETS_PER_SECOND)
    found = {}
    for name, tensor in read_tensors(path)[0].items():
        values = tensor.numpy()
        record = about["videos"][name]
        edges = grids.edges_of(name, len(values), record.get("seconds"))
        seconds, values = float(edges[-1]), _from_zero(values, edges)
        curves = {about["classes"][k]: values[:, k] for k in np.flatnonzero(values.any(axis=0)).tolist()}
        programs = {status: record[status] for status in about["statuses"] if record.get(status)}
        found[name] = Seen(seconds, list(curves), curves={caption: curves}, programs=programs)
    return found


def _from_zero(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The labels at as many steady places from 0 to the last edge; 0 before a stream that starts late."""
    middles = (np.arange(len(values)) + 0.5) * edges[-1] / len(values)
    place = np.searchsorted(edges, middles, side="right") - 1
    return np.where(place[:, None] < 0, 0, values[place])


def add_spans(seen: dict[str, Seen], caption: str, rows: Instances, known: bool = False) -> None:
    """Segments of a file, by video; ``known`` keeps to the videos that are there."""
    by_video: dict[str, list[Span]] = {name: [] for name in rows.videos}
    for video, label, start, end, score in rows.rows():
        by_video[video].append((start, end, label, score))
    for name, spans in by_video.items():
        if name in seen or not known:
            seen.setdefault(name, Seen()).spans[caption] = spans


def add_truth(seen: Mapping[str, Seen], truth: Truth) -> None:
    """True segments, tags and durations of the videos that are there."""
    rows: dict[str, Seen] = {}
    add_spans(rows, "truth", truth.instances)
    for index, name in enumerate(truth.instances.videos):
        if name in seen:
            seen[name].spans["truth"] = [(*span[:3], None) for span in rows[name].spans["truth"]]
            seen[name].tags = truth.tags[index]
            if truth.duration[index] > 0:
                seen[name].seconds = float(truth.duration[index])


def average_precision(truth: Sequence[Span], found: Sequence[Span]) -> float:
    """Mean over the classes of one video of the average precision; a true segment is found once.

    Examples
    --------
    >>> average_precision([(0, 4, "run", None)], [(6, 9, "run", 0.9), (0, 3, "run", 0.5)])
    0.5
    """
    scores = []
    for label in dict.fromkeys(span[2] for span in truth):
        left = [span for span in truth if span[2] == label]
        total, hits, precision = len(left), 0, 0.0
        ranked = sorted((span for span in found if span[2] == label), key=lambda span: -(span[3] or 0.0))
        for rank, span in enumerate(ranked, start=1):
            overlaps = [_overlap(span, true) for true in left]
            if overlaps and max(overlaps) >= TIOU:
                del left[overlaps.index(max(overlaps))]
                hits += 1
                precision += hits / rank
        scores.append(precision / total)
    return sum(scores) / len(scores)


def auc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """How often a score of the one is above one of the other; equals count half.

    Examples
    --------
    >>> auc([0.9, 0.4], [0.4, 0.1])
    0.875
    """
    one, other = np.array(inside)[:, None], np.array(outside)[None]
    return float(((one > other) + 0.5 * (one == other)).mean())


def _overlap(one: Span, other: Span) -> float:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    union = max(one[1], other[1]) - min(one[0], other[0])
    return shared / union if shared > 0 else 0.0


def _video(place: Place, name: str, seen: Seen, count: int) -> Video:
    ends = [span[1] for spans in seen.spans.values() for span in spans]
    seconds = seen.seconds or max(ends, default=1.0)
    lanes = [Lane(kind, spans=seen.spans[kind]) for kind in ("truth",) if kind in seen.spans]
    lanes += [Lane(caption, curves=curves) for caption, curves in seen.curves.items() if curves]
    lanes += [Lane(kind, spans=seen.spans[kind]) for kind in ("proposals", "segments") if kind in seen.spans]
    found, problems = seen.spans.get("segments"), []
    measures: dict[str, float] = {}
    if found is not None:
        measures = {"segments": len(found), "best": max((span[3] or 0.0 for span in found), default=0.0)}
        problems += _wrong(seen, found, seconds)
        if seen.spans.get("truth"):
            measures["ap"] = average_precision(seen.spans["truth"], found)
    facts = {"length": f"{seconds:.1f} s"}
    if seen.programs:
        facts["linear programs"] = ", ".join(f"{count} {status}" for status, count in seen.programs.items())
        measures["relaxed"] = seen.programs.get("relaxed", 0) + seen.programs.get("approximate", 0)
        problems += [f"{status} linear program: {seen.programs[status]}" for status in ("relaxed", "approximate")
                     if seen.programs.get(status)]  # fmt: skip
    strip = None
    if seen.source:
        facts["source"] = seen.source
        strip, problem = frames_strip(place, name, Path(seen.source), seconds, count)
        problems += [problem] if problem else []
    return Video(name, seen.tags, seconds, "s", lanes, strip, measures, problems, facts)


def _wrong(seen: Seen, found: Sequence[Span], seconds: float) -> list[str]:
    """What looks wrong with the segments of a video."""
    if not found:
        return ["without a segment"]
    labels = Counter(span[2] for span in found)
    missed = [tag for tag in seen.tags if tag not in labels]
    wrong = [f"no segment of a tag: {', '.join(missed)}"] if missed else []
    best = max(found, key=lambda span: span[3] or 0.0)
    if best[1] - best[0] > ALL * seconds:
        wrong.append(f"the best segment covers all: {best[2]}")
    return wrong


def _classes(seen: Mapping[str, Seen], classes: Sequence[str]) -> Table:
    """A row for each class: videos, segments, and whether the scores of videos tell those that have the tag."""
    rows: list[list[object]] = []
    scored = [one for one in seen.values() if len(one.scores) == len(classes)]
    for column, label in enumerate(classes):
        inside = [one.scores[column] for one in scored if label in one.tags]
        outside = [one.scores[column] for one in scored if label not in one.tags]
        count = sum(span[2] == label for one in seen.values() for span in one.spans.get("segments", ()))
        rows.append([label, len(inside), count, auc(inside, outside) if inside and outside else None])
    return Table(("class", "videos", "segments", "AUC of video scores"), rows)


def frames_strip(
    place: Place, name: str, source: Path, seconds: float, count: int, taken: Thumbnails | None = None
) -> tuple[Strip | None, str]:
    """Frames of one of so many videos at even distances: those that were taken, or else where it can be read."""

    def tiles(number: int) -> list[Tile]:
        times = [(k + 0.5) * seconds / number for k in range(number)]
        pictures = taken.at(times) if taken else _glanced(source, times, seconds)
        return [(time, f"{time:.1f} s", picture, {}) for time, picture in zip(times, pictures, strict=True)]

    try:
        stamp = source.stat().st_mtime_ns if source.exists() else 0
        key = [str(source), stamp, round(seconds, 3)]
        return write_strip(place.pictures, name, key, rungs(count, 0), tiles, PICTURE_BYTES / max(count, 1)), ""
    except DataError as error:
        return None, f"frames cannot be read: {error}"


def _glanced(source: Path, times: Sequence[float], seconds: float) -> list[Pixels]:
    """Frames of a video of so many seconds that are shown at these times, or shortly before."""
    frames = open_frames(source)
    if isinstance(frames, VideoFile):
        return frames.glance(times, slack=seconds / len(times) / 2)
    return list(frames.read([min(int(t / seconds * len(frames)), len(frames) - 1) for t in times]))
