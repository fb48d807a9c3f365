"""pyws masks predict: masks of videos by the model of a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pyws.commands.common import (
    Common,
    CommonOptions,
    check_some_done,
    checked_videos,
    of_shard,
    only_with,
    say_left_out,
    table_of,
)
from pyws.errors import printable
from pyws.masks.prediction.action_alignment import AlignmentConfig


def predict(
    run: tyro.conf.Positional[Path],
    frames: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    data: Path | None = None,
    subset: tuple[str, ...] = (),
    tags: Path | None = None,
    every: int = 1,
    refine: bool = False,
    precision: Literal["float32", "bfloat16"] = "float32",
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
        Video files, folders of jpg or png frames, or folders of those; none where --data is given.
    out
        Folder to write: masks (palette PNG), instances (COCO JSON), manifest.json, report.html.
    data
        Folder of a data set of tagged videos (A2D, YouTube-Objects, plain); masks get the names of its videos, as
        pyws masks evaluate wants them, and its tags are not read.
    subset
        Subsets of the data set, e.g. test; all where it is left out.
    tags
        A table (CSV, TSV, xlsx) with the columns video and tag: a video shows nothing but its
        tags. All ids where left out.
    every
        Frames from one that is segmented to the next.
    refine
        Refine masks by superpixels, as the pseudo-annotations of --refine-pa are: sharper outlines.
    precision
        Precision of the network's forward passes: float32, or bfloat16, whose scores differ by a few hundredths.
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
    pyws masks predict run -o masks --data A2D --subset test
    """
    from pyws.data.tagged.layouts import open_mask_set
    from pyws.data.tagged.tags_table import tags_of
    from pyws.data.video.headers import check_videos
    from pyws.data.video.sources import check_names, find_videos, name_of
    from pyws.masks.prediction.predict import load_model, predict_videos
    from pyws.report.run import place_of, write_report
    from pyws.report.runs.masks import draw_video, shown_of_run
    from pyws.sharding import this_shard

    if bool(frames) == bool(data):
        raise ValueError("FRAMES: folders of frames or video files are needed, or a data set as --data, not both")
    only_with("--data", data, subset=subset)
    only_with("FRAMES", not data, tags=tags)
    model = load_model(run, common.use_device(), precision)
    allowed = None
    if data is not None:
        videos = {video.name: video.source for video in open_mask_set(data).part(*subset).videos}
    else:
        paths = find_videos(frames, on_error)
        if on_error == "skip":
            paths = checked_videos(paths, on_error, common)
        check_names(paths)
        videos = {name_of(path): path for path in paths}
    if tags is not None:
        found = tags_of(tags, list(videos.values()), on_error)
        for problem in found.problems:
            common.say(f"left out: {problem}")
        videos = {name_of(path): path for path in found.tags}
        allowed = {name_of(path): [model.space.id_of(tag) for tag in several] for path, several in found.tags.items()}
    if on_error == "error":
        check_videos(videos.values(), by_name=data is None)
    quiet = common.silent
    part = this_shard(shard)

    def draw(name: str, video: Mapping[str, Any]) -> None:
        folders, heats = {"mask": out / "masks" / name}, {"map": out / "heat" / name}
        draw_video(place_of(out), name, video, len(videos), "predict", folders, model.space.names, heats)

    shown = partial(shown_of_run, len(videos), "predict")
    done = predict_videos(model, videos, out, allowed, every, align, on_error, quiet, refine, part, draw, shown)
    rows = []
    for name, video in done.document["videos"].items():
        counts = [video[key] for key in ("frames", "empty", "instances", "tracks") if key in video]
        rows.append([printable(name), *(counts or ["left out"])])
    common.say(table_of(("video", "frames", "without mask", "instances", "tracks"), rows))
    say_left_out(common, done.document["videos"])
    if done.last:
        write_report(out, quiet=quiet)
    check_some_done(out, done.document["videos"])
    return of_shard(done.document, part, done.missing, done.last, common)
