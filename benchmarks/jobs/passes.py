"""How much of a command is the passes of its networks, forward and backward, in the form in which it makes them.

    OMP_NUM_THREADS=1 python benchmarks/jobs/passes.py masks predict RUN FRAMES -o OUT --quiet

Processor seconds of the program and of the system for it, on one thread. What must be loaded first is loaded before and
not counted: a long job does not notice it. Prints JSON.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import scipy.ndimage
import torch
import torchvision
from torch import nn

from pyws.cli import _collect_seldom, _keep_freed_memory, load, main, split

LOADED = (scipy.ndimage, torchvision)


class Passes(threading.local):
    """Seconds in networks of each thread; of modules within modules the outermost counts."""

    depth = 0
    began = 0.0


SPENT: list[float] = []
NOW = Passes()


def enter(*_: object) -> None:
    if NOW.depth == 0:
        NOW.began = time.thread_time()
    NOW.depth += 1


def leave(*_: object) -> None:
    NOW.depth -= 1
    if NOW.depth == 0:
        SPENT.append(time.thread_time() - NOW.began)


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which counts as a pass."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        enter()
        try:
            return function(*arguments, **named)
        finally:
            leave()

    return run


if __name__ == "__main__":
    _keep_freed_memory()  # as the command does
    _collect_seldom()
    torch.set_num_threads(1)
    words = sys.argv[1:]
    load(str(split(words)[0]))
    nn.modules.module.register_module_forward_pre_hook(enter)
    nn.modules.module.register_module_forward_hook(leave, always_call=True)
    torch.Tensor.backward = timed(torch.Tensor.backward)  # type: ignore[method-assign]
    torch.autograd.grad = timed(torch.autograd.grad)
    started = time.process_time()
    status = main(words)
    whole = time.process_time() - started
    print(json.dumps({"whole": round(whole, 3), "passes": round(sum(SPENT), 3), "times": round(whole / sum(SPENT), 3)}))
    sys.exit(status)
