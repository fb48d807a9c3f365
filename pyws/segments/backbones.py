"""The backbones by name, built for a data set with what a preset changes in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from pyws.data.features.dataset import FeatureSet
from pyws.errors import DataError
from pyws.models import BM, RSKP, STPN, WUM, Backbone, FACNet, Recipe, TwoStream
from pyws.segments.checkpoint import Checkpoint, load_into
from pyws.segments.config import HostSettings

HOSTS: dict[str, type[Backbone]] = {"rskp": RSKP, "stpn": STPN, "bm": BM, "wum": WUM, "facnet": FACNet}
STREAM_WEIGHTS = {"bm": (0.35, 0.65)}  # of RGB and flow, where they differ (DGAM's)


@dataclass(frozen=True, eq=False)
class Host:
    """A backbone, the recipe it follows, and what they were built from."""

    name: str
    model: Backbone
    recipe: Recipe
    settings: HostSettings
    classes: tuple[str, ...]

    @contextmanager
    def labelling(self) -> Iterator[Backbone]:
        """The backbone with the attributes that it has while it makes pseudo labels."""
        usual = {name: getattr(self.model, name) for name in self.settings.labelling}
        try:
            for name, value in self.settings.labelling.items():
                setattr(self.model, name, value)
            yield self.model
        finally:
            for name, value in usual.items():
                setattr(self.model, name, value)

    def facts(self) -> dict[str, Any]:
        """What :func:`load_host` needs beside the weights."""
        return {
            "backbone": self.name,
            "options": dict(self.settings.options),
            "recipe": dict(self.settings.recipe),
            "two_streams": self.settings.two_streams,
            "features": self.model.features,
            "classes": list(self.classes),
        }


def build_host(
    name: str, features: int, classes: tuple[str, ...], settings: HostSettings | None = None, seed: int = 0
) -> Host:
    """A backbone with weights drawn from ``seed``, whatever was drawn before.

    Raises
    ------
    ValueError : an unknown name, or two streams of features that do not halve
    """
    if name not in HOSTS:
        raise ValueError(f"backbone must be one of {', '.join(HOSTS)}, got {name!r}")
    settings = settings or HostSettings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.two_streams:
            if features % 2:
                raise ValueError(f"two streams need an even number of feature columns, got {features}")
            rgb, flow = (HOSTS[name](features // 2, len(classes), **settings.options) for _ in range(2))
            model: Backbone = TwoStream(rgb, flow, STREAM_WEIGHTS.get(name, (0.5, 0.5)))
        else:
            model = HOSTS[name](features, len(classes), **settings.options)
    recipe = replace(model.recipe, **settings.recipe)
    return Host(name, model, recipe, settings, classes)


def load_host(checkpoint: Checkpoint) -> Host:
    """The backbone of a checkpoint, with its weights.

    Raises
    ------
    DataError : an unknown backbone, other options, weights of another model
    """
    facts = checkpoint.facts
    settings = HostSettings(facts["options"], facts["recipe"], two_streams=facts["two_streams"])
    try:
        host = build_host(facts["backbone"], int(facts["features"]), tuple(facts["classes"]), settings)
    except (TypeError, ValueError) as error:
        raise DataError(checkpoint.path, f"is of another model: {error}") from error
    load_into(host.model, checkpoint)
    return host


def check_data(checkpoint: Checkpoint, host: Host, data: FeatureSet) -> None:
    """Raise unless a data set is of the kind that the checkpoint was trained on.

    Raises
    ------
    DataError : features of another width or another rate
    """
    if data.width != host.model.features:
        raise DataError(checkpoint.path, f"needs features of width {host.model.features}, got {data.width}")
    rate = checkpoint.facts["snippets_per_second"]
    if data.snippets_per_second != rate:
        raise DataError(checkpoint.path, f"needs {rate:g} snippets a second, got {data.snippets_per_second:g}")
