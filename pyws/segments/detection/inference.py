"""From a trained backbone to segments of whole videos: activation maps, proposals, suppression or fusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pyws.data.annotations.activitynet import Instances
from pyws.data.features.dataset import FeatureSet
from pyws.distributed import Group
from pyws.evaluation import DetectionScores, detection_map
from pyws.models import Backbone
from pyws.models.devices import on_device
from pyws.progress import track
from pyws.ragged import Segments, offsets_of
from pyws.segments.config import ProposalConfig
from pyws.segments.detection.postprocess import GRID, PostprocessConfig, postprocess
from pyws.segments.detection.proposals import joined, propose
from pyws.segments.training.batches import Videos, by_length, noise_seeds

_AT_ONCE = 1 << 26  # values of activation maps that are kept before their segments are found


@dataclass(frozen=True, eq=False)
class Maps:
    """Activation maps of some videos, packed; all tensors on one device.

    Parameters
    ----------
    videos : their indices
    lengths : (B,) int64 snippets
    tcam : (sum of lengths, K or K+1)
    scores : (B, K), or (B, K+1) where the backbone scores background
    actionness : (sum of lengths,); empty where the backbone has none
    others : (weights, tcam, actionness) of other maps that segments are proposed from too, see
        :class:`pyws.models.Activations`
    """

    videos: list[int]
    lengths: Tensor
    tcam: Tensor
    scores: Tensor
    actionness: Tensor
    others: tuple[tuple[tuple[float, float], Tensor, Tensor], ...] = ()

    @property
    def offsets(self) -> Tensor:
        """(B+1,) int64, where each video begins."""
        return offsets_of(self.lengths)

    def by_video(self, classes: int) -> list[np.ndarray]:
        """(snippets, classes) float64 of each video: its map of the first classes."""
        return [part.double().numpy() for part in self.tcam[:, :classes].cpu().split(self.lengths.tolist())]

    def cpu(self) -> Maps:
        """The same on the CPU."""
        lengths, tcam, scores, actionness = (getattr(self, name).cpu() for name in _PACKED)
        others = tuple((weights, other.cpu(), curve.cpu()) for weights, other, curve in self.others)
        return Maps(self.videos, lengths, tcam, scores, actionness, others)


_PACKED = ("lengths", "tcam", "scores", "actionness")


def activation_maps(
    model: Backbone,
    videos: Videos,
    snippets: int,
    group: Group = Group(),  # noqa: B008
    noise: tuple[int, int] | None = None,
    quiet: bool = True,
    batches: Sequence[list[int]] | None = None,
) -> Iterator[Maps]:
    """This process's share of the videos, on the model's device, in parts that fit into memory.

    The videos are batched before they are shared out: what a batch holds decides how floats are rounded, so every
    number of processes finds the same bits.

    Parameters
    ----------
    model : its mode is kept: evaluation, or training for dropout
    videos : all of them
    snippets : positions of a padded batch
    noise : (seed, epoch) from which the dropout of a model in training mode is drawn
    batches : which of the batches instead of this process's share
    """
    if batches is None:
        batches = by_length(range(len(videos)), videos.data.lengths, snippets)[group.rank :: group.world]
    parts: list[Maps] = []
    held = 0
    for batch in track(batches, "activation maps, videos", quiet=quiet, size=len):
        features, mask = videos.batch(batch)
        seeds = None if noise is None else noise_seeds(*noise, batch)
        with torch.no_grad():
            said = model(features, mask, seeds)
        scores = said.scores if said.background is None else torch.cat([said.scores, said.background[:, None]], 1)
        lengths, real = (on_device(one, scores.device) for one in (mask.sum(1), mask.flatten().nonzero().squeeze(1)))
        others = tuple((weights, _packed(tcam, real), _packed(curve, real)) for weights, tcam, curve in said.others)
        parts.append(Maps(batch, lengths, _packed(said.tcam, real), scores, _packed(said.actionness, real), others))
        held += parts[-1].tcam.numel() * (1 + len(others))
        if held > _AT_ONCE:
            yield _joined(parts)
            parts, held = [], 0
    if parts:
        yield _joined(parts)


def _packed(padded: Tensor | None, real: Tensor) -> Tensor:
    """The rows of the real snippets, nothing of None."""
    return torch.empty(0, device=real.device) if padded is None else padded.flatten(0, 1).index_select(0, real)


def _joined(parts: Sequence[Maps]) -> Maps:
    lengths, tcam, scores, actionness = (torch.cat([getattr(part, name) for part in parts]) for name in _PACKED)
    others = [
        (same[0][0], torch.cat([other[1] for other in same]), torch.cat([other[2] for other in same]))
        for same in zip(*(part.others for part in parts), strict=True)
    ]
    return Maps([video for part in parts for video in part.videos], lengths, tcam, scores, actionness, tuple(others))


def candidates(
    maps: Maps, config: ProposalConfig, columns: int, tags: Tensor | None = None, by_support: bool = False
) -> tuple[Segments, Tensor]:
    """Candidate segments of the videos, and the group ``row * columns + column`` of each that has any.

    Parameters
    ----------
    maps : maps of B videos
    config : thresholds and scoring
    columns : how many of the scores' columns are proposed: K, or K+1 with background
    tags : (B, columns) bool, propose these only
    by_support : which of the weights of other maps count
    """
    scores = maps.scores[:, :columns]
    scores = scores if tags is None else scores.masked_fill(~tags, -1.0)
    found, *others = (
        propose(config, tcam, maps.offsets, scores, actionness if len(actionness) else None)
        for tcam, actionness in ((maps.tcam, maps.actionness), *(other[1:] for other in maps.others))
    )
    for (weights, *_), other in zip(maps.others, others, strict=True):
        weight = weights[by_support]
        found = joined(found, replace(other, score=weight * other.score, weight=weight * other.weight))
    sizes = found.offsets.diff()
    keys = sizes.nonzero().squeeze(1)
    return replace(found, offsets=offsets_of(sizes[keys])), keys


def with_suppression_of(proposals: ProposalConfig, config: PostprocessConfig) -> PostprocessConfig:
    """``config``, in which the backbone's proposals fill in a threshold and an overlap that "nms" leaves open."""
    if config.method != "nms":
        return config
    iou = proposals.iou_threshold if config.iou_threshold is None else config.iou_threshold
    return replace(config, iou_threshold=iou, overlap=config.overlap or proposals.overlap)


