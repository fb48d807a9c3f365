"""The operations: one file a family, CPU and CUDA behind one function."""

from pyws.ops.gradcam3d import gradcam3d, gradcam3d_from_head
from pyws.ops.match_segments import MatchedSegments, match_segments
from pyws.ops.otsu import otsu

__all__ = ["MatchedSegments", "gradcam3d", "gradcam3d_from_head", "match_segments", "otsu"]
