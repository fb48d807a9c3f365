"""Proposals of many videos to detections (suppression, fusion) and to snippet labels (fusion, LinPro)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyws.data.annotations.activitynet import Instances, Truth
from pyws.errors import DataError
from pyws.ops import fuse_segments, suppress_segments
from pyws.ops.linpro import Status, linpro
from pyws.ragged import Segments

FUSIONS = ("gaussian", "uniform", "exponential", "t")
METHODS = ("none", "nms", "soft-nms", *FUSIONS)
RANKINGS = ("score", "support")
SNIPPETS_PER_SECOND = 25 / 16  # I3D features of the literature: 25 frames a second, 16 frames a snippet
GRID = 9  # decimals of a snippet: what is closer to a boundary than this is on it


def fuse_detections(
    proposals: Instances,
    method: str = "gaussian",
    iou_threshold: float = 0.25,
    temperature: float = 0.2,
    overlap: str = "iou",
    sigma: float | None = None,
    snippets_per_second: float = SNIPPETS_PER_SECOND,
    sign_weights: bool = False,
    ranking: str = "score",
    snap: bool = False,
) -> Instances:
    """Suppress or fuse the proposals of each video and class.

    Parameters
    ----------
    proposals : as :func:`pyws.data.annotations.activitynet.read_detections` gives them; the score orders and
        weighs them (eq. 3)
    method : "none", "nms", "soft-nms", or a fusion: "gaussian", "uniform", "exponential", "t"
    iou_threshold, temperature, overlap, sigma : of :func:`pyws.ops.fuse_segments` and
        :func:`pyws.ops.suppress_segments`; ``temperature`` is of the fusions, ``sigma`` of "soft-nms" (default 0.5)
    snippets_per_second : grid on which segments overlap; what ``overlap="own"`` adds to each length is one snippet
    sign_weights : of :func:`pyws.ops.fuse_segments`, with "gaussian"; bounds are then left as the released sums give
        them, on snippets up to their last bits
    ranking : of the fusions: the score is the fused one ("score", eq. 4), or the sum of the members' scores above 0
        ("support"), which ranks what many proposals agree on first
    snap : of the fusions: move fused bounds to the nearest snippet (half to even). A rule that cuts to whole snippets,
        as that of THUMOS14 does, otherwise moves them by half a snippet towards 0 on average

    Returns
    -------
    Instances of the same videos, in their order, each class by falling score. "none" returns the proposals as they are;
    "nms" and "soft-nms" keep the seconds bit for bit. Fused bounds that lie on a snippet are written so that
    ``int(seconds * snippets_per_second)`` gives it back.

    Raises
    ------
    ValueError : an unknown method, overlap or ranking, a number outside its range, ``sigma``, ``sign_weights``,
        ``ranking`` or ``snap`` with another method

    Examples
    --------
    >>> from pyws.data.annotations.activitynet import read_detections
    >>> entries = [{"label": "Diving", "score": 0.5, "segment": [s, s + 16.0]} for s in (0.0, 3.2)]
    >>> fused = fuse_detections(read_detections({"results": {"v": entries}}))
    >>> fused.start.tolist(), fused.end.tolist(), fused.score.tolist()
    ([1.6], [17.6], [0.5])
    """
    if method not in METHODS:
        raise ValueError(f"fuse_detections: method must be one of {', '.join(METHODS)}, got {method!r}")
    if sigma is not None and method != "soft-nms":
        raise ValueError(f"fuse_detections: sigma is of the method soft-nms, got it with {method!r}")
    if sign_weights and method != "gaussian":
        raise ValueError(f"fuse_detections: sign_weights is of the method gaussian, got it with {method!r}")
    if sign_weights and snap:
        raise ValueError("fuse_detections: sign_weights leaves bounds as the released sums give them, got snap")
    if ranking not in RANKINGS:
        raise ValueError(f"fuse_detections: ranking must be one of {', '.join(RANKINGS)}, got {ranking!r}")
    if method not in FUSIONS and (snap or ranking != "score"):
        raise ValueError(f"fuse_detections: ranking and snap are of the fusions, got them with {method!r}")
    if method == "none":
        return proposals
    rows, segments, keys = _grouped(proposals, snippets_per_second)
    if method in FUSIONS:
        fused, taken_by = fuse_segments(
            segments, iou_threshold, temperature, overlap, method, return_membership=True, sign_weights=sign_weights
        )
        bounds = [bound.numpy() for bound in (fused.start, fused.end)]
        if not sign_weights:
            bounds = [np.round(bound, 0 if snap else GRID) for bound in bounds]
        start, end = (to_seconds(bound, snippets_per_second) for bound in bounds)
        group = np.repeat(keys, fused.offsets.diff().numpy())
        video, label = np.divmod(group, len(rows.labels))
        found = Instances(rows.videos, rows.labels, video, label, start, end, fused.score.numpy())
        if ranking == "score":
            return found
        support = np.bincount(taken_by.numpy(), np.maximum(rows.score, 0), len(found))
        return replace(found, score=support).where(np.lexsort((-support, group)))
    softness = 0.5 if method == "soft-nms" and sigma is None else sigma
    kept, indices = suppress_segments(segments, iou_threshold, overlap, softness, return_indices=True)
    return replace(rows.where(indices.numpy()), score=kept.score.numpy())


def _grouped(rows: Instances, snippets_per_second: float) -> tuple[Instances, Segments, np.ndarray]:
    """The rows sorted by video and class, the same as segments on the snippet grid, and the key of each group."""
    if not 0 < snippets_per_second < np.inf:
        raise ValueError(f"snippets_per_second must be > 0, got {snippets_per_second}")
    key = rows.video * len(rows.labels) + rows.label
    order = np.argsort(key, kind="stable")
    rows, key = rows.where(order), key[order]
    keys, firsts = np.unique(key, return_index=True)
    start, end = (torch.from_numpy(seconds * snippets_per_second) for seconds in (rows.start, rows.end))
    score = torch.from_numpy(rows.score)
    return rows, Segments(start, end, score, score, torch.from_numpy(np.append(firsts, len(rows)))), keys


def to_seconds(snippets: np.ndarray, snippets_per_second: float | np.ndarray) -> np.ndarray:
    """Seconds that convert back to no less than the snippet: int() would cut off a whole one for the last bit."""
    seconds = snippets / snippets_per_second
    return np.where(seconds * snippets_per_second < snippets, np.nextafter(seconds, np.inf), seconds)


@dataclass(frozen=True, eq=False)
class VideoLabels:
    """Pseudo labels of one video.

    Parameters
    ----------
    video : its name
    labels : (snippets, classes) float32
    segments : fused segments that the labels keep the scores of
    statuses : how many classes came out as each :class:`pyws.segments.Status`
    residual : the sum over classes of what the labels miss of the scores
    """

    video: str
    labels: Tensor
    segments: int
    statuses: dict[str, int]
    residual: float


def label_videos(
    proposals: Instances,
    truth: Truth,
    classes: Sequence[str],
    method: str = "gaussian",
    iou_threshold: float = 0.25,
    temperature: float = 0.1,
    overlap: str = "iou",
    preset: str = "paper",
    only_tags: bool = False,
    snippets_per_second: float = SNIPPETS_PER_SECOND,
    rows: str | None = None,
) -> list[VideoLabels]:
    """Snippet labels of each video: fusion of its proposals, then :func:`pyws.segments.linpro`, all videos at once.

    Parameters
    ----------
    proposals : see :func:`fuse_detections`
    truth : gives the durations, and the tags
    classes : the columns of the labels
    method, iou_threshold, temperature, overlap : of :func:`fuse_detections`
    preset, rows : of :func:`pyws.segments.linpro`
    only_tags : drop proposals of classes that are not among the video's tags
    snippets_per_second : a video has ``int(duration * snippets_per_second)`` snippets, at least one

    Raises
    ------
    DataError : a video without a duration, a proposal of an unknown class

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
    places = {name: index for index, name in enumerate(classes)}
    for label in proposals.labels:
        if label not in places:
            raise DataError("proposals", f"label must be one of the {len(places)} classes, got {label!r}")
    known = {name: index for index, name in enumerate(truth.instances.videos)}
    for name in proposals.videos:
        if name not in known or np.isnan(truth.duration[known[name]]):
            raise DataError("ground truth", f"must give the duration of video {name!r}")
    in_truth = [known[name] for name in proposals.videos]
    if only_tags:
        tagged = np.array(
            [[label in truth.tags[index] for label in proposals.labels] for index in in_truth], dtype=bool
        )
        proposals = proposals.where(tagged[proposals.video, proposals.label])
    fused = fuse_detections(proposals, method, iou_threshold, temperature, overlap, None, snippets_per_second)
    _, segments, keys = _grouped(fused, snippets_per_second)
    segments = replace(segments, start=segments.start.round(decimals=GRID), end=segments.end.round(decimals=GRID))
    lengths = np.maximum(1, np.floor(truth.duration[in_truth] * snippets_per_second)).astype(np.int64)
    owner, label_of = keys // len(proposals.labels), keys % len(proposals.labels)
    solved = linpro(segments, torch.from_numpy(lengths[owner]), preset, rows=rows)
    columns = np.array([places[label] for label in proposals.labels], dtype=np.int64)[label_of]
    sizes = segments.offsets.diff()
    answer = []
    for video, name in enumerate(proposals.videos):
        groups = np.flatnonzero(owner == video)
        labels = torch.zeros(int(lengths[video]), len(places))
        for group in groups:
            labels[:, columns[group]] = solved.group(int(group)).float()
        statuses = {status.name.lower(): int((solved.status[groups] == status).sum()) for status in Status}
        statuses["empty"] += len(places) - len(groups)
        residual = float(solved.residual[groups].sum())
        answer.append(VideoLabels(name, labels, int(sizes[groups].sum()), statuses, residual))
    return answer
