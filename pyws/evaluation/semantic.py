"""Scores of masks of classes against true ones: mIoU, class accuracy, global accuracy, each naming its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pyws.data.tagged.dataset import Masks, MaskSet, TaggedVideo
from pyws.data.tagged.label_space import View, read_ids
from pyws.errors import DataError
from pyws.evaluation.segmentation import Missing, check_missing
from pyws.progress import track

Absent = Literal["skip", "zero", "gt_only"]


class Confusion:
    """Pixels by true and by predicted class, added frame by frame.

    Parameters
    ----------
    names : names of the classes; the first is the background

    Examples
    --------
    >>> confusion = Confusion(("background", "cat", "dog"))
    >>> confusion.add(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 255]))
    >>> scores = confusion.scores()
    >>> scores["classes"], scores["miou"], scores["cls_acc"], round(scores["glo_acc"], 3)
    ('background and cat', 0.5, 0.75, 0.667)
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        # The last column holds pixels whose prediction is no class.
        self.pixels = np.zeros((len(names), len(names) + 1), np.int64)

    def add(self, prediction: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add a frame: ids of one shape; pixels whose truth is 255 or another id that is no class do not count."""
        if prediction.shape != truth.shape:
            raise ValueError(f"Confusion: masks must have one shape, got {prediction.shape} and {truth.shape}")
        count = len(self.names)
        known = (truth >= 0) & (truth < count)
        said = prediction[known].astype(np.int64)
        said[(said < 0) | (said > count)] = count
        pairs = truth[known].astype(np.int64) * (count + 1) + said
        self.pixels += np.bincount(pairs, minlength=self.pixels.size).reshape(self.pixels.shape)

    def scores(self, include_background: bool = True, absent: Absent = "skip") -> dict[str, Any]:
        """The figures over the background and all other classes, or over the others alone.

        Parameters
        ----------
        include_background : without it, accuracies are over pixels that are truly of a class
        absent : a class that is not in the truth: "skip": it does not count, unless it is predicted somewhere, which
            makes its IoU 0; "zero": it counts as IoU 0; "gt_only": it never counts

        Returns
        -------
        ``miou``: mean of TP / (TP + FP + FN); ``cls_acc``: mean of TP / (TP + FN) over classes in the truth;
        ``glo_acc``: share of right pixels; None where there is nothing to take a mean of; ``iou`` and ``accuracy`` by
        class; ``classes``: which the mIoU is over, in words
        """
        if absent not in get_args(Absent):
            raise ValueError(f"Confusion: absent must be one of {', '.join(get_args(Absent))}, got {absent!r}")
        right = np.diagonal(self.pixels).astype(np.float64)
        true, predicted = self.pixels.sum(1), self.pixels[:, :-1].sum(0)
        union = true + predicted - right
        counted = {"skip": union > 0, "zero": np.ones(len(true), bool), "gt_only": true > 0}[absent]
        present = true > 0
        if not include_background:
            counted[0] = present[0] = False
        iou, accuracy = right / np.maximum(union, 1), right / np.maximum(true, 1)
        return {
            "classes": _in_words([self.names[k] for k in np.flatnonzero(counted)], include_background, len(self.names)),
            "miou": _mean(iou[counted]),
            "cls_acc": _mean(accuracy[present]),
            "glo_acc": float(right[present].sum() / true[present].sum()) if present.any() else None,
            "iou": {self.names[k]: float(iou[k]) for k in np.flatnonzero(counted)},
            "accuracy": {self.names[k]: float(accuracy[k]) for k in np.flatnonzero(present)},
        }


def evaluate_classes(
    predictions: Path, data: MaskSet, absent: Absent = "skip", missing: Missing = "error", quiet: bool = True
) -> dict[str, Any]:
    """Scores of ``predictions/<video>/<frame>.png`` over all annotated frames of a data set.

    Masks of actors and of actions alone come from merging predicted and true ids, not from scores.

    Parameters
    ----------
    missing : a frame without a prediction is an error, counts as background, or is skipped, as suits
        pseudo-annotations, which are made of sampled frames alone

    Returns
    -------
    ``{"frames", "missing", "views": {view: {"with background": ..., "without background": ...}}}``; a view is "joint",
    "actor" or "action" (objects have the first alone); ``missing`` is the number of frames without a prediction.

    Raises
    ------
    DataError : no annotated frame, a frame without a prediction (see ``missing``), an unreadable mask, or a
        shape that differs from the truth
    """
    space = data.space
    views: tuple[View, ...] = ("joint", "actor", "action") if space.has_actions else ("joint",)
    confusions = {view: Confusion(space.view(view)) for view in views}
    frames = without = 0
    pairs = annotated_frames(data)
    check_missing(predictions, [f"{video.name}/{frame}.png" for video, frame in pairs], missing)
    for video, frame in track(pairs, "comparing masks", quiet=quiet):
        guess, truth = read_pair(predictions, data, video, frame)
        frames += 1
        without += guess is None
        if guess is None and missing == "skip":
            continue
        ids = np.zeros_like(truth) if guess is None else guess
        for view, confusion in confusions.items():
            confusion.add(space.merge(ids, view), space.merge(truth, view))
    titles = {True: "with background", False: "without background"}
    return {
        "frames": frames,
        "missing": without,
        "missing_frames": missing,
        "absent": absent,
        "views": {
            view: {title: confusion.scores(include, absent) for include, title in titles.items()}
            for view, confusion in confusions.items()
        },
    }


def annotated_frames(data: MaskSet) -> list[tuple[TaggedVideo, str]]:
    """Every frame with a true mask, in order; DataError where there is none."""
    frames = [(video, frame) for video in data.videos for frame in video.truth]
    if not frames:
        raise DataError(data.root, "has no true masks to compare with")
    return frames


def read_pair(predictions: Path, data: MaskSet, video: TaggedVideo, frame: str) -> tuple[Masks | None, Masks]:
    """The predicted mask of a frame, None where there is none, and the true one in its size."""
    path = predictions / video.name / f"{frame}.png"
    if not path.is_file():
        return None, data.truth(video, frame)
    guess = read_ids(path, len(data.space))
    return guess, data.truth(video, frame, (guess.shape[0], guess.shape[1]))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _in_words(names: list[str], include_background: bool, total: int) -> str:
    """Which classes a mean is over."""
    others = names[1:] if include_background and names[:1] == ["background"] else names
    listed = f"{len(others)} of {total - 1} classes" if len(others) > 3 else ", ".join(others) or "no class"
    return f"background and {listed}" if others is not names else listed
