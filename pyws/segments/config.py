"""Configurations of training, and the presets: by the paper, by its released code, and the recommended one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from pyws.errors import check_fields, check_option
from pyws.models.backbones.rskp import GAUFUSE_CONSISTENCY
from pyws.models.devices import Precision
from pyws.ops.segments.fuse_segments import OVERLAPS
from pyws.ops.segments.propose_segments import MAX_THRESHOLDS, RELEASED_THRESHOLDS, SCORINGS
from pyws.segments.detection.postprocess import PostprocessConfig
from pyws.segments.training.schedule import SCHEDULES, Schedule

Changes = Mapping[str, Any]
_MAX_UPSAMPLE = 64


@dataclass(frozen=True)
class OptimConfig:
    """How a backbone is optimised, by Adam.

    Parameters
    ----------
    lr, betas : learning rate and betas of Adam
    weight_decay : coupled: added to the gradient
    batch : videos in one optimiser step
    average : the gradient of a step is the mean over its videos, not the sum
    epochs : epochs of the backbone's own training
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    batch: int = 10
    average: bool = False
    epochs: int = 200

    def __post_init__(self) -> None:
        check_fields(self, "optimiser", "> 0", "lr")
        check_fields(self, "optimiser", "in [0, 1)", "betas")
        check_fields(self, "optimiser", ">= 0", "weight_decay")
        check_fields(self, "optimiser", ">= 1", "batch", "epochs")


@dataclass(frozen=True)
class ProposalConfig:
    """How activation maps become candidate segments, see :mod:`pyws.segments.detection.proposals`.

    Parameters
    ----------
    class_threshold : a class is proposed in a video whose score reaches this
    or_best : where no class does, propose the best one
    thresholds : thresholds of the activation maps
    columns : where the maps are a softmax and the thresholds were chosen for one over this many columns: over others
        the thresholds keep their ratio to the value of an undecided snippet, see :meth:`for_classes`; None keeps them
    actionness_thresholds : runs of the actionness above these are proposed for each class too
    upsample : positions a snippet to which maps are interpolated before runs are sought, between the middles of
        snippets: bounds of runs may then lie between snippets, and margins of scoring "released" count positions of the
        finer grid
    min_length : least length of a run, in snippets
    scoring : where the outside of a segment lies, see :func:`pyws.ops.propose_segments`
    margin : outside region on either side, in lengths of the segment; for scoring "paper"
    outer_weight, video_weight : score = inside - outer_weight * outside + video_weight * score of the video
    overlap, iou_threshold : overlap and IoU threshold of the backbone's suppression, see
        :func:`pyws.ops.suppress_segments`

    Raises
    ------
    ValueError : thresholds that do not rise, or more than 255; those of the actionness with scoring "released", which
        is defined for a map's own runs; an unknown scoring or overlap; ``upsample`` outside 1 .. 64; a number that is
        not finite or has no meaning, such as a negative margin
    """

    class_threshold: float = 0.1
    or_best: bool = False
    thresholds: tuple[float, ...] = (0.5,)
    columns: int | None = None
    actionness_thresholds: tuple[float, ...] = ()
    upsample: int = 1
    min_length: int = 1
    scoring: str = "paper"
    margin: float = 0.25
    outer_weight: float = 1.0
    video_weight: float = 0.0
    overlap: str = "iou"
    iou_threshold: float = 0.5

    def __post_init__(self) -> None:
        finite = ("thresholds", "actionness_thresholds", "outer_weight", "video_weight")
        check_fields(self, "proposals", "in (-inf, inf)", *finite)
        check_fields(self, "proposals", "in [-inf, inf)", "class_threshold")  # -inf: every class
        check_fields(self, "proposals", ">= 1", "columns", "min_length")
        check_fields(self, "proposals", ">= 0", "margin")
        check_fields(self, "proposals", "in [0, 1]", "iou_threshold")
        check_option("proposals", "scoring", self.scoring, SCORINGS)
        check_option("proposals", "overlap", self.overlap, OVERLAPS)
        for name in ("thresholds", "actionness_thresholds"):
            levels = getattr(self, name)
            if any(low >= high for low, high in pairwise(levels)):
                raise ValueError(f"proposals: {name} must rise, got {list(levels)}")
        if not 1 <= len(self.thresholds) <= MAX_THRESHOLDS:
            raise ValueError(f"proposals: thresholds must be 1 to {MAX_THRESHOLDS} numbers, got {len(self.thresholds)}")
        if self.actionness_thresholds and self.scoring != "paper":
            raise ValueError(f"proposals: actionness_thresholds need scoring 'paper', got {self.scoring!r}")
        if not 1 <= self.upsample <= _MAX_UPSAMPLE:
            raise ValueError(f"proposals: upsample must be in 1 .. {_MAX_UPSAMPLE}, got {self.upsample}")

    def for_classes(self, classes: int) -> ProposalConfig:
        """The same for maps of so many action classes.

        Examples
        --------
        >>> ProposalConfig(thresholds=(0.05,), columns=21).for_classes(6).thresholds  # 1/21 is now 1/7
        (0.15,)
        """
        if self.columns is None or self.columns == classes + 1:
            return self
        factor = self.columns / (classes + 1)
        scaled = tuple(min(round(threshold * factor, 9), 1.0) for threshold in self.thresholds)
        return replace(self, thresholds=scaled, columns=classes + 1)


