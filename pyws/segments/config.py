"""Settings of training, and the presets: how the paper describes it, how its code was released, and pyws's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyws.models.rskp import GAUFUSE_CONSISTENCY
from pyws.ops.propose_segments import RELEASED_THRESHOLDS
from pyws.segments.detections import FUSIONS
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
    program : preset of :func:`pyws.segments.linpro`
    only_tags : no labels for classes that are not tags of the video
    noise : the network keeps its dropout while it labels
    forget : empty the host's memory bank at each renewal
    """

    merging: Merging = Merging()
    program: str = "paper"  # the least labels, the most uniform of them
    only_tags: bool = True
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
    """

    options: Settings = field(default_factory=dict)
    recipe: Settings = field(default_factory=dict)
    labelling: Settings = field(default_factory=dict)


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
_RELEASED_RSKP = replace(_RSKP, options={**_RSKP.options, "memory_class_bug": True})

PRESETS = {
    # The host alone, by its own recipe: the baseline.
    "host": TrainConfig(SCHEDULES["host"], detection=Merging("nms")),
    # As section 4.2 of the paper says, and where it is silent as stated in the schedule.
    "paper": TrainConfig(SCHEDULES["paper"], Labelling(only_tags=False), log_floor=None),
    # As the released code does it; docs/training.md lists what is left out.
    "released": TrainConfig(
        SCHEDULES["released"],
        Labelling(
            Merging(overlap="own", weigh_by="inner"), program="released", only_tags=False, noise=True, forget=True
        ),
        Merging(temperature=0.2, overlap="own", weigh_by="inner"),
        {"rskp": _RELEASED_RSKP},
        log_floor=None,
    ),
    # Recommended: the released course without its faults.
    "pyws": TrainConfig(hosts={"rskp": _RSKP}),
}
