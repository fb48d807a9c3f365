"""When to stop: the inner loop over epochs and the outer loop over versions of pseudo-annotations (WS^2 Alg. 1).

Decisions are functions of the scores alone, so that a run that was interrupted decides as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class LoopConfig:
    """How versions follow one another."""

    criterion: Literal["ric", "miou_pa", "rii"] = "ric"
    """The score of an epoch: mIoU_PA + rii_weight * RII, or one of the two."""
    rii_weight: float = 0.5
    """Of RII in RIC."""
    include_background: bool = False
    """Count the background in the score."""
    binary: bool = False
    """Score foreground against background."""
    patience: int = 5
    """Epochs without a rise after which a version is done."""
    tolerance: float = 0.001
    """What counts as a rise of the score from epoch to epoch."""
    max_versions: int = 4
    """Versions of pseudo-annotations that are trained on, at most; the first is what masks init wrote."""
    outer_tolerance: float = 0.005
    """What counts as a rise of the best score from version to version."""
    returned: Literal["best", "last"] = "best"
    """The model that the run ends with: of the version with the best score, or of the last (the paper's words)."""
    start: Literal["backbone", "previous"] = "backbone"
    """Weights that a version starts from: the classifier's, or those of the version before."""
    constrain_labels: bool = True
    """A predicted pseudo-annotation has no ids but the video's tags."""
    refine_pa: bool = False
    """Refine predicted pseudo-annotations by superpixels."""
    empty: Literal["keep", "drop"] = "keep"
    """A frame without a prediction: keep its pseudo-annotation of before, or go on without the frame."""
    validation: Literal["videos", "frames"] = "videos"
    """What is held out to score epochs: whole videos, or frames of every video."""
    validation_share: float = 0.1
    """How much of them."""
    select_validation: bool = False
    """Score on selected frames only."""

    def __post_init__(self) -> None:
        if self.patience < 1 or self.max_versions < 1:
            raise ValueError(f"loop: patience and max_versions must be >= 1, got {self.patience}, {self.max_versions}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"loop: validation_share must be in (0, 1), got {self.validation_share}")
        if self.tolerance < 0 or self.outer_tolerance < 0 or self.rii_weight < 0:
            raise ValueError("loop: tolerances and rii_weight must be >= 0")


def best_epoch(scores: Sequence[float]) -> int:
    """Index of the highest score, the first of equals."""
    return max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch))


def epochs_are_enough(scores: Sequence[float], patience: int, tolerance: float) -> bool:
    """Whether the score has not risen by more than ``tolerance`` for ``patience`` epochs.

    Examples
    --------
    >>> epochs_are_enough([0.5, 0.6, 0.6, 0.6], patience=2, tolerance=0.001)
    True
    >>> epochs_are_enough([0.5, 0.6, 0.6, 0.7], patience=2, tolerance=0.001)
    False
    """
    best, stale = float("-inf"), 0
    for score in scores:
        if score > best + tolerance:
            best, stale = score, 0
        else:
            stale += 1
    return stale >= patience


def why_stop(versions: Sequence[dict[str, Any]], config: LoopConfig) -> str | None:
    """Why there is no version after those trained so far; None if there is one.

    Parameters
    ----------
    versions : what is known of each, ``{"best_score", "foreground", ...}``; ``foreground`` tells whether its model
        found anything on the frames held out
    """
    last = versions[-1]
    if not last["foreground"]:
        return f"version {len(versions) - 1} predicts background only"
    before = [version["best_score"] for version in versions[:-1]]
    if before and last["best_score"] - max(before) <= config.outer_tolerance:
        return f"the best {config.criterion} rose by no more than {config.outer_tolerance}"
    if len(versions) >= config.max_versions:
        return f"{config.max_versions} versions are done"
    return None


def returned_version(versions: Sequence[dict[str, Any]], rule: str) -> int:
    """The version whose model the run ends with."""
    return len(versions) - 1 if rule == "last" else best_epoch([version["best_score"] for version in versions])
