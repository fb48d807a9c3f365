"""The report of a run of pyws masks train: counts, curves, and masks from version to version."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyws.data.video.frames import open_frames, read_mask
from pyws.files import read_json
from pyws.report.page.html import Picture, Section, Table, write_html
from pyws.report.pictures import contact_sheet, overlay, write_picture
from pyws.report.timelines import draw_lines

VIDEOS = 12  # of which a picture is made
FRAMES = 3  # of each


def write_training_report(run: str | os.PathLike[str]) -> None:
    """Write ``report.html`` and the pictures in ``report/`` of a run, from its files and those of its first stage.

    Raises
    ------
    DataError : a manifest, mask or frame is missing or damaged
    """
    run = Path(run)
    manifest = read_json(run / "manifest.json")
    trained = [version for version in manifest["versions"] if "curve" in version]
    _draw_curves(run, trained)
    sections = [
        _versions(manifest),
        _curves(run),
        _selection(manifest),
        _masks(run, manifest),
    ]
    lead = f"{manifest['frames']['training']} frames to train on, {manifest['frames']['validation']} held out. "
    if "stopped" in manifest:
        lead += f"Ended because {manifest['stopped']}; the model of version {manifest['returned']} is returned."
    write_html(run / "report.html", "Masks from tags: the second stage", lead, sections)


def _versions(manifest: dict[str, Any]) -> Section:
    columns = ("version", "frames", "selected", "epochs", "best epoch", "RII", "mIoU_PA", "RIC", "mIoU_PA of v0")
    rows = []
    for version in manifest["versions"]:
        counts = version.get("selection", {})
        row: list[object] = [f"v{version['version']}", counts.get("frames"), counts.get("selected")]
        if "curve" in version:
            best = version["curve"][version["best_epoch"]]
            row += [len(version["curve"]), version["best_epoch"]]
            row += [float(best[key]) for key in ("rii", "miou_pa", "ric", "miou_pa_v0")]
        rows.append(row + [None] * (len(columns) - len(row)))
    text = (
        "RII: do predictions follow superpixels; mIoU_PA: do they, refined by superpixels, agree with the "
        "pseudo-annotations of the frames held out; RIC is the sum, RII at its weight. No true mask is read."
    )
    return Section("Versions", [text], [Table(columns, rows, "scores of the best epoch of each version")])


def _curves(run: Path) -> Section:
    pictures = [
        Picture(run / "report" / "score.png", "score that chooses the epoch"),
        Picture(run / "report" / "loss.png", "cross entropy of the crops trained on"),
    ]
    return Section("Epochs", pictures=[picture for picture in pictures if Path(picture.path).is_file()])


def _selection(manifest: dict[str, Any]) -> Section:
    columns = (
        "version",
        "labels",
        "by discriminator alone",
        "by classifier alone",
        "by both",
        "not tested",
        "empty",
        "AUC",
    )
    keys = (
        "labels",
        "by_discriminator_only",
        "by_classifier_only",
        "by_both",
        "untested",
        "empty",
        "discriminator_auc",
    )
    selected = [version for version in manifest["versions"] if "selection" in version]
    rows = [[f"v{version['version']}", *(version["selection"][key] for key in keys)] for version in selected]
    names = list(dict.fromkeys(name for version in selected for name in version["selection"]["classes"]))
    by_class = [
        [name, *(_share(version["selection"]["classes"].get(name)) for version in selected)] for name in sorted(names)
    ]
    heads = ("class", *(f"v{version['version']}" for version in selected))
    tables = [
        Table(columns, rows, "labels of frames, by the test that they passed; AUC: discriminators, held out"),
        Table(heads, by_class, "frames selected of those that show the class"),
    ]
    return Section("Selection", tables=tables)


def _share(counts: dict[str, int] | None) -> str:
    return "-" if counts is None else f"{counts['selected']} / {counts['frames']}"


def _masks(run: Path, manifest: dict[str, Any]) -> Section:
    init = Path(manifest["init"])
    folders = [init / "pa/v0", *(run / "pa" / f"v{version['version']}" for version in manifest["versions"][1:])]
    videos = read_json(init / "manifest.json")["videos"]
    shown = [name for name in videos if (folders[0] / name).is_dir()][:VIDEOS]
    pictures = []
    for name in shown:
        sheet = run / "report" / f"{name}.jpg"
        rows = list(_rows(videos[name]["source"], name, folders))
        captions = ["frame", *(f"PA.v{number}" for number in range(len(folders)))]
        write_picture(sheet, contact_sheet(rows, captions, width=256))
        pictures.append(Picture(sheet, name, wide=True))
    return Section("Pseudo-annotations by version", pictures=pictures)


def _rows(source: str, video: str, folders: Sequence[Path]) -> Iterator[list[Any]]:
    """A few sampled frames of a video, each beside its masks."""
    frames = open_frames(source)
    stems = sorted(path.stem for path in (folders[0] / video).glob("*.png"))
    count = min(FRAMES, len(stems))
    chosen = sorted(frames.stems.index(stems[int((k + 0.5) * len(stems) / count)]) for k in range(count))
    for index, picture in zip(chosen, frames.read(chosen), strict=True):
        stem = f"{frames.stems[index]}.png"
        yield [picture, *(overlay(picture, read_mask(folder / video / stem)) for folder in folders)]


def _draw_curves(run: Path, trained: Sequence[dict[str, Any]]) -> None:
    if not trained:
        return
    epochs = {f"v{version['version']}": [row["epoch"] for row in version["curve"]] for version in trained}
    for name, keys in (("score", ("ric", "miou_pa", "rii")), ("loss", ("loss",))):
        lines = {}
        for version, (caption, x) in zip(trained, epochs.items(), strict=True):
            for key in keys:
                label = f"{caption} {key}" if len(keys) > 1 else caption
                lines[label] = (x, [float(row[key]) for row in version["curve"]])
        draw_lines(run / "report" / f"{name}.png", lines, "epoch", name)
