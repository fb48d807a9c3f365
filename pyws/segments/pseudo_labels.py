"""Pseudo labels: a round of them for a training set, and snippet labels from proposals in files.

Either way the same steps: proposals are fused, their bounds rounded to the grid, and LinPro spreads their scores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyws.data.annotations.activitynet import Instances, Truth
from pyws.data.annotations.corrections import Corrected
from pyws.data.annotations.names import as_named_by
from pyws.data.features.dataset import FeatureSet
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.time_base import SnippetGrid, SnippetGrids
from pyws.distributed import Group
from pyws.errors import DataError
from pyws.files import atomic_write, write_json
from pyws.models import Backbone
from pyws.models.devices import on_device
from pyws.ops.segments.linpro import Labels, Status, linpro
from pyws.ragged import Segments, offsets_of
from pyws.segments.config import ProposalConfig, PseudoLabelConfig
from pyws.segments.detection.inference import Maps, activation_maps, candidates, with_suppression_of
from pyws.segments.detection.maps import packed, unpacked
from pyws.segments.detection.postprocess import GRID, PostprocessConfig, group_instances, postprocess
from pyws.segments.training.batches import Videos

_MAX_SNIPPETS = 2**24  # snippets of a video: six days at 30 a second
SAME = 0.25  # IoU above which a segment is one that people fixed, where fusion has no threshold of its own


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """The labels of one round, without the columns that are zero.

    Parameters
    ----------
    video, label : (G,) int64, which column each is, a class or after the last one background; sorted by both, no pair
        twice
    offsets : (G+1,) int64
    values : (sum of lengths,) float32; column g is values[offsets[g] : offsets[g+1]], a value for each snippet
    status : (G,) int64, :class:`pyws.segments.Status` of each column
    residual : (G,) float64, by how much the column misses the scores of its segments, in sum
    segments : (G,) int64, segments that it keeps the scores of
    on_host : (G,) bool, whether LinPro took it from the card to the host
    """

    video: Tensor
    label: Tensor
    offsets: Tensor
    values: Tensor
    status: Tensor
    residual: Tensor
    segments: Tensor
    on_host: Tensor

    @classmethod
    def of(cls, columns: Mapping[tuple[int, int], Sequence[float] | Tensor]) -> PseudoLabels:
        """From the columns by (video, class); status optimal, nothing missed."""
        rows = [Column(*key, torch.as_tensor(values), 0, 0.0, 0) for key, values in columns.items()]
        return collect(rows)

    @cached_property
    def _by_video(self) -> dict[int, list[tuple[int, Tensor]]]:
        found: dict[int, list[tuple[int, Tensor]]] = {}
        parts = self.values.split(self.offsets.diff().tolist())
        for video, label, values in zip(self.video.tolist(), self.label.tolist(), parts, strict=True):
            found.setdefault(video, []).append((label, values))
        return found

    def columns(self, video: int) -> list[tuple[int, Tensor]]:
        """(class, (snippets,) labels) of one video."""
        return self._by_video.get(video, [])

    def dense(self, video: int, shape: tuple[int, int]) -> Tensor:
        """(snippets, classes) labels of one video."""
        labels = torch.zeros(shape)
        for label, values in self.columns(video):
            labels[:, label] = values
        return labels

    def of_pairs(self, pairs: Iterable[tuple[int, int]], kept: bool = True) -> PseudoLabels:
        """The columns of some (video, class), or with ``kept=False`` all others."""
        wanted = set(pairs)
        rows = zip(
            self.video.tolist(), self.label.tolist(), self.values.split(self.offsets.diff().tolist()),
            self.status.tolist(), self.residual.tolist(), self.segments.tolist(), self.on_host.tolist(), strict=True,
        )  # fmt: skip
        return collect([Column(*row) for row in rows if (row[:2] in wanted) == kept])

    def statuses(self) -> dict[str, int]:
        """How many columns became what; videos and classes without segments are not among them."""
        return Status.counts(self.status)

    def tensors(self) -> dict[str, Tensor]:
        """Its fields, for a checkpoint."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class Column:
    """One column of :class:`PseudoLabels`, as a process hands it over."""

    video: int
    label: int
    values: Tensor
    status: int
    residual: float
    segments: int
    on_host: bool = False


