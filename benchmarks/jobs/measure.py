"""A command as a process of its own: what the system says it took, and when it first said something."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    cpu: float
    """Seconds of processor time, of the program and of the system for it, of all threads."""
    wall: float
    """Seconds by the clock."""
    peak: float
    """Most resident memory, in MiB."""
    first: float
    """Seconds until the first byte on standard output or error; those of the whole where it was silent."""
    said: str = ""
    """All that it printed."""

    def figures(self) -> dict[str, Any]:
        """Without what was printed."""
        return {key: round(value, 3) for key, value in asdict(self).items() if key != "said"}


def run(command: Sequence[str], threads: int = 1, path: Path | None = None) -> Cost:
    """Run a command to its end.

    Parameters
    ----------
    command : program and arguments
    threads : threads of OpenMP, and so of torch and pyws
    path : a folder that Python looks into first, such as an older checkout of pyws with its extension built

    Raises
    ------
    RuntimeError : the command failed; ends with what it printed
    """
    environment: Mapping[str, str] = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    if path is not None:
        environment = {**environment, "PYTHONPATH": str(path)}
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    assert process.stdout is not None
    said: list[bytes] = []
    heard: list[float] = []

    def listen(pipe: Any = process.stdout) -> None:
        while block := os.read(pipe.fileno(), 1 << 16):
            heard.append(time.perf_counter() - began)
            said.append(block)

    listener = threading.Thread(target=listen)
    listener.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    listener.join()
    process.stdout.close()
    text = b"".join(said).decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{text[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, heard[0] if heard else wall, text)


def median(costs: Sequence[Cost]) -> Cost:
    """Each figure's median over several runs, and what the last one printed."""
    figures = (statistics.median(getattr(cost, name) for cost in costs) for name in ("cpu", "wall", "peak", "first"))
    return Cost(*figures, said=costs[-1].said)
