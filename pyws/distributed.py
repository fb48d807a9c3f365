"""Several processes that train as one, under torchrun or alone.

A program says the same thing in every case::

    with processes(device) as group:
        mine = work[group.rank :: group.world]
        everything = group.gather([do(item) for item in mine])

Alone, ``group`` is one process and nothing is sent.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

from pyws.errors import PywsError
from pyws.sharding import number_in, place_by_torchrun

Item = TypeVar("Item")
# For the slowest process. One that died is noticed at once: by the others over gloo, or else by torchrun.
_PATIENCE = timedelta(hours=6)
_LAST_SECONDS = 5.0  # from a signal to the end, for what does not come back to Python
_NOISE = ("StochasticDepth", "DropPath")  # layers of torchvision and timm that drop whole rows


@dataclass(frozen=True)
class Group:
    """The processes of a run.

    Parameters
    ----------
    rank : which of them this is
    world : how many there are
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in one message. All must have one dtype and device."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _together():
            torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, items: list[Item]) -> list[Item]:
        """The items of all processes, in the order of their ranks, in every process."""
        if self.world == 1:
            return items
        lists: list[list[Item] | None] = [None] * self.world
        with _together():
            torch.distributed.all_gather_object(lists, items)
        return list(chain.from_iterable(part or [] for part in lists))

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            with _together():
                torch.distributed.barrier()

    def of_first(self, item: Callable[[], Item]) -> Item:
        """What the first process gets by calling ``item``, in every process; the others do not call it."""
        return self.gather([item()] if self.first else [])[0]

    def add_gradients(self, model: torch.nn.Module) -> None:
        """Replace the gradients of a model by their sums; a process without a sample takes part with zeros."""
        if self.world == 1:
            return
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        self.add([weight.grad for weight in weights if weight.grad is not None])


@contextmanager
def processes(device: torch.device) -> Iterator[Group]:
    """The group that torchrun describes in the environment, or this process alone.

    Sends by nccl where ``device`` is a GPU, otherwise by gloo.

    Raises
    ------
    ValueError : torchrun gives no sensible rank

    Examples
    --------
    >>> with processes(torch.device("cpu")) as group:
    ...     group.rank, group.world, group.gather([1, 2])
    (0, 1, [1, 2])
    """
    place = place_by_torchrun()
    rank, world = place.index - 1, place.count
    if world == 1:
        yield Group()
        return
    with _ends_when_told():
        with _together():
            _meet("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Group(rank, world)
        finally:
            torch.distributed.destroy_process_group()


def _meet(backend: str) -> None:
    """Make the group of all processes.

    The agent of torchrun keeps the addresses of an attempt for the next one, where the first process would meet the
    addresses of processes that are gone: so each attempt has names of its own. Agents of several machines count
    attempts apart.
    """
    store, rank, world = next(torch.distributed.rendezvous("env://", timeout=_PATIENCE))
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        store = torch.distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)


@contextmanager
def _ends_when_told() -> Iterator[None]:
    """Inside the block the process ends soon after SIGINT, SIGTERM or SIGHUP, whatever it is blocked in.

    Python calls handlers of signals when the main thread comes back to it, which one that waits for another process
    does not. A thread that the system wakes at once gives it a few seconds.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    if handlers[signal.SIGHUP] == signal.SIG_IGN:  # nohup
        del handlers[signal.SIGHUP]
    if threading.current_thread() is not threading.main_thread() or not all(map(callable, handlers.values())):
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    noticed = threading.Event()

    def handle(number: int, frame: Any) -> None:
        noticed.set()
        handlers[number](number, frame)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in handlers and not noticed.wait(_LAST_SECONDS):
                os.write(2, b"pyws: ended while it waited for another process; run the same command again to go on\n")
                os._exit(128 + number[0])

    for number in handlers:
        signal.signal(number, handle)
    before = signal.set_wakeup_fd(writer)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writer)
        noticed.set()
        watcher.join()
        os.close(reader)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # torch's errors of distributed work are of both kinds
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        rule = "another process of this run ended or cannot be reached; run the same command again to go on"
        raise PywsError(f"{rule} ({reason})") from error


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process where torchrun started several on one machine; other devices as they are."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", number_in(os.environ, "LOCAL_RANK"))
        torch.cuda.set_device(device)
    return device


class _Sum(torch.autograd.Function):
    """The sum over processes; the gradient of each one's part is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        with _together():
            torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


class JoinedLayers:
    """Batch norm and dropout that see the batch of all processes, each of which has every ``world``-th row.

    Without it, what a layer does to a row would depend on how many processes there are.

    Parameters
    ----------
    model : in training mode; its layers are as before when the block ends
    group : the processes; one alone changes nothing

    Examples
    --------
    >>> model = torch.nn.Dropout(0.5)
    >>> with JoinedLayers(model, Group()) as layers:
    ...     layers.rows = 3
    ...     model(torch.ones(3, 2)).shape
    torch.Size([3, 2])
    """

    def __init__(self, model: torch.nn.Module, group: Group) -> None:
        self.model, self.group = model, group
        self.rows = 0
        """Rows of the batch of all processes; set before each forward pass."""

    def __enter__(self) -> JoinedLayers:
        for layer in self.model.modules() if self.group.world > 1 else ():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.forward = partial(self._norm, layer)  # type: ignore[method-assign]
            elif isinstance(layer, torch.nn.modules.dropout._DropoutNd) or type(layer).__name__ in _NOISE:
                layer.forward = partial(self._noise, layer)
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self.model.modules():
            layer.__dict__.pop("forward", None)

    def _noise(self, layer: torch.nn.Module, inputs: Tensor) -> Tensor:
        """What the layer would do to these rows within the whole batch: every process draws the same noise for all."""
        if not layer.training:
            return type(layer).forward(layer, inputs)
        noise = type(layer).forward(layer, inputs.new_ones((self.rows, *inputs.shape[1:])))
        return inputs * noise[self.group.rank :: self.group.world]

    def _norm(self, layer: Any, inputs: Tensor) -> Tensor:
        if not (layer.training or layer.running_mean is None):
            return type(layer).forward(layer, inputs)
        inputs = inputs.to(torch.promote_types(inputs.dtype, torch.float32))  # narrow under autocast
        over = [dim for dim in range(inputs.ndim) if dim != 1]
        shape = [1, -1, *([1] * (inputs.ndim - 2))]
        own = inputs.new_tensor([inputs.numel() / inputs.shape[1]])
        count, total = _Sum.apply(torch.cat([own, inputs.sum(over)])).split([1, inputs.shape[1]])
        centred = inputs - (total / count).view(shape)
        variance = _Sum.apply(centred.square().sum(over)) / count
        _follow(layer, (total / count).detach(), (variance * count / (count - 1).clamp(min=1)).detach())
        normal = centred * (variance + layer.eps).rsqrt().view(shape)
        return normal if layer.weight is None else normal * layer.weight.view(shape) + layer.bias.view(shape)


def _follow(layer: Any, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics of a batch norm towards those of a batch."""
    if layer.running_mean is None:
        return
    layer.num_batches_tracked += 1
    share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(variance, share)
