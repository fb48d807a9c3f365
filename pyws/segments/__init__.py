"""Paper 2 (GauFuse): temporal segments from video tags."""

from pyws.segments.detections import VideoLabels, fuse_detections, label_videos
from pyws.segments.linpro import Labels, Status, linpro

__all__ = ["Labels", "Status", "VideoLabels", "fuse_detections", "label_videos", "linpro"]
