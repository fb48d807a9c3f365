"""pyws segments predict: from a network to segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from tyro.conf import Positional

from pyws.commands.common import ALSO_WRITTEN, Common, CommonOptions
from pyws.commands.segments.feature_sets import OnError, one_subset, say_skipped
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions
from pyws.errors import DataError, counted
from pyws.files import made_of

if TYPE_CHECKING:
    from pyws.checkpoint import Checkpoint
    from pyws.data.annotations.activitynet import Instances
    from pyws.data.features.dataset import FeatureSet
    from pyws.segments.backbones import BuiltBackbone
    from pyws.segments.detection.maps import VideoMap
    from pyws.segments.detection.postprocess import PostprocessConfig
    from pyws.segments.training.batches import Videos


def predict(
    data: Positional[Path],
    checkpoint: Path,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    subset: str | None = None,
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    only_tags: bool = False,
    precision: Literal["float32", "bfloat16"] = "float32",
    on_error: OnError = "error",
    annotations: Path | None = None,
    maps: Annotated[Path | None, ALSO_WRITTEN] = None,
    plot: Annotated[Path | None, ALSO_WRITTEN] = None,
    shard: str | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Find the segments of videos with a trained network.

    Parameters
    ----------
    data
        folder of features, any layout that `pyws data check` knows
    checkpoint
        best.safetensors or last.safetensors of a run
    out
        detections to write in ActivityNet form, .json or .json.gz
    subset
        videos to look at; may be left out where the data set has one subset
    only_tags
        keep to the tags of each video that has any
    precision
        precision of the network's layers: float32, or bfloat16, which a GPU computes faster
    on_error
        what a video that cannot be used does: stop, or be named and left out
    annotations
        file of ground truth in place of the data set's own: in the form of ActivityNet, BSN or G-TAD, or a table of
        segments
    maps
        activation maps to write, .safetensors: of each video (snippets, classes), and VIDEO/seconds, when snippets are
    plot
        folder of pictures to write, a timeline of each video: activation, confidence, labels, segments, truth
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which

    Examples
    --------
    pyws segments predict watching --subset test --checkpoint run/best.safetensors -o detections.json
    """
    import json
    from dataclasses import asdict
    from hashlib import sha256

    from pyws.commands.parts import in_parts
    from pyws.data.features.dataset import open_features
    from pyws.files import file_sha256
    from pyws.models.devices import set_precision
    from pyws.segments.backbones import check_data, load_backbone
    from pyws.segments.training.batches import Videos, by_length
    from pyws.segments.training.run_folder import open_checkpoint
    from pyws.sharding import this_shard

    if maps is not None and maps.suffix != ".safetensors":
        raise DataError(maps, "maps are written as .safetensors")
    keep = maps is not None or plot is not None
    saved = open_checkpoint(checkpoint)
    built = load_backbone(saved)
    videos = open_features(data, one_subset(data, subset, annotations), on_error, annotations=annotations)
    check_data(saved, built, videos)
    chosen, snippets = _settings_of(saved)
    config = postprocessing.over(chosen)
    say_skipped(common, videos)
    device = common.use_device()
    set_precision(built.model.to(device), precision, device)
    batches = by_length(range(len(videos)), videos.lengths, snippets)
    units = {str(place): float(len(batch) * videos.lengths[batch[0]]) for place, batch in enumerate(batches)}
    made_by = {"tool": "pyws segments predict", "backbone": built.name, "checkpoint": checkpoint.name,
               "only_tags": only_tags, "precision": precision, "epoch": saved.facts["epoch"],
               **videos.grids.note(), **asdict(config)}  # fmt: skip
    watched = sha256(json.dumps([videos.names, videos.lengths.tolist(), snippets]).encode()).hexdigest()
    parameters = {"videos_sha256": watched, "checkpoint_sha256": file_sha256(checkpoint), "maps": keep,
                  **made_by}  # fmt: skip
    work = partial(_find, built, Videos(videos, device), batches, config, snippets, only_tags, keep, common.silent)
    write = partial(_write, out, maps, plot, videos, made_by, common)
    return in_parts(out, this_shard(shard), parameters, units, work, write, common)


