"""Races: pyws and its peers, round-robin in one process, after their answers were found to agree.

Machines are noisy and drift, so no single time counts: each round runs every competitor once (or a fixed number of
times where it is very short), a ratio is taken within each round, and the median of the ratios is what is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

SHORTEST = 2e-3  # seconds; a timing repeats its function until it lasts this long


@dataclass
class Result:
    """One case: seconds of every competitor (median) and how many times faster than it pyws is."""

    operation: str
    case: str
    device: str
    seconds: dict[str, float]
    ratios: dict[str, float]
    quartiles: dict[str, tuple[float, float]]  # quartiles of the ratios
    goals: dict[str, float]
    copy_fraction: float | None = None  # bytes moved a second / the same run's copy rate
    reason: str = ""
    short: list[str] = field(default_factory=list)  # peers against which the goal is missed


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch and pyws with ``count`` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(count: int, function: Callable[[], Any]) -> Callable[[], Any]:
    """``function`` under ``count`` threads, to race a function against itself."""

    def run() -> Any:
        with threads(count):
            return function()

    return run


def _time_once(
    function: Callable[[], Any], repeat: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeat):
            function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / repeat
    begin = clock()
    for _ in range(repeat):
        function()
    return (clock() - begin) / repeat


def copy_rate(device: torch.device, size: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Bytes a second that a plain copy moves (read and write together), the limit of this run."""
    source = torch.ones(max(size // 8, 1024), dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    times = [_time_once(lambda: target.copy_(source), 3, device, clock) for _ in range(7)]
    return 2 * source.nbytes / statistics.median(times)


def race(
    operation: str,
    case: str,
    competitors: dict[str, Callable[[], Any]],
    agree: Callable[[Any, Any], None] | None = None,
    goals: dict[str, float] | None = None,
    device: torch.device | str = "cpu",
    bytes_moved: int | None = None,
    reason: str = "",
    rounds: int = 15,
    longest: float = 8.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Race the competitors; the first is pyws.

    Parameters
    ----------
    operation, case : what is measured, on what input
    competitors : name -> function without arguments that returns its answer
    agree : called with pyws's answer and each peer's before anything is timed; raises where they differ
    goals : peer -> ratio to reach
    device : where the tensors are; CUDA is timed with events
    bytes_moved : input read once plus output written once; gives the fraction of the copy rate
    reason : printed where a goal is missed
    rounds, longest : rounds to run, and seconds after which no further round is started (three always run)
    clock : seconds; ``time.process_time`` leaves out what other processes take on a busy machine, for one thread
    """
    device = torch.device(device)
    own = next(iter(competitors))
    answer = competitors[own]()
    for name, function in competitors.items():
        if name != own and agree is not None:
            agree(answer, function())
    once = {name: _time_once(function, 1, device, clock) for name, function in competitors.items()}
    repeat = {name: max(1, int(SHORTEST / max(seconds, 1e-7))) for name, seconds in once.items()}
    taken: dict[str, list[float]] = {name: [] for name in competitors}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > longest:
            break
        for name, function in competitors.items():
            taken[name].append(_time_once(function, repeat[name], device, clock))
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    result = Result(operation, case, str(device), seconds, {}, {}, goals or {}, reason=reason)
    for name in list(competitors)[1:]:
        each = [peer / mine for peer, mine in zip(taken[name], taken[own], strict=True)]
        result.ratios[name] = statistics.median(each)
        low, _, high = statistics.quantiles(each, n=4)
        result.quartiles[name] = (low, high)
    if bytes_moved is not None:
        result.copy_fraction = bytes_moved / seconds[own] / copy_rate(device, bytes_moved, clock)
    result.short = [name for name, goal in result.goals.items() if result.ratios.get(name, goal) < goal]
    return result
