"""Whether pseudo labels can be trusted, told without truth before they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pyws.segments.config import ProposalConfig, TrustConfig
from pyws.segments.detection.inference import Maps, candidates
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
        pseudo labels stopped: agreement with unseen halves 0.10 (at least 0.15), conflict 0.02 (at most 0.35)
        """
        verdict = "adopted" if self.adopted else "stopped"
        return (
            f"pseudo labels {verdict}: agreement with unseen halves {self.agreement:.2f} (at least "
            f"{config.agreement:.2f}), conflict {self.conflict:.2f} (at most {config.conflict:.2f})"
        )


@dataclass(frozen=True)
class Share:
    """How much the network that learns from pseudo labels (the learner) counts in the mean with the copy without them.

    Parameters
    ----------
    with_labels, without_labels : correlation in time of the learner's and of the copy's activation maps with the maps
        of networks that never saw the videos, mean over classes
    likeness : correlation in time of the learner's maps with the copy's, mean over classes
    value : the learner's share in the maps; 0 where the copy stands alone
    reach, reach_without : the part of a video that the best segment of a tag covers with the learner and with the copy,
        on average over videos and tags
    tag_auc, tag_auc_without : how often the learner and the copy score a tag above what is no tag, over videos and
        classes
    raised : the share of what the learner's scores of videos have above the copy's, by which these are raised
    reach_mean : the part of a video that the best segment of a tag covers in the mean of both maps, where it was asked
        for
    """

    with_labels: float
    without_labels: float
    likeness: float
    value: float
    reach: float = 0.0
    reach_without: float = 0.0
    tag_auc: float = 1.0
    tag_auc_without: float = 1.0
    raised: float = 0.0
    reach_mean: float = 0.0

    @classmethod
    def of(
        cls,
        sums: np.ndarray,
        tags: np.ndarray,
        agreement: float,
        config: TrustConfig,
        reaches: tuple[float, float] = (0.0, 0.0),
        tag_aucs: tuple[float, float] = (1.0, 1.0),
    ) -> Share:
        """The share that follows from what networks that never saw the videos say of both networks.

        Parameters
        ----------
        sums : (videos, 3, 3, classes), see :func:`moments`, of the maps with labels and without, each with those of the
            networks that never saw the video, and with each other
        tags : (videos, classes) bool
        agreement : agreement of the labels
        config : its shares, what tells between them, the least likeness, the greatest reach, and how much may be
            forgotten
        reaches, tag_aucs : :func:`reach` and :func:`tag_auc` of both networks
        """
        assert config.shares is not None
        if not len(sums):
            return cls(0.0, 0.0, 1.0, config.shares[0], raised=config.shares[0])
        ours, plain, alike = (mean_there(correlation(sums[:, place], tags)) for place in range(3))
        lost = tag_aucs[1] - tag_aucs[0]
        leads = ours - plain >= config.margin and lost <= config.forgotten / 2
        place = 2 if leads else int(agreement >= config.sure)
        kept = alike >= config.likeness and reaches[0] - reaches[1] <= config.reach
        value = config.shares[place] if kept else 0.0
        raised = value if lost <= config.forgotten else 0.0
        return cls(ours, plain, alike, value, *reaches, *tag_aucs, raised)

    def with_mean(self, reach_mean: float, config: TrustConfig) -> Share:
        """The same where the mean of both maps reaches so far; nothing where it joins what each of them keeps apart.

        Examples
        --------
        >>> share = Share(0.65, 0.44, 0.51, 0.1, reach=0.05, reach_without=0.08, raised=0.1)
        >>> [share.with_mean(reach, TrustConfig()).value for reach in (0.11, 0.13)]
        [0.1, 0.0]
        """
        kept = reach_mean <= config.joined * max(self.reach, self.reach_without)
        values = (self.value, self.raised) if kept else (0.0, 0.0)
        return replace(self, value=values[0], raised=values[1], reach_mean=reach_mean)

    def sentence(self) -> str:
        """The same for people.

        Examples
        --------
        >>> print(Share(0.65, 0.44, 0.51, 0.6).sentence())  # doctest: +NORMALIZE_WHITESPACE
        the network with labels has a share of 0.60: unseen halves agree with it by 0.65, with the one without by 0.44,
        and these two with each other by 0.51; its best segments cover 0.00 of their videos, without labels 0.00, those
        of the mean of both 0.00; it raises scores of videos by 0.00 of what it has above the other: tags are above the
        rest in 1.00 of all pairs, without labels in 1.00
        """
        return (
            f"the network with labels has a share of {self.value:.2f}: unseen halves agree with it by "
            f"{self.with_labels:.2f}, with the one without by {self.without_labels:.2f}, and these two with each other "
            f"by {self.likeness:.2f}; its best segments cover {self.reach:.2f} of their videos, without labels "
            f"{self.reach_without:.2f}, those of the mean of both {self.reach_mean:.2f}; it raises scores of videos by "
            f"{self.raised:.2f} of what it has above the other: tags are above the rest in {self.tag_auc:.2f} of all "
            f"pairs, without labels in {self.tag_auc_without:.2f}"
        )


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
    return correlation(np.array([moments(one, other) for one, other in zip(ours, theirs, strict=True)]), tags)


