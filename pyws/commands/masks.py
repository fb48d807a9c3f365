"""pyws masks ...: pixel masks from the tags of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions
from pyws.masks.initial import MAX_TAGS, Settings


def init(
    frames: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    classifier: str,
    weights: Path,
    tag: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    tags: Path | None = None,
    labels: Path | None = None,
    layer: str | None = None,
    on_error: Literal["error", "skip"] = "error",
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Initial masks of tagged videos: Grad-CAM, Otsu, superpixels. An interrupted run is continued by the same command.

    Args:
        frames: Folders of jpg or png frames, or video files.
        out: Folder to write: pa/v0 (masks), init, overlays, slic, manifest.json.
        classifier: efficientnet-lite0, or an image classifier of torchvision such as resnet50.
        weights: Its state dict, a local file.
        tag: What the videos show, e.g. dog; may be repeated. Classes can be given: dog=151-268.
        tags: A CSV file with the columns video and tag, instead of --tag.
        labels: A text file with the names of the classes, one a line; ImageNet's where it is left out.
        layer: Dotted name of the last feature map, where the classifier is an unusual one.
        on_error: What an unreadable video does: stop the run, or be noted in the manifest and skipped.
        settings: How masks are made.
        common: Options of every command.
    """
    import torch

    from pyws.masks.initial import Task, annotate
    from pyws.masks.tags import read_tags, resolve_tag
    from pyws.models.classifiers import load_classifier

    if not frames:
        raise ValueError("FRAMES: at least one folder of frames or video file is needed")
    if bool(tag) == bool(tags):
        raise ValueError("tags: either --tag NAME or --tags FILE must be given")
    torch.manual_seed(common.seed)
    network = load_classifier(classifier, weights, labels, layer, settings.output_stride)
    network.model.to(common.torch_device)
    by_video = read_tags(tags) if tags else {}
    written = list(dict.fromkeys(one for several in by_video.values() for one in several) if tags else tag)
    resolved = {one: resolve_tag(one, network.labels) for one in written}
    table = dict(resolved.values())
    if len(table) != len(resolved) or len(table) > MAX_TAGS:
        raise ValueError(f"tags: must be different names, at most {MAX_TAGS}, got {', '.join(written)}")
    names = {path: path.resolve().name if path.is_dir() else path.stem for path in frames}
    tags_of = {name: [resolved[one][0] for one in (by_video.get(name, []) if tags else tag)] for name in names.values()}
    task = Task(network, weights, table, settings, common.torch_device)
    manifest = annotate(task, frames, tags_of, out, on_error, quiet=common.quiet or common.json)
    _draw(manifest, out, set(names.values()))
    common.say(_table(manifest, network.labels))
    return manifest


def evaluate(
    predictions: tyro.conf.Positional[Path],
    truth: tyro.conf.Positional[Path],
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """IoU of object masks against true ones, per video and on average. Every id above 0 counts as the object.

    Args:
        predictions: Folder of <video>/<frame>.png, e.g. OUT/pa/v0.
        truth: Folder of the same layout with the true masks; the frames that it has are compared.
        common: Options of every command.
    """
    from rich.table import Table

    from pyws.evaluation.segmentation import evaluate_masks

    scores = evaluate_masks(predictions, truth)
    table = Table("video", "frames", "missing", "IoU")
    for name, row in scores["videos"].items():
        table.add_row(name, str(row["frames"]), str(row["missing"]), f"{row['iou']:.3f}")
    table.add_row("mean", str(scores["frames"]), str(scores["missing"]), f"{scores['mean_iou']:.3f}")
    common.say(table)
    return scores


def _draw(manifest: dict[str, Any], out: Path, names: set[str]) -> None:
    """Pictures of the videos that are done, drawn anew where the masks are newer."""
    from pyws.report.pictures import draw_masks

    for name in sorted(names):
        video, sheet = manifest["videos"][name], out / "overlays" / f"{name}.jpg"
        folders = {"initial mask": out / "init" / name, "refined mask (PA.v0)": out / "pa/v0" / name}
        if video["status"] != "done":
            continue
        written = max(folder.stat().st_mtime_ns for folder in folders.values())
        if not sheet.is_file() or sheet.stat().st_mtime_ns < written:
            draw_masks(video["source"], folders, out / "overlays" / name)


def _table(manifest: dict[str, Any], labels: tuple[str, ...]) -> Any:
    from rich.table import Table

    table = Table("video", "tag (class)", "frames", "initial area", "refined area", "without mask", "status")
    for name, video in manifest["videos"].items():
        report = video.get("report")
        if report is None:
            table.add_row(name, "", "", "", "", "", video.get("error", video["status"]))
            continue
        areas = [f"{report[key]:.1%}" for key in ("init_area", "refined_area")]
        tags = [f"{tag} ({labels[index].split(',')[0]})" for tag, index in video["classes"].items()]
        empty = str(report["refined_empty"])
        table.add_row(name, ", ".join(tags), str(video["frames"]), *areas, empty, video["status"])
    return table
