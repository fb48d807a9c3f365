"""What a run of pyws label will do, how long it may take, and what is chosen to fit a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyws.commands.label.tags import Route
from pyws.segments.snippets.windows import Sampling

STAGES = ("features", "segments", "maps", "first masks", "refined masks", "trained masks", "predicted masks")
"""In the order in which they run."""

MIN_EPOCHS, MIN_MASK_FRAMES, MIN_MASK_EPOCHS, MAX_EVERY, MAX_WINDOWS = 5, 4, 2, 64, 8  # what a budget may go to


@dataclass(frozen=True)
class Choices:
    """What a budget may change; the rest is as the commands' own defaults, or as measured for masks of real videos.

    Parameters
    ----------
    sampling
        Sampling of the network of clips
    epochs
        Epochs of the training of actions
    mask_frames
        Frames of a video that get first masks
    versions
        Versions of pseudo-annotations that masks are trained on; 0 for no training of masks
    mask_epochs
        Epochs of training a segmentation network, for each version
    every
        Frames from one that the trained model segments to the next
    map_clips
        Clips of a video that get maps of an action
    """

    sampling: Sampling
    epochs: int
    mask_frames: int
    versions: int
    mask_epochs: int
    every: int
    map_clips: int = 8


@dataclass(frozen=True)
class Cost:
    """Costs of a stage: seconds and bytes to begin with, and for each of its units."""

    fixed: float = 0.0
    unit: float = 0.0
    bytes: float = 0.0
    fixed_bytes: float = 0.0

    def seconds(self, units: float) -> float:
        """Seconds of so many units; nothing is begun for none."""
        return self.fixed + units * self.unit if units else 0.0


@dataclass(frozen=True)
class Costs:
    """What this machine takes, by stage.

    Parameters
    ----------
    decoding : seconds of a second of video, before the network of clips
    """

    stages: Mapping[str, Cost] = field(default_factory=dict)
    decoding: float = 0.0


@dataclass(frozen=True)
class Length:
    """How long a video is."""

    seconds: float
    frames: int


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Parameters
    ----------
    lengths : lengths of all videos, by name
    actions, objects : the names of those with tags that are actions, and that are objects
    learned : whether some action is learned from the videos
    mapped : a video's name for each of its actions that has maps
    clip : frames of a clip of the network
    steps : stages that can run on this machine, see :class:`~pyws.commands.label.stages.MaskConfig`
    """

    lengths: Mapping[str, Length]
    actions: Sequence[str]
    objects: Sequence[str]
    learned: bool
    mapped: Sequence[str]
    clip: int
    steps: Collection[str] = STAGES

    def units(self, choices: Choices) -> dict[str, int]:
        """Units of each stage: snippets, videos times epochs, clips, frames, frames times epochs."""
        rate, clip = choices.sampling.rate, max(1, self.clip)
        masks = sum(min(choices.mask_frames, self.lengths[one].frames) for one in self.objects)
        trained = masks if choices.versions else 0
        found = {
            "features": sum(max(1, math.ceil(self.lengths[one].seconds * rate)) for one in self.actions),
            "segments": len(self.actions) * (choices.epochs if self.learned else 1),
            "maps": sum(
                min(choices.map_clips, math.ceil(max(1, self.lengths[one].frames) / clip)) for one in self.mapped
            ),
            "first masks": masks,
            "refined masks": masks,
            "trained masks": trained * choices.versions * choices.mask_epochs,
            "predicted masks": sum(math.ceil(self.lengths[one].frames / choices.every) for one in self.objects)
            if trained
            else 0,
        }
        return {stage: units if stage in self.steps else 0 for stage, units in found.items()}

    def minutes(self, choices: Choices, costs: Costs) -> dict[str, float]:
        """Minutes of each stage that has something to do."""
        seconds = {
            stage: costs.stages.get(stage, Cost()).seconds(units) for stage, units in self.units(choices).items()
        }
        if seconds["features"]:
            seconds["features"] += costs.decoding * sum(self.lengths[one].seconds for one in self.actions)
        return {stage: value / 60 for stage, value in seconds.items() if value}

    def megabytes(self, choices: Choices, costs: Costs) -> float:
        """On disk when all is done."""
        units = {stage: count for stage, count in self.units(choices).items() if count and stage in costs.stages}
        return sum(costs.stages[one].fixed_bytes + costs.stages[one].bytes * units[one] for one in units) / 1e6


