"""Paper 2 (GauFuse): temporal segments from video tags."""

from pyws.segments.linpro import Labels, Status, linpro

__all__ = ["Labels", "Status", "linpro"]
