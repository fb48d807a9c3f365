"""What pyws label says on a terminal: its plan as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyws.errors import counted

SHOWN_NAMES = 4


def plan_table(plan: Mapping[str, Any], notes: Sequence[str]) -> Any:
    """The plan for a terminal."""
    from rich.table import Table as Shown

    table = Shown(
        "tag", "is", "videos", "note", title=f"{counted(plan['videos'], 'video')}, {plan['hours'] * 60:.1f} minutes"
    )
    for one in plan["tags"]:
        table.add_row(one["tag"], one["kind"], str(one["videos"]), _about(one))
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in plan["minutes"].items())
    table.caption = (
        f"{_amounts(plan)}; about {plan['total_minutes']:.1f} minutes ({stages}) and {plan['megabytes']:.0f} MB"
        + "".join(f"\n{note}" for note in notes)
    )
    return table


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
        parts.append(f"{counted(plan['snippets'], 'snippet')} ({rate:.2g} a second)")
    if plan["trained_actions"]:
        parts.append(counted(choices["epochs"], "epoch"))
    if plan["map_clips"]:
        parts.append(f"maps of {plan['map_clips']} clips (at most {choices['map_clips']} a video and action)")
    if plan["mask_frames"]:
        parts.append(f"{plan['mask_frames']} first masks ({choices['mask_frames']} a video)")
    if plan["predicted_frames"]:
        trained = f"{counted(choices['versions'], 'version')} of {counted(choices['mask_epochs'], 'epoch')}"
        parts.append(f"{trained}, {plan['predicted_frames']} masks predicted (every {choices['every']})")
    return ", ".join(parts)
