"""The demo's pictures and its report, made from the files that the demo wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyws.checkpoint import read_tensors
from pyws.commands.demo import FORMAT
from pyws.data.annotations.activitynet import read_detections, read_truth
from pyws.errors import DataError
from pyws.files import read_json
from pyws.report.page.html import Picture, Section, Table, write_html
from pyws.report.timelines import Timeline, bars_of, draw_lines, draw_timeline

METHODS = {"none": "all proposals", "nms": "NMS", "soft-nms": "soft NMS", "gaussian": "Gaussian fusion"}


def is_demo(folder: Path) -> bool:
    """Whether pyws demo wrote the folder."""
    manifest = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else {}
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def write_report(out: Path) -> Path:
    """Draw the timelines and curves of a demo folder and write report.html; returns its path."""
    manifest = read_json(out / "manifest.json")
    if "results" not in manifest:
        raise DataError(out, "holds a demo that has not ended; run pyws demo again")
    _draw_timelines(out)
    _draw_curves(out, manifest["results"])
    results = manifest["results"]
    sections = [_overview(results), _training(out, results), _masks(out, results), _segments(out, results)]
    sections.append(_about(manifest))
    write_html(
        out / "report.html",
        "pyws demo",
        "Masks and segments from tags alone, on synthetic clips and streams whose truth is known. "
        "Nothing was trained on that truth; it is used for the numbers below only.",
        sections,
    )
    return out / "report.html"


def summary(results: dict[str, Any]) -> list[tuple[str, str, float]]:
    """What was measured: stage, measure, value. The terminal and the report show the same rows."""
    rows = [
        ("classifier, held-out clips", "actor accuracy", results["classifier"]["actor_accuracy"]),
        ("classifier, held-out clips", "action accuracy", results["classifier"]["action_accuracy"]),
        ("masks from tags", "mean IoU of M_init (Grad-CAM, Otsu)", results["masks"]["iou_init"]),
        ("masks from tags", "mean IoU of M_refine (superpixels)", results["masks"]["iou_refined"]),
    ]
    found = results["segments"]
    for method, name in METHODS.items():
        rows.append((f"segments, {name}", "mAP at 0.1:0.7 (%)", found["average_map"][method]))
    share = found["mass_inside_truth"]
    rows.append(("activation maps", "mass inside the truth", share["tcam"]))
    rows.append(("LinPro pseudo labels, tags given", "mass inside the truth", share["pseudo_labels"]))
    return rows


def _overview(results: dict[str, Any]) -> Section:
    return Section(
        "Against the known truth (synthetic)", tables=[Table(("stage", "measure", "value"), summary(results))]
    )


def _training(out: Path, results: dict[str, Any]) -> Section:
    text = (
        "A small 3D network saw clips with two tags each, the actor and the action: no masks, no times. "
        "It names the actor by what it looks like and the action by how it moves."
    )
    return Section("Classifier", [text], pictures=[Picture(out / "training.png", "training loss of each epoch")])


def _masks(out: Path, results: dict[str, Any]) -> Section:
    text = (
        "From left to right: frame, M_init (Grad-CAM of the actor's tag, cut by Otsu's threshold), "
        "M_refine (the superpixels that M_init covers), and the true mask."
    )
    rows = [[actor, value] for actor, value in results["masks"]["by_actor"].items()]
    pictures = [Picture(path, path.stem) for path in sorted((out / "masks" / "overlays").glob("*.jpg"))]
    return Section("Masks from tags", [text], [Table(("actor", "mean IoU of M_refine"), rows)], pictures)


def _segments(out: Path, results: dict[str, Any]) -> Section:
    text = (
        "The classifier slid over untrimmed streams gives an activation map; its runs above many thresholds are "
        "proposals. Suppression keeps the best of overlapping ones, fusion takes their weighted mean, and a linear "
        "program turns the fused segments into a label for each snippet."
    )
    found = results["segments"]
    columns = ("method", "segments", *(f"mAP@{tiou}" for tiou in found["tious"]), "average")
    rows = [
        [name, found["segments"][method], *found["map"][method], found["average_map"][method]]
        for method, name in METHODS.items()
    ]
    timelines = sorted((out / "segments" / "timelines").glob("*.png"))
    pictures = [Picture(out / "segments" / "map.png", "mAP (%) over IoU thresholds")]
    pictures += [Picture(path, path.stem, wide=True) for path in timelines]
    return Section("Segments from tags", [text], [Table(columns, rows, "mAP in percent")], pictures)


def _about(manifest: dict[str, Any]) -> Section:
    rows = [[name, str(value)] for name, value in manifest["packages"].items()]
    rows += [[name, str(manifest["parameters"][name])] for name in ("seed", "device")]
    files = [
        ["clips/", "frames of the annotated clips, tags.csv, true masks (palette PNG)"],
        ["masks/", "init, pa/v0 (refined), slic (superpixels), overlays"],
        ["streams/truth.json", "true segments, ActivityNet form"],
        ["segments/", "detections of each method (ActivityNet form), tcam and labels (safetensors), timelines"],
        ["classifier.safetensors", "weights of the classifier"],
        ["manifest.json", "seed, versions, all sizes, all numbers"],
    ]
    return Section("What was run", tables=[Table(("of", "value"), rows), Table(("file", "what it holds"), files)])


def _draw_timelines(out: Path) -> None:
    truth = read_truth(out / "streams" / "truth.json")
    found = {method: read_detections(out / "segments" / f"{method}.json") for method in METHODS}
    labels = list(truth.instances.labels)
    tcam, pseudo = (read_tensors(out / "segments" / f"{name}.safetensors")[0] for name in ("tcam", "labels"))
    columns = [list(found["none"].labels).index(label) for label in labels]
    for video, name in enumerate(truth.instances.videos):
        kinds = {"truth": truth.instances, **{METHODS[method]: rows for method, rows in found.items()}}
        bars = {caption: bars_of(rows.of_videos([name]), labels) for caption, rows in kinds.items()}
        timeline = Timeline(
            title=f"{name} (synthetic)",
            duration=float(truth.duration[video]),
            labels=labels,
            curves={"activation": tcam[name][:, columns].numpy(), "pseudo label": pseudo[name][:, columns].numpy()},
            bars=bars,
        )
        draw_timeline(out / "segments" / "timelines" / f"{name}.png", timeline)


def _draw_curves(out: Path, results: dict[str, Any]) -> None:
    losses = results["classifier"]["losses"]
    draw_lines(out / "training.png", {"loss": (range(1, len(losses) + 1), losses)}, "epoch", "cross entropy")
    found = results["segments"]
    lines = {name: (found["tious"], found["map"][method]) for method, name in METHODS.items()}
    draw_lines(out / "segments" / "map.png", lines, "IoU threshold", "mAP (%)")