@dataclass(frozen=True)
class PseudoLabelConfig:
    """How the activation maps of the training videos become pseudo labels.

    Parameters
    ----------
    postprocess : postprocessing of the proposals; the schedule replaces its temperature
    preset, rows : arguments of :func:`pyws.segments.linpro`
    only_tags : no labels for classes that are not tags of the video
    background : label the background too, in videos whose score of it reaches the class threshold
    noise : the network keeps its dropout while it labels
    forget : empty the memory bank of the backbone before each round
    """

    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    preset: str = "paper"  # the least labels, the most uniform of them
    rows: str = "sum"  # paper, eq. 5
    only_tags: bool = True
    background: bool = False
    noise: bool = False
    forget: bool = False


@dataclass(frozen=True)
class TrustConfig:
    """When pseudo labels are adopted, and how far; otherwise the run goes on without them.

    Parameters
    ----------
    agreement : least correlation in time with the labels of networks that never saw the video, on average over classes
    conflict : greatest share of the labels that lies on snippets where another class has a larger one
    shares : where labels are adopted, the share of the network that learns from them (the learner) in the mean with a
        copy that goes on without: the second where the agreement is ``sure`` or more, the third where networks that
        never saw a video agree more with the learner, see ``margin``, and half of ``forgotten`` at most was, else the
        first. None: the learner stands alone
    sure : agreement from which on the second share holds
    margin : by how much the activation maps of those networks correlate more with the learner's maps than with the
        copy's
    likeness : least correlation in time of the learner's and the copy's maps, on average over classes. Below it the
        labels have led to something else than what the tags teach, and the network of the run is the copy
    reach : by how much more of its video the best segment of a tag may cover with the learner than with the copy, on
        average. Above it the labels have levelled the learner's maps, and the network of the run is the copy
    joined : how many times as much of its video the best segment of a tag may cover in the mean of both maps as with
        the learner or the copy, whichever covers more, on average. Above it the mean joins segments that both keep
        apart, and the network of the run is the copy
    forgotten : by how much less often the learner than the copy may score a tag above what is no tag, over the training
        videos. Above it the labels have made the learner forget the tags: the share holds for the maps alone, and the
        scores of videos are the copy's. Up to it the learner's scores raise the copy's by the share, and never lower
        them
    pool : weights of the segments that are proposed from the copy's map, and, times the share, from the learner's,
        where detections are ranked by support; those of the mean of both have the weight 1, and all are pooled. Where
        they are ranked by score, the weights are the shares

    Raises
    ------
    ValueError : a number outside [-1, 1], of the margin [-2, 2], or [0, 1]; a negative ``joined`` or weight
    """

    agreement: float = 0.15
    conflict: float = 0.35
    shares: tuple[float, float, float] | None = (0.1, 0.2, 0.6)
    sure: float = 0.5
    margin: float = 0.1
    likeness: float = 0.33
    reach: float = 0.35
    joined: float = 1.5
    forgotten: float = 0.1
    pool: tuple[float, float] = (2.0, 6.0)

    def __post_init__(self) -> None:
        check_fields(self, "trust", "in [-1, 1]", "agreement", "sure", "likeness")
        check_fields(self, "trust", "in [0, 1]", "conflict", "reach", "forgotten")
        check_fields(self, "trust", "in [-2, 2]", "margin")
        check_fields(self, "trust", ">= 0", "joined")
        if self.shares is not None and not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(f"trust: shares must be in [0, 1], got {self.shares}")
        if not all(0 <= weight < math.inf for weight in self.pool):
            raise ValueError(f"trust: pool must be finite and >= 0, got {self.pool}")


