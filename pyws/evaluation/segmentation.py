"""Scores of pixel masks against true ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.frames import read_mask
from pyws.errors import DataError


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
    >>> mask_iou(np.array([[1, 1, 0]]), np.array([[0, 1, 1]])).round(3)
    np.float64(0.333)
    """
    if prediction.shape != truth.shape or prediction.ndim < 2:
        raise ValueError(f"mask_iou: masks must have one shape (..., H, W), got {prediction.shape} and {truth.shape}")
    one, two = prediction != 0, truth != 0
    intersection = np.count_nonzero(one & two, axis=(-2, -1)).astype(np.float64)
    union = np.count_nonzero(one | two, axis=(-2, -1))
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)[()]


def evaluate_masks(predictions: str | os.PathLike[str], truth: str | os.PathLike[str]) -> dict[str, Any]:
    """IoU per video of ``predictions/<video>/<frame>.png`` against the same files of ``truth``.

    The videos of ``predictions`` are compared, on the frames that ``truth`` has for them; a frame without a prediction
    counts as an empty mask and is reported as missing.

    Returns
    -------
    ``{"videos": {name: {"frames", "missing", "iou"}}, "frames", "missing", "mean_iou"}``; the mean is over videos

    Raises
    ------
    DataError : no such folder, no video in common, an unreadable mask, or masks of different sizes
    """
    predictions, truth = Path(predictions), Path(truth)
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise DataError(folder, "must be a folder of <video>/<frame>.png, found none")
    names = sorted(path.name for path in predictions.iterdir() if path.is_dir() and (truth / path.name).is_dir())
    if not names:
        raise DataError(predictions, f"has no video in common with {truth}")
    videos = {name: _evaluate_video(predictions / name, truth / name) for name in names}
    return {
        "videos": videos,
        "frames": sum(video["frames"] for video in videos.values()),
        "missing": sum(video["missing"] for video in videos.values()),
        "mean_iou": float(np.mean([video["iou"] for video in videos.values()])),
    }


def _evaluate_video(predictions: Path, truth: Path) -> dict[str, Any]:
    scores, missing = [], 0
    for path in sorted(truth.glob("*.png")):
        expected = read_mask(path)
        guess = np.zeros_like(expected)
        if (predictions / path.name).is_file():
            guess = read_mask(predictions / path.name)
        else:
            missing += 1
        if guess.shape != expected.shape:
            raise DataError(
                predictions / path.name, f"must have the size of the truth {expected.shape}, got {guess.shape}"
            )
        scores.append(float(mask_iou(guess, expected)))
    if not scores:
        raise DataError(truth, "has no png masks")
    return {"frames": len(scores), "missing": missing, "iou": float(np.mean(scores))}
