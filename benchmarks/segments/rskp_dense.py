"""RSKP's training loss for one video in its plain form: the random walk by a dense inverse, every feature formed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pyws.models import RSKP


def unit(rows: Tensor) -> Tensor:
    return rows / (rows.norm(dim=-1, keepdim=True) + 1e-9)


def membership(features: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    z = (5 * unit(rows) @ unit(features).T).softmax(0)
    return z, z / (z.sum(1, keepdim=True) + 1e-9)


def walk(features: Tensor, rows: Tensor) -> Tensor:
    z, normalised = membership(features, rows)
    system = torch.eye(len(features), dtype=features.dtype) - 0.25 * z.T @ normalised
    return 0.5 * torch.inverse(system) @ (0.5 * z.T @ rows + features)


def head(model: RSKP, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    actions, foreground = unit(model.actions), unit(model.foreground)
    logits = 20 * unit(features) @ actions.T
    attention = (20 * unit(features) @ foreground.T).sigmoid()
    agnostic = (attention / (attention.sum() + 1e-5)).T @ features
    gates = logits.sigmoid()
    wise = (gates / (gates.sum(0) + 1e-5)).T @ features
    p_agnostic = (20 * unit(agnostic) @ actions.T).softmax(1)[0]
    p_wise = (20 * unit(wise) * actions).sum(1).softmax(0)
    return p_agnostic, p_wise, attention[:, 0], logits


def nce(probabilities: Tensor, labels: Tensor, background: float) -> Tensor:
    target = functional.pad(labels.to(probabilities), (0, 1), value=background)
    return -(target / target.sum() * probabilities.log()).sum()


def loss(model: RSKP, video: Tensor, labels: Tensor, epoch: int, seed: int) -> Tensor:
    """(L, D) features and (K,) tags -> the loss of this video, with the dropout that ``seed`` stands for."""
    features = functional.linear(video, model.embedding.weight, model.embedding.bias).relu()
    drawn = torch.empty_like(features).uniform_(generator=torch.Generator().manual_seed(seed))
    features = features * (drawn < 1 - model.dropout) / (1 - model.dropout)
    rows = model.representatives
    for _ in range(2):
        rows = membership(features, rows)[1] @ features
    branches = [head(model, features), head(model, walk(features, rows))]
    plain, own = branches
    teacher = own[3]
    if model.memory_epoch is not None and epoch > model.memory_epoch:
        memory = torch.cat([model.memory_rows[c] for c in labels.nonzero().squeeze(1).tolist()])
        branches.append(head(model, walk(features, memory)))
        teacher = 0.2 * branches[2][3] + 0.8 * own[3]
    total = 0.1 * _contrast(plain[2])
    for weight, branch in zip((1, 1, 0.5), branches, strict=False):
        total = total + weight * (nce(branch[0], labels, 0) + 0.2 * nce(branch[1], labels, 1))
    teacher = (teacher / 0.2).softmax(1).detach()
    taught = -(teacher * (plain[3] / 0.2).log_softmax(1)).sum(1).mean()
    return total + model.consistency_weight(epoch) * taught


def _contrast(attention: Tensor) -> Tensor:
    k = max(len(attention) // 8, 1)
    return attention.topk(k, largest=False).values.mean() - attention.topk(k).values.mean()
