"""pyws export: results into the formats of the tools where people review."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions, check_options
from pyws.errors import counted

if TYPE_CHECKING:
    from pyws.exchange.results import Results

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
    shard: str | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Write segments and masks in the format of a tool: Label Studio, CVAT, FiftyOne, COCO and others.

    Parameters
    ----------
    results
        Folders of pyws label, masks init, refine, predict or maps; files of segments fuse, predict or labels. Several
        are put together by the names of the videos, the last in front; pyws features tells where videos are.
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
        Keep so many segments of each video and label, those of the highest scores.
    folder_fps
        Frames a second of folders of frames.
    shard
        I/N, which of N processes this is: they part the frames between them, in OUT.parts, and the one that ends last
        writes the rest. Formats without frames are written by the first. Torchrun and Slurm say it by themselves.
    common
        Options of every command.

    Examples
    --------
    pyws export labels --format label-studio -o review
    pyws export first --format cvat-images -o review
    pyws export detections.json features --format fiftyone -o review --top 5
    """
    from pyws.commands.parts import in_parts, parts_of
    from pyws.data.video.sources import find_videos
    from pyws.exchange.results import Results
    from pyws.exchange.sources import read_results
    from pyws.exchange.writers.formats import EXPORTS, WITH_FRAMES
    from pyws.folders import check_new_folder
    from pyws.sharding import this_shard

    if not results:
        raise ValueError("RESULTS: at least one folder or file is needed")
    check_options(">= 1", top=top)
    check_options("> 0", folder_fps=folder_fps)
    part = this_shard(shard)
    found = read_results(results, find_videos(videos), folder_fps).chosen(min_score, top)
    by_name = {video.name: video for video in found.videos}
    numbers = {name: str(number) for number, name in enumerate(by_name)}
    frames = {name: len(video.masks.files) for name, video in by_name.items() if video.masks}
    segments = sum(len(video.segments or ()) for video in found.videos)
    counts = {"videos": len(found.videos), "segments": segments, "masks": sum(frames.values())}
    pictures = parts_of(out) / "frames"
    units = frames if format in WITH_FRAMES else {}
    if part.whole or part.share(list(units), units.__getitem__):  # the others have nothing to do, and may come late
        check_new_folder(out)

    def work(names: Sequence[str]) -> dict[str, int]:
        for name in names:
            shutil.rmtree(pictures / numbers[name], ignore_errors=True)
            EXPORTS[format](Results((by_name[name],)), pictures / numbers[name])
        return {name: frames[name] for name in names}

    write = partial(_write, out, format, found, counts, pictures, common)
    if part.whole:
        return write({})
    parameters = {"stage": "export", "format": format, "min_score": min_score, "top": top, "segments": segments,
                  "sources": {name: str(video.source) for name, video in by_name.items()}}  # fmt: skip
    return in_parts(out, part, parameters, units, work, write, common)


def _write(
    out: Path,
    format: str,
    found: Results,
    counts: Mapping[str, int],
    pictures: Path,
    common: Common,
    _: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the folder, with the pictures that the processes made."""
    from pyws.exchange.writers.formats import EXPORTS
    from pyws.folders import new_folder
    from pyws.run_manifest import seal_whole

    with new_folder(out):
        for picture in pictures.glob("*/**/*.jpg"):
            target = out / Path(*picture.relative_to(pictures).parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.rename(target)
        EXPORTS[format](found, out)
        seal_whole(out, out)
    said = f"{counted(counts['videos'], 'video')}, {counted(counts['segments'], 'segment')} and masks of"
    common.say(f"{out}: {said} {counted(counts['masks'], 'frame')} as {format}")
    return {"out": str(out), "format": format, **counts}