def _settings_of(saved: Checkpoint) -> tuple[PostprocessConfig, int]:
    """How a run makes detections of its maps, and the snippets of its batches."""
    from pyws.segments.detection.postprocess import PostprocessConfig

    config = saved.facts["config"]
    chosen = made_of(saved.path, "config.detection", PostprocessConfig, config.get("detection"))
    snippets = config.get("batch_snippets")
    if type(snippets) is not int or snippets < 1:
        raise DataError(saved.path, f"config.batch_snippets must be a whole number > 0, got {snippets!r}")
    return chosen, snippets


def _find(
    built: BuiltBackbone,
    seen: Videos,
    batches: Sequence[list[int]],
    config: PostprocessConfig,
    snippets: int,
    only_tags: bool,
    keep: bool,
    quiet: bool,
    names: Sequence[str],
) -> dict[str, Any]:
    """What a process finds in the batches of these names, by batch and video: detections, timeline and map."""
    from pyws.data.annotations.activitynet import results_of
    from pyws.segments.detection.inference import detect
    from pyws.segments.detection.maps import KeptMaps
    from pyws.segments.detection.timelines import Timelines

    videos, mine = seen.data, [batches[int(name)] for name in names]
    shown, whole = Timelines(videos), KeptMaps(videos)
    watching = (shown, whole) if keep else (shown,)
    found = detect(built.model, built.proposals, seen, config, snippets, quiet=quiet, seen=watching, batches=mine)
    if only_tags:
        allowed = videos.tags | ~videos.tags.any(axis=1, keepdims=True)
        found = found.where(allowed[found.video, found.label])
    results, documents = results_of(found), shown.documents()
    kept = {video: one.document() for video, one in whole.maps.items()}
    return {
        unit: {videos.names[v]: [results[videos.names[v]], documents[v], kept.get(v)] for v in batch}
        for unit, batch in zip(names, mine, strict=True)
    }


def _write(
    out: Path,
    maps: Path | None,
    plot: Path | None,
    videos: FeatureSet,
    made_by: dict[str, Any],
    common: Common,
    parts: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together what the processes found: detections, timelines, maps and pictures."""
    from pyws.data.annotations.activitynet import read_detections, write_results
    from pyws.report.run import place_of, write_report
    from pyws.segments.detection.maps import VideoMap, write_maps
    from pyws.segments.detection.timelines import write_timelines

    merged = {name: found for part in parts.values() for name, found in part.items()}
    write_results(out, {name: merged[name][0] for name in videos.names}, made_by)
    shown = {video: merged[name][1] for video, name in enumerate(videos.names)}
    write_timelines(place_of(out).pictures / "timelines.json.gz", videos, shown)
    write_report(out, quiet=common.silent)
    kept = {name: VideoMap.of(merged[name][2]) for name in videos.names} if maps is not None or plot is not None else {}
    if maps is not None:
        write_maps(maps, kept, videos.classes)
    if plot is not None:
        _draw(plot, kept, read_detections(out), videos, common.silent)
    segments = sum(len(merged[name][0]) for name in videos.names)
    common.say(f"{out}: {counted(segments, 'segment')} in {counted(len(videos), 'video')}")
    skipped = [str(problem) for problem in videos.skipped]
    return {"out": str(out), "videos": len(videos), "segments": segments, "skipped": skipped, "settings": made_by}


def _draw(folder: Path, maps: Mapping[str, VideoMap], found: Instances, data: FeatureSet, quiet: bool) -> None:
    """A picture of each video."""
    from pyws.progress import track
    from pyws.report.predictions import Prediction, draw_prediction
    from pyws.segments.detection.maps import labels_of

    place = {label: index for index, label in enumerate(data.classes)}
    for name, one in track(list(maps.items()), "drawing", quiet=quiet):
        rows = found.of_videos([name])
        rows = replace(rows, label=np.array([place[label] for label in rows.labels], np.int64)[rows.label],
                       labels=data.classes)  # fmt: skip
        truth = None if data.truth is None else data.truth.instances.of_videos([name])
        draw_prediction(
            folder, Prediction(name, data.classes, one.edges, one.values, labels_of(one, rows), rows, truth)
        )
