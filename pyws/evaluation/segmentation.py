"""Scores of pixel masks against true ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.frames import read_mask
from pyws.errors import DataError

Missing = Literal["error", "background", "skip"]


def mask_iou(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of binary masks, the region similarity J of DAVIS.

    Parameters
    ----------
    prediction, truth : (..., H, W) bool, or integers of which those that are not 0 are the object

    Returns
    -------
    (...) float64; 1 where both are empty, as DAVIS has it

    Examples
    --------
    >>> mask_iou(np.array([[1, 1, 0]]), np.array([[0, 1, 1]])).round(3).item()
    0.333
    """
    if prediction.shape != truth.shape or prediction.ndim < 2:
        raise ValueError(f"mask_iou: masks must have one shape (..., H, W), got {prediction.shape} and {truth.shape}")
    one, two = prediction != 0, truth != 0
    intersection = np.count_nonzero(one & two, axis=(-2, -1)).astype(np.float64)
    union = np.count_nonzero(one | two, axis=(-2, -1))
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)[()]


def evaluate_masks(
    predictions: str | os.PathLike[str], truth: str | os.PathLike[str], missing: Missing = "error"
) -> dict[str, Any]:
    """IoU per video of ``predictions/<video>/<frame>.png`` against the same files of ``truth``.

    The videos of ``predictions`` are compared, on the frames that ``truth`` has for them.

    Parameters
    ----------
    missing : a frame of the truth without a prediction is an error, counts as background, or is skipped

    Returns
    -------
    ``{"videos": {name: {"frames", "missing", "iou"}}, "frames", "missing", "mean_iou"}``; the mean is over videos that
    have a compared frame, and the IoU of others is None

    Raises
    ------
    DataError : no such folder, no video or no frame in common, a frame without a prediction (see ``missing``), an
        unreadable mask, or masks of different sizes
    """
    predictions, truth = Path(predictions), Path(truth)
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise DataError(folder, "must be a folder of <video>/<frame>.png, found none")
    names = sorted(path.name for path in predictions.iterdir() if path.is_dir() and (truth / path.name).is_dir())
    if not names:
        raise DataError(predictions, f"has no video in common with {truth}")
    wanted = {name: sorted(path.name for path in (truth / name).glob("*.png")) for name in names}
    for name, files in wanted.items():
        if not files:
            raise DataError(truth / name, "has no png masks")
    frames = [f"{name}/{file}" for name, files in wanted.items() for file in files]
    check_missing(predictions, frames, missing)
    videos = {name: _evaluate_video(predictions / name, truth / name, wanted[name], missing) for name in names}
    return {
        "videos": videos,
        "frames": len(frames),
        "missing": sum(video["missing"] for video in videos.values()),
        "mean_iou": float(np.mean([video["iou"] for video in videos.values() if video["iou"] is not None])),
    }


def check_missing(predictions: Path, frames: Sequence[str], missing: Missing) -> None:
    """Refuse masks that lack frames of the truth, unless ``missing`` allows some, and masks that lack all of them.

    Parameters
    ----------
    frames : frames of the truth, as <video>/<frame>.png

    Raises
    ------
    DataError : it names the first frame that is missing, and a mask that its video has
    """
    if missing not in get_args(Missing):
        raise ValueError(f"missing must be one of {', '.join(get_args(Missing))}, got {missing!r}")
    absent = [frame for frame in frames if not (predictions / frame).is_file()]
    if not absent or (missing != "error" and len(absent) < len(frames)):
        return
    there = sorted(path.name for path in (predictions / absent[0]).parent.glob("*.png"))
    rule = f"must have a mask of each of the {len(frames)} annotated frames, {len(absent)} are missing, such as"
    rule += f" {absent[0]}; its video has " + (f"{len(there)} masks such as {there[0]}" if there else "no masks")
    if len(absent) < len(frames):
        rule += "; missing=background (--missing background) counts them as background, skip leaves them out"
    raise DataError(predictions, rule)


def _evaluate_video(predictions: Path, truth: Path, files: Sequence[str], missing: Missing) -> dict[str, Any]:
    scores, absent = [], 0
    for name in files:
        there = (predictions / name).is_file()
        absent += not there
        if not there and missing == "skip":
            continue
        expected = read_mask(truth / name)
        guess = read_mask(predictions / name) if there else np.zeros_like(expected)
        if guess.shape != expected.shape:
            raise DataError(predictions / name, f"must have the size of the truth {expected.shape}, got {guess.shape}")
        scores.append(float(mask_iou(guess, expected)))
    return {"frames": len(files), "missing": absent, "iou": float(np.mean(scores)) if scores else None}
