"""What pyws label shows: its plan as a table, its results as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyws.commands.label.stages import FOLDERS, Job
from pyws.data.video.sources import name_of
from pyws.files import read_json
from pyws.report.page.html import Picture, Section, Table, write_html

SHOWN_NAMES, SHOWN_SEGMENTS = 4, 5
_EXPLAINED = {
    "first masks": "Where the image classifier sees a tag: its activation maps, cut at Otsu's threshold.",
    "refined masks": "First masks, refined by a model of each video: colours, place, optical flow. The best ones.",
    "predicted masks": "By a network that learned from the masks of all videos: coarser, for frames in between.",
}


def plan_table(plan: Mapping[str, Any], notes: Sequence[str]) -> Any:
    """The plan for a terminal."""
    from rich.table import Table as Shown

    table = Shown("tag", "is", "videos", "note", title=f"{plan['videos']} videos, {plan['hours'] * 60:.1f} minutes")
    for one in plan["tags"]:
        table.add_row(one["tag"], one["kind"], str(one["videos"]), _about(one))
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in plan["minutes"].items())
    table.caption = (
        f"{_amounts(plan)}; about {plan['total_minutes']:.1f} minutes ({stages}) and {plan['megabytes']:.0f} MB"
        + "".join(f"\n{note}" for note in notes)
    )
    return table


def write_page(job: Job, document: Mapping[str, Any], path: Path) -> None:
    """One page: what became of the tags, segments, maps and masks, and how long each stage took."""
    plan, state = document["plan"], document["state"]
    sections = [
        Section("Tags", tables=[Table(("tag", "is", "videos", "note"), [_row(one) for one in plan["tags"]])]),
        *_segments(job.out),
        *_maps(job),
        *_masks(job),
        _times(plan, state),
    ]
    lead = [*document["problems"], *state["notes"]]
    write_html(path, "Labels", "; ".join(lead) or "All videos were used.", sections)


def _row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["tag"], one["kind"], one["videos"], _about(one)


def _about(one: Mapping[str, Any]) -> str:
    """What a tag means, and what is doubtful about it."""
    names = list(one["names"])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    meaning = ", ".join(names[:SHOWN_NAMES]) + more if names != [one["tag"]] else ""
    return "; ".join(part for part in (meaning, one["warning"]) if part)


def _amounts(plan: Mapping[str, Any]) -> str:
    choices, sampling = plan["choices"], plan["choices"]["sampling"]
    parts = []
    if plan["snippets"]:
        rate = sampling["fps"] / sampling["stride"]
        parts.append(f"{plan['snippets']} snippets ({rate:.2g} a second), {choices['epochs']} epochs")
    if plan["mask_frames"]:
        parts.append(f"{plan['mask_frames']} first masks ({choices['mask_frames']} a video)")
    if plan["predicted_frames"]:
        trained = f"{choices['versions']} versions of {choices['mask_epochs']} epochs"
        parts.append(f"{trained}, {plan['predicted_frames']} masks predicted (every {choices['every']})")
    return ", ".join(parts)


def _segments(out: Path) -> list[Section]:
    found = []
    for name, title in (("known-classes", "Segments without training"), ("detections", "Segments that were learned")):
        path = out / "segments" / f"{name}.json"
        if path.is_file():
            rows = [
                (video, one["label"], one["segment"][0], one["segment"][1], one["score"])
                for video, several in read_json(path)["results"].items()
                for one in sorted(several, key=lambda one: -one["score"])[:SHOWN_SEGMENTS]
            ]
            found.append(Section(title, tables=[Table(("video", "tag", "from (s)", "to (s)", "score"), rows)]))
    return found


def _maps(job: Job) -> list[Section]:
    sheets = sorted((job.out / "maps").glob("*/*/clip_0.jpg"))
    pictures = [Picture(sheet, f"{sheet.parts[-3]}: {sheet.parts[-2]}", wide=True) for sheet in sheets]
    text = ["What the network of clips looks at, in the first clip of each video."]
    return [Section("Maps of actions", text, pictures=pictures)] if pictures else []


def _masks(job: Job) -> list[Section]:
    names = {name_of(video) for video in job.with_tags(job.of_kind("object"))}
    found = []
    for stage, text in _EXPLAINED.items():
        sheets = sorted((job.out / "masks" / FOLDERS[stage] / "overlays").glob("*.jpg"))
        pictures = [Picture(sheet, sheet.stem, wide=True) for sheet in sheets if sheet.stem in names]
        if pictures:
            found.append(Section(stage.capitalize(), [text], pictures=pictures))
    return found


def _times(plan: Mapping[str, Any], state: Mapping[str, Any]) -> Section:
    rows = [(stage, plan["minutes"].get(stage, 0.0), seconds / 60) for stage, seconds in state["seconds"].items()]
    rows.append(("all", plan["total_minutes"], sum(row[2] for row in rows)))
    return Section("Time", [_amounts(plan)], [Table(("stage", "planned (minutes)", "taken"), rows)])
