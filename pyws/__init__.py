"""pyws turns video-level tags into supervision: pixel masks of who does what, temporal segments of when it happens."""

from __future__ import annotations

import importlib
from typing import Any

from pyws import ops
from pyws.errors import DataError, PywsError, SolverError
from pyws.ragged import Segments

__version__ = "0.1.0"
__all__ = [
    "DataError", "PywsError", "Segments", "SolverError", "__version__",
    "data", "evaluation", "masks", "models", "ops", "report", "segments",
]  # fmt: skip

_LAZY = {"data", "evaluation", "masks", "models", "report", "segments"}


def __getattr__(name: str) -> Any:
    """Rooms that import torchvision, matplotlib or highspy are opened at their first use."""
    if name in _LAZY:
        return importlib.import_module(f"pyws.{name}")
    raise AttributeError(f"module 'pyws' has no attribute {name!r}")
