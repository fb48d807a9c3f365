"""pyws export: results into the formats of the tools where people review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions

Format = Literal[
    "activitynet", "csv", "label-studio", "label-studio-masks", "cvat", "cvat-images", "coco", "youtube-vis", "davis",
    "voc", "semantic", "fiftyone", "fiftyone-masks",
]  # fmt: skip


def export(
    results: tyro.conf.Positional[tuple[Path, ...]],
    format: Format,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    videos: tuple[Path, ...] = (),
    min_score: float = 0.0,
    top: int | None = None,
    folder_fps: float | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write segments and masks in the format of a tool: Label Studio, CVAT, FiftyOne, COCO and others.

    Parameters
    ----------
    results
        Folders of pyws label, masks init, refine or predict; files of segments fuse, predict or labels. Several are put
        together by the names of the videos; a folder of pyws features tells where videos are.
    format
        Segments: activitynet and csv (seconds), label-studio (timeline labels), fiftyone (temporal detections), cvat
        (tracks of a video, masks too). Masks: label-studio-masks (brush), cvat-images, coco, youtube-vis, davis, voc,
        semantic (CommonSemanticSegmentation), fiftyone-masks.
    out
        Folder to write, new or empty. The frames that a format names are written too.
    videos
        Where the videos are, if the results do not say or they were moved: files, folders of frames, or folders of
        those.
    min_score
        Leave out segments of lower scores.
    top
        Of each video and label keep so many segments, the best.
    folder_fps
        Frames a second of folders of frames.
    common
        Options of every command.

    Examples
    --------
    pyws export labels --format label-studio -o review
    pyws export first --format cvat-images -o review
    pyws export detections.json features --format fiftyone -o review --top 5
    """
    from pyws.data.video.sources import find_videos
    from pyws.exchange.sources import read_results
    from pyws.exchange.writers.formats import EXPORTS
    from pyws.files import new_folder

    if not results:
        raise ValueError("RESULTS: at least one folder or file is needed")
    if top is not None and top < 1:
        raise ValueError(f"--top: must be >= 1, got {top}")
    if folder_fps is not None and not folder_fps > 0:
        raise ValueError(f"--folder-fps: must be > 0, got {folder_fps}")
    with new_folder(out):
        found = read_results(results, find_videos(videos), folder_fps).chosen(min_score, top)
        EXPORTS[format](found, out)
    segments = sum(len(video.segments or ()) for video in found.videos)
    frames = sum(len(video.masks.files) for video in found.videos if video.masks)
    common.say(f"{out}: {len(found.videos)} videos, {segments} segments and masks of {frames} frames as {format}")
    return {"out": str(out), "format": format, "videos": len(found.videos), "segments": segments, "masks": frames}
