"""pyws masks predict: masks of videos by the model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import Common, CommonOptions, of_shard, say_left_out
from pyws.errors import printable
from pyws.masks.prediction.action_alignment import AlignmentConfig


def predict(
    run: tyro.conf.Positional[Path],
    frames: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    tags: Path | None = None,
    every: int = 1,
    refine: bool = False,
    on_error: Literal["error", "skip"] = "error",
    shard: str | None = None,
    align: AlignmentConfig = AlignmentConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Masks and tracked instances of videos, by the model of pyws masks train.

    Parameters
    ----------
    run
        Folder that pyws masks train wrote.
    frames
        Video files, folders of jpg or png frames, or folders of those.
    out
        Folder to write: masks (palette PNG), instances (COCO JSON), manifest.json, report.html.
    tags
        A table (CSV, TSV, xlsx) with the columns video and tag: a video shows nothing but its
        tags. All ids where left out.
    every
        Frames from one that is segmented to the next.
    refine
        Refine masks by superpixels, as the pseudo-annotations of --refine-pa are: sharper outlines.
    on_error
        What an unreadable video does: stop, or be noted in the manifest and skipped.
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which.
    align
        How instances are linked, and how their actions are voted.
    common
        Options of every command.

    Examples
    --------
    pyws masks predict run videos/*.mp4 -o masks
    """
    from rich.table import Table

    from pyws.data.tagged.tags_table import tags_of
    from pyws.data.video.sources import find_videos, name_of
    from pyws.masks.prediction.predict import load_model, predict_videos
    from pyws.report.pictures import draw_masks
    from pyws.report.run import write_report
    from pyws.sharding import this_shard

    if not frames:
        raise ValueError("FRAMES: at least one folder of frames or video file is needed")
    model = load_model(run, common.torch_device)
    allowed = None
    videos = find_videos(frames)
    if tags is not None:
        found = tags_of(tags, videos, on_error)
        for problem in found.problems:
            common.say(f"left out: {problem}")
        videos = list(found.tags)
        allowed = {name_of(path): [model.space.id_of(tag) for tag in several] for path, several in found.tags.items()}
    quiet = common.quiet or common.json
    part = this_shard(shard)
    done = predict_videos(model, videos, out, allowed, every, align, on_error, quiet, refine, part)
    mine = set(done.mine)
    table = Table("video", "frames", "without mask", "instances", "tracks")
    for name, video in done.document["videos"].items():
        counts = [str(video[key]) for key in ("frames", "empty", "instances", "tracks") if key in video]
        table.add_row(printable(name), *(counts or ["left out"]))
        if counts and name in mine:
            folders, heats = {"mask": out / "masks" / name}, out / "heat" / name
            draw_masks(video["source"], folders, out / "overlays" / name, names=model.space.names, heats=heats)
    common.say(table)
    say_left_out(common, done.document["videos"])
    if done.last:
        write_report(out, quiet=quiet)
    return of_shard(done.document, part, done.missing, done.last, common)
