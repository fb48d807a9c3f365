"""A GPU's stand-in: tensors that say they are on CUDA and compute on the CPU, and a count of what waits for the card.

What a real one would refuse is refused: operations on tensors of two devices. Gradients are not computed, since torch's
engine wants a real device: ``backward`` and ``torch.autograd.grad`` give ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import emulation
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from pyws.ops import _library

CARD = torch.device("cuda", 0)
# Operations whose answer, or its size, the host must know.
READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive",
    "bincount",
}  # fmt: skip


class OnCard(torch.Tensor):
    """A tensor on the card that does not exist; ``inner`` has its values."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnCard:
        place = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), **place, device=CARD)
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function} of a tensor of the stand-in, outside of it")


class _HostGenerator(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> _HostGenerator:
        return super().__new__(cls)


class Card(TorchDispatchMode):
    """Computes for tensors of the stand-in.

    Attributes
    ----------
    waits : what made the host wait for the card, and how often
    copies : how often tensors came from pinned memory without a wait
    """

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that torch does not look for a driver
        self.waits: Counter[str] = Counter()
        self.copies = 0
        self._pinned: list[torch.Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), function._schema.name.removeprefix("aten::")
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        ours = [one for one in tensors if isinstance(one, OnCard)]
        wanted = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
        if name == "is_pinned":
            return any(one is args[0] for one in self._pinned)
        if name in ("_pin_memory", "pin_memory"):
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        if function.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            with self:  # in inference mode and in kernels nothing has taken it apart yet
                return function.decompose(*args, **kwargs)
        if function.namespace == "pyws":
            with self:  # the kernel, which launches by KERNELS
                return function.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *args, **kwargs)
        self._count(name, args, kwargs, tensors, wanted)
        on_card = wanted == "cuda" or (wanted is None and bool(ours) and name != "_local_scalar_dense")
        if name == "copy_":
            on_card = isinstance(args[0], OnCard)
        if wanted == "cuda":
            kwargs["device"] = "cpu"
        plain = tree_map(lambda one: one.inner if isinstance(one, OnCard) else one, (args, kwargs))
        found = function(*plain[0], **plain[1])

        def dressed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not on_card:
                return value
            same = [one for one in ours if one.inner is value]  # in place
            return same[0] if same else OnCard(value)

        return tree_map(dressed, found)

    def _count(self, name: str, args: Any, kwargs: Any, tensors: list[torch.Tensor], wanted: str | None) -> None:
        """Count what waits, and refuse what a card would."""
        here = [isinstance(one, OnCard) for one in tensors]
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            to_card = isinstance(args[0], OnCard) if name == "copy_" else wanted == "cuda"
            if isinstance(source, OnCard) and not (to_card or (name == "_to_copy" and wanted is None)):
                self.waits["copy to the host"] += 1
            elif to_card and not isinstance(source, OnCard):
                free = any(one is source for one in self._pinned) and kwargs.get("non_blocking", False)
                self.copies += free
                self.waits["copy to the card"] += not free
        elif any(here):
            if name in READS:
                self.waits[name] += 1
            elif name in ("index", "index_put", "index_put_", "_index_put_impl_"):
                places = [one for one in args[1] if one is not None]
                if any(one.dtype == torch.bool for one in places) or not all(isinstance(one, OnCard) for one in places):
                    self.waits["index by a mask or from the host"] += 1
            elif name == "repeat_interleave" and kwargs.get("output_size") is None:
                self.waits[name] += 1
            elif any(not mine and one.ndim > 0 for mine, one in zip(here, tensors, strict=True)):
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")


def _backward(loss: torch.Tensor, *args: Any, **options: Any) -> None:
    """Ones as the gradient of every weight that the loss comes from."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [other for other, _ in node.next_functions]
        if hasattr(node, "variable"):
            node.variable.grad = torch.ones_like(node.variable).detach()


def _ones(outputs: Any, inputs: Any, **options: Any) -> tuple[torch.Tensor, ...]:
    inputs = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    return tuple(torch.ones_like(one).detach() for one in inputs)


class _Launches:
    """The compiled functions of a card: the emulator's, or those of the CPU where a test needs no kernel of CUDA."""

    def __getattr__(self, name: str) -> Any:
        kernel = name.removesuffix("_cuda")

        def call(fields: dict[str, Any], stream: int) -> Any:
            plain = {key: value.inner if isinstance(value, OnCard) else value for key, value in fields.items()}
            return _library.KernelBackend(emulation.load(), "_cuda", lambda: 0).call(kernel, plain)

        return call


@contextmanager
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """The stand-in, within the block."""
    torch._C._ensureCUDADeviceGuardSet()
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    with monkeypatch.context() as patch, Card() as found:
        patch.setattr(torch, "Generator", _HostGenerator)
        patch.setattr(torch.Tensor, "backward", _backward)
        patch.setattr(torch.autograd, "grad", _ones)
        patch.setattr(torch.cuda, "device", nullcontext)
        patch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
        patch.setattr(_library, "_C", _Launches())
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield found
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