@dataclass(frozen=True)
class BackboneOverrides:
    """What a preset changes in one backbone.

    Parameters
    ----------
    options : arguments of the network
    optim : fields of its :class:`OptimConfig`
    proposals : fields of its :class:`ProposalConfig`
    label_options : attributes that the network has while it makes pseudo labels
    two_streams : one network for the first half of the feature columns (RGB) and one for the second (flow)
    loss_weight : factor of the weight of the distribution loss, which is written for RSKP
    background : target of background in snippets without pseudo labels,
        see :func:`pyws.segments.training.distribution_loss.targets`
    """

    options: Changes = field(default_factory=dict)
    optim: Changes = field(default_factory=dict)
    proposals: Changes = field(default_factory=dict)
    label_options: Changes = field(default_factory=dict)
    two_streams: bool = False
    loss_weight: float = 1.0
    background: float = 0.0

    def over(self, below: BackboneOverrides) -> BackboneOverrides:
        """These changes on top of others."""
        return BackboneOverrides(
            {**below.options, **self.options}, {**below.optim, **self.optim}, {**below.proposals, **self.proposals},
            {**below.label_options, **self.label_options}, self.two_streams or below.two_streams,
            self.loss_weight * below.loss_weight, self.background + below.background,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a run goes, beside the data and the backbone.

    Parameters
    ----------
    schedule : stretched to ``epochs``
    pseudo_labels, detection : how pseudo labels are made, and segments at test time
    backbones : changes to single backbones, by name
    trust : what pseudo labels must show before they are trained on, see :class:`TrustConfig`; None
        asks for nothing
    log_floor : where a target is negative, log probabilities below this give no gradient; None for no floor. Without
        one the loss of a negative target has no lower bound
    clip_norm : greatest norm of the gradient of a step, None for any
    fit : take what is not given of ``epochs``, ``lr`` and ``batch`` by :func:`pyws.segments.training.fitting.fitted`
    epochs, lr, batch : values in place of those of the backbone
    seed : seed of weights, order and noise
    batch_snippets : positions of a padded batch; decides speed and memory, not results beyond rounding
    evaluate_every : epochs between evaluations; the last epoch always is
    precision : precision of the layers of the network, see :func:`pyws.models.devices.set_precision`
    protocol, tious : protocol and IoU thresholds of the evaluation, see :func:`pyws.evaluation.detection_map`

    Raises
    ------
    ValueError : a count below 1, a rate or norm that is not above 0, IoU thresholds outside (0, 1]
    """

    schedule: Schedule = SCHEDULES["pyws"]
    pseudo_labels: PseudoLabelConfig = PseudoLabelConfig()
    detection: PostprocessConfig = field(default_factory=PostprocessConfig)
    backbones: Mapping[str, BackboneOverrides] = field(default_factory=dict)
    trust: TrustConfig | None = None
    log_floor: float | None = -10.0
    clip_norm: float | None = None
    fit: bool = False
    epochs: int | None = None
    lr: float | None = None
    batch: int | None = None
    seed: int = 0
    batch_snippets: int = 16384
    evaluate_every: int = 10
    precision: Precision = "float32"
    protocol: str = "thumos14"
    tious: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "training", ">= 1", "epochs", "batch", "batch_snippets", "evaluate_every")
        check_fields(self, "training", "> 0", "lr", "clip_norm")
        check_fields(self, "training", "in (-inf, 0]", "log_floor")
        if self.tious is not None and not (self.tious and all(0 < tiou <= 1 for tiou in self.tious)):
            raise ValueError(f"tious must be one or more numbers in (0, 1], got {list(self.tious)}")


# GauFuse's code on RSKP: mixes of the two maps, the consistency loss back to 1 after epoch 200, class threshold 0.16.
_RSKP = BackboneOverrides(
    {"mix": 0.85, "consistency": GAUFUSE_CONSISTENCY},
    {},
    {"class_threshold": 0.16, "thresholds": RELEASED_THRESHOLDS, "scoring": "released", "iou_threshold": 0.25},
    {"mix": 0.8},
)
# Ours: at its published weight the consistency loss lets background grow until attention is left on peaks alone.
_PYWS_RSKP = replace(_RSKP, options={**_RSKP.options, "consistency": ((0, 0.1),)})
# Nothing in STPN pushes a map down where no label is: pseudo labels would make it wider and wider.
_STPN = BackboneOverrides(
    proposals={"thresholds": tuple(round(0.025 * i, 3) for i in range(1, 21))}, loss_weight=0.3, background=1.0
)  # one threshold never gives two segments that overlap, so that there would be nothing to fuse
_BM = BackboneOverrides(loss_weight=0.03, background=1.0)
_RELEASED_RSKP = replace(_RSKP, options={**_RSKP.options, "memory_class_bug": True})

# RSKP on ActivityNet 1.3, as its author answered: ACM-Net's training and post-processing around RSKP's network. The
# batch is GauFuse's; that a step's gradient is the mean over it is an assumption.
_ACTIVITYNET_RSKP = BackboneOverrides(
    {"dropout": 0.7, "scale": 10.0, "mix": 0.8, "background": 0.1, "consistency": ((0, 1.0),)},
    {"lr": 2e-5, "weight_decay": 1e-3, "batch": 128, "average": True},
    {
        "class_threshold": 0.1, "thresholds": (0.005, 0.01, 0.015, 0.02), "min_length": 1, "scoring": "paper",
        "actionness_thresholds": (0.005, 0.01, 0.015, 0.02), "upsample": 20, "margin": 0.15, "overlap": "iou",
        "iou_threshold": 0.9,
    },
    {"mix": 0.8},
)  # fmt: skip

BENCHMARKS: dict[str, dict[str, BackboneOverrides]] = {
    "thumos14": {},  # what the backbones come with
    "activitynet": {"rskp": _ACTIVITYNET_RSKP},
}

# Backbones that were published as a network for each stream, with what those differ in from the joint one.
TWO_STREAMS = {
    "stpn": BackboneOverrides({"embedding": False}, two_streams=True),
    "bm": BackboneOverrides(two_streams=True),
    "facnet": BackboneOverrides(two_streams=True),
}


def adapted(config: TrainConfig, backbone: str, benchmark: str = "thumos14", two_streams: bool = False) -> TrainConfig:
    """The configuration with what a backbone was published with for a benchmark, or with a network for each stream.

    Parameters
    ----------
    config : one of :data:`PRESETS`, or changed from it
    backbone : a name in :data:`pyws.segments.backbones.BACKBONES`
    benchmark : a name in :data:`BENCHMARKS`, whose changes go before what the preset changes in the backbone
    two_streams : a network for RGB and one for flow, as ``stpn``, ``bm`` and ``facnet`` were published

    Raises
    ------
    ValueError : no configuration of this backbone for the benchmark, or one that was published for joint features

    Examples
    --------
    >>> adapted(PRESETS["pyws"], "rskp", "activitynet").backbones["rskp"].optim["lr"]
    2e-05
    """
    if benchmark not in BENCHMARKS or (BENCHMARKS[benchmark] and backbone not in BENCHMARKS[benchmark]):
        known = [name for name, changes in BENCHMARKS.items() if not changes or backbone in changes]
        raise ValueError(f"benchmark of {backbone} must be one of {', '.join(known)}, got {benchmark!r}")
    if two_streams and backbone not in TWO_STREAMS:
        raise ValueError(f"two streams are for {', '.join(TWO_STREAMS)}; {backbone} takes joint features")
    changes = config.backbones.get(backbone, BackboneOverrides())
    changes = BENCHMARKS[benchmark].get(backbone, BackboneOverrides()).over(changes)
    if two_streams:
        changes = TWO_STREAMS[backbone].over(changes)
    return replace(config, backbones={**config.backbones, backbone: changes})


# Chosen on proposals of THUMOS14 by ``pyws segments compare``.
SUPPORT = PostprocessConfig(iou_threshold=0.4, ranking="support")

PRESETS = {
    # The backbone alone: the baseline.
    "baseline": TrainConfig(SCHEDULES["baseline"], detection=PostprocessConfig("nms")),
    # As section 4.2 of the paper says, and where it is silent as stated in the schedule.
    "paper": TrainConfig(
        SCHEDULES["paper"], PseudoLabelConfig(only_tags=False), PostprocessConfig(temperature=0.03), log_floor=None
    ),
    # As the released code does it; docs/reference/presets.md lists what is left out.
    "released": TrainConfig(
        SCHEDULES["released"],
        PseudoLabelConfig(
            PostprocessConfig(overlap="own", weigh_by="inner"),
            preset="released",
            only_tags=False,
            background=True,
            noise=True,
            forget=True,
        ),
        PostprocessConfig(overlap="own", weigh_by="inner"),
        {"rskp": _RELEASED_RSKP},
        log_floor=None,
    ),
    # Recommended; docs/results/segments/parts-of-gaufuse.md has the measurements that chose it.
    "pyws": TrainConfig(
        pseudo_labels=PseudoLabelConfig(rows="mean"),
        detection=SUPPORT,
        backbones={"rskp": _PYWS_RSKP, "stpn": _STPN, "bm": _BM},
        trust=TrustConfig(),
        fit=True,
    ),
}
