"""The report of a training run: its curves and what became of its pseudo labels, from the files of its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyws.errors import DataError
from pyws.files import read_json
from pyws.report.labels import draw_labels
from pyws.report.page.html import Picture, Section, Table, write_html
from pyws.report.timelines import draw_lines

Record = Mapping[str, Any]
CURVES = {"losses": ("loss", "distribution_loss"), "mAP (%)": ("mAP",), "learning rate": ("lr",)}
SECTIONS = "Training", "Rounds of pseudo labels", "What was run"
_SHOWN = 3  # videos whose labels are drawn


def write_training_report(folder: str | os.PathLike[str]) -> Path:
    """Draw the curves of ``history.jsonl`` and write ``report.html``; returns its path.

    Raises
    ------
    DataError : no history, or one that cannot be read
    """
    root = Path(folder)
    history = read_history(root / "history.jsonl")
    sections = [Section(SECTIONS[0], tables=[_summary(history)], pictures=list(_curves(root, history)))]
    rounds = [record for record in history if "labels" in record]
    if rounds:
        sections.append(_rounds(rounds, _draw_labels(root)))
    sections.append(_about(read_json(root / "run.json")))
    write_html(root / "report.html", f"pyws segments train: {root.resolve().name}", _LEAD, sections)
    return root / "report.html"


_LEAD = (
    "A network that learns from video tags when things happen. The loss is the backbone's own; from the first round "
    "of pseudo labels on their distribution loss joins it."
)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The records of a run, one for each epoch."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read: {error}") from error


def _curves(root: Path, history: Sequence[Record]) -> list[Picture]:
    pictures = []
    for caption, names in CURVES.items():
        lines = {}
        for name in names:
            records = [record for record in history if name in record]
            if records and any(record[name] for record in records):
                lines[name] = ([record["epoch"] for record in records], [record[name] for record in records])
        if lines:
            path = root / "pictures" / f"{names[0]}.png"
            draw_lines(path, lines, "epoch", caption)
            pictures.append(Picture(path, caption))
    return pictures


def _summary(history: Sequence[Record]) -> Table:
    seconds = [record["seconds"] for record in history]
    rows: list[list[object]] = [
        ["epochs", len(history)],
        ["seconds an epoch", sum(seconds) / len(seconds)],
        ["last loss", history[-1]["loss"]],
    ]
    for found in (record["trust"] for record in history if "trust" in record):
        verdict = "adopted" if found["adopted"] else "stopped: not trusted"
        rows += [["pseudo labels", verdict], ["their agreement with unseen halves", found["agreement"]]]
        rows += [["their conflict across classes", found["conflict"]]]
    evaluated = [record for record in history if "mAP" in record]
    if evaluated:
        best = max(evaluated, key=lambda record: record["mAP"])
        rows += [[f"best average mAP (%), epoch {best['epoch']}", best["mAP"]]]
        rows += [[f"last average mAP (%), epoch {evaluated[-1]['epoch']}", evaluated[-1]["mAP"]]]
    return Table(("of the run", "value"), rows)


def _draw_labels(root: Path) -> list[Picture]:
    """The labels of the first and the last round, for a few videos that have any."""
    paths = sorted((root / "labels").glob("epoch-*.safetensors"))
    files = {f"epoch {int(path.stem.removeprefix('epoch-'))}": path for path in (paths[0], paths[-1])}
    drawn = draw_labels(files, root / "pictures" / "labels", limit=_SHOWN)
    return [Picture(path, f"pseudo labels of {video}", wide=True) for video, path in drawn.items()]


def _about(manifest: Mapping[str, Any]) -> Section:
    parameters = manifest["parameters"]
    rows = [[name, str(parameters[name])] for name in ("backbone", "features")]
    rows += [[name, str(manifest[name])] for name in ("subset", "videos", "snippets")]
    rows += [["classes", str(len(parameters["classes"]))], ["seed", str(parameters["config"]["seed"])]]
    rows += [[name, version] for name, version in manifest["packages"].items()]
    tables = [Table(("of", "value"), rows)]
    if manifest["skipped"]:
        tables.append(Table(("video left out", "because"), list(manifest["skipped"].items())))
    return Section(SECTIONS[2], tables=tables)


def _rounds(rounds: Sequence[Record], pictures: Sequence[Picture]) -> Section:
    text = (
        "Each row is a round of pseudo labels; optimal and relaxed count the linear programs of a video and a "
        "class. A relaxed one has segments whose scores contradict each other, and labels of the least residual. "
        "labels/ holds the labels of each round."
    )
    names = tuple(rounds[0]["labels"])
    rows = [[record["epoch"], *record["labels"].values()] for record in rounds]
    return Section(SECTIONS[1], [text], [Table(("before epoch", *names), rows)], pictures)
