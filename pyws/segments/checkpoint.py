"""Checkpoints: one safetensors file whose tensors are the state of a run and whose header says, as JSON, of what."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyws.errors import DataError
from pyws.files import atomic_write

FORMAT = "pyws segments checkpoint"
VERSION = 2
_FACTS = (
    "backbone",
    "options",
    "recipe",
    "two_streams",
    "features",
    "classes",
    "config",
    "snippets_per_second",
    "epoch",
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name (``model.*``, and in a whole state ``optimizer.*``, ``latest.*``, ``previous.*``) and facts."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors ``prefix.NAME`` by NAME."""
        start = f"{prefix}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_checkpoint(
    path: str | os.PathLike[str], parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]
) -> None:
    """Write the tensors of each part and the facts, whole or not at all."""
    from safetensors.torch import save

    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    header = json.dumps({"format": FORMAT, "version": VERSION, **facts}, allow_nan=False)
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, {"pyws": header}))


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    DataError : no such file, truncated, another kind of file, another version, a fact is missing
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("pyws")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(path, f"is missing, truncated or not safetensors: {error}") from error
    try:
        facts = json.loads(header or "")
        kind, version = facts["format"], facts["version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(path, f"is not a {FORMAT}: its header does not say so") from error
    if (kind, version) != (FORMAT, VERSION):
        raise DataError(path, f"must be a {FORMAT} of version {VERSION}, got {kind!r} of version {version!r}")
    for name in _FACTS:
        if name not in facts:
            raise DataError(path, f"must say its {name}, got {', '.join(facts)}")
    return Checkpoint(Path(path), tensors, facts)


def load_into(module: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Give a module the weights of a checkpoint.

    Raises
    ------
    DataError : weights are missing, unknown or of another shape; names the first
    """
    own, given = module.state_dict(), checkpoint.part("model")
    for name in sorted(own.keys() ^ given.keys()):
        verb = "misses" if name in own else "has an unknown"
        raise DataError(checkpoint.path, f"is of another model: it {verb} weight {name!r}")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            shapes = f"{tuple(tensor.shape)}, got {tuple(given[name].shape)}"
            raise DataError(checkpoint.path, f"is of another model: weight {name!r} must have shape {shapes}")
    module.load_state_dict(given)
