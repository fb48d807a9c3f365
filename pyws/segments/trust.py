"""Whether pseudo labels can be trusted, told without truth before they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pyws.segments.config import TrustConfig
from pyws.segments.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class Trust:
    """What was measured, and what follows.

    Parameters
    ----------
    agreement, conflict : measures of the labels, see :class:`pyws.segments.config.TrustConfig`
    classes : agreement of each class that some video is tagged with
    adopted : whether the labels are trained on
    """

    agreement: float
    conflict: float
    classes: dict[str, float]
    adopted: bool

    @classmethod
    def of(
        cls,
        labels: PseudoLabels,
        others: PseudoLabels,
        tags: np.ndarray,
        lengths: Sequence[int],
        names: Sequence[str],
        config: TrustConfig,
    ) -> Trust:
        """From the labels of a run and those of networks that never saw the videos.

        Parameters
        ----------
        labels, others : two sets of labels of the same videos
        tags : (videos, classes) bool
        lengths : snippets of each video
        names : names of the classes
        config : what is enough
        """
        ours, theirs = (
            [
                found.dense(video, (length, tags.shape[1] + 1))[:, :-1].double().numpy()
                for video, length in enumerate(lengths)
            ]
            for found in (labels, others)
        )
        by_class = agreement(ours, theirs, tags)
        there = ~np.isnan(by_class)
        mean, crossed = float(by_class[there].mean()) if there.any() else 1.0, conflict(ours)  # 1: nothing to doubt
        classes = {name: float(value) for name, value in zip(names, by_class, strict=True) if not np.isnan(value)}
        return cls(mean, crossed, classes, mean >= config.agreement and crossed <= config.conflict)

    def sentence(self, config: TrustConfig) -> str:
        """The decision for people.

        Examples
        --------
        >>> print(Trust(0.1, 0.02, {}, False).sentence(TrustConfig()))
        pseudo labels stopped: agreement with unseen halves 0.10 (at least 0.30), conflict 0.02 (at most 0.35)
        """
        verdict = "adopted" if self.adopted else "stopped"
        averaged = "; the mean with networks that never learned from them finds segments"
        return (
            f"pseudo labels {verdict}: agreement with unseen halves {self.agreement:.2f} (at least "
            f"{config.agreement:.2f}), conflict {self.conflict:.2f} (at most {config.conflict:.2f})"
            + (averaged if self.adopted and config.averaged else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """For the history of a run."""
        return asdict(self)


def agreement(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], tags: np.ndarray) -> np.ndarray:
    """(classes,) correlation in time of two sets of labels, pooled over the videos that are tagged with the class.

    Parameters
    ----------
    ours, theirs : (snippets, classes) labels of each video; each column counts with its mean over the video taken off,
        so that which videos have more of a class says nothing
    tags : (videos, classes) bool

    Returns
    -------
    In [-1, 1]; 0 where either set is constant in every video, NaN where no video has the tag.

    Examples
    --------
    >>> ours = [np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 0.0]])]
    >>> theirs = [np.array([[0.0, 0.0], [0.5, 1.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])]
    >>> agreement(ours, theirs, np.array([[True, True], [True, False]])).tolist()
    [1.0, -1.0]
    """
    found = np.full(tags.shape[1], np.nan)
    for label in np.flatnonzero(tags.any(0)).tolist():
        videos = np.flatnonzero(tags[:, label]).tolist()
        one, other = (
            np.concatenate([labels[video][:, label] - labels[video][:, label].mean() for video in videos]).astype(float)
            for labels in (ours, theirs)
        )
        norm = np.sqrt((one @ one) * (other @ other))
        found[label] = one @ other / norm if norm > 0 else 0.0
    return found.clip(-1, 1)


def conflict(labels: Sequence[np.ndarray]) -> float:
    """The share of all labels that lies on snippets where another class has a larger one; 0 without labels.

    Examples
    --------
    >>> round(conflict([np.array([[0.6, 0.2], [0.0, 0.2]])]), 9)
    0.2
    """
    total = float(sum(video.sum() for video in labels))
    return 1 - float(sum(video.max(1).sum() for video in labels)) / total if total > 0 else 0.0