def collect(columns: Sequence[Column]) -> PseudoLabels:
    """Columns of any processes, in any order."""
    rows = sorted(columns, key=lambda column: (column.video, column.label))
    values = [row.values.float() for row in rows]
    sizes = torch.tensor([0, *(len(part) for part in values)], dtype=torch.int64)
    return PseudoLabels(
        video=torch.tensor([row.video for row in rows], dtype=torch.int64),
        label=torch.tensor([row.label for row in rows], dtype=torch.int64),
        offsets=sizes.cumsum(0),
        values=torch.cat([*values, torch.empty(0)]),
        status=torch.tensor([row.status for row in rows], dtype=torch.int64),
        residual=torch.tensor([row.residual for row in rows], dtype=torch.float64),
        segments=torch.tensor([row.segments for row in rows], dtype=torch.int64),
        on_host=torch.tensor([row.on_host for row in rows], dtype=torch.bool),
    )


def snippet_labels(
    segments: Segments,
    lengths: Tensor,
    config: PostprocessConfig,
    preset: str = "paper",
    rows: str | None = None,
    known: Mapping[int, Tensor] | None = None,
) -> tuple[Labels, Tensor]:
    """Candidates to snippet labels: fusion, bounds on the grid, LinPro.

    Parameters
    ----------
    segments : candidates in snippets, a group for each video and class, none empty; the answer is on their device
    lengths : (groups,) int64, snippets of the group's video
    config : configuration of the fusion
    preset, rows : arguments of :func:`pyws.segments.linpro`
    known : labels of a group that people fixed, (snippets,) float64, NaN where they said nothing

    Returns
    -------
    labels : a column for each group
    counts : (groups,) int64, segments whose scores the labels keep
    """
    if known:
        segments = without_known(segments, known, SAME if config.iou_threshold is None else config.iou_threshold)
    fused, _ = postprocess(segments, config)
    start, end = (bound.round(decimals=GRID) for bound in (fused.start, fused.end))
    fused = replace(fused, start=start, end=end)
    fixed = None
    if known:
        fixed = torch.full((int(lengths.sum()),), torch.nan, dtype=torch.float64, device=lengths.device)
        places = offsets_of(lengths).tolist()
        for group, values in known.items():
            fixed[places[group] : places[group + 1]] = values.to(fixed.device)
    return linpro(fused, lengths, preset, rows=rows, known=fixed), fused.offsets.diff()


def without_known(segments: Segments, known: Mapping[int, Tensor], iou: float) -> Segments:
    """Segments without those that overlap one that people fixed by more than ``iou``.

    Examples
    --------
    >>> known = torch.tensor([torch.nan, 0.5, 0.5, torch.nan, torch.nan], dtype=torch.float64)
    >>> without_known(Segments.of([[(0, 3, 0.9), (3, 5, 0.4)]]), {0: known}, 0.25).start.tolist()
    [3.0]
    """
    device = segments.start.device
    kept = torch.ones(len(segments), dtype=torch.bool, device=device)
    for group, values in known.items():
        rows = slice(*segments.offsets[group : group + 2].tolist())
        edges = torch.nn.functional.pad((values > 0).int(), (1, 1)).diff().nonzero().flatten().double().to(device)
        first, last = edges[0::2, None], edges[1::2, None]
        start, end = segments.start[rows], segments.end[rows]
        both = (torch.minimum(end, last) - torch.maximum(start, first)).clamp_min(0)
        either = (end - start) + (last - first) - both
        kept[rows] = ~(both > iou * either).any(0)
    counts = torch.bincount(segments.owner[kept], minlength=segments.groups)
    return segments.where(kept, offsets_of(counts))


def known_columns(data: FeatureSet, rows: str) -> dict[tuple[int, int], Tensor]:
    """Labels that people fixed, by (video, class): (snippets,) float64, NaN where they said nothing.

    Parameters
    ----------
    data : with corrections
    rows : argument of :func:`pyws.segments.linpro`
    """
    found = {}
    for video, name in enumerate(data.names):
        for label in data.corrections[name].labels if name in data.corrections else ():
            values = torch.from_numpy(data.known(video, label, rows))
            if not values.isnan().all():
                found[video, data.classes.index(label)] = values
    return found


