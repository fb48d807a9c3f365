"""Several processes that work as one, under torchrun or alone. In the base layer: imports torch only.

A program says the same thing in every case::

    with processes(device) as group:
        mine = work[group.rank :: group.world]
        everything = group.gather([do(item) for item in mine])

Alone, ``group`` is one process and nothing is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
_PATIENCE = timedelta(minutes=30)  # for the slowest process; one that died is noticed at once


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
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, items: list[Item]) -> list[Item]:
        """The items of all processes, in the order of their ranks, in every process."""
        if self.world == 1:
            return items
        lists: list[list[Item] | None] = [None] * self.world
        torch.distributed.all_gather_object(lists, items)
        return list(chain.from_iterable(part or [] for part in lists))

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            torch.distributed.barrier()


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
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if not 0 <= rank < world:
        raise ValueError(f"RANK must be in [0, {world}), got {rank}")
    if world == 1:
        yield Group()
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Group(rank, world)
    finally:
        torch.distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process where torchrun started several on one machine; other devices as they are."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device
