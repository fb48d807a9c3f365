"""Networks on disk: safetensors, with what belongs to them as JSON in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyws.errors import DataError
from pyws.files import atomic_write

_MODEL, _MOMENTUM = "model.", "momentum."


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.SGD | None, about: dict[str, Any]) -> None:
    """Write a network, the momentum of its optimizer and ``about``, whole or not at all."""
    from safetensors.torch import save

    tensors = {_MODEL + name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    for index, parameter in enumerate(_parameters(optimizer)):
        buffer = optimizer.state[parameter].get("momentum_buffer") if optimizer is not None else None
        if buffer is not None:
            tensors[f"{_MOMENTUM}{index}"] = buffer.detach().cpu().contiguous()
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, metadata={"pyws": json.dumps(about, allow_nan=False)}))


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.SGD | None = None) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote into a network and an optimizer; returns ``about``.

    Raises
    ------
    DataError : missing, damaged, or of another network
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["pyws"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(
            {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
        )
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(path, f"cannot be read as a checkpoint of this run: {reason}") from error
    for index, parameter in enumerate(_parameters(optimizer)):
        if optimizer is not None and f"{_MOMENTUM}{index}" in tensors:
            optimizer.state[parameter]["momentum_buffer"] = tensors[f"{_MOMENTUM}{index}"].to(parameter.device)
    return about


def _parameters(optimizer: torch.optim.SGD | None) -> list[Tensor]:
    return [] if optimizer is None else [parameter for group in optimizer.param_groups for parameter in group["params"]]
