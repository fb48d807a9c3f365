"""Runs of pyws masks train: scores by epoch and version, what was selected and why, masks from version to version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyws.checkpoint import read_facts
from pyws.data.csv_table import read_json_lines
from pyws.errors import DataError
from pyws.files import read_json
from pyws.report.page.charts import Chart
from pyws.report.page.html import Finding, Picture, Section, Table, VideoList
from pyws.report.page.videos import Lane
from pyws.report.runs.masks import MEASURES, Lanes, masked_videos, mean_iou
from pyws.report.runs.parts import Page, Place, problems_of, settings

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]  # rows of a selection: video to frame to row
SCORES = {"ric": "RIC", "miou_pa": "mIoU_PA", "rii": "RII"}
_TESTS = {
    "labels": "labels", "by_discriminator_only": "by discriminator alone", "by_classifier_only": "by classifier alone",
    "by_both": "by both", "reproduced": "reproduced", "untested": "not tested", "empty": "empty",
    "discriminator_auc": "AUC",
}  # fmt: skip


def masks_training_page(place: Place, manifest: Mapping[str, Any]) -> Page:
    """The page of a folder that pyws masks train wrote, as far as the run has come."""
    versions = [_with_curve(place.run, version) for version in manifest["versions"]]
    init = Path(manifest["init"])
    selections = {version["version"]: _selection(place.run / "select" / f"v{version['version']}.jsonl")
                  for version in versions}  # fmt: skip
    names = manifest["label_space"]["names"]
    entries = _entries(init)
    folders = _folders(place.run, init, len(versions), manifest.get("returned"))

    def selected(name: str) -> tuple[Mapping[str, float], Lanes]:
        rows = {number: found.get(name, {}) for number, found in selections.items()}
        return _measures(name, rows, folders), partial(_selected_lanes, rows, names)

    videos = masked_videos(place, entries, folders, names, selected)
    link = place.link_of_run(init)
    sections = [_charts(versions), _table(versions), _tests(versions, names)]
    sections += [_samples(place.run, versions, names), _versions_sheet(place.run)]
    facts = {"first masks": init, "made by": "pyws masks train"}
    facts |= {key: manifest[key] for key in ("model_sha256",) if key in manifest}
    facts |= {f"masks of v{one['version']}, SHA-256": one["pa_sha256"] for one in versions}
    return Page(
        "Masks from tags: the second stage", _lead(manifest, versions),
        [one for one in sections if one.tables or one.charts or one.pictures] + [settings(manifest, facts)],
        VideoList(videos, MEASURES), [*_findings(versions), *problems_of(videos)],
        {"first masks (pyws masks init)": link} if link else {},
    )  # fmt: skip


def _lead(manifest: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> str:
    counts = manifest["frames"]
    text = f"{counts['training']} frames to train on, {counts['validation']} held out. "
    if "stopped" in manifest:
        return f"{text}Ended because {manifest['stopped']}; the model of version {manifest['returned']} is returned."
    epochs = len(versions[-1]["curve"]) if versions and "curve" in versions[-1] else 0
    return f"{text}The run is not done: version {max(len(versions) - 1, 0)}, {epochs} epochs of it."


def _with_curve(run: Path, version: Mapping[str, Any]) -> dict[str, Any]:
    """A version; one that is being trained with the curve of the state that it goes on from."""
    state = run / "models" / f"v{version['version']}-last.safetensors"
    if "curve" in version or not state.is_file():
        return dict(version)
    try:
        return {**version, "curve": read_facts(state)["curve"]}
    except (DataError, KeyError):
        return dict(version)


def _selection(path: Path) -> Rows:
    found: dict[str, dict[str, Any]] = {}
    for row in read_json_lines(path, "a row of a selection", ("video", "frame")) if path.is_file() else ():
        found.setdefault(row["video"], {})[row["frame"]] = row
    return found


def _entries(init: Path) -> dict[str, Any]:
    if not (init / "manifest.json").is_file():
        return {}
    return {name: entry for name, entry in read_json(init / "manifest.json")["videos"].items() if "sampled" in entry}


def _folders(run: Path, init: Path, versions: int, returned: int | None) -> dict[str, Path]:
    """Kinds of masks; the one that the run ends with, or has come to, first."""
    annotations = {"PA.v0": init / "pa/v0"}
    annotations |= {f"PA.v{k}": run / f"pa/v{k}" for k in range(1, versions + 1)}
    predictions = {f"predicted by v{k}": run / f"predictions/v{k}" for k in range(versions)}
    found = {caption: path for caption, path in {**annotations, **predictions}.items() if path.is_dir()}
    last = f"predicted by v{returned}"
    first = last if last in found else next((one for one in reversed(found) if one in predictions), "PA.v0")
    return {first: found.get(first, annotations["PA.v0"]), **found}


def _measures(name: str, rows: Mapping[int, Mapping[str, Any]], folders: Mapping[str, Path]) -> dict[str, float]:
    found = {}
    latest = next((frames for frames in reversed(list(rows.values())) if frames), None)
    if latest:
        found["selected"] = sum(row["selected"] for row in latest.values()) / len(latest)
    last = next(iter(folders.values()))
    if last != folders["PA.v0"]:
        agreement = mean_iou(sorted((last / name).glob("*.png")), folders["PA.v0"] / name)
        found |= {} if agreement is None else {"agreement": agreement}
    return found


def _selected_lanes(rows: Mapping[int, Mapping[str, Any]], names: Sequence[str], at: Mapping[str, int]) -> list[Lane]:
    """Which frames of a video each version was trained on; ``at`` has the place of each."""
    lanes = []
    for number, of_version in rows.items():
        marks = [(float(at[stem]), bool(row["selected"]), _why(row, names))
                 for stem, row in of_version.items() if stem in at]  # fmt: skip
        lanes += [Lane(f"training frames of v{number}", marks=sorted(marks))] if marks else []
    return lanes


def _why(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Why a frame is trained on or not."""
    parts = [_why_label(about, names) for about in row["labels"]]
    verdict = "selected" if row["selected"] else "not selected"
    added = ", added so that its class has enough" if row.get("added") else ""
    return f"{verdict}{added}: {'; '.join(parts) or 'no mask'}"


