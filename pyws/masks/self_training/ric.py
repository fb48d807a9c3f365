"""How good are a model's masks, without ground truth: RII, mIoU_PA and their sum RIC (WS^2 section 3.3, eq. 1-3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyws import ops
from pyws.data.tagged.label_space import IGNORE
from pyws.distributed import Group


@dataclass(frozen=True)
class Scores:
    """What :meth:`Criterion.scores` returns. NaN marks classes that are in neither the annotations nor the predictions,
    and the background where it does not count.

    Parameters
    ----------
    rii : region integrity index in [0, 1]: mIoU of predictions and the same refined by superpixels
    miou_pa : in [0, 1]: mIoU of refined predictions and pseudo-annotations
    ric : region integrity criterion: ``miou_pa + weight * rii``
    rii_of_class : (C,) float64
    miou_pa_of_class : (C,) float64
    """

    rii: float
    miou_pa: float
    ric: float
    rii_of_class: Tensor
    miou_pa_of_class: Tensor


class Criterion:
    """RII, mIoU_PA and RIC of a model over a set of frames, added batch by batch.

    Two confusion histograms are all it keeps: ``consistency[p, r]``, pixels predicted p and refined to r, and
    ``agreement[r, a]``, pixels refined to r and annotated a, both (C, C) int64. Those of several processes may be
    added up (``all_reduce``) before :meth:`scores` is called.

    Classes that occur in the annotations or the predictions of the set make up both means, and one whose intersection
    is empty counts as 0. A model that predicts background only would otherwise look perfectly consistent: its RII is 0
    as soon as one annotation has foreground, so that no model has a lower RIC.

    Parameters
    ----------
    num_classes : C, background 0 included
    alpha, beta : refinement, see :func:`pyws.ops.superpixel_confusion`; a superpixel that covers the share beta of the
        frame or more becomes background
    weight : weight of RII in RIC
    include_background : count class 0 in the means. Its IoU is near 1 for almost any model
    binary : compare foreground with background; classes are merged before refinement

    Notes
    -----
    RII depends on the size of superpixels: compare models on one set of superpixels only. Source: Chen et al., CVPR
    2020, eq. 1-3; the set of classes and the guards are not in the paper.

    Examples
    --------
    >>> superpixels = torch.tensor([[[0, 0, 0, 1, 1, 1, 2, 2, 2]]])
    >>> annotation = torch.tensor([[[1, 1, 1, 0, 0, 0, 0, 0, 0]]])
    >>> criterion = Criterion(num_classes=2)
    >>> criterion.add(torch.tensor([[[1, 1, 0, 0, 0, 0, 0, 0, 0]]]), annotation, superpixels)
    >>> scores = criterion.scores()  # the prediction is refined to the annotation
    >>> round(scores.rii, 3), scores.miou_pa, round(scores.ric, 3)
    (0.667, 1.0, 1.333)
    """

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.5,
        beta: float = 0.4,
        weight: float = 0.5,
        include_background: bool = False,
        binary: bool = False,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"Criterion: num_classes must be >= 2, got {num_classes}")
        if not weight >= 0:
            raise ValueError(f"Criterion: weight must be >= 0, got {weight}")
        self.num_classes = 2 if binary else num_classes
        self.alpha, self.beta, self.weight = alpha, beta, weight
        self.include_background = include_background
        self.binary = binary
        self.consistency = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        self.agreement = torch.zeros_like(self.consistency)
        self._frames: list[Tensor] = []

    def add(self, prediction: Tensor, annotation: Tensor, superpixels: Tensor) -> None:
        """Count a batch of frames, (B, H, W) each, on one device.

        Parameters
        ----------
        prediction : uint8, int32 or int64 classes, 0 is background
        annotation : likewise, the pseudo-annotations; 255 is ignored
        superpixels : int32 or int64 labels from 0
        """
        if self.binary:
            prediction = (prediction > 0).to(torch.uint8)
            annotation = torch.where(annotation == IGNORE, IGNORE, annotation > 0).to(torch.uint8)
        counts = ops.superpixel_confusion(
            superpixels, prediction, annotation, self.num_classes, self.alpha, self.beta, IGNORE
        )
        consistency, agreement = counts.consistency.cpu(), counts.agreement.cpu()
        self.consistency += consistency.sum(0)
        self.agreement += agreement.sum(0)
        self._frames.append(torch.stack([consistency, agreement], 1).int())

    def join(self, group: Group) -> None:
        """Take in what the other processes have counted: frames that were dealt out in turn, one at a time."""
        if group.world == 1:
            return
        parts = group.gather([torch.cat(self._frames)] if self._frames else [torch.empty(0)])
        dealt = [part[place : place + 1] for place in range(max(map(len, parts))) for part in parts]
        self._frames = [frame for frame in dealt if len(frame)]
        everything = torch.cat(self._frames).long().sum(0)
        self.consistency, self.agreement = everything[0], everything[1]

    def scores(self) -> Scores:
        """The scores of all frames so far. Without any foreground, annotated or predicted, all are 0."""
        return self._scores(self.consistency, self.agreement)

    def spread(self, resamples: int = 200) -> dict[str, float]:
        """Standard deviations of the scores over samples of the frames that :meth:`add` was given (bootstrap).

        Frames are drawn with replacement, as many as there are, from a generator of a fixed seed. Differences below
        the spread say more about which frames were held out than about models.

        Returns
        -------
        ``{"rii", "miou_pa", "ric"}``; 0 for fewer than two frames

        Examples
        --------
        >>> criterion, superpixels = Criterion(2), torch.arange(4)[None]
        >>> for annotated in ([0, 1, 1, 0], [0, 1, 0, 0]):
        ...     criterion.add(torch.tensor([[0, 1, 1, 0]])[None], torch.tensor([annotated])[None], superpixels[None])
        >>> {name: round(value, 1) for name, value in criterion.spread().items()}
        {'rii': 0.0, 'miou_pa': 0.2, 'ric': 0.2}
        """
        frames = torch.cat(self._frames).double() if self._frames else torch.zeros(0)
        if len(frames) < 2:
            return {"rii": 0.0, "miou_pa": 0.0, "ric": 0.0}
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(frames), (resamples, len(frames)), generator=generator)
        counts = torch.zeros(resamples, len(frames), dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=torch.float64)
        )
        found = [
            self._scores(*histograms) for histograms in (counts @ frames.flatten(1)).unflatten(1, frames.shape[1:])
        ]
        return {name: float(np.std([getattr(one, name) for one in found])) for name in ("rii", "miou_pa", "ric")}

    def _scores(self, consistency: Tensor, agreement: Tensor) -> Scores:
        predicted, annotated = consistency.sum(1), agreement.sum(0)
        counted = (predicted > 0) | (annotated > 0)
        collapsed = bool(annotated[1:].any() and not predicted[1:].any())
        if not self.include_background:
            counted[0] = False
        rii, miou_pa = (_iou(histogram).where(counted, torch.nan) for histogram in (consistency, agreement))
        mean_rii = 0.0 if collapsed or not counted.any() else float(rii.nanmean())
        mean_miou_pa = float(miou_pa.nanmean()) if counted.any() else 0.0
        return Scores(mean_rii, mean_miou_pa, mean_miou_pa + self.weight * mean_rii, rii, miou_pa)


def _iou(histogram: Tensor) -> Tensor:
    both = histogram.diagonal()
    either = histogram.sum(0) + histogram.sum(1) - both
    return both.double() / either.clamp(min=1)
