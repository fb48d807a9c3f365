"""Pseudo labels as targets: the latest ones, or how they changed (GauFuse eq. 8), and the loss they train by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyws.segments.pseudo_labels import PseudoLabels
from pyws.segments.training.schedule import Target


def targets(
    goal: Target,
    latest: PseudoLabels,
    previous: PseudoLabels | None,
    videos: Sequence[int],
    shape: tuple[int, int],
    background: float = 0.0,
) -> Tensor:
    """What a batch of videos is trained on.

    Parameters
    ----------
    goal : the latest labels, or ``delta``: the latest minus the previous (eq. 8); times its scale
    latest, previous : pseudo labels of the training set; with no previous ones a difference is of nothing, and the
        latest labels stand as they are
    videos : indices in the training set
    shape : (L, C) shape of the padded batch, background last
    background : snippets without a label are background, by this much of what the labelled ones of their video have on
        average; not of differences

    Returns
    -------
    (B, L, C) float32, 0 at padding and in columns without labels

    Examples
    --------
    >>> old = PseudoLabels.of({(0, 1): [0.25, 0.0]})
    >>> new = PseudoLabels.of({(0, 1): [0.5, 0.5], (0, 0): [0.0, 1.0]})
    >>> targets(Target(0, 2.0, delta=True), new, old, [0], (3, 2))
    tensor([[[0.0000, 0.5000],
             [2.0000, 1.0000],
             [0.0000, 0.0000]]])

    Snippets without a label as background:

    >>> targets(Target(0), PseudoLabels.of({(0, 0): [0.5, 0.0, 1.0, 0.0]}), None, [0], (5, 2), background=0.5)
    tensor([[[0.5000, 0.0000],
             [0.0000, 0.3750],
             [1.0000, 0.0000],
             [0.0000, 0.3750],
             [0.0000, 0.0000]]])
    """
    goals = torch.zeros(len(videos), *shape)
    for row, video in enumerate(videos):
        for label, values in latest.columns(video):
            goals[row, : len(values), label] += goal.scale * values
        if background and not goal.delta and latest.columns(video):
            labelled = goals[row, : len(values)].sum(1)
            some = labelled > 0
            goals[row, : len(values), -1] += background * labelled.sum() / some.sum().clamp_min(1) * ~some
        if goal.delta and previous is not None:
            for label, values in previous.columns(video):
                goals[row, : len(values), label] -= goal.scale * values
    return goals


def distribution_loss(
    logits: Sequence[tuple[float, Tensor]], goals: Tensor, lengths: Tensor, log_floor: float | None = None
) -> Tensor:
    """Cross entropy of activation maps against labels that need not sum to one, and may be negative.

    For each video: minus the mean over its snippets of ``sum_c goals[c] * sum_b weight_b * log softmax(logits_b)[c]``
    (eq. 7 with the labels, eq. 9 with their differences).

    Parameters
    ----------
    logits : (weight, (B, L, C)) pairs, as :class:`pyws.models.Activations` has them
    goals : (B, L, C), 0 at padding
    lengths : (B,) snippets of each video
    log_floor : negative goals stop pushing where the log probability is below this; None: never

    Returns
    -------
    (B,)

    Examples
    --------
    >>> logits = torch.zeros(1, 2, 2, requires_grad=True)
    >>> goals = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    >>> distribution_loss([(1.0, logits)], goals, torch.tensor([2])).item() == 0.5 * torch.tensor(2.0).log().item()
    True
    """
    total = goals.new_zeros(len(goals))
    for weight, columns in logits:
        chances = columns.log_softmax(2)
        if log_floor is not None:
            chances = torch.where(goals < 0, chances.clamp_min(log_floor), chances)
        total = total - weight * (goals * chances).sum((1, 2))
    return total / lengths
