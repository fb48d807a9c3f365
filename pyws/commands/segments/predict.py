"""pyws segments predict: from a network to segments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.commands.segments.feature_sets import OnError, one_subset, say_skipped
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions


def predict(
    data: Positional[Path],
    checkpoint: Path,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    subset: str | None = None,
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    only_tags: bool = False,
    on_error: OnError = "error",
    annotations: Path | None = None,
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
    on_error
        what a video that cannot be used does: stop, or be named and left out
    annotations
        a file of ground truth in place of the data set's own: ActivityNet's, BSN's or G-TAD's, or a table of segments

    Examples
    --------
    pyws segments predict watching --subset test --checkpoint run/best.safetensors -o detections.json
    """
    from dataclasses import asdict

    from pyws.data.annotations.activitynet import write_detections
    from pyws.data.features.dataset import open_features
    from pyws.segments.backbones import check_data, load_backbone
    from pyws.segments.detection.inference import detect
    from pyws.segments.detection.postprocess import PostprocessConfig
    from pyws.segments.training.batches import Videos
    from pyws.segments.training.run_folder import open_checkpoint

    saved = open_checkpoint(checkpoint)
    built = load_backbone(saved)
    videos = open_features(data, one_subset(data, subset, annotations), on_error, annotations=annotations)
    check_data(saved, built, videos)
    config = postprocessing.over(PostprocessConfig(**saved.facts["config"]["detection"]))
    say_skipped(common, videos)
    built.model.to(common.torch_device)
    quiet = common.quiet or common.json
    snippets = saved.facts["config"]["batch_snippets"]
    found = detect(built.model, built.proposals, Videos(videos, common.torch_device), config, snippets, quiet=quiet)
    if only_tags:
        allowed = videos.tags | ~videos.tags.any(axis=1, keepdims=True)
        found = found.where(allowed[found.video, found.label])
    made_by = {"tool": "pyws segments predict", "backbone": built.name, "checkpoint": checkpoint.name,
               "only_tags": only_tags, "epoch": saved.facts["epoch"], **asdict(config)}  # fmt: skip
    write_detections(out, found, made_by)
    common.say(f"{out}: {len(found)} segments in {len(videos)} videos")
    skipped = [str(problem) for problem in videos.skipped]
    return {"out": str(out), "videos": len(videos), "segments": len(found), "skipped": skipped, "settings": made_by}