def moments(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(3, classes): sums over a video of the squares of one, of the products, and of the squares of the other, each
    column less its mean.

    Examples
    --------
    >>> moments(np.array([[0.0], [2.0]]), np.array([[1.0], [0.0]])).flatten().tolist()
    [2.0, -1.0, 0.5]
    """
    one, other = ours - ours.mean(0), theirs - theirs.mean(0)
    return np.array([(one * one).sum(0), (one * other).sum(0), (other * other).sum(0)], dtype=float)


def correlation(sums: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """(classes,) of (videos, 3, classes) moments, pooled over the videos with the tag; NaN where there are none."""
    pooled = np.where(tags[:, None], sums, 0.0).sum(0)
    norm = np.sqrt(pooled[0] * pooled[2])
    found = np.divide(pooled[1], norm, out=np.zeros_like(norm), where=norm > 0).clip(-1, 1)
    found[~tags.any(0)] = np.nan
    return found


def mean_there(values: np.ndarray) -> float:
    """The mean of what is not NaN; 0 of nothing."""
    there = ~np.isnan(values)
    return float(values[there].mean()) if there.any() else 0.0


def reach(maps: Maps, proposals: ProposalConfig, tags: np.ndarray) -> list[float]:
    """The part of its video that the best segment of each tag covers, where there is one.

    Parameters
    ----------
    maps : maps of some videos; ``others`` are not looked at
    proposals : how they become segments
    tags : (videos, classes) bool, of these videos
    """
    classes = tags.shape[1]
    found, keys = candidates(replace(maps, others=()), proposals, classes, torch.from_numpy(tags).to(maps.tcam.device))
    sizes = found.offsets.diff().tolist()
    lengths = maps.lengths[keys // classes].tolist()
    parts = zip(found.score.split(sizes), (found.end - found.start).split(sizes), lengths, strict=True)
    return [float(size[score.argmax()]) / length for score, size, length in parts]


def tag_auc(scores: np.ndarray, tags: np.ndarray) -> float:
    """How often the score of a tag is above that of what is no tag, over all pairs of them; equal ones count half.

    Parameters
    ----------
    scores : (videos, classes)
    tags : (videos, classes) bool

    Returns
    -------
    In [0, 1]; 1 where there are no pairs.

    Examples
    --------
    >>> tag_auc(np.array([[0.9, 0.2], [0.2, 0.1]]), np.array([[True, False], [True, False]]))
    0.875
    """
    high, low = scores[tags], np.sort(scores[~tags])
    if not (len(high) and len(low)):
        return 1.0
    above = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(above.sum() / (2 * len(high) * len(low)))


def conflict(labels: Sequence[np.ndarray]) -> float:
    """The share of all labels that lies on snippets where another class has a larger one; 0 without labels.

    Examples
    --------
    >>> round(conflict([np.array([[0.6, 0.2], [0.0, 0.2]])]), 9)
    0.2
    """
    total = float(sum(video.sum() for video in labels))
    return 1 - float(sum(video.max(1).sum() for video in labels)) / total if total > 0 else 0.0
