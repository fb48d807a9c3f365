"""pyws turns video-level tags into supervision: pixel masks of who does what, temporal segments of when it happens."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyws.errors import DataError, PywsError

if TYPE_CHECKING:
    from pyws import ops
    from pyws.ragged import Segments

__version__ = "0.1.0"
__all__ = [
    "DataError", "PywsError", "Segments", "__version__",
    "data", "evaluation", "masks", "models", "ops", "report", "segments",
]  # fmt: skip

_PACKAGES = {"data", "evaluation", "masks", "models", "ops", "report", "segments"}


def __getattr__(name: str) -> Any:
    """Packages are imported at their first use: torch is slow, and ``pyws --help`` needs none of them."""
    if name in _PACKAGES:
        return importlib.import_module(f"pyws.{name}")
    if name == "Segments":
        from pyws.ragged import Segments

        return Segments
    raise AttributeError(f"module 'pyws' has no attribute {name!r}")
