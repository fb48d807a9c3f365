"""pyws masks evaluate: masks against true masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions, only_with, table_of


def evaluate(
    predictions: tyro.conf.Positional[Path],
    truth: tyro.conf.Positional[Path],
    layout: Literal["auto", "a2d", "youtube-objects", "plain"] = "auto",
    subset: tuple[str, ...] = (),
    absent: Literal["skip", "zero", "gt_only"] = "skip",
    missing: Literal["error", "background", "skip"] = "error",
    semi_protocol: bool = False,
    foreground: Literal["category", "any"] = "category",
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Scores of masks against true ones, on the annotated frames.

    TRUTH is a data set (A2D, plain: mIoU, class and global accuracy over its labels, over actors and over actions, with
    and without background; YouTube-Objects: IoU by class), or a folder of <video>/<frame>.png, where every id above 0
    is the object: IoU per video.

    Parameters
    ----------
    predictions
        Folder of <video>/<frame>.png, e.g. OUT/pa/v0.
    truth
        Data set with true masks, or folder of the same layout as PREDICTIONS.
    layout
        Layout of the data set; auto finds out.
    subset
        Subsets of the data set, e.g. test; all where it is left out.
    absent
        A class that is not in the truth counts only if it is predicted (skip), always as 0 (zero), or never
        (gt_only).
    missing
        A frame of the truth without a prediction is an error, counts as background, or is skipped, as suits PA.v0,
        which has masks of sampled frames alone.
    semi_protocol
        YouTube-Objects: leave out first annotated frames, as semi-supervised methods do.
    foreground
        YouTube-Objects: predicted pixels that count as the object: those of the video's class, or of any class.
    common
        Options of every command.

    Examples
    --------
    pyws masks evaluate masks Annotations/480p
    """
    from pyws.data.tagged.layouts import is_mask_set, open_mask_set
    from pyws.evaluation.segmentation import evaluate_masks
    from pyws.evaluation.semantic import evaluate_classes
    from pyws.evaluation.youtube_objects import evaluate_youtube_objects

    of_classes = {"absent": absent != "skip"}
    of_objects = {"semi_protocol": semi_protocol, "foreground": foreground != "category"}
    of_data = layout != "auto" or is_mask_set(truth)
    only_with("a data set as TRUTH", of_data, **of_classes, **of_objects, subset=subset)
    if not of_data:
        scores = evaluate_masks(predictions, truth, missing)
        common.say(_table_of_videos(scores))
        return scores
    data = open_mask_set(truth, layout).part(*subset)
    only_with("YouTube-Objects", data.layout == "youtube-objects", **of_objects)
    only_with("data sets of classes", data.layout != "youtube-objects", **of_classes)
    if data.layout == "youtube-objects":
        scores = evaluate_youtube_objects(predictions, data, semi_protocol, foreground, missing)
        common.say(_table_of_youtube_objects(scores))
        return scores
    scores = evaluate_classes(predictions, data, absent, missing, quiet=common.silent)
    common.say(_lines_of_classes(scores))
    return scores


def _table_of_videos(scores: dict[str, Any]) -> Any:
    rows = [
        (name, row["frames"], row["missing"], "-" if row["iou"] is None else f"{row['iou']:.3f}")
        for name, row in scores["videos"].items()
    ]
    mean = ("mean", scores["frames"], scores["missing"], f"{scores['mean_iou']:.3f}")
    return table_of(("video", "frames", "missing", "IoU"), [*rows, mean])


def _table_of_youtube_objects(scores: dict[str, Any]) -> Any:
    rows = [
        (name, row["frames"], f"{row['iou']:.3f}", f"{row['pooled']:.3f}") for name, row in scores["classes"].items()
    ]
    means = (f"{scores[key]:.3f}" for key in ("mean_iou", "mean_pooled"))
    last = ("mean over classes", f"{scores['frames']} ({scores['missing']} missing)", *means)
    columns = ("class", "frames", "IoU, mean over frames", "IoU, pooled")
    return table_of(columns, [*rows, last], title=scores["protocol"])


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
