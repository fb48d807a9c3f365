"""Builds and loads the CUDA kernels as C++ on tests/emulator, on first use; later uses rebuild what changed.

With PYWS_SANITIZE=address or thread they and the CPU kernels are compiled with AddressSanitizer and
UndefinedBehaviorSanitizer, or with ThreadSanitizer. Its runtime library must be loaded before everything else:
.ci/sanitize does that.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what runs under a sanitizer starts without torch, in a twentieth of the time
    import torch

ROOT = Path(__file__).resolve().parent.parent
SANITIZE = os.environ.get("PYWS_SANITIZE", "")
FLAGS = {"": "", "address": "address,undefined", "thread": "thread"}


@functools.cache
def build(target: str, sanitize: str = SANITIZE) -> Path:
    """The shared library of ``target``: _emulated, all kernels as a Python module, or selftest."""
    folder = ROOT / "build" / "-".join(filter(None, ["emulator", sys.implementation.cache_tag, sanitize]))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test runs may overlap
        _run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
             "-DPYWS_EMULATOR=ON", f"-DPYWS_SANITIZE={FLAGS[sanitize]}")  # fmt: skip
        _run("cmake", "--build", folder, "--target", target)
    return next(folder.rglob(f"*{target}*.so"))


def _run(*command: str | os.PathLike[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"the emulator does not build: {' '.join(map(str, command))}\n{done.stdout}")


@functools.cache
def load() -> ModuleType:
    """The module _emulated: what pyws._C has, with the emulated kernels in the place of the CUDA kernels."""
    spec = importlib.util.spec_from_file_location("_emulated", build("_emulated"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def last_blocks(count: int) -> Iterator[None]:
    """Run only the last ``count`` blocks of every grid that is launched here, and as many units of CPU kernels."""
    library = ctypes.CDLL(os.fspath(build("_emulated")))
    library.pyws_run_last_blocks(ctypes.c_uint64(count))
    try:
        yield
    finally:
        library.pyws_run_last_blocks(ctypes.c_uint64(0))


@contextmanager
def written_meanwhile(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Other blocks write anything into these tensors of 64-bit numbers while kernels read them."""
    library = ctypes.CDLL(os.fspath(build("_emulated")))
    for tensor in tensors:
        library.pyws_write_meanwhile(ctypes.c_void_p(tensor.data_ptr()), ctypes.c_size_t(tensor.nbytes))
    try:
        with no_look_for_races():
            yield
    finally:
        library.pyws_write_meanwhile(None, ctypes.c_size_t(0))


@contextmanager
def no_look_for_races() -> Iterator[None]:
    """For contents that break a contract, with which units may write the same places."""
    library = ctypes.CDLL(os.fspath(build("_emulated")))
    library.pyws_look_for_races(0)
    try:
        yield
    finally:
        library.pyws_look_for_races(1)


def run_kernel(
    library: str | os.PathLike[str],
    name: str,
    numbers: list[int],
    size: int,
    grid: tuple[int, int] = (1, 1),
    block: tuple[int, int] = (32, 1),
    shared_bytes: int = 0,
    seed: int = 0,
) -> list[int]:
    """What the kernel ``name`` of tests/emulator/selftest.cpp writes for ``numbers``; raises its error."""
    run = ctypes.CDLL(os.fspath(library)).run_kernel
    run.restype = ctypes.c_char_p
    out = (ctypes.c_int * size)()
    sizes = [(ctypes.c_uint * 2)(*pair) for pair in (grid, block)]
    message = run(name.encode(), seed, *sizes, shared_bytes, (ctypes.c_int * len(numbers))(*numbers), out)
    if message:
        raise RuntimeError(message.decode())
    return list(out)
