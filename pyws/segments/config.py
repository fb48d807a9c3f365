"""Settings of training, and the presets: how the paper describes it, how its code was released, and pyws's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyws.models.rskp import GAUFUSE_CONSISTENCY
from pyws.ops.propose_segments import RELEASED_THRESHOLDS
from pyws.segments.postprocess import FUSIONS
from pyws.segments.schedule import SCHEDULES, Schedule

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Merging:
    """How proposals become segments.

    Parameters
    ----------
    method : a fusion ("gaussian", "uniform", "exponential", "t"), "nms" (the host's own suppression), or "none"
    temperature, iou_threshold, overlap : of the fusions, see :func:`pyws.ops.fuse_segments`
    weigh_by : "score", the confidence that also orders them (eq. 3), or "inner", the mean activation inside

    Raises
    ------
    ValueError : an unknown method, or unknown weights
    """

    method: str = "gaussian"
    temperature: float = 0.03  # paper, section 4.2: of testing; training follows the schedule
    iou_threshold: float = 0.25  # released; the paper names none
    overlap: str = "iou"  # paper, eq. 1
    weigh_by: str = "score"  # paper, eq. 3

    def __post_init__(self) -> None:
        for name, choices in (("method", ("none", "nms", *FUSIONS)), ("weigh_by", ("score", "inner"))):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


@dataclass(frozen=True)
class Labelling:
    """How the activation maps of the training videos become pseudo labels.

    Parameters
    ----------
    merging : its temperature is replaced by the schedule's
    program, rows : preset of :func:`pyws.segments.linpro`, and what its rows keep of a segment's score
    only_tags : no labels for classes that are not tags of the video
    background : label the background too, in videos whose score of it reaches the class threshold
    noise : the network keeps its dropout while it labels
    forget : empty the host's memory bank at each renewal
    """

    merging: Merging = Merging()
    program: str = "paper"  # the least labels, the most uniform of them
    rows: str = "sum"  # paper, eq. 5
    only_tags: bool = True
    background: bool = False
    noise: bool = False
    forget: bool = False


@dataclass(frozen=True)
class HostSettings:
    """What a preset changes in one host.

    Parameters
    ----------
    options : arguments of the backbone
    recipe : fields of its :class:`pyws.models.Recipe`
    labelling : attributes of the backbone that have these values while it makes pseudo labels
    two_streams : one network for the first half of the feature columns (RGB) and one for the second (flow)
    weight : factor of the weight of the distribution loss, which is written for RSKP
    rest : how far snippets without pseudo labels are taught to be background,
        see :func:`pyws.segments.distribution_loss.targets`
    """

    options: Settings = field(default_factory=dict)
    recipe: Settings = field(default_factory=dict)
    labelling: Settings = field(default_factory=dict)
    two_streams: bool = False
    weight: float = 1.0
    rest: float = 0.0

    def over(self, below: HostSettings) -> HostSettings:
        """These changes on top of others."""
        return HostSettings(
            {**below.options, **self.options}, {**below.recipe, **self.recipe}, {**below.labelling, **self.labelling},
            self.two_streams or below.two_streams, self.weight * below.weight, self.rest + below.rest,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a run goes, beside the data and the backbone.

    Parameters
    ----------
    schedule : stretched to ``epochs``
    labelling, detection : of pseudo labels, and of segments at test time
    hosts : changes to single backbones, by name
    log_floor : where a target is negative, log probabilities below this give no gradient; None for no floor. Without
        one the loss of a negative target has no lower bound
    clip_norm : greatest norm of the gradient of a step, None for any
    epochs, lr, batch : in place of the host's
    seed : of weights, order and noise
    batch_snippets : positions of a padded batch; decides speed and memory, not results beyond rounding
    evaluate_every : epochs between evaluations; the last epoch always is
    protocol, tious : of the evaluation, see :func:`pyws.evaluation.detection_map`

    Raises
    ------
    ValueError : a count below 1, a rate or norm that is not above 0, IoU thresholds outside (0, 1]
    """

    schedule: Schedule = SCHEDULES["pyws"]
    labelling: Labelling = Labelling()
    detection: Merging = Merging()
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    log_floor: float | None = -10.0
    clip_norm: float | None = None
    epochs: int | None = None
    lr: float | None = None
    batch: int | None = None
    seed: int = 0
    batch_snippets: int = 16384
    evaluate_every: int = 10
    protocol: str = "thumos14"
    tious: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "batch_snippets", "evaluate_every"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"{name} must be 1 or more, got {count}")
        for name in ("lr", "clip_norm"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be > 0, got {value}")
        if self.tious is not None and not (self.tious and all(0 < tiou <= 1 for tiou in self.tious)):
            raise ValueError(f"tious must be one or more numbers in (0, 1], got {list(self.tious)}")


# GauFuse's code on RSKP: mixes of the two maps, the teaching loss back to 1 after epoch 200, class threshold 0.16.
_RSKP = HostSettings(
    {"mix": 0.85, "consistency": GAUFUSE_CONSISTENCY},
    {"class_threshold": 0.16, "thresholds": RELEASED_THRESHOLDS, "scoring": "released", "iou_threshold": 0.25},
    {"mix": 0.8},
)
# Hosts whose maps pseudo labels make wider and wider: nothing in them pushes a map down where no label is.
_WIDE = HostSettings(weight=0.3, rest=1.0)
_RELEASED_RSKP = replace(_RSKP, options={**_RSKP.options, "memory_class_bug": True})

# RSKP on ActivityNet 1.3, as its author answered: ACM-Net's training and post-processing around RSKP's network. The
# batch is GauFuse's; that a step's gradient is the mean over it is an assumption.
_ACTIVITYNET_RSKP = HostSettings(
    {"dropout": 0.7, "scale": 10.0, "mix": 0.8, "background": 0.1, "consistency": ((0, 1.0),)},
    {
        "lr": 2e-5, "weight_decay": 1e-3, "batch": 128, "average": True, "class_threshold": 0.1,
        "thresholds": (0.005, 0.01, 0.015, 0.02), "actionness_thresholds": (0.005, 0.01, 0.015, 0.02),
        "min_length": 1, "scoring": "paper", "margin": 0.15, "overlap": "iou", "iou_threshold": 0.9,
    },
    {"mix": 0.8},
)  # fmt: skip

RECIPES: dict[str, dict[str, HostSettings]] = {
    "thumos14": {},  # what the hosts come with
    "activitynet": {"rskp": _ACTIVITYNET_RSKP},
}

# Hosts that were published as a network for each stream, with what those differ in from the joint one.
TWO_STREAMS = {
    "stpn": HostSettings({"embedding": False}, two_streams=True),
    "bm": HostSettings(two_streams=True),
    "facnet": HostSettings(two_streams=True),
}


def adapted(config: TrainConfig, backbone: str, recipe: str = "thumos14", two_streams: bool = False) -> TrainConfig:
    """The settings with a backbone's recipe for another data set, or with a network for each stream.

    Parameters
    ----------
    config : one of :data:`PRESETS`, or changed from it
    backbone : a name in :data:`pyws.segments.backbones.HOSTS`
    recipe : a name in :data:`RECIPES`; goes before what the preset changes in the host
    two_streams : a network for RGB and one for flow, as ``stpn``, ``bm`` and ``facnet`` were published

    Raises
    ------
    ValueError : no such recipe of this backbone, or one that was published for joint features

    Examples
    --------
    >>> adapted(PRESETS["pyws"], "rskp", "activitynet").hosts["rskp"].recipe["lr"]
    2e-05
    """
    if recipe not in RECIPES or (RECIPES[recipe] and backbone not in RECIPES[recipe]):
        known = [name for name, hosts in RECIPES.items() if not hosts or backbone in hosts]
        raise ValueError(f"recipe of {backbone} must be one of {', '.join(known)}, got {recipe!r}")
    if two_streams and backbone not in TWO_STREAMS:
        raise ValueError(f"two streams are for {', '.join(TWO_STREAMS)}; {backbone} takes joint features")
    settings = config.hosts.get(backbone, HostSettings())
    settings = RECIPES[recipe].get(backbone, HostSettings()).over(settings)
    if two_streams:
        settings = TWO_STREAMS[backbone].over(settings)
    return replace(config, hosts={**config.hosts, backbone: settings})


PRESETS = {
    # The host alone, by its own recipe: the baseline.
    "host": TrainConfig(SCHEDULES["host"], detection=Merging("nms")),
    # As section 4.2 of the paper says, and where it is silent as stated in the schedule.
    "paper": TrainConfig(SCHEDULES["paper"], Labelling(only_tags=False), log_floor=None),
    # As the released code does it; docs/training.md lists what is left out.
    "released": TrainConfig(
        SCHEDULES["released"],
        Labelling(
            Merging(overlap="own", weigh_by="inner"),
            program="released",
            only_tags=False,
            background=True,
            noise=True,
            forget=True,
        ),
        Merging(temperature=0.2, overlap="own", weigh_by="inner"),
        {"rskp": _RELEASED_RSKP},
        log_floor=None,
    ),
    # Recommended; docs/segments.md has the measurements that chose it.
    "pyws": TrainConfig(
        labelling=Labelling(rows="mean"),
        hosts={"rskp": _RSKP, "stpn": _WIDE, "bm": HostSettings(weight=0.3), "facnet": _WIDE},
    ),
}
