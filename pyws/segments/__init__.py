"""Paper 2 (GauFuse): temporal segments from video tags."""

from pyws.ops.segments.linpro import Labels, Status, linpro
from pyws.segments.detection.postprocess import PostprocessConfig, fuse_detections
from pyws.segments.pseudo_labels import VideoLabels, label_videos

__all__ = ["Labels", "PostprocessConfig", "Status", "VideoLabels", "fuse_detections", "label_videos", "linpro"]
