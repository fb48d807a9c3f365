"""Data sets of tagged videos, some with true masks."""

from pyws.data.tagged.dataset import MaskSet
from pyws.data.tagged.layouts import open_mask_set

__all__ = ["MaskSet", "open_mask_set"]
