"""What the tests share: the compiled functions that serve CPU tensors, one backend after the other."""

from __future__ import annotations

from collections.abc import Iterator

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
