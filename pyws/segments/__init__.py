"""Paper 2 (GauFuse): temporal segments from video tags."""

from pyws.ops.linpro import Labels, Status, linpro
from pyws.segments.postprocess import VideoLabels, fuse_detections, label_videos

__all__ = ["Labels", "Status", "VideoLabels", "fuse_detections", "label_videos", "linpro"]
