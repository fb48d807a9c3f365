"""One generation of pseudo labels: activation maps, proposals, segments, LinPro, for all videos at once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from pyws.distributed import Group
from pyws.models import Backbone, Recipe
from pyws.ops.linpro import linpro
from pyws.segments.batches import Videos
from pyws.segments.config import Labelling
from pyws.segments.inference import Maps, activation_maps, merged
from pyws.segments.postprocess import GRID
from pyws.segments.pseudo_labels import Column, PseudoLabels, collect


def generate(
    model: Backbone,
    recipe: Recipe,
    videos: Videos,
    rules: Labelling,
    temperature: float,
    snippets: int = 16384,
    group: Group = Group(),  # noqa: B008
    noise: tuple[int, int] = (0, 0),
) -> PseudoLabels:
    """Pseudo labels of all videos, made by all processes, in every process: the same bytes for any number of them.

    Parameters
    ----------
    model : in evaluation mode afterwards; with ``rules.noise`` it labels in training mode
    recipe : of the proposals
    rules : how maps become labels
    temperature : of the fusion
    snippets : positions of a padded batch
    noise : (seed, epoch) of the dropout of ``rules.noise``
    """
    rules = replace(rules, merging=replace(rules.merging, temperature=temperature))
    columns: list[Column] = []
    model.train(rules.noise)
    for maps in activation_maps(model, videos, snippets, group, noise if rules.noise else None):
        columns += label(maps, recipe, rules, videos.tags[maps.videos])
    model.eval()
    return collect(group.gather(columns))


def label(maps: Maps, recipe: Recipe, rules: Labelling, tags: Tensor) -> list[Column]:
    """Activation maps of B videos to their columns of pseudo labels; ``tags`` is (B, K) bool."""
    columns = maps.scores.shape[1] if rules.background else tags.shape[1]
    wanted = functional.pad(tags, (0, columns - tags.shape[1]), value=True) if rules.only_tags else None
    segments, keys = merged(maps, recipe, rules.merging, columns, wanted)
    on_grid = replace(segments, start=segments.start.round(decimals=GRID), end=segments.end.round(decimals=GRID))
    row, column = keys // columns, keys % columns
    solved = linpro(on_grid, maps.lengths[row], rules.program, rows=rules.rows)
    values = solved.labels.float().split(solved.offsets.diff().tolist())
    owner = torch.tensor(maps.videos, dtype=torch.int64)[row]
    facts = (solved.status, solved.residual, segments.offsets.diff())
    return list(map(Column, owner.tolist(), column.tolist(), values, *(fact.tolist() for fact in facts)))