def _why_label(about: Mapping[str, Any], names: Sequence[str]) -> str:
    """The tests of a label."""
    tests = [f"{test} {about[test]:.2f}{' passed' if about.get(f'{test}_pass') else ' failed'}"
             for test in ("discriminator", "classifier", "reproduced") if about.get(test) is not None]  # fmt: skip
    tests += [f"not tested: {about['untested']}"] if "untested" in about else []
    return f"{names[about['label']]} ({', '.join(tests) or 'no test'})"


def _charts(versions: Sequence[Mapping[str, Any]]) -> Section:
    curves = {f"v{one['version']}": one["curve"] for one in versions if one.get("curve")}
    charts = [
        Chart(f"{title} by epoch", "epoch", {version: ([row["epoch"] for row in curve], [row[key] for row in curve])
                                             for version, curve in curves.items()})
        for key, title in {**SCORES, "loss": "cross entropy of the crops trained on"}.items()
    ]  # fmt: skip
    done = [one for one in versions if "best_epoch" in one]
    numbers, bests = [one["version"] for one in done], [one["curve"][one["best_epoch"]] for one in done]
    best = {f"{title}, best epoch": (numbers, [row[key] for row in bests])
            for key, title in {**SCORES, "miou_pa_v0": "mIoU_PA of v0"}.items()}  # fmt: skip
    charts += [Chart("scores by version", "version", best)] if len(done) > 1 else []
    return Section("Epochs and versions", charts=charts if curves else ())


def _table(versions: Sequence[Mapping[str, Any]]) -> Section:
    columns = ("version", "frames", "selected", "epochs", "best epoch", "RII", "mIoU_PA", "RIC", "mIoU_PA of v0")
    rows = []
    for version in versions:
        counts = version.get("selection", {})
        row: list[object] = [f"v{version['version']}", counts.get("frames"), counts.get("selected")]
        if "best_epoch" in version:
            best = version["curve"][version["best_epoch"]]
            row += [len(version["curve"]), version["best_epoch"]]
            row += [float(best[key]) for key in ("rii", "miou_pa", "ric", "miou_pa_v0")]
        rows.append(row + [None] * (len(columns) - len(row)))
    text = (
        "RII: do predictions follow superpixels; mIoU_PA: do they, refined by superpixels, agree with the "
        "pseudo-annotations of the frames held out; RIC is the sum, RII at its weight. No true mask is read."
    )
    return Section("Versions", [text], [Table(columns, rows, "scores of the best epoch of each version")])


def _tests(versions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Section:
    selected = [version for version in versions if "selection" in version]
    rows = [[f"v{one['version']}", *(one["selection"].get(key) for key in _TESTS)] for one in selected]
    shown = [name for name in names if any(name in one["selection"]["classes"] for one in selected)]
    by_class = [[name, *(_share(one["selection"]["classes"].get(name)) for one in selected)] for name in shown]
    caption = "labels of frames, by the test that they passed; AUC: discriminators, held out"
    heads = ("class", *(f"v{one['version']}" for one in selected))
    tables = [Table(("version", *_TESTS.values()), rows, caption),
              Table(heads, by_class, "frames selected of those that show the class")]  # fmt: skip
    text = "The timeline of each video marks its frames: selected or not, and why."
    return Section("Selection", [text], tables if rows else ())


def _samples(run: Path, versions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Section:
    """Labels that passed and labels that failed, as selection saw them."""
    pictures = []
    for version in versions:
        folder = run / "select" / f"v{version['version']}"
        if not (folder / "samples.json").is_file():
            continue
        for number, about in enumerate(read_json(folder / "samples.json")["samples"]):
            said = f"v{version['version']} {about['video']} {about['frame']}, {_why_label(about, names)}"
            caption = f"{said}: {'passed' if about['passed'] else 'failed'}"
            if (folder / f"{number}.png").is_file():
                pictures.append(Picture(folder / f"{number}.png", caption))
    text = "Each label is cut out (left), held against its mask (middle) and pasted over a background (right)."
    return Section("What selection saw", [text], pictures=pictures)


def _versions_sheet(run: Path) -> Section:
    sheet = run / "versions.jpg"
    shown = [Picture(sheet, "frames, first pseudo-annotations, and the model of each version", wide=True)]
    return Section("Versions", pictures=shown if sheet.is_file() else ())


def _share(counts: Mapping[str, int] | None) -> str:
    return "-" if counts is None else f"{counts['selected']} of {counts['frames']}"


def _findings(versions: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What looks wrong with the run as a whole."""
    found = []
    for one in versions:
        counts, name = one.get("selection"), f"version {one['version']}"
        if counts and counts["selected"] < counts["frames"] / 10:
            found.append(Finding(f"{name} trains on few frames: {counts['selected']} of {counts['frames']}"))
        auc = (counts or {}).get("discriminator_auc")
        if auc is not None and auc < 0.6:
            found.append(Finding(f"{name}: the discriminator cannot tell composites from frames, AUC {auc:.2f}"))
        for label, of_class in (counts or {}).get("classes", {}).items():
            if not of_class["selected"]:
                found.append(Finding(f"{name} trains on no frame of {label}"))
        if one.get("foreground") is False:
            found.append(Finding(f"{name}: the model predicts background alone on the frames held out"))
    return found