def pseudo_label_round(
    model: Backbone,
    proposals: ProposalConfig,
    videos: Videos,
    config: PseudoLabelConfig,
    temperature: float,
    snippets: int = 16384,
    group: Group = Group(),  # noqa: B008
    noise: tuple[int, int] = (0, 0),
) -> PseudoLabels:
    """Pseudo labels of all videos, made by all processes, in every process: the same bytes for any number of them.

    Parameters
    ----------
    model : in evaluation mode afterwards; with ``config.noise`` it labels in training mode
    proposals : how maps become candidates
    videos : all of them
    config : how candidates become labels
    temperature : temperature of the fusion
    snippets : positions of a padded batch
    group : the processes
    noise : (seed, epoch) from which the dropout of ``config.noise`` is drawn
    """
    postprocess = with_suppression_of(proposals, config.postprocess)
    if postprocess.fuses:
        postprocess = replace(postprocess, temperature=temperature)
    config = replace(config, postprocess=postprocess)
    columns: list[Column] = []
    known = known_columns(videos.data, config.rows)
    model.train(config.noise)
    for maps in activation_maps(model, videos, snippets, group, noise if config.noise else None):
        columns += label_columns(maps, proposals, config, videos.tags[maps.videos], known)
    model.eval()
    return collect(group.gather(columns))


def label_columns(
    maps: Maps,
    proposals: ProposalConfig,
    config: PseudoLabelConfig,
    tags: Tensor,
    known: Mapping[tuple[int, int], Tensor] | None = None,
) -> list[Column]:
    """Activation maps of B videos to their columns of pseudo labels.

    Parameters
    ----------
    maps : maps of the videos
    proposals, config : how they become labels
    tags : (B, K) bool
    known : see :func:`known_columns`
    """
    classes = maps.scores.shape[1] if config.background else tags.shape[1]
    device, wanted = maps.tcam.device, None
    if config.only_tags:
        wanted = torch.nn.functional.pad(on_device(tags, device), (0, classes - tags.shape[1]), value=True)
    segments, keys = candidates(maps, proposals, classes, wanted)
    fixed: dict[int, Tensor] = {}
    if known:
        segments, keys, fixed = _with_known(segments, keys, maps.videos, classes, known)
    row, column = keys // classes, keys % classes
    solved, counts = snippet_labels(segments, maps.lengths[row], config.postprocess, config.preset, config.rows, fixed)
    values = solved.labels.float().cpu().split(solved.offsets.diff().tolist())
    owner = [maps.videos[one] for one in row.tolist()]
    facts = (solved.status, solved.residual, counts, solved.on_host)
    return list(map(Column, owner, column.tolist(), values, *(fact.tolist() for fact in facts)))


def _with_known(
    segments: Segments, keys: Tensor, videos: Sequence[int], classes: int, known: Mapping[tuple[int, int], Tensor]
) -> tuple[Segments, Tensor, dict[int, Tensor]]:
    """Groups of candidates, with an empty one where labels are known and nothing was found; known labels by group."""
    rows = {video: row for row, video in enumerate(videos)}
    wanted = {rows[video] * classes + label: values for (video, label), values in known.items() if video in rows}
    sizes = dict.fromkeys(wanted, 0) | dict(zip(keys.tolist(), segments.offsets.diff().tolist(), strict=True))
    every = sorted(sizes)
    offsets = torch.tensor([0, *(sizes[key] for key in every)], dtype=torch.int64).cumsum(0)
    by_group = {group: wanted[key] for group, key in enumerate(every) if key in wanted}
    offsets, groups = (on_device(one, keys.device) for one in (offsets, torch.tensor(every, dtype=torch.int64)))
    return replace(segments, offsets=offsets), groups, by_group


@dataclass(frozen=True, eq=False)
class VideoLabels:
    """Pseudo labels of one video.

    Parameters
    ----------
    video : its name
    labels : (snippets, classes) float32
    segments : fused segments that the labels keep the scores of
    statuses : how many classes came out as each :class:`pyws.segments.Status`
    residual : by how much the labels miss the scores, summed over the classes
    """

    video: str
    labels: Tensor
    segments: int
    statuses: dict[str, int]
    residual: float

    def document(self) -> dict[str, Any]:
        """The same as JSON holds it, bit for bit; labels, most of them zero, are packed."""
        facts = {"segments": self.segments, "statuses": self.statuses, "residual": self.residual}
        return {"labels": packed(self.labels.numpy()), **facts}

    @staticmethod
    def read(video: str, document: Mapping[str, Any]) -> VideoLabels:
        """What :meth:`document` gave."""
        return VideoLabels(video, **{**document, "labels": torch.from_numpy(unpacked(document["labels"]))})


