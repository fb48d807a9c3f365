"""The operations: one file a family, CPU and CUDA behind one function."""

from pyws.ops.gradcam3d import gradcam3d, gradcam3d_from_head

__all__ = ["gradcam3d", "gradcam3d_from_head"]
