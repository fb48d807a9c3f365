"""From candidate segments to detections: suppression or fusion of those that overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyws.data.annotations.activitynet import Instances
from pyws.data.features.listing import SNIPPETS_PER_SECOND
from pyws.data.features.time_base import SnippetGrids
from pyws.errors import check_fields, check_option
from pyws.ops import fuse_segments, suppress_segments
from pyws.ops.segments.fuse_segments import OVERLAPS
from pyws.ragged import Segments

FUSIONS = ("gaussian", "uniform", "exponential", "t")
METHODS = ("none", "nms", "soft-nms", *FUSIONS)
RANKINGS = ("score", "support", "saturated")
TEMPERATURE, IOU_THRESHOLD, OVERLAP, SIGMA = 0.2, 0.25, "iou", 0.5  # where nothing else is asked for
GRID = 9  # decimals of a snippet: what is closer to a boundary than this is on it


@dataclass(frozen=True)
class PostprocessConfig:
    """How candidate segments become detections.

    Parameters
    ----------
    method : "none", "nms", "soft-nms", or a fusion: "gaussian", "uniform", "exponential", "t"
    temperature : temperature of the fusions; 0.2 if None
    iou_threshold, overlap : IoU threshold and overlap for the fusions and "nms", ``overlap`` also for "soft-nms"; 0.25
        and "iou" if None, or in suppression the values of the backbone whose maps were proposed from. See
        :func:`pyws.ops.fuse_segments` and :func:`pyws.ops.suppress_segments`
    weigh_by : weights in the fusions: "score", which also orders the candidates (eq. 3), or "inner", the mean
        activation inside
    sigma : width of the decay in "soft-nms"; 0.5 if None
    sign_weights : weights keep their sign in "gaussian", see :func:`pyws.ops.fuse_segments`; bounds are then left as
        the released sums give them, on snippets up to their last bits
    ranking : score of fused segments: the score is the fused one ("score", eq. 4), the sum s of the members' scores
        above 0 ("support"), which ranks what many candidates agree on first, or 1 - exp(-s) ("saturated"): the same
        order in [0, 1)
    snap : move fused bounds to the nearest snippet (half to even). A rule that cuts to whole snippets,
        as THUMOS14's does, otherwise moves them by half a snippet towards 0 on average

    Raises
    ------
    ValueError : an unknown method, overlap, weight or ranking; anything with a method that has none of it

    Examples
    --------
    >>> PostprocessConfig("nms", snap=True)
    Traceback (most recent call last):
        ...
    ValueError: postprocess: snap is of gaussian, uniform, exponential, t; got it with 'nms'
    """

    method: str = "gaussian"
    temperature: float | None = None
    iou_threshold: float | None = None  # 0.25 is the released one; the paper names none
    overlap: str | None = None  # paper, eq. 1: "iou"
    weigh_by: str = "score"  # paper, eq. 3
    sigma: float | None = None
    sign_weights: bool = False
    ranking: str = "score"
    snap: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "postprocess", "> 0", "temperature", "sigma")
        check_fields(self, "postprocess", "in [0, 1]", "iou_threshold")
        choices = {"method": METHODS, "weigh_by": ("score", "inner"), "ranking": RANKINGS}
        choices |= {} if self.overlap is None else {"overlap": OVERLAPS}
        for name, known in choices.items():
            check_option("postprocess", name, getattr(self, name), known)
        usual = PostprocessConfig.__dataclass_fields__
        for name, methods in _METHODS_OF.items():
            if self.method not in methods and getattr(self, name) != usual[name].default:
                raise ValueError(f"postprocess: {name} is of {', '.join(methods)}; got it with {self.method!r}")
        if self.sign_weights and self.snap:
            raise ValueError("postprocess: sign_weights leaves bounds as the released sums give them, got snap")

    def with_method(self, method: str) -> PostprocessConfig:
        """The same by another method, without what that has not.

        Examples
        --------
        >>> PostprocessConfig(temperature=0.1, iou_threshold=0.4).with_method("nms").iou_threshold
        0.4
        """
        kept = {name: getattr(self, name) for name, methods in _METHODS_OF.items() if method in methods}
        return PostprocessConfig(method, **kept)

    @property
    def fuses(self) -> bool:
        """Whether the method makes new segments; the others choose among the candidates."""
        return self.method in FUSIONS


_METHODS_OF = {  # which methods have what
    "temperature": FUSIONS,
    "iou_threshold": ("nms", *FUSIONS),
    "overlap": ("nms", "soft-nms", *FUSIONS),
    "weigh_by": FUSIONS,
    "sigma": ("soft-nms",),
    "sign_weights": ("gaussian",),
    "ranking": FUSIONS,
    "snap": FUSIONS,
}


def postprocess(segments: Segments, config: PostprocessConfig) -> tuple[Segments, Tensor]:
    """Suppress or fuse the candidates of each group.

    Parameters
    ----------
    segments : candidates in snippets
    config : how

    Returns
    -------
    segments : those that remain, each group by falling score (candidates of method "none" as they come); fused bounds
        are rounded to the grid unless ``config.sign_weights``
    indices : int64, of each remaining segment its candidate; of the fusions, of each candidate the segment that it is
        part of
    """
    if config.method == "none":
        return segments, torch.arange(len(segments.start), device=segments.start.device)
    iou = IOU_THRESHOLD if config.iou_threshold is None else config.iou_threshold
    overlap = config.overlap or OVERLAP
    if not config.fuses:
        sigma = SIGMA if config.method == "soft-nms" and config.sigma is None else config.sigma
        return suppress_segments(segments, iou, overlap, sigma, return_indices=True)
    temperature = TEMPERATURE if config.temperature is None else config.temperature
    weighed = segments if config.weigh_by == "inner" else replace(segments, weight=segments.score)
    fused, member_of = fuse_segments(
        weighed, iou, temperature, overlap, config.method, return_membership=True, sign_weights=config.sign_weights
    )  # fmt: skip
    if not config.sign_weights:
        decimals = 0 if config.snap else GRID
        start, end = (bound.round(decimals=decimals) for bound in (fused.start, fused.end))
        fused = replace(fused, start=start, end=end)
    return (fused, member_of) if config.ranking == "score" else _by_support(fused, member_of, segments, config.ranking)


def _by_support(fused: Segments, member_of: Tensor, candidates: Segments, ranking: str) -> tuple[Segments, Tensor]:
    """Fused segments scored by what their members' scores above 0 add up to, each group by falling support."""
    support = torch.zeros_like(fused.score).index_add(0, member_of, candidates.score.clamp_min(0).to(fused.score))
    order = support.argsort(descending=True, stable=True)
    order = order[fused.owner[order].argsort(stable=True)]
    place = torch.empty_like(order).index_copy(0, order, torch.arange(len(order)))
    score = support if ranking == "support" else -torch.expm1(-support)
    return replace(fused, score=score).where(order, fused.offsets), place[member_of]


