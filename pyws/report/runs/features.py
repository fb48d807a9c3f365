"""Runs of pyws features: which videos have snippets, which could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyws.data.video.thumbnails import Thumbnails
from pyws.errors import counted
from pyws.progress import track
from pyws.report.page.html import VideoList
from pyws.report.page.strips import Strip
from pyws.report.page.videos import Measure, Video
from pyws.report.runs.parts import Page, Place, problems_of, settings
from pyws.report.runs.segments import frames_strip

MEASURES = (Measure("snippets", "snippets", None), Measure("seconds", "seconds", None))


def features_page(place: Place, manifest: Mapping[str, Any]) -> Page:
    """The page of a folder that pyws features wrote."""
    entries = manifest.get("videos", {})
    tracked = track(entries.items(), "pictures of the report", len(entries), place.quiet)
    videos = [_video(place, name, entry, len(entries)) for name, entry in tracked]
    made = {name: value for name, value in manifest.items() if name != "videos"}
    failed = sum("error" in entry for entry in entries.values())
    lead = f"Features of {counted(len(entries) - failed, 'video')}" + (
        f"; {failed} could not be read." if failed else "."
    )
    sections = [settings({"parameters": made}, {"made by": "pyws features"})]
    return Page("Features of videos", lead, sections, VideoList(videos, MEASURES), problems_of(videos))


def draw_frames(
    place: Place, name: str, entry: Mapping[str, Any], count: int, taken: Thumbnails | None = None
) -> tuple[Strip | None, str]:
    """The pictures that the page has of one of so many videos, of those that were taken of it or else of its source."""
    return frames_strip(place, name, Path(entry["source"]), _seconds(entry), count, taken)


def _video(place: Place, name: str, entry: Mapping[str, Any], count: int) -> Video:
    if "error" in entry:
        return Video(name, problems=[f"cannot be used: {entry['error']}"])
    strip, problem = draw_frames(place, name, entry, count)
    seconds = _seconds(entry)
    facts = {"source": entry["source"], "snippets": str(entry["snippets"]), "length": f"{seconds:.2f} s"}
    measures = {"snippets": entry["snippets"], "seconds": seconds}
    problems = [problem] if problem else []
    return Video(name, duration=seconds, strip=strip, measures=measures, problems=problems, facts=facts)


def _seconds(entry: Mapping[str, Any]) -> float:
    return float(entry["end"] - entry["start"])
