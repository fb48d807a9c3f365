"""Segments without any training: how the scores of a network's own classes change over the snippets of a video."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from pyws.data.annotations.activitynet import Instances
from pyws.data.features.dataset import FeatureSet
from pyws.data.features.files import scores_of
from pyws.errors import DataError
from pyws.ops import propose_segments
from pyws.segments.detection.postprocess import GRID, PostprocessConfig, postprocess

_THRESHOLDS = tuple(step / 20 for step in range(1, 20))  # thresholds of the activation scaled to [0, 1] over its video


def segments_of_known_classes(data: FeatureSet, classes: Mapping[str, int]) -> tuple[Instances, dict[str, float]]:
    """Segments of tags that name classes of the network that the features come from, by its scores of each snippet.

    The activation of a tag is the softmax of its class, scaled to [0, 1] over the video; its runs above twenty
    thresholds are proposals, which Gaussian fusion joins. A video is asked for its own tags alone.

    Parameters
    ----------
    data : features made by ``pyws features --scores``
    classes : the class of each tag

    Returns
    -------
    Segments in seconds, their score the contrast times the mean probability; and the mean probability of each tag in
    the videos that have it.

    Raises
    ------
    DataError : features without scores
    """
    labels = tuple(classes)
    columns: list[tuple[int, int, np.ndarray]] = []
    means: dict[str, list[float]] = {tag: [] for tag in labels}
    for index, stored in enumerate(data.stored):
        tags = [tag for column, tag in enumerate(data.classes) if data.tags[index, column] and tag in classes]
        scores = scores_of(stored) if tags else None
        if tags and scores is None:
            raise DataError(getattr(stored, "path", "features"), "must have scores: pyws features --scores writes them")
        for tag in tags:
            assert scores is not None
            chance = torch.from_numpy(scores).softmax(1)[:, classes[tag]].double().numpy()
            means[tag].append(float(chance.mean()))
            columns.append((index, labels.index(tag), chance))
    rows = [part for video, label, chance in columns for part in _of_one(data, video, label, chance)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    video, label = (table[:, column].astype(np.int64) for column in (0, 1))
    found = Instances(data.names, labels, video, label, table[:, 2], table[:, 3], table[:, 4])
    return found.where(found.end > found.start), {tag: float(np.mean(means[tag])) for tag in labels if means[tag]}


def _of_one(data: FeatureSet, video: int, label: int, chance: np.ndarray) -> list[tuple[float, ...]]:
    low, high = chance.min(), chance.max()
    scaled = (chance - low) / (high - low) if high > low else np.ones_like(chance)
    offsets = torch.tensor([0, len(chance)])
    proposals = propose_segments(torch.from_numpy(scaled)[:, None], offsets, _THRESHOLDS, scoring="paper", min_length=1)
    fused, _ = postprocess(proposals, PostprocessConfig())
    where = np.full(len(fused.start), video)
    start, end = (data.seconds(where, bound.numpy().round(GRID)) for bound in (fused.start, fused.end))
    score = fused.score.numpy() * chance.mean()
    return [(video, label, *row) for row in zip(start.tolist(), end.tolist(), score.tolist(), strict=True)]