def _places_in_truth(proposals: Instances, truth: Truth, classes: Mapping[str, int]) -> list[int]:
    """Where the ground truth has each video of the proposals, whose labels must be of the classes."""
    for label in proposals.labels:
        if label not in classes:
            raise DataError("proposals", f"label must be one of the {len(classes)} classes, got {label!r}")
    known = {name: index for index, name in enumerate(truth.instances.videos)}
    for name in proposals.videos:
        if name not in known:
            raise DataError("ground truth", f"must give the duration of video {name!r}")
    return [known[name] for name in proposals.videos]


def label_videos(
    proposals: Instances,
    truth: Truth,
    classes: Sequence[str],
    postprocess: PostprocessConfig = PostprocessConfig(),  # noqa: B008
    preset: str = "paper",
    rows: str | None = None,
    only_tags: bool = False,
    snippets_per_second: float | SnippetGrids = SNIPPETS_PER_SECOND,
    corrections: Mapping[str, Corrected] | None = None,
) -> list[VideoLabels]:
    """Snippet labels of each video: fusion of its proposals, then :func:`pyws.segments.linpro`, all videos at once.

    Parameters
    ----------
    proposals : see :func:`pyws.segments.fuse_detections`
    truth : gives the durations, and the tags
    classes : the columns of the labels
    postprocess : postprocessing of the proposals
    preset, rows : arguments of :func:`pyws.segments.linpro`
    only_tags : drop proposals of classes that are not among the video's tags
    snippets_per_second : a video has ``int(duration * snippets_per_second)`` snippets, at least one, or as many as
        its own grid
    corrections : what people said, which the labels obey, whatever the proposals say

    Raises
    ------
    DataError : a video without a duration, a proposal of an unknown class
    ValueError : weights by the activation inside, or ranking by support, which labels do not know

    Examples
    --------
    >>> from pyws.data.annotations.activitynet import read_detections, read_truth
    >>> annotation = {"subset": "validation", "duration": 8.0, "annotations": []}
    >>> proposals = read_detections({"results": {"v": [{"label": "Diving", "score": 0.5, "segment": [2.0, 6.0]}]}})
    >>> truth = read_truth({"database": {"v": annotation}})
    >>> (found,) = label_videos(proposals, truth, ["Diving"], snippets_per_second=1)
    >>> found.labels.flatten().tolist()  # their sum is the score
    [0.0, 0.0, 0.125, 0.125, 0.125, 0.125, 0.0, 0.0]
    """
    if (postprocess.weigh_by, postprocess.ranking) != ("score", "score"):
        got = f"{postprocess.weigh_by!r} and {postprocess.ranking!r}"
        raise ValueError(f"label_videos: weigh_by and ranking must be 'score', got {got}")
    corrections = corrections or {}
    proposals = with_names(as_named_by(proposals, truth), corrections)
    places = {name: index for index, name in enumerate(classes)}
    grids = SnippetGrids.of(snippets_per_second)
    in_truth = _places_in_truth(proposals, truth, places)
    durations = truth.duration[in_truth].tolist()
    lengths = np.array([_snippets(name, grids[name], duration) for name, duration in zip(
        proposals.videos, durations, strict=True)], dtype=np.int64)  # fmt: skip
    if only_tags:
        tagged = np.array(
            [[label in truth.tags[index] for label in proposals.labels] for index in in_truth], dtype=bool
        )
        proposals = proposals.where(tagged[proposals.video, proposals.label])
    _, segments, keys = group_instances(proposals, grids)
    fixed = {
        (video, proposals.labels.index(label)): torch.from_numpy(
            corrections[name].known(label, grids[name].seconds(np.arange(lengths[video]) + 0.5), rows or "sum")
        )
        for video, name in enumerate(proposals.videos)
        for label in (corrections[name].labels if name in corrections else ())
    }
    width = len(proposals.labels)
    segments, every, by_group = _with_known(
        segments, torch.from_numpy(keys), range(len(proposals.videos)), width, fixed
    )
    keys = every.numpy()
    owner, label_of = keys // width, keys % width
    solved, counts = snippet_labels(segments, torch.from_numpy(lengths[owner]), postprocess, preset, rows, by_group)
    columns = np.array([places[label] for label in proposals.labels], dtype=np.int64)[label_of]
    answer = []
    bounds = np.searchsorted(owner, np.arange(len(proposals.videos) + 1))  # keys are sorted, and so are the owners
    for video, name in enumerate(proposals.videos):
        groups = np.arange(bounds[video], bounds[video + 1])
        labels = torch.zeros(int(lengths[video]), len(places))
        for group in groups:
            labels[:, columns[group]] = solved.group(int(group)).float()
        statuses = Status.counts(solved.status[groups])
        statuses["empty"] += len(places) - len(groups)
        residual = float(solved.residual[groups].sum())
        answer.append(VideoLabels(name, labels, int(counts[groups].sum()), statuses, residual))
    return answer


