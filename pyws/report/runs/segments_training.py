"""Runs of pyws segments train: curves by epoch, rounds of pseudo labels, what the network says of each video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyws.data.csv_table import read_json_lines
from pyws.errors import counted
from pyws.report.page.charts import Chart
from pyws.report.page.html import Finding, Section, Table
from pyws.report.runs.parts import Page, Place, settings
from pyws.report.runs.segments import Seen, labels_seen, read_timelines, segments_page

Record = Mapping[str, Any]
CURVES = {
    "loss of the backbone": "loss", "loss of the backbone without pseudo labels": "loss_without_labels",
    "distribution loss of pseudo labels": "distribution_loss",
    "average mAP (%)": "mAP", "learning rate": "lr",
}  # fmt: skip


def segments_training_page(place: Place, manifest: Mapping[str, Any]) -> Page:
    """The page of a folder that pyws segments train wrote, as far as the run has come."""
    history = read_history(place.run / "history.jsonl")
    epochs = manifest["parameters"]["config"]["epochs"]
    seen, classes = _seen(place.run)
    sections = [_training(history), *_rounds(history)]
    facts = {"made by": "pyws segments train"}
    facts |= {name: manifest[name] for name in ("subset", "videos", "snippets") if name in manifest}
    made = settings(manifest, facts)
    if manifest["skipped"]:
        left = Table(("video left out", "because"), [list(row) for row in manifest["skipped"].items()])
        made = replace(made, tables=[*made.tables, left])
    lead = (
        f"{len(history)} of {epochs} epochs on the tags of {counted(manifest['videos'], 'video')}. The loss is the "
        "backbone's own; from the first round of pseudo labels on their distribution loss joins it."
    )
    findings = [Finding(f"video left out: {name}, {rule}") for name, rule in manifest["skipped"].items()]
    title = "pyws segments train"
    return segments_page(place, title, lead, seen, classes, [*sections, made], [*_wrong(history), *findings])


def read_history(path: Path) -> list[dict[str, Any]]:
    """The records of a run, one for each epoch; none before the first is done."""
    return read_json_lines(path, "the record of an epoch", ("epoch", "loss")) if path.is_file() else []


def _seen(run: Path) -> tuple[dict[str, Seen], list[str]]:
    """Videos that were trained and evaluated on, with the labels of the first and the last round."""
    found: dict[str, Seen] = {}
    classes: list[str] = []
    for path in sorted((run / "timelines").glob("*.json.gz"), reverse=True):
        more, classes = read_timelines(path)
        found |= more
    tables = (run / "labels").glob("epoch-*.safetensors.json")
    rounds = [path for path in sorted(table.with_suffix("") for table in tables) if path.is_file()]
    for path in dict.fromkeys(rounds[:1] + rounds[-1:]):
        caption = f"labels, epoch {int(path.stem.removeprefix('epoch-'))}"
        for name, one in labels_seen(path, caption).items():
            video = found.setdefault(name, Seen(one.seconds, one.tags))
            video.curves |= one.curves
            video.programs = one.programs
    return found, classes


def _training(history: Sequence[Record]) -> Section:
    charts = []
    for title, name in CURVES.items():
        records = [record for record in history if name in record]
        if any(record[name] for record in records):
            xs, ys = [record["epoch"] for record in records], [record[name] for record in records]
            charts.append(Chart(title, "epoch", {name: (xs, ys)}, from_zero=name != "mAP"))
    return Section("Training", tables=[_summary(history)] if history else (), charts=charts)


UNASKED = "adopted without a measure of trust: the preset asks for none"


def _summary(history: Sequence[Record]) -> Table:
    seconds = [record["seconds"] for record in history]
    rows: list[list[object]] = [
        ["epochs", len(history)],
        ["seconds an epoch", sum(seconds) / len(seconds)],
        ["last loss", history[-1]["loss"]],
    ]
    for record in (record for record in history if "trust" in record):
        found, bounds = record["trust"], record.get("trust_bounds", {})
        verdict = "adopted" if found["adopted"] else "stopped: not trusted"
        agreement, conflict = (
            f"{found[name]:.2f}" + (f", {limit} {bounds[name]:.2f} wanted" if name in bounds else "")
            for name, limit in (("agreement", "at least"), ("conflict", "at most"))
        )
        rows += [["pseudo labels", verdict], ["their agreement with unseen halves", agreement]]
        rows += [["their conflict across classes", conflict]]
    shares = [record["share"] for record in history if "share" in record]
    if shares:
        rows += [
            ["share of the network with labels, in the mean with the one without", shares[-1]["value"]],
            ["agreement of unseen halves with it", shares[-1]["with_labels"]],
            ["and with the one without labels", shares[-1]["without_labels"]],
            ["likeness of the maps of these two", shares[-1].get("likeness", "")],
            ["part of a video that its best segments cover", shares[-1].get("reach", "")],
            ["and those of the one without labels", shares[-1].get("reach_without", "")],
            ["and those of the mean of both", shares[-1].get("reach_mean", "")],
            ["scores of tags above those of the rest, share of pairs", shares[-1].get("tag_auc", "")],
            ["and of the one without labels", shares[-1].get("tag_auc_without", "")],
            ["share by which it raises scores of videos", shares[-1].get("raised", "")],
        ]
    if any("labels" in record for record in history) and not any("trust" in record for record in history):
        rows += [["pseudo labels", UNASKED]]
    evaluated = [record for record in history if "mAP" in record]
    if evaluated:
        best = max(evaluated, key=lambda record: record["mAP"])
        rows += [[f"best average mAP (%), epoch {best['epoch']}", best["mAP"]]]
        rows += [[f"last average mAP (%), epoch {evaluated[-1]['epoch']}", evaluated[-1]["mAP"]]]
    return Table(("of the run", "value"), rows)


def _rounds(history: Sequence[Record]) -> list[Section]:
    rounds = [record for record in history if "labels" in record]
    if not rounds:
        return []
    text = (
        "Each row is a round of pseudo labels; optimal, relaxed and approximate count the linear programs of a video "
        "and a class. A relaxed one has segments whose scores contradict each other, and labels of the least residual. "
        "labels/ holds the labels of each round."
    )
    rows = [[record["epoch"], *record["labels"].values()] for record in rounds]
    return [Section("Rounds of pseudo labels", [text], [Table(("before epoch", *rounds[0]["labels"]), rows)])]


def _wrong(history: Sequence[Record]) -> list[Finding]:
    """What looks wrong with the run as a whole."""
    found = []
    for one in (record["trust"] for record in history if "trust" in record):
        if not one["adopted"]:
            found.append(Finding("pseudo labels were not trusted, and the run went on without them"))
        text = "labels do not agree with those of networks that never saw the videos"
        found += [Finding(f"{name}: {text}, {value:.2f}") for name, value in one["classes"].items() if value <= 0]
    if len(history) > 10 and history[-1]["loss"] > history[0]["loss"]:
        found.append(Finding("the loss of the last epoch is above that of the first"))
    return found
