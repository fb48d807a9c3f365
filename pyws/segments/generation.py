"""One generation of pseudo labels: activation maps, proposals, segments, LinPro, for all videos at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyws.distributed import Group
from pyws.models import Backbone, Recipe
from pyws.segments.batches import Videos
from pyws.segments.config import Labelling
from pyws.segments.detections import GRID
from pyws.segments.inference import activation_maps, merged
from pyws.segments.linpro import linpro
from pyws.segments.pseudo import Column, PseudoLabels, collect


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
    merging = replace(rules.merging, temperature=temperature)
    columns: list[Column] = []
    model.train(rules.noise)
    for maps in activation_maps(model, videos, snippets, group, noise if rules.noise else None):
        tags = videos.tags[maps.videos] if rules.only_tags else None
        segments, keys = merged(maps, recipe, merging, tags)
        on_grid = replace(segments, start=segments.start.round(decimals=GRID), end=segments.end.round(decimals=GRID))
        row, label = keys // maps.scores.shape[1], keys % maps.scores.shape[1]
        solved = linpro(on_grid, maps.lengths[row], rules.program)
        values = solved.labels.float().split(solved.offsets.diff().tolist())
        facts = (solved.status, solved.residual, segments.offsets.diff())
        owners = np.array(maps.videos, dtype=np.int64)[row.numpy()].tolist()
        columns += map(Column, owners, label.tolist(), values, *(fact.tolist() for fact in facts))
    model.eval()
    return collect(group.gather(columns))
