"""Runs of pyws label: what became of the tags, segments and masks, with the pages of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyws.data.annotations.activitynet import read_detections
from pyws.errors import counted
from pyws.report.page.html import Movie, Section, Table
from pyws.report.page.videos import Video
from pyws.report.runs.masks import MEASURES as OF_MASKS
from pyws.report.runs.masks import masked_videos
from pyws.report.runs.parts import Page, Place, problems_of, settings
from pyws.report.runs.segments import Seen, add_spans, read_timelines, segments_page
from pyws.run_manifest import read_manifest

SEGMENTS = ("known-classes", "detections")
MASKS = {"refined": "pa/v0", "first": "pa/v0", "predicted": "masks"}
"""Stages of masks and where each has them, the best first."""
TAG_COLUMNS = ("tag", "is", "videos", "note")
_MEANING = 4  # names of classes that are shown of a tag


def amount_of(plan: Mapping[str, Any]) -> str:
    """How many videos a plan is for, and how long they are where their rates are known.

    Examples
    --------
    >>> amount_of({"videos": 2, "hours": 0.05}), amount_of({"videos": 1, "hours": 0.0})
    ('2 videos, 3.0 minutes', '1 video')
    """
    return counted(plan["videos"], "video") + (f", {plan['hours'] * 60:.1f} minutes" if plan["hours"] else "")


def label_page(place: Place, manifest: Mapping[str, Any]) -> Page:
    """The page of a folder that pyws label wrote, as far as the run has come."""
    plan, state = manifest["plan"], manifest["state"]
    masks = _masks(place)
    seen, classes = _seen(place.run)
    movies = [Movie(place.link(path), f"{path.parts[-3]}: {path.parts[-2]}")
              for path in sorted((place.run / "maps").glob("*/*/*.mp4"))]  # fmt: skip
    sections = [Section("Tags", tables=[_tags(plan)]), _times(plan, state)]
    if movies:
        sections.append(Section("Maps of actions", ["What the network of clips looks at."], movies=movies))
    sections.append(settings(manifest, {"made by": "pyws label"}))
    lead = "; ".join(state.get("notes", ())) or f"{amount_of(plan)}."
    page = segments_page(place, "Labels", lead, seen, classes, sections, links=_links(place))
    rows = {video.name: video for video in page.videos.videos}
    rows |= {video.name: _joined(rows[video.name], video) if video.name in rows else video for video in masks}
    videos = replace(page.videos, videos=list(rows.values()), measures=[*page.videos.measures, *OF_MASKS])
    return replace(page, videos=videos, findings=[*page.findings, *problems_of(masks)])


def _joined(timeline: Video, masks: Video) -> Video:
    """One row of a video with segments and masks: the masks' frames, at their times."""
    strip, scale = masks.strip or timeline.strip, timeline.duration / masks.duration
    if masks.strip is not None:
        strip = replace(masks.strip, places=[place * scale for place in masks.strip.places])
    return replace(
        timeline,
        tags=list(dict.fromkeys([*timeline.tags, *masks.tags])),
        lanes=[*timeline.lanes, *masks.lanes],
        strip=strip,
        measures={**timeline.measures, **masks.measures},
        problems=[*timeline.problems, *masks.problems],
        facts={**timeline.facts, **masks.facts},
        colours=masks.colours,
    )


def _seen(run: Path) -> tuple[dict[str, Seen], list[str]]:
    found: dict[str, Seen] = {}
    classes: list[str] = []
    timelines = run / "segments" / "detections-report" / "timelines.json.gz"
    if timelines.is_file():
        found, classes = read_timelines(timelines)
    for name in SEGMENTS:
        path = run / "segments" / f"{name}.json"
        if path.is_file() and not (name == "detections" and found):
            add_spans(found, "segments" if name == "detections" else "known actions", read_detections(path))
    return found, classes


def _masks(place: Place) -> list[Video]:
    """The masks of each stage, the latest stage first in the player."""
    folders: dict[str, Path] = {}
    entries: dict[str, Any] = {}
    names: list[str] = []
    for stage, inside in MASKS.items():
        run = place.run / "masks" / stage
        if not (run / "manifest.json").is_file():
            continue
        kind = "pyws masks predict" if stage == "predicted" else "pyws masks init"
        document = read_manifest(run / "manifest.json", kind, None)
        folders[f"{stage} masks"] = run / inside
        names = names or document.get("label_space", {}).get("names", [])
        entries |= {name: entry for name, entry in document["videos"].items() if name not in entries}
    apart = replace(place, pictures=place.pictures.with_name("report-masks"))
    return masked_videos(apart, entries, folders, names)


def _links(place: Place) -> dict[str, str]:
    """The pages of the stages."""
    pages = [*place.run.glob("*/**/report.html"), *place.run.glob("segments/*.html")]
    return {str(path.parent.relative_to(place.run) if path.name == "report.html" else path.relative_to(place.run)):
            place.link(path) for path in sorted(pages)}  # fmt: skip


def _tags(plan: Mapping[str, Any]) -> Table:
    return Table(TAG_COLUMNS, [row_of_tag(one) for one in plan["tags"]])


def row_of_tag(one: Mapping[str, Any]) -> tuple[object, ...]:
    """A tag of the plan, what it means and what is doubtful about it, under :data:`TAG_COLUMNS`."""
    names = list(one.get("names", ()))
    more = f" and {len(names) - _MEANING} more" if len(names) > _MEANING else ""
    meaning = ", ".join(names[:_MEANING]) + more if names != [one["tag"]] else ""
    return one["tag"], one["kind"], one["videos"], "; ".join(filter(None, (meaning, one["warning"])))


def _times(plan: Mapping[str, Any], state: Mapping[str, Any]) -> Section:
    taken = state.get("seconds", {})
    rows: list[tuple[str, float, float]] = [
        (stage, plan["minutes"].get(stage, 0.0), seconds / 60) for stage, seconds in taken.items()
    ]
    rows.append(("all", plan["total_minutes"], sum(row[2] for row in rows)))
    return Section("Time", tables=[Table(("stage", "planned (minutes)", "taken"), rows)])
