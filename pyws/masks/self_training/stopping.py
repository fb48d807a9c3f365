"""What is known of a version, and when to stop: loops over epochs and over versions of masks (WS^2 Alg. 1).

Decisions are functions of the scores alone, so that a run that was interrupted decides as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyws.errors import check_fields

ALIKE = 0.65  # agreement with the first masks: on five DAVIS sequences a model of .56 lost to them, one of .70 did not


@dataclass(frozen=True)
class LoopConfig:
    """How versions follow one another.

    Parameters
    ----------
    criterion
        The score of an epoch: mIoU_PA + rii_weight * RII, or one of the two
    rii_weight
        Weight of RII in RIC
    include_background
        Count the background in the score
    binary
        Score foreground against background
    choose_after
        Share of the planned epochs after which an epoch may be chosen: before, the learning rate is high and scores
        swing. 0: any epoch, and patience counts from the first (the paper's words).
    patience
        Epochs without a rise after which a version is done, of those that may be chosen
    tolerance
        What counts as a rise of the score from epoch to epoch
    max_versions
        Versions of pseudo-annotations that are trained on, at most; the first is what masks init wrote
    outer_tolerance
        What counts as a rise of the best score from version to version
    noise
        Spreads of a score, by bootstrap over the frames held out, that a difference between versions must exceed to
        count. 0: any difference counts, as the paper words it.
    returned
        The model that the run ends with: of the version with the best score that still agrees with the first
        pseudo-annotations, or of the last, as the paper words it
    start
        Weights that a version starts from: the classifier's, or those of the version before
    constrain_labels
        A predicted pseudo-annotation has no ids but the video's tags
    refine_pa
        Refine predicted pseudo-annotations by superpixels
    disagreement
        Pixels of a predicted pseudo-annotation that are left out (id 255): where it differs from the first one (v0),
        where predictions of the frame in other sizes and mirrored differ (views), or where predictions of the frames
        before and after do, carried along optical flow (neighbours; needs OpenCV)
    soft_labels
        From version 1 on train towards the predicted probabilities instead of the ids alone
    reproduced_share
        Instead of predicted masks, each version trains on some of the first ones: in each class this share of the
        labels, the ones that the model before reproduces best
    empty
        A frame without a prediction: keep its pseudo-annotation of before, or go on without the frame
    validation
        What is held out to score epochs: whole videos, or frames of every video
    validation_share
        How much of them
    select_validation
        Score on selected frames only
    keep_choices
        Keep, beside the best model of a version, those that RIC and mIoU_PA choose and the one of the last epoch; the
        tables of pyws masks ablate compare them
    """

    criterion: Literal["ric", "miou_pa", "rii"] = "ric"
    rii_weight: float = 0.5
    include_background: bool = False
    binary: bool = False
    choose_after: float = 0.67
    patience: int = 5
    tolerance: float = 0.001
    max_versions: int = 4
    outer_tolerance: float = 0.005
    noise: float = 1.0
    returned: Literal["best", "last"] = "best"
    start: Literal["backbone", "previous"] = "backbone"
    constrain_labels: bool = True
    refine_pa: bool = False
    disagreement: tuple[Literal["v0", "views", "neighbours"], ...] = ()
    soft_labels: bool = False
    reproduced_share: float | None = None
    empty: Literal["keep", "drop"] = "keep"
    validation: Literal["videos", "frames"] = "videos"
    validation_share: float = 0.1
    select_validation: bool = False
    keep_choices: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "loop", ">= 1", "patience", "max_versions")
        check_fields(self, "loop", "in (0, 1)", "validation_share")
        check_fields(self, "loop", "in [0, 1)", "choose_after")
        check_fields(self, "loop", "in (0, 1]", "reproduced_share")
        check_fields(self, "loop", ">= 0", "tolerance", "outer_tolerance", "rii_weight", "noise")
        if self.soft_labels and not self.constrain_labels:
            raise ValueError("loop: soft_labels are kept of the tags of a video, they need constrain_labels")
        if self.reproduced_share is not None and (self.soft_labels or self.disagreement or self.refine_pa):
            raise ValueError(
                "loop: with reproduced_share later versions learn from the first masks; soft_labels, disagreement and "
                "refine_pa are of predicted ones: leave them out"
            )


@dataclass
class Version:
    """PA.v<number>, and the model that is trained on it; what is None is not done yet.

    Parameters
    ----------
    pa_sha256 : SHA-256 over the masks of the version
    selection : counts of the selected frames, see :func:`~.frame_selection.summary`
    curve : loss and scores of each epoch
    best_epoch : the epoch whose model is kept
    """

    number: int
    pa_sha256: str
    selection: dict[str, Any] | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None

    def document(self) -> dict[str, Any]:
        """The version as JSON; a curve is part of it when training is done."""
        document: dict[str, Any] = {"version": self.number, "pa_sha256": self.pa_sha256}
        if self.selection is not None:
            document["selection"] = self.selection
        if self.best_epoch is not None:
            document |= {"curve": self.curve, "best_epoch": self.best_epoch}
            best = self.curve[self.best_epoch]
            document |= {key: best[key] for key in ("spread", "miou_pa_v0", "miou_pa_v0_spread", "foreground")}
            document["best_score"] = best["score"]
        return document

    @staticmethod
    def read(document: dict[str, Any]) -> Version:
        """From JSON."""
        return Version(
            document["version"],
            document["pa_sha256"],
            document.get("selection"),
            list(document.get("curve", ())),
            document.get("best_epoch"),
        )


def first_choice(epochs: int, share: float) -> int:
    """The first of so many epochs that may be chosen; the last one always may.

    Examples
    --------
    >>> first_choice(96, 0.67), first_choice(2, 0.67), first_choice(8, 0.0)
    (64, 1, 0)
    """
    return min(int(share * epochs), epochs - 1)


def best_epoch(scores: Sequence[float], first: int = 0) -> int:
    """Index of the highest score from index ``first`` on, the first of equals."""
    return max(range(min(first, len(scores) - 1), len(scores)), key=lambda epoch: (scores[epoch], -epoch))


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
    versions : what is known of each, ``{"best_score", "spread", "miou_pa_v0", "miou_pa_v0_spread", "foreground"}``;
        ``foreground`` tells whether its model found anything on the frames held out, ``miou_pa_v0`` how far its masks
        agree with the first pseudo-annotations
    """
    last = versions[-1]
    if not last["foreground"]:
        return f"version {len(versions) - 1} predicts background only"
    if strays(versions, len(versions) - 1, config.noise):
        return (
            f"version {len(versions) - 1} agrees less with the first pseudo-annotations than version 0: mIoU "
            f"{last['miou_pa_v0']:.3f} against {versions[0]['miou_pa_v0']:.3f} (spread {last['miou_pa_v0_spread']:.3f})"
        )
    before = [version["best_score"] for version in versions[:-1]]
    if before and last["best_score"] - max(before) <= max(config.outer_tolerance, config.noise * last["spread"]):
        return (
            f"the best {config.criterion} rose by no more than {config.outer_tolerance} and the noise: "
            f"{last['best_score']:.3f} after {max(before):.3f} (spread {last['spread']:.3f})"
        )
    if len(versions) >= config.max_versions:
        return f"{config.max_versions} versions are done"
    return None


def unlike_its_masks(version: dict[str, Any]) -> str | None:
    """What speaks against the model of a version where it hardly reproduces the first pseudo-annotations on frames held
    out; None where it does. Their own videos are then better served by those masks than by its predictions.

    Parameters
    ----------
    version : ``{"version", "miou_pa_v0"}``

    Examples
    --------
    >>> unlike_its_masks({"version": 0, "miou_pa_v0": 0.8})
    >>> unlike_its_masks({"version": 0, "miou_pa_v0": 0.5})[:64]
    'the model of version 0 agrees with the masks that it began from '
    """
    found = version["miou_pa_v0"]
    if found >= ALIKE:
        return None
    return (
        f"the model of version {version['version']} agrees with the masks that it began from by mIoU {found:.2f} alone "
        f"(below {ALIKE}) on frames held out: of the videos that it learned from, those masks may be the better ones"
    )


def strays(versions: Sequence[dict[str, Any]], number: int, noise: float) -> bool:
    """Whether a version agrees less with the first pseudo-annotations than version 0 does, beyond ``noise`` spreads.

    Versions agree with each other ever more, good or bad: each learns what the one before predicted. The first
    pseudo-annotations are a reference that does not move. Never with ``noise`` 0, which looks at the score alone.
    """
    first, own = versions[0], versions[number]
    return noise > 0 and own["miou_pa_v0"] < first["miou_pa_v0"] - noise * own["miou_pa_v0_spread"]


def returned_version(versions: Sequence[dict[str, Any]], config: LoopConfig) -> int:
    """The version whose model the run ends with: the last, or the first with the best score of those that do not
    stray from version 0, where a score within the noise of an earlier one is no better."""
    if config.returned == "last":
        return len(versions) - 1
    chosen = 0
    for number, version in enumerate(versions):
        rise = version["best_score"] - versions[chosen]["best_score"]
        if rise > config.noise * version["spread"] and not strays(versions, number, config.noise):
            chosen = number
    return chosen
