"""Where networks compute, and in which precision: what every command with a network shares."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]


def on_device(values: Tensor, device: torch.device | None) -> Tensor:
    """Values on a device, None for the CPU. What goes to a GPU goes by pinned memory, and nothing waits for the copy.

    Examples
    --------
    >>> values = torch.ones(3)
    >>> on_device(values, torch.device("cpu")) is values
    True
    """
    if device is not None and device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device or "cpu")


def rows_of(values: Tensor, places: Sequence[int]) -> Tensor:
    """Some rows of values, on their device; a GPU would wait for a list as the index.

    Examples
    --------
    >>> rows_of(torch.tensor([4, 5, 6]), [2, 0])
    tensor([6, 4])
    """
    return values.index_select(0, on_device(torch.tensor(places, dtype=torch.long), values.device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: CPUs with AVX512-BF16 or AMX, GPUs from 8.0 on.

    Examples
    --------
    >>> import torch
    >>> isinstance(has_bfloat16(torch.device("cpu")), bool)
    True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(
        getattr(torch.cpu, asks, bool)() for asks in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def set_precision(network: nn.Module, precision: Precision, device: torch.device) -> None:
    """Let the forward passes of a network compute in a precision from now on.

    In bfloat16 they run in ``torch.autocast``, weights stay float32, and what comes out is float32 again: losses,
    gradients of weights, kernels and everything else that follows are computed as ever. A
    :class:`~pyws.models.Backbone` computes its layers in bfloat16 and the rest, its losses among it, in float32.

    Parameters
    ----------
    network : already what it will be: changed and copied by :func:`pyws.models.inference.for_inference` before
    precision : "float32" changes nothing
    device : where the network is; every CPU computes bfloat16, those without its instructions slowly, with a warning

    Raises
    ------
    ValueError : an unknown precision, or a device that does not compute bfloat16

    Examples
    --------
    >>> import torch
    >>> network, rows = torch.nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 1 / 1024]])
    >>> _ = torch.nn.init.ones_(network.weight)
    >>> set_precision(network, "bfloat16", torch.device("cpu"))
    >>> network(rows).item(), network.weight.dtype  # 1 + 1 / 1024 has too many digits
    (1.0, torch.float32)
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision: must be float32 or bfloat16, got {precision!r}")
    if precision == "float32":
        return
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not has_bfloat16(device)):
        raise ValueError(
            f"precision: {device} does not compute bfloat16, which needs compute capability 8.0; float32 can"
        )
    if device.type == "cpu" and not has_bfloat16(device):
        warnings.warn(
            "precision: this CPU has no instructions for bfloat16 and takes up to twenty times as long in it as in "
            "float32",
            stacklevel=2,
        )
    if hasattr(network, "bfloat16_layers"):
        network.bfloat16_layers = True  # type: ignore[assignment]
        return
    around = _Autocast(device.type)
    network.register_forward_pre_hook(around.enter)
    network.register_forward_hook(around.leave, always_call=True)


class _Autocast(threading.local):
    """Hooks around a forward pass: autocast, of this thread, begins before it and ends after it or its error."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entered: list[Any] = []

    def enter(self, network: nn.Module, inputs: Any) -> None:
        self.entered.append(torch.autocast(self.kind, torch.bfloat16))
        self.entered[-1].__enter__()

    def leave(self, network: nn.Module, inputs: Any, output: Any) -> Any:
        self.entered.pop().__exit__(None, None, None)
        return output.float() if getattr(output, "dtype", None) == torch.bfloat16 else output