def fuse_detections(
    proposals: Instances,
    config: PostprocessConfig = PostprocessConfig(),
    snippets_per_second: float | SnippetGrids = SNIPPETS_PER_SECOND,
) -> Instances:
    """Suppress or fuse the proposals of each video and class.

    Parameters
    ----------
    proposals : as :func:`pyws.data.annotations.activitynet.read_detections` gives them; the score orders and
        weighs them (eq. 3)
    config : how
    snippets_per_second : grid on which segments overlap, of all videos or of each; what ``overlap="own"`` adds to
        each length is one snippet

    Returns
    -------
    Instances of the same videos, in their order, each class by falling score. "none" returns the proposals as they are;
    "nms" and "soft-nms" keep the seconds bit for bit. Fused bounds that lie on a snippet are written so that
    ``int(seconds * snippets_per_second)`` gives it back.

    Raises
    ------
    ValueError : an unknown overlap, a number outside its range, weights by the activation inside, which detections do
        not have

    Examples
    --------
    >>> from pyws.data.annotations.activitynet import read_detections
    >>> entries = [{"label": "Diving", "score": 0.5, "segment": [s, s + 16.0]} for s in (0.0, 3.2)]
    >>> fused = fuse_detections(read_detections({"results": {"v": entries}}))
    >>> fused.start.tolist(), fused.end.tolist(), fused.score.tolist()
    ([1.6], [17.6], [0.5])
    """
    if config.weigh_by != "score":
        raise ValueError(f"fuse_detections: weigh_by must be 'score', got {config.weigh_by!r}")
    if config.method == "none":
        return proposals
    grids = SnippetGrids.of(snippets_per_second)
    rows, segments, keys = group_instances(proposals, grids)
    found, indices = postprocess(segments, config)
    if not config.fuses:
        return replace(rows.where(indices.numpy()), score=found.score.numpy())
    group = np.repeat(keys, found.offsets.diff().numpy())
    video, label = np.divmod(group, len(rows.labels))
    start, end = (grids.seconds(rows.videos, video, bound.numpy()) for bound in (found.start, found.end))
    return Instances(rows.videos, rows.labels, video, label, start, end, found.score.numpy())


def group_instances(rows: Instances, grids: SnippetGrids) -> tuple[Instances, Segments, np.ndarray]:
    """The rows sorted by video and class, the same as segments on the snippet grid, and the key of each group."""
    key = rows.video * len(rows.labels) + rows.label
    order = np.argsort(key, kind="stable")
    rows, key = rows.where(order), key[order]
    keys, firsts = np.unique(key, return_index=True)
    start, end = (
        torch.from_numpy(grids.places(rows.videos, rows.video, seconds)) for seconds in (rows.start, rows.end)
    )
    score = torch.from_numpy(rows.score)
    return rows, Segments(start, end, score, score, torch.from_numpy(np.append(firsts, len(rows)))), keys
