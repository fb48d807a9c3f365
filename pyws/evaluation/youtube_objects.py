"""IoU by the protocols of YouTube-Objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyws.data.tagged.dataset import MaskSet
from pyws.data.tagged.label_space import IGNORE
from pyws.data.tagged.youtube_objects import shot_of
from pyws.errors import DataError
from pyws.evaluation.segmentation import Missing, check_missing, mask_iou
from pyws.evaluation.semantic import annotated_frames, read_pair

# Shots of one annotated frame, of which none is left when the first is dropped.
ONE_FRAME_SHOTS = ("motorbike/0007/001", "cow/0019/001")


def evaluate_youtube_objects(
    predictions: Path,
    data: MaskSet,
    semi_protocol: bool = False,
    foreground: Literal["category", "any"] = "category",
    missing: Missing = "error",
) -> dict[str, Any]:
    """IoU of the class of the video in every annotated frame, by class.

    Parameters
    ----------
    semi_protocol : leave out the first annotated frame of each shot, and the two shots of one frame, as semi-supervised
        methods do, which are given the first mask. Weak supervision keeps all
    foreground : which predicted pixels count: those of the video's class, or those of any class
    missing : a frame without a prediction is an error, counts as empty, or is skipped

    Returns
    -------
    ``classes``: by name ``frames``, ``iou`` (mean over frames; empty masks of an empty truth have IoU 1) and ``pooled``
    (pixels of all frames together); ``mean_iou`` and ``mean_pooled`` over classes; ``frames``, ``missing``.

    Raises
    ------
    DataError : no annotated frames, a frame without a prediction (see ``missing``), or unreadable masks
    """
    rows: dict[str, list[tuple[float, int, int]]] = {}
    without = 0
    firsts = {video.name: min(video.truth) for video in data.videos if video.truth}
    pairs = annotated_frames(data)
    if semi_protocol:
        pairs = [
            (video, frame)
            for video, frame in pairs
            if frame != firsts[video.name] and shot_of(video) not in ONE_FRAME_SHOTS
        ]
    if not pairs:
        raise DataError(data.root, "has no annotated frame that this protocol keeps")
    check_missing(predictions, [f"{video.name}/{frame}.png" for video, frame in pairs], missing)
    for video, frame in pairs:
        guess, truth = read_pair(predictions, data, video, frame)
        without += guess is None
        if guess is None and missing == "skip":
            continue
        tag = video.tags[0]
        said = np.zeros_like(truth) if guess is None else guess
        predicted = said == tag if foreground == "category" else (said > 0) & (said < len(data.space))
        known = truth != IGNORE
        one, two = predicted & known, (truth == tag) & known
        row = (float(mask_iou(one, two)), int(np.count_nonzero(one & two)), int(np.count_nonzero(one | two)))
        rows.setdefault(data.space.names[tag], []).append(row)
    classes = {}
    for name in sorted(rows):
        iou, intersection, union = (np.array(column, np.float64) for column in zip(*rows[name], strict=True))
        pooled = float(intersection.sum() / union.sum()) if union.sum() else 1.0
        classes[name] = {"frames": len(iou), "iou": float(iou.mean()), "pooled": pooled}
    return {
        "protocol": "semi-supervised: without first frames" if semi_protocol else "all annotated frames",
        "foreground": foreground,
        "frames": len(pairs),
        "missing": without,
        "classes": classes,
        "mean_iou": float(np.mean([row["iou"] for row in classes.values()])),
        "mean_pooled": float(np.mean([row["pooled"] for row in classes.values()])),
    }
