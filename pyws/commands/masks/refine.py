"""pyws masks refine: pseudo-annotations refined by a model of each video."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from pyws.commands.common import Common, CommonOptions, flow_of, of_shard, say_doubts, table_of
from pyws.data.video.optical_flow import FlowName
from pyws.masks.refinement.config import RefinementConfig


def refine(
    init: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    masks: Path | None = None,
    classifier_weights: str = "default",
    class_names: Path | None = None,
    flow: FlowName = "dis",
    raft_weights: str = "default",
    shard: str | None = None,
    config: Annotated[RefinementConfig, tyro.conf.arg(name="")] = RefinementConfig(),  # noqa: B008
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Refine masks by a model of each video: appearance, place and optical flow, fitted to all masks of the video.

    No tag beyond those of pyws masks init is needed, and no ground truth is read. The result has the layout of INIT:
    pyws masks train goes on from either. Needs OpenCV (pip install 'pyws-video[motion]'). An interrupted run is
    continued by the same command.

    Parameters
    ----------
    init
        Folder that pyws masks init wrote.
    out
        Folder to write: pa/v0 (refined masks), overlays, manifest.json, report.html.
    masks
        Folder of other masks of the same frames, e.g. RUN/pa/v1; pa/v0 of INIT where it is left out.
    classifier_weights
        State dict of the classifier of pyws masks init (the one of actors), whose early features are used, a local
        file; default: the published weights.
    class_names
        The names of its classes, where pyws masks init was given a file of them.
    flow
        How masks are carried to the frames before and after: dis (fast), tvl1 (extra flow), farneback, or the networks
        raft_small and raft_large.
    raft_weights
        Weights of RAFT: a file with its state dict; default: torchvision's, fetched once; or their name, such as
        C_T_V2.
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which.
    config
        How the model of a video is made.
    common
        Options of every command.

    Examples
    --------
    pyws masks refine first -o final
    pyws masks refine first -o final --masks run/pa/v1
    pyws masks refine first -o final --flow raft_large --raft-weights raft_large.pth
    """
    from pyws.commands.masks.train import open_first_classifier
    from pyws.masks.initial_masks.pipeline import FORMAT
    from pyws.masks.refinement.pipeline import refine_annotations
    from pyws.report.run import place_of, write_report
    from pyws.report.runs.masks import draw_video, shown_of_run
    from pyws.run_manifest import MANIFEST, read_manifest
    from pyws.sharding import this_shard

    classifier = open_first_classifier(init, classifier_weights, class_names, common.use_device())
    method = flow_of(flow, raft_weights, common)
    part = this_shard(shard)
    first = read_manifest(init / MANIFEST, *FORMAT)
    space, videos = first["label_space"]["names"], [entry["status"] for entry in first["videos"].values()].count("done")

    def draw(name: str, video: Mapping[str, Any]) -> None:
        folders = {"pseudo-annotation": (masks or init / "pa/v0") / name, "refined": out / "pa/v0" / name}
        heats = {"map": init / "heat" / name}
        draw_video(place_of(out), name, video, videos, "refine", folders, space, heats)

    shown = partial(shown_of_run, videos, "refine")
    run = refine_annotations(init, out, classifier, config, masks, common.silent, part, method, draw, shown)
    rows = []
    for name, video in run.document["videos"].items():
        report = video["report"]
        rows.append((name, len(video["sampled"]), f"{report['refined_area']:.1%}", report["refined_empty"]))
    common.say(table_of(("video", "masks", "area", "without mask"), rows))
    say_doubts(common, run.document["videos"], set(run.mine))
    if run.last:
        write_report(out, quiet=common.silent)
    return of_shard(run.document, part, run.missing, run.last, common)
