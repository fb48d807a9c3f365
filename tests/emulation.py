"""Builds and loads the CUDA kernels as C++ on tests/emulator, on first use; later uses rebuild what changed."""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def build(name: str = "_emulated", sanitize: str = "") -> Path:
    """The module ``name`` (_emulated or _selftest), compiled with the sanitizers given, e.g. "thread"."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    folder = ROOT / "build" / "-".join(filter(None, ["emulator", sys.implementation.cache_tag, sanitize]))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time: test runs may overlap
        _run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
             "-DPYWS_EMULATOR=ON", f"-DPYWS_SANITIZE={sanitize}")  # fmt: skip
        _run("cmake", "--build", folder, "--target", name)
    return next(folder.rglob(name + suffix))


def _run(*command: str | os.PathLike[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the emulator does not build: {' '.join(map(str, command))}\n{done.stdout}")


@functools.cache
def load(name: str = "_emulated") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, build(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
