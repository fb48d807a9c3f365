"""Presets of self-training: the rules of the paper, and those that did best where they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pyws.masks.self_training.loop import SelfTrainingConfig

Preset = Literal["paper", "pyws"]

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {
        "selection": {"label_tests": "either", "frame_passes": "all"},
        # The one image network that the paper names, with maps 16 times smaller than the frame.
        "training": {
            "backbone": "resnet50",
            "output_stride": 16,
            "crop": 224,
            "batch": 12,
            "lr": 7e-4,
            "decay_power": 0.9,
            "momentum": 0.9,
            "equal_steps": False,
        },
        "loop": {
            "criterion": "ric",
            "rii_weight": 0.5,
            "choose_after": 0.0,
            "noise": 0.0,
            "returned": "last",
            "constrain_labels": False,
        },
    },
    "pyws": {
        "selection": {"label_tests": "classifier", "frame_passes": "all", "select_share": 0.5},
        "training": {"equal_steps": True},
        "loop": {"criterion": "ric", "choose_after": 0.67, "noise": 1.0, "returned": "best", "constrain_labels": True},
    },
}
"""What each preset sets: values by group of :class:`~.loop.SelfTrainingConfig` and by field. The rest stays as it is by
default."""


def with_rules_of(config: SelfTrainingConfig, preset: Preset) -> SelfTrainingConfig:
    """The selection, the loop and the steps of a preset, with the network and the optimiser of a configuration: what
    differs between two presets on one network.

    Examples
    --------
    >>> from pyws.masks.self_training.train_segmentation import TrainingConfig
    >>> small = SelfTrainingConfig(training=TrainingConfig(backbone="small2d"))
    >>> found = with_rules_of(small, "pyws")
    >>> found.selection.select_share, found.training.equal_steps, found.training.backbone
    (0.5, True, 'small2d')
    """
    rules = PRESETS[preset]
    return replace(
        config,
        selection=replace(config.selection, **{"select_share": None, **rules["selection"]}),
        training=replace(config.training, equal_steps=rules["training"]["equal_steps"]),
        loop=replace(config.loop, **rules["loop"]),
        preset=preset,
    )


def preset_config(preset: Preset, seed: int = 0) -> SelfTrainingConfig:
    """The configuration of a preset, with the defaults of what it does not set.

    Parameters
    ----------
    preset : "paper" (the rules of WS^2 where it states them) or "pyws"
    seed : seed of the run

    Raises
    ------
    ValueError : no such preset

    Examples
    --------
    >>> config = preset_config("pyws")
    >>> config.selection.select_share, config.training.equal_steps, config.training.backbone
    (0.5, True, 'resnet101')
    """
    if preset not in PRESETS:
        raise ValueError(f"preset: must be one of {', '.join(PRESETS)}, got {preset!r}")
    config = SelfTrainingConfig(seed=seed, preset=preset)
    groups = {group: replace(getattr(config, group), **values) for group, values in PRESETS[preset].items()}
    return replace(config, **groups)
