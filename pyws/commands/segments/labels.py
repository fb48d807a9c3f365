"""pyws segments labels: proposals to snippet labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from pyws.commands.common import ALSO_WRITTEN, Common, CommonOptions
from pyws.commands.segments.feature_sets import grids_of, say_doubts
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions
from pyws.errors import counted


def labels(
    proposals: Positional[Path],
    truth: Positional[Path],
    out: Positional[Path],
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    preset: Literal["paper", "released"] = "paper",
    rows: Literal["sum", "mean"] = "sum",
    only_tags: bool = False,
    snippets_per_second: float | None = None,
    features: Path | None = None,
    plot: Annotated[Path | None, ALSO_WRITTEN] = None,
    corrections: Path | None = None,
    shard: str | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Turn proposals into snippet labels: fusion, then LinPro.

    Writes one (snippets, classes) float32 tensor for each video, and OUT.json with the classes, the settings and what
    became of each video.

    Parameters
    ----------
    proposals
        proposals in ActivityNet form, .json or .json.gz
    truth
        annotations in ActivityNet form that give the videos' durations, tags and classes
    out
        labels to write, .safetensors
    preset
        rules of LinPro: paper, or released (every departure of the released code)
    rows
        what LinPro sets equal to the score of a segment: the sum of its labels, as the paper does, or their mean, which
        does not crowd short segments
    only_tags
        drop proposals of classes that are not tags of their video
    snippets_per_second
        rate of the features that the labels are for; if not given, what the proposals note, for each video where they
        do, or 1.5625, with a message; another rate than is noted is an error
    features
        data set of the features that these proposals were made of, in whose time base the videos' snippets are, where
        the proposals note none
    plot
        folder of pictures to write, a timeline of labels and segments for each video that has any
    corrections
        what people said of the segments, corrections.json of pyws import: the labels obey it
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which

    Examples
    --------
    pyws segments labels proposals.json truth.json labels.safetensors --plot pictures
    """
    from dataclasses import asdict

    from pyws.commands.parts import in_parts
    from pyws.data.annotations.activitynet import read_noted_detections, read_truth
    from pyws.data.annotations.corrections import read_corrections
    from pyws.data.annotations.names import as_named_by
    from pyws.errors import DataError, named_as
    from pyws.evaluation.detection import look_like_frames
    from pyws.files import file_sha256
    from pyws.segments import PostprocessConfig, label_videos
    from pyws.segments.pseudo_labels import with_names
    from pyws.sharding import this_shard

    if out.suffix != ".safetensors":
        raise DataError(out, "labels are written as .safetensors")
    found, note = read_noted_detections(proposals)
    known, grids = read_truth(truth), grids_of(snippets_per_second, note, proposals, found.videos, features)
    say_doubts(look_like_frames(found, known))
    config = postprocessing.over(PostprocessConfig())
    settings = {**asdict(config), "preset": preset, "rows": rows, "only_tags": only_tags, **grids.note(),
                "corrections": str(corrections) if corrections else None}  # fmt: skip
    said = read_corrections(corrections) if corrections else {}
    found = with_names(as_named_by(found, known), said)
    fixed = {label for one in said.values() for label in one.labels}
    classes = sorted({*known.instances.labels, *(tag for tags in known.tags for tag in tags), *fixed})

    def work(names: Sequence[str]) -> dict[str, Any]:
        chosen = found if len(names) == len(found.videos) else found.of_videos(names)
        mine = {name: said[name] for name in names if name in said}
        with named_as(ground_truth=truth, proposals=proposals):
            videos = label_videos(chosen, known, classes, config, preset, rows, only_tags, grids, mine)
        return {one.video: one.document() for one in videos}

    files = {"proposals": proposals, "truth": truth}
    write = partial(_write, out, classes, settings, files, common)
    inputs = files | ({"corrections": corrections} if corrections else {})
    parameters = {"stage": "segments labels", **{name: file_sha256(file) for name, file in inputs.items()}, **settings}
    report = in_parts(out, this_shard(shard), parameters, found.sizes(), work, write, common)
    if plot is not None and "shard" not in report:
        from pyws.report.labels import draw_labels
        from pyws.segments import fuse_detections

        fused = fuse_detections(found, config, grids)
        draw_labels({"labels": out}, plot, {"truth": known.instances, "segments": fused},
                    quiet=common.silent)  # fmt: skip
    return report


def _write(
    out: Path,
    classes: Sequence[str],
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    common: Common,
    videos: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together the labels that the processes made."""
    from pyws.report.run import write_report
    from pyws.segments.pseudo_labels import VideoLabels, save_labels

    made = [VideoLabels.read(name, document) for name, document in videos.items()]
    records = {
        one.video: {"snippets": len(one.labels), "segments": one.segments, "residual": one.residual, **one.statuses}
        for one in made
    }
    report = save_labels(out, {one.video: one.labels for one in made}, classes, settings, records)
    write_report(out, quiet=common.silent, inputs=inputs)
    counts = ", ".join(f"{count} {name}" for name, count in report["statuses"].items())
    common.say(f"{out}: {counted(len(made), 'video')}, {len(classes)} classes each: {counts}")
    return report
