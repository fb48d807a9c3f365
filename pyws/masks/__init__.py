"""Paper 1 (WS^2): pixel masks from video tags."""

from pyws.masks.cam import GradCAM

__all__ = ["GradCAM"]
