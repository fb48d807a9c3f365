"""What pyws label says on a terminal: its plan as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyws.commands.common import table_of
from pyws.errors import counted
from pyws.report.runs.label import TAG_COLUMNS, amount_of, row_of_tag


def plan_table(plan: Mapping[str, Any], notes: Sequence[str]) -> Any:
    """The plan for a terminal."""
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in plan["minutes"].items())
    taken = f"about {plan['total_minutes']:.1f} minutes ({stages}) and {plan['megabytes']:.0f} MB"
    caption = "\n".join([f"{_amounts(plan)}; {taken}", *notes])
    return table_of(TAG_COLUMNS, map(row_of_tag, plan["tags"]), title=amount_of(plan), caption=caption)


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
