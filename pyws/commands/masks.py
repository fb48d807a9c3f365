"""pyws masks ...: pixel masks from the tags of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions, only_with
from pyws.data.tagged.dataset import MaskSet, TaggedVideo
from pyws.masks.initial_masks.actor_action_annotator import PairAnnotator, PairSettings
from pyws.masks.initial_masks.image_annotator import ObjectAnnotator
from pyws.masks.initial_masks.pipeline import MAX_TAGS, Annotator, Settings
from pyws.models.classifiers import load_classifier


def init(
    frames: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    classifier: str | None = None,
    weights: Path | None = None,
    tag: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    tags: Path | None = None,
    labels: Path | None = None,
    layer: str | None = None,
    data: Path | None = None,
    layout: Literal["auto", "a2d", "youtube-objects", "plain"] = "auto",
    data_tags: Literal["all", "main"] = "all",
    subset: tuple[str, ...] = (),
    actor_classifier: Path | None = None,
    action_classifier: Path | None = None,
    on_error: Literal["error", "skip"] = "error",
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings(),  # noqa: B008
    pairs: Annotated[PairSettings, tyro.conf.arg(name="")] = PairSettings(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Initial masks of tagged videos: Grad-CAM, Otsu, superpixels. An interrupted run is continued by the same command.

    Objects by an image classifier: FRAMES (or --data), --classifier, --weights, --tag or --tags. Actors and actions by
    classifiers that pyws masks classify trained: --data, --actor-classifier, --action-classifier.

    Args:
        frames: Folders of jpg or png frames, or video files; none where --data is given.
        out: Folder to write: pa/v0 (masks), init, overlays, slic, manifest.json.
        classifier: efficientnet-lite0, or an image classifier of torchvision such as resnet50.
        weights: Its state dict, a local file.
        tag: What the videos show, e.g. dog; may be repeated. Classes can be given: dog=151-268.
        tags: A CSV file with the columns video and tag, instead of --tag.
        labels: A text file with the names of the classes, one a line; ImageNet's where it is left out.
        layer: Dotted name of the last feature map, where the classifier is an unusual one.
        data: Folder of a data set of tagged videos: A2D, YouTube-Objects, or videos/ and tags.csv.
        layout: Of the data set; auto finds out.
        data_tags: Of A2D: all tags of a video, or the main one of videoset.csv alone.
        subset: Subsets of the data set to annotate, e.g. train val; all where it is left out.
        actor_classifier: Of frames or clips, written by pyws masks classify.
        action_classifier: Of clips, written by pyws masks classify.
        on_error: What an unreadable video does: stop the run, or be noted in the manifest and skipped.
        settings: How masks are made.
        pairs: How maps of clips become masks.
        common: Options of every command.
    """
    import torch

    from pyws.masks.initial_masks.pipeline import annotate

    torch.manual_seed(common.seed)
    if bool(frames) == bool(data):
        raise ValueError("FRAMES: folders of frames or video files are needed, or a data set as --data, not both")
    found = _data_set(data, layout, data_tags, subset) if data else None
    annotator: Annotator
    names: tuple[str, ...]
    of_data = {"layout": layout != "auto", "data-tags": data_tags != "all", "subset": bool(subset)}
    of_images = {"labels": bool(labels), "layer": bool(layer), "short-side": settings.short_side != Settings.short_side}
    of_pairs = {name.replace("_", "-"): value != vars(PairSettings())[name] for name, value in vars(pairs).items()}
    only_with("--data", bool(data), of_data)
    only_with("--actor-classifier or --action-classifier", bool(actor_classifier or action_classifier), of_pairs)
    only_with("--classifier", bool(classifier), of_images)
    if actor_classifier or action_classifier:
        if found is None or classifier or weights or tag or tags:
            raise ValueError("--actor-classifier, --action-classifier: need --data, and no other classifier or tags")
        device = common.torch_device
        annotator = PairAnnotator(found.space, actor_classifier, action_classifier, settings, pairs, device)
        videos, names = found.videos, ()
    elif classifier is None or weights is None:
        raise ValueError("--classifier and --weights are needed, or classifiers of pyws masks classify")
    else:
        network = load_classifier(classifier, weights, labels, layer, settings.output_stride)
        network.model.to(common.torch_device)
        videos, named = _tagged(frames, tag, tags) if found is None else (found.videos, found.space.names[1:])
        annotator = ObjectAnnotator(network, weights, _resolve(named, network.labels), settings, common.torch_device)
        names = network.labels
    manifest = annotate(annotator, videos, out, on_error, quiet=common.quiet or common.json)
    _draw(manifest, out, {video.name for video in videos})
    common.say(_table(manifest, names))
    return manifest


def _data_set(root: Path, layout: Any, tags: Any, subset: tuple[str, ...]) -> MaskSet:
    from pyws.data.tagged.layouts import open_mask_set

    data = open_mask_set(root, layout, tags)
    return data.part(*subset) if subset else data


def _tagged(
    frames: tuple[Path, ...], tag: tuple[str, ...], tags: Path | None
) -> tuple[tuple[TaggedVideo, ...], tuple[str, ...]]:
    """Videos with the ids of their tags, and the tags as they were written, in the order of the ids."""
    from pyws.masks.initial_masks.tag_to_class import read_tags

    if bool(tag) == bool(tags):
        raise ValueError("tags: either --tag NAME or --tags FILE must be given")
    by_video = read_tags(tags) if tags else {}
    written = tuple(dict.fromkeys(one for several in by_video.values() for one in several) if tags else tag)
    videos = []
    for path in frames:
        name = path.resolve().name if path.is_dir() else path.stem
        ids = (written.index(one) + 1 for one in (by_video.get(name, []) if tags else dict.fromkeys(tag)))
        videos.append(TaggedVideo(name, path, tuple(ids)))
    return tuple(videos), written


