"""What the tests share: the compiled functions that serve CPU tensors, one backend after the other, and shared data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyws.ops import _library

BACKENDS = _library._C.cpu_paths()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test once for each instruction set that this machine has."""
    before = _library._C.cpu_path()
    _library._C.set_cpu_path(request.param)
    yield request.param
    _library._C.set_cpu_path(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of small real data beside the repository; tests that read it skip where it is absent."""
    folder = Path(os.environ.get("PYWS_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder {folder}")
    return folder