def minutes_of(text: str) -> float:
    """Minutes of "30m", "2h", "90s".

    Examples
    --------
    >>> minutes_of("30m"), minutes_of("1.5h"), minutes_of("90s")
    (30.0, 90.0, 1.5)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or not float(match[1]) > 0:
        raise ValueError(f"--budget: must be a time such as 30m, 2h or 90s, got {text!r}")
    return float(match[1]) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[match[2]]


def _wider(choices: Choices) -> Choices:
    stride = min(2 * choices.sampling.stride, MAX_WINDOWS * choices.sampling.window)
    return replace(choices, sampling=replace(choices.sampling, stride=max(stride, choices.sampling.stride)))


def _less_training(choices: Choices) -> Choices:
    if choices.versions > 1:
        return replace(choices, versions=choices.versions - 1)
    if choices.mask_epochs > MIN_MASK_EPOCHS:
        return replace(choices, mask_epochs=max(MIN_MASK_EPOCHS, choices.mask_epochs // 2))
    return replace(choices, versions=0)


def _fewer_masks(choices: Choices) -> Choices:
    fewer = max(MIN_MASK_FRAMES, choices.mask_frames // 2)
    return replace(choices, mask_frames=min(fewer, choices.mask_frames))


COARSER: dict[str, Callable[[Choices], Choices]] = {
    "features": _wider,
    "segments": lambda choices: replace(choices, epochs=min(choices.epochs, max(MIN_EPOCHS, choices.epochs // 2))),
    "maps": lambda choices: replace(choices, map_clips=max(1, choices.map_clips // 2)),
    "first masks": _fewer_masks,
    "trained masks": _less_training,
    "predicted masks": lambda choices: replace(choices, every=max(choices.every, min(MAX_EVERY, 2 * choices.every))),
}
"""The next coarser choices for a stage; the same choices where there are none."""


def fitted(
    minutes: float, work: Work, choices: Choices, costs: Costs, begun: Collection[str] = ()
) -> tuple[Choices, float]:
    """Coarser choices until the estimate fits: each time for the stage that takes longest and can be made shorter.

    Parameters
    ----------
    minutes : that the stages may take; of those that have begun nothing counts and nothing changes
    begun : stages that have begun

    Returns
    -------
    The choices, and the minutes that they take; more than ``minutes`` where nothing coarser is left.

    Examples
    --------
    >>> work = Work({"dog": Length(60, 1500)}, [], ["dog"], False, [], 16)
    >>> costs = Costs({"first masks": Cost(0, 6), "trained masks": Cost(0, 0.6), "predicted masks": Cost(0, 0.6)})
    >>> choices = Choices(Sampling(15, 16, 8), 60, 20, 1, 8, 5)
    >>> found, taken = fitted(4, work, choices, costs)
    >>> (found.mask_frames, found.versions, found.mask_epochs, found.every), round(taken, 2)
    ((10, 1, 8, 10), 3.3)
    """
    while True:
        left = {stage: one for stage, one in work.minutes(choices, costs).items() if stage not in begun}
        if sum(left.values()) <= minutes:
            break
        steps = {stage: COARSER[stage](choices) for stage in left if stage in COARSER}
        able = [stage for stage, coarser in steps.items() if coarser != choices]
        if not able:
            break
        choices = steps[max(able, key=lambda stage: left[stage])]
    return choices, sum(left.values())


def plan_document(work: Work, choices: Choices, costs: Costs, routes: Sequence[Route]) -> dict[str, Any]:
    """The plan as one document."""
    minutes, units = work.minutes(choices, costs), work.units(choices)
    return {
        "videos": len(work.lengths),
        "hours": round(sum(one.seconds for one in work.lengths.values()) / 3600, 4),
        "tags": [{**asdict(route), "classes": list(route.classes), "warning": route.warning()} for route in routes],
        "choices": asdict(choices),
        "snippets": units["features"],
        "trained_actions": work.learned,
        "map_clips": units["maps"],
        "mask_frames": units["first masks"],
        "predicted_frames": units["predicted masks"],
        "minutes": {stage: round(value, 2) for stage, value in minutes.items()},
        "total_minutes": round(sum(minutes.values()), 2),
        "megabytes": round(work.megabytes(choices, costs), 1),
    }
