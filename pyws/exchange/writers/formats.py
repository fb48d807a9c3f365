"""The formats that results are written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyws.exchange.results import Results
from pyws.exchange.writers.coco import write_coco, write_youtube_vis
from pyws.exchange.writers.cvat import write_cvat_images, write_cvat_video
from pyws.exchange.writers.label_studio import write_label_studio_masks, write_label_studio_segments
from pyws.exchange.writers.mask_folders import write_davis, write_fiftyone_masks, write_semantic, write_voc
from pyws.exchange.writers.segment_files import write_activitynet, write_csv, write_fiftyone_segments

EXPORTS: dict[str, Callable[[Results, Path], None]] = {
    "activitynet": write_activitynet,
    "csv": write_csv,
    "label-studio": write_label_studio_segments,
    "label-studio-masks": write_label_studio_masks,
    "cvat": write_cvat_video,
    "cvat-images": write_cvat_images,
    "coco": write_coco,
    "youtube-vis": write_youtube_vis,
    "davis": write_davis,
    "voc": write_voc,
    "semantic": write_semantic,
    "fiftyone": write_fiftyone_segments,
    "fiftyone-masks": write_fiftyone_masks,
}

# Those that hold the frames that they name.
WITH_FRAMES = {"label-studio-masks", "cvat-images", "coco", "youtube-vis", "davis", "voc", "semantic", "fiftyone-masks"}
