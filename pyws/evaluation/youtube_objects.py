"""IoU by the protocols of YouTube-Objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyws.data.tagged.dataset import MaskSet
from pyws.data.tagged.label_space import IGNORE
from pyws.data.tagged.youtube_objects import shot_of
from pyws.errors import DataError
from pyws.evaluation.segmentation import mask_iou
from pyws.evaluation.semantic import annotated_frames, read_pair

# Shots of one annotated frame, of which none is left when the first is dropped.
ONE_FRAME_SHOTS = ("motorbike/0007/001", "cow/0019/001")


def evaluate_youtube_objects(
    predictions: Path,
    data: MaskSet,
    semi_protocol: bool = False,
    foreground: Literal["category", "any"] = "category",
) -> dict[str, Any]:
    """IoU of the class of the video in every annotated frame, by class.

    Parameters
    ----------
    semi_protocol : leave out the first annotated frame of each shot, and the two shots of one frame, as semi-supervised
        methods do, which are given the first mask. Weak supervision keeps all
    foreground : which predicted pixels count: those of the video's class, or those of any class

    Returns
    -------
    ``classes``: by name ``frames``, ``iou`` (mean over frames; empty masks of an empty truth have IoU 1) and ``pooled``
    (pixels of all frames together); ``mean_iou`` and ``mean_pooled`` over classes; ``frames``, ``missing``. A frame
    without a prediction counts as empty.

    Raises
    ------
    DataError : no annotated frames, or unreadable masks
    """
    rows: dict[str, list[tuple[float, int, int]]] = {}
    missing = 0
    firsts = {video.name: min(video.truth) for video in data.videos if video.truth}
    for video, frame in annotated_frames(data):
        dropped = frame == firsts[video.name] or shot_of(video) in ONE_FRAME_SHOTS
        if semi_protocol and dropped:
            continue
        guess, truth = read_pair(predictions, data, video, frame)
        missing += guess is None
        tag = video.tags[0]
        said = np.zeros_like(truth) if guess is None else guess
        predicted = said == tag if foreground == "category" else (said > 0) & (said < len(data.space))
        known = truth != IGNORE
        one, two = predicted & known, (truth == tag) & known
        row = (float(mask_iou(one, two)), int(np.count_nonzero(one & two)), int(np.count_nonzero(one | two)))
        rows.setdefault(data.space.names[tag], []).append(row)
    if not rows:
        raise DataError(data.root, "has no annotated frame that this protocol keeps")
    classes = {}
    for name in sorted(rows):
        iou, intersection, union = (np.array(column, np.float64) for column in zip(*rows[name], strict=True))
        pooled = float(intersection.sum() / union.sum()) if union.sum() else 1.0
        classes[name] = {"frames": len(iou), "iou": float(iou.mean()), "pooled": pooled}
    return {
        "protocol": "semi-supervised: without first frames" if semi_protocol else "all annotated frames",
        "foreground": foreground,
        "frames": sum(row["frames"] for row in classes.values()),
        "missing": missing,
        "classes": classes,
        "mean_iou": float(np.mean([row["iou"] for row in classes.values()])),
        "mean_pooled": float(np.mean([row["pooled"] for row in classes.values()])),
    }