def _snippets(video: str, grid: SnippetGrid, duration: float) -> int:
    """How many snippets a video has: as many as its own grid, or as fit into its duration, at least one."""
    if grid.snippets is None and np.isnan(duration):
        raise DataError("ground truth", f"must give the duration of video {video!r}")
    count = duration * grid.snippets_per_second if grid.snippets is None else grid.snippets
    if count > _MAX_SNIPPETS:
        seconds = duration if grid.snippets is None else grid.end - grid.start
        rule = f"must last at most {_MAX_SNIPPETS} snippets, got a duration of {seconds:g} seconds"
        raise DataError("ground truth", f"video {video!r} {rule}")
    return max(1, int(count))


def with_names(proposals: Instances, corrections: Mapping[str, Corrected]) -> Instances:
    """Proposals whose names have the videos and labels of corrections too."""
    labels = dict.fromkeys((*proposals.labels, *(label for one in corrections.values() for label in one.labels)))
    videos = dict.fromkeys((*proposals.videos, *corrections))
    return replace(proposals, videos=tuple(videos), labels=tuple(labels))


def write_labels(
    path: str | os.PathLike[str], labels: PseudoLabels, data: FeatureSet, settings: Mapping[str, Any]
) -> None:
    """Write a round as ``pyws segments labels`` does: a (snippets, classes) float32 tensor for each video in a
    safetensors file, and beside it ``PATH.json`` with the classes, the settings and what became of each video. Labels
    of background are one column more, after the classes."""
    tensors, records = {}, {}
    columns = [*data.classes, "background"] if len(data.classes) in labels.label else list(data.classes)
    bounds = torch.searchsorted(labels.video, torch.arange(len(data.names) + 1)).tolist()
    for video, (name, length) in enumerate(zip(data.names, data.lengths.tolist(), strict=True)):
        mine = torch.arange(bounds[video], bounds[video + 1])
        tensors[name] = labels.dense(video, (length, len(columns)))
        counts = Status.counts(labels.status[mine])
        counts["empty"] += len(columns) - len(mine)
        missed = float(labels.residual[mine].sum())
        segments, seconds = int(labels.segments[mine].sum()), length / float(data.rates[video])
        records[name] = {"snippets": length, "seconds": seconds, "segments": segments, "residual": missed, **counts}
    save_labels(path, tensors, columns, {**settings, **data.grids.note()}, records)


def save_labels(
    path: str | os.PathLike[str],
    labels: Mapping[str, Tensor],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    videos: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the labels of videos to a safetensors file and what became of each video to ``PATH.json``.

    Parameters
    ----------
    path : the safetensors file
    labels : (snippets, classes) float32 of each video
    classes : names of the columns
    settings : how the labels were made
    videos : facts of each video: counts of each :class:`pyws.segments.Status`, by its name in lower case, and more

    Returns
    -------
    What ``PATH.json`` holds, and ``out``, the path.
    """
    from safetensors.torch import save

    names = [status.name.lower() for status in Status]
    report = {
        "classes": list(classes), "settings": dict(settings),
        "statuses": {name: sum(record[name] for record in videos.values()) for name in names}, "videos": dict(videos),
    }  # fmt: skip
    with atomic_write(path, "wb") as file:
        file.write(save(dict(labels), {"classes": json.dumps(classes)}))  # with several keys the order would vary
    write_json(f"{path}.json", report)
    return {"out": str(path), **report}