def _resolve(written: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, list[int]]:
    """Classes of each tag by its name."""
    from pyws.masks.initial_masks.tag_to_class import resolve_tag

    table = dict(resolve_tag(one, labels) for one in written)
    if len(table) != len(written) or len(table) > MAX_TAGS:
        raise ValueError(f"tags: must be different names, at most {MAX_TAGS}, got {', '.join(written)}")
    return table


def evaluate(
    predictions: tyro.conf.Positional[Path],
    truth: tyro.conf.Positional[Path],
    layout: Literal["auto", "a2d", "youtube-objects", "plain"] = "auto",
    subset: tuple[str, ...] = (),
    absent: Literal["skip", "zero", "gt_only"] = "skip",
    missing: Literal["background", "skip"] = "background",
    semi_protocol: bool = False,
    foreground: Literal["category", "any"] = "category",
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Scores of masks against true ones, on the annotated frames.

    TRUTH is a data set (A2D, plain: mIoU, class and global accuracy over its labels, over actors and over actions, with
    and without background; YouTube-Objects: IoU by class), or a folder of <video>/<frame>.png, where every id above 0
    is the object: IoU per video.

    Args:
        predictions: Folder of <video>/<frame>.png, e.g. OUT/pa/v0.
        truth: Data set with true masks, or folder of the same layout as PREDICTIONS.
        layout: Of the data set; auto finds out.
        subset: Subsets of the data set, e.g. test; all where it is left out.
        absent: A class that is not in the truth counts only if it is predicted (skip), always as 0 (zero), or never
            (gt_only).
        missing: Of a data set with classes: a frame without a prediction counts as background, or is skipped, as suits
            PA.v0, which has masks of sampled frames alone.
        semi_protocol: YouTube-Objects: leave out first annotated frames, as semi-supervised methods do.
        foreground: YouTube-Objects: predicted pixels of the video's class are the object, or those of any class.
        common: Options of every command.
    """
    from pyws.data.tagged.layouts import is_mask_set, open_mask_set
    from pyws.evaluation.objects import evaluate_objects
    from pyws.evaluation.segmentation import evaluate_masks
    from pyws.evaluation.semantic import evaluate_classes

    of_classes = {"absent": absent != "skip", "missing": missing != "background"}
    of_objects = {"semi-protocol": semi_protocol, "foreground": foreground != "category"}
    of_data = layout != "auto" or is_mask_set(truth)
    only_with("a data set as TRUTH", of_data, {**of_classes, **of_objects, "subset": bool(subset)})
    if not of_data:
        scores = evaluate_masks(predictions, truth)
        common.say(_table_of_videos(scores))
        return scores
    data = open_mask_set(truth, layout)
    data = data.part(*subset) if subset else data
    only_with("YouTube-Objects", data.layout == "youtube-objects", of_objects)
    only_with("data sets of classes", data.layout != "youtube-objects", of_classes)
    if data.layout == "youtube-objects":
        scores = evaluate_objects(predictions, data, semi_protocol, foreground)
        common.say(_table_of_objects(scores))
        return scores
    scores = evaluate_classes(predictions, data, absent, missing, quiet=common.quiet or common.json)
    common.say(_lines_of_classes(scores))
    return scores


def _table_of_videos(scores: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("video", "frames", "missing", "IoU")
    for name, row in scores["videos"].items():
        table.add_row(name, str(row["frames"]), str(row["missing"]), f"{row['iou']:.3f}")
    table.add_row("mean", str(scores["frames"]), str(scores["missing"]), f"{scores['mean_iou']:.3f}")
    return table


def _table_of_objects(scores: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("class", "frames", "IoU, mean over frames", "IoU, pooled", title=scores["protocol"])
    for name, row in scores["classes"].items():
        table.add_row(name, str(row["frames"]), f"{row['iou']:.3f}", f"{row['pooled']:.3f}")
    means = (f"{scores[key]:.3f}" for key in ("mean_iou", "mean_pooled"))
    table.add_row("mean over classes", f"{scores['frames']} ({scores['missing']} missing)", *means)
    return table


def _lines_of_classes(scores: dict[str, Any]) -> str:
    """Every figure beside the classes that it is a mean over."""
    lines = [
        f"{scores['frames']} frames, {scores['missing']} of them without a prediction ({scores['missing_frames']})"
    ]
    for view, both in scores["views"].items():
        for title, row in both.items():
            figures = ", ".join(
                f"{name} {'-' if row[key] is None else format(row[key], '.3f')} ({over})"
                for name, key, over in (
                    ("mIoU", "miou", row["classes"]),
                    ("class accuracy", "cls_acc", f"{len(row['accuracy'])} classes in the truth"),
                    ("global accuracy", "glo_acc", f"pixels {title}"),
                )
            )
            lines.append(f"{'actor-action' if view == 'joint' else view}, {title}: {figures}")
    return "\n".join(lines)


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

    table = Table(
        "video", "tags (class)" if labels else "tags", "masks", "initial area", "refined area", "without mask", "status"
    )
    for name, video in manifest["videos"].items():
        report = video.get("report")
        if report is None:
            table.add_row(name, "", "", "", "", "", video.get("error", video["status"]))
            continue
        areas = [f"{report[key]:.1%}" for key in ("init_area", "refined_area")]
        empty, masks = str(report["refined_empty"]), str(len(video["sampled"]))
        tags = [f"{tag} ({labels[video['classes'][tag]].split(',')[0]})" if labels else tag for tag in video["tags"]]
        table.add_row(name, ", ".join(tags), masks, *areas, empty, video["status"])
    return table
