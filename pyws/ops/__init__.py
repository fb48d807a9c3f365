"""The operations: one file a family, CPU and CUDA behind one function."""

from pyws.ops.masks.background_patches import count_patches, find_patches, integral_image
from pyws.ops.masks.gradcam3d import gradcam3d, gradcam3d_from_head
from pyws.ops.masks.otsu import otsu
from pyws.ops.masks.otsu_masks import OtsuMasks, otsu_masks
from pyws.ops.masks.slic import slic
from pyws.ops.masks.superpixel_confusion import SuperpixelConfusion, superpixel_confusion
from pyws.ops.masks.superpixel_select import superpixel_select, superpixel_vote
from pyws.ops.segments.class_mean import SnippetClasses, class_mean, snippet_classes
from pyws.ops.segments.fuse_segments import fuse_segments, suppress_segments
from pyws.ops.segments.linpro import Labels, Status, linpro
from pyws.ops.segments.match_segments import MatchedSegments, match_segments
from pyws.ops.segments.propose_segments import propose_segments, score_segments

__all__ = [
    "Labels",
    "MatchedSegments",
    "OtsuMasks",
    "SnippetClasses",
    "Status",
    "SuperpixelConfusion",
    "class_mean",
    "count_patches",
    "find_patches",
    "fuse_segments",
    "gradcam3d",
    "gradcam3d_from_head",
    "integral_image",
    "linpro",
    "match_segments",
    "otsu",
    "otsu_masks",
    "propose_segments",
    "score_segments",
    "slic",
    "snippet_classes",
    "superpixel_confusion",
    "superpixel_select",
    "superpixel_vote",
    "suppress_segments",
]
