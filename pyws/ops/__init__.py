"""The operations: one file a family, CPU and CUDA behind one function."""

from pyws.ops.class_mean import SnippetClasses, class_mean, snippet_classes
from pyws.ops.fuse_segments import fuse_segments, suppress_segments
from pyws.ops.gradcam3d import gradcam3d, gradcam3d_from_head
from pyws.ops.match_segments import MatchedSegments, match_segments
from pyws.ops.otsu import otsu
from pyws.ops.propose_segments import propose_segments
from pyws.ops.superpixel_select import superpixel_select, superpixel_vote

__all__ = [
    "MatchedSegments",
    "SnippetClasses",
    "class_mean",
    "fuse_segments",
    "gradcam3d",
    "gradcam3d_from_head",
    "match_segments",
    "otsu",
    "propose_segments",
    "snippet_classes",
    "superpixel_select",
    "superpixel_vote",
    "suppress_segments",
]