class Observer(Protocol):
    """What :func:`detect` shows its maps and segments to."""

    def add(self, maps: Maps, found: dict[str, Segments], keys: Tensor) -> None:
        """Take some videos: their maps, and segments of the groups ``row * classes + class``.

        Parameters
        ----------
        maps : maps of the videos
        found : "proposals" and "segments"
        keys : the group of each entry of their offsets
        """


def detect(
    model: Backbone,
    proposals: ProposalConfig,
    videos: Videos,
    config: PostprocessConfig,
    snippets: int,
    group: Group = Group(),  # noqa: B008
    quiet: bool = True,
    seen: Sequence[Observer] = (),
    batches: Sequence[list[int]] | None = None,
) -> Instances:
    """Segments of all videos, found by all processes, in every process; the model is put in evaluation mode.

    Parameters
    ----------
    model : the network
    proposals : how its maps become candidates
    videos : all of them
    config : how candidates become segments; "nms" takes the backbone's threshold and overlap where it has none
    snippets : positions of a padded batch
    group : the processes
    quiet : show no progress
    seen : get the maps and segments of this process's share, such as
        :class:`pyws.segments.detection.timelines.Timelines`
    batches : look only at these batches of videos

    Returns
    -------
    Instances by video and class, in seconds, each class by falling score (proposals of method "none" as they come)
    """
    model.eval()
    config = with_suppression_of(proposals, config)
    classes = len(videos.data.classes)
    found: list[tuple[int, np.ndarray]] = []  # (video * K + class, rows of start, end, score)
    for maps in activation_maps(model, videos, snippets, group, quiet=quiet, batches=batches):
        maps = maps.cpu()  # few rows, and sums in one order
        proposed, keys = candidates(maps, proposals, classes, by_support=config.ranking != "score")
        segments, _ = postprocess(proposed, config)
        if seen:
            kinds = {"proposals": proposed, "segments": segments}
            for one in seen:
                one.add(maps, kinds, keys)
        rows = torch.stack([segments.start, segments.end, segments.score], 1).numpy()
        parts = np.split(rows, segments.offsets[1:-1].numpy())
        for key, part in zip(keys.tolist(), parts, strict=False):
            found.append((maps.videos[key // classes] * classes + key % classes, part))
    found = sorted(group.gather(found), key=lambda entry: entry[0])
    keys_of = np.repeat(np.array([key for key, _ in found], dtype=np.int64), [len(part) for _, part in found])
    start, end, score = np.concatenate([np.empty((0, 3)), *(part for _, part in found)]).T.copy()
    video = keys_of // classes
    start, end = (videos.data.seconds(video, places.round(GRID)) for places in (start, end))
    everything = Instances(videos.data.names, videos.data.classes, video, keys_of % classes, start, end, score)
    return everything.where(end > start)  # what lies beyond the end of a video has no length


def average_map(found: Instances, data: FeatureSet, protocol: str, tious: Sequence[float] | None = None) -> float:
    """Average mAP in percent of segments found in a data set; 0 where nothing was found.

    Raises
    ------
    DataError : the data set has no annotated segments
    """
    scores = score(found, data, protocol, tious)
    return 0.0 if scores is None else scores.average


def score(
    found: Instances, data: FeatureSet, protocol: str, tious: Sequence[float] | None = None
) -> DetectionScores | None:
    """Scores of segments found in a data set; None where nothing was found.

    Raises
    ------
    DataError : see :meth:`FeatureSet.check_annotated`
    """
    truth = data.check_annotated()
    place = {label: index for index, label in enumerate(truth.instances.labels)}
    label = np.array([place.get(label, -1) for label in found.labels], dtype=np.int64)[found.label]
    known = replace(found, labels=tuple(place), label=label).where(label >= 0)
    if not len(known):
        return None
    return detection_map(known, truth, protocol, tious, data.subset, snippets_per_second=data.grids)
