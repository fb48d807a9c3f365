"""The backbones by name: their networks, how each is optimised and proposes, built with what a preset changes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from pyws.checkpoint import Checkpoint, load_into
from pyws.data.features.dataset import FeatureSet
from pyws.data.features.time_base import SAME_RATE
from pyws.errors import DataError
from pyws.files import arguments_of
from pyws.models import BM, RSKP, STPN, WUM, Averaged, Backbone, FACNet, TwoStream
from pyws.segments.config import BackboneOverrides, OptimConfig, ProposalConfig, TrainConfig

FACTS = {
    "backbone": str, "options": dict, "optim": dict, "proposals": dict, "two_streams": bool, "features": int,
    "classes": list,
}  # fmt: skip
_MAX_MEMBERS = 16  # most networks that one is the mean of


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as it was published.

    Parameters
    ----------
    network : its class
    optim : how it is optimised
    proposals : how its maps become candidate segments
    stream_weights : weights of RGB and flow, where there is a network for each
    """

    network: type[Backbone]
    optim: OptimConfig
    proposals: ProposalConfig
    stream_weights: tuple[float, float] = (0.5, 0.5)


BACKBONES = {
    "rskp": BackboneSpec(
        RSKP,
        OptimConfig(lr=5e-5, betas=(0.9, 0.99), weight_decay=5e-4, batch=10, epochs=200),
        ProposalConfig(
            class_threshold=0.1, thresholds=tuple(round(0.001 + 0.002 * i, 3) for i in range(20)), min_length=2,
            overlap="own",
        ),
    ),
    "stpn": BackboneSpec(
        STPN,
        OptimConfig(lr=1e-4, batch=6, average=True, epochs=700),
        ProposalConfig(class_threshold=0.1, thresholds=(0.05,), outer_weight=0.0),
    ),
    "bm": BackboneSpec(
        BM,
        OptimConfig(lr=1e-3, betas=(0.8, 0.999), weight_decay=1e-4, batch=32, average=True, epochs=300),
        ProposalConfig(class_threshold=0.1, or_best=True, thresholds=(0.03,), outer_weight=0.3),
        stream_weights=(0.35, 0.65),  # DGAM's
    ),
    "wum": BackboneSpec(
        WUM,
        OptimConfig(lr=1e-4, weight_decay=5e-4, batch=16, average=True, epochs=800),
        ProposalConfig(
            class_threshold=0.2, or_best=True, thresholds=tuple(round(0.025 * i, 3) for i in range(10)),
            actionness_thresholds=tuple(round(0.4 + 0.025 * i, 3) for i in range(9)), min_length=2, video_weight=0.2,
            iou_threshold=0.6,
        ),
    ),
    "facnet": BackboneSpec(
        FACNet,
        OptimConfig(lr=1e-4, betas=(0.9, 0.99), weight_decay=5e-3, batch=10, epochs=100),
        ProposalConfig(
            class_threshold=0.1, thresholds=(0.03, 0.035, 0.04, 0.045, 0.05), columns=21, min_length=3,
            outer_weight=0.6, overlap="own", iou_threshold=0.2,
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class BuiltBackbone:
    """A network, how it is optimised and proposes, and what it was built from.

    Parameters
    ----------
    name : in :data:`BACKBONES`
    model : the network
    optim, proposals : with the overrides
    overrides : what was changed
    classes : names of the action classes
    """

    name: str
    model: Backbone
    optim: OptimConfig
    proposals: ProposalConfig
    overrides: BackboneOverrides
    classes: tuple[str, ...]

    @contextmanager
    def for_pseudo_labels(self) -> Iterator[Backbone]:
        """The network with the attributes that it has while it makes pseudo labels."""
        usual = {name: getattr(self.model, name) for name in self.overrides.label_options}
        try:
            for name, value in self.overrides.label_options.items():
                setattr(self.model, name, value)
            yield self.model
        finally:
            for name, value in usual.items():
                setattr(self.model, name, value)

    def facts(self) -> dict[str, Any]:
        """What :func:`load_backbone` needs beside the weights, and the ``shares`` and ``raises`` of the members of a
        mean."""
        return {
            "backbone": self.name,
            "options": dict(self.overrides.options),
            "optim": dict(self.overrides.optim),
            "proposals": dict(self.overrides.proposals),
            "two_streams": self.overrides.two_streams,
            "features": self.model.features,
            "classes": list(self.classes),
        }


def optim_of(name: str, config: TrainConfig) -> OptimConfig:
    """How a backbone is optimised under a configuration."""
    overrides = config.backbones.get(name, BackboneOverrides())
    return replace(BACKBONES[name].optim, **overrides.optim)


def build_backbone(
    name: str, features: int, classes: tuple[str, ...], overrides: BackboneOverrides | None = None, seed: int = 0
) -> BuiltBackbone:
    """A backbone with weights drawn from ``seed``, whatever was drawn before.

    Raises
    ------
    ValueError : an unknown name, or two streams of features that do not halve
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {name!r}")
    spec, overrides = BACKBONES[name], overrides or BackboneOverrides()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if overrides.two_streams:
            if features % 2:
                raise ValueError(f"two streams need an even number of feature columns, got {features}")
            rgb, flow = (spec.network(features // 2, len(classes), **overrides.options) for _ in range(2))
            model: Backbone = TwoStream(rgb, flow, spec.stream_weights)
        else:
            model = spec.network(features, len(classes), **overrides.options)
    optim, proposals = replace(spec.optim, **overrides.optim), replace(spec.proposals, **overrides.proposals)
    proposals = proposals.for_classes(len(classes))
    return BuiltBackbone(name, model, optim, proposals, overrides, classes)


def load_backbone(checkpoint: Checkpoint) -> BuiltBackbone:
    """The backbone of a checkpoint, with its weights; a mean of networks where the run had one.

    Raises
    ------
    DataError : an unknown backbone, other options, weights of another model
    """
    facts = checkpoint.facts
    overrides = _overrides_of(checkpoint)
    try:
        built = build_backbone(facts["backbone"], facts["features"], tuple(facts["classes"]), overrides)
        shares = facts.get("shares", [1.0])
        raises = facts.get("raises")  # None: scores of videos are a mean too, as they were in earlier versions
        pool = facts.get("pool", shares if facts.get("pooled") is True else None)  # None: of the mean alone, likewise
        for name, given in (("shares", shares), ("raises", shares if raises is None else raises)):
            if not isinstance(given, list) or not 1 <= len(given) <= _MAX_MEMBERS:
                raise ValueError(f"{name} must be a list of 1 .. {_MAX_MEMBERS} numbers, got {given!r}")
            if not all(isinstance(share, float) and 0 <= share <= 1 for share in given):
                raise ValueError(f"{name} must be in [0, 1], got {given!r}")
        if len(shares) > 1:
            if pool is not None and not (isinstance(pool, list) and all(map(_is_weight, pool))):
                raise ValueError(f"pool must be a list of finite numbers >= 0, got {pool!r}")
            members = [copy.deepcopy(built.model) for _ in shares]
            built = replace(built, model=Averaged(members, shares, raises, pool))
    except (TypeError, ValueError, RuntimeError) as error:  # the last of torch, which has no room for its weights
        raise DataError(checkpoint.path, f"is of another model of {facts['features']} features: {error}") from error
    load_into(built.model, checkpoint)
    return built


def _is_weight(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < math.inf


def _overrides_of(checkpoint: Checkpoint) -> BackboneOverrides:
    """What the run changed in its backbone, every value of the type that it must have."""
    path, facts = checkpoint.path, checkpoint.facts
    if facts["backbone"] not in BACKBONES:
        raise DataError(path, f"backbone must be one of {', '.join(BACKBONES)}, got {facts['backbone']!r}")
    if facts["features"] < 1:
        raise DataError(path, f"features must be >= 1, got {facts['features']}")
    spec = BACKBONES[facts["backbone"]]
    kinds = {"options": spec.network, "optim": OptimConfig, "proposals": ProposalConfig}
    begun = {"options": {"features": 1, "num_classes": 1}, "optim": asdict(spec.optim), "proposals": {}}
    given: dict[str, Any] = {}
    for name, kind in kinds.items():
        whole = arguments_of(path, name, kind, begun[name] | facts[name])
        given[name] = {each: whole[each] for each in facts[name]}
    return BackboneOverrides(**given, two_streams=facts["two_streams"])


def check_data(checkpoint: Checkpoint, built: BuiltBackbone, data: FeatureSet) -> None:
    """Raise unless a data set is of the kind that the checkpoint was trained on.

    Raises
    ------
    DataError : features of another width or another rate
    """
    if data.width != built.model.features:
        raise DataError(checkpoint.path, f"needs features of width {built.model.features}, got {data.width}")
    rate = checkpoint.facts["snippets_per_second"]
    if abs(data.snippets_per_second - rate) > SAME_RATE * rate:
        raise DataError(checkpoint.path, f"needs {rate:g} snippets a second, got {data.snippets_per_second:g}")
