"""pyws segments fuse: proposals to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.commands.segments.feature_sets import grids_of
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions
from pyws.errors import counted


def fuse(
    proposals: Positional[Path],
    out: Positional[Path],
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    sign_weights: bool = False,
    snippets_per_second: float | None = None,
    features: Path | None = None,
    shard: str | None = None,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Suppress or fuse the proposals of each video and class.

    Parameters
    ----------
    proposals
        proposals in ActivityNet form, .json or .json.gz
    out
        detections to write, in the same form
    sign_weights
        with gaussian: divide by the signed weights, as the released code does
    snippets_per_second
        the grid on which proposals overlap; if not given, what the proposals note, for each video where they do, or
        1.5625, with a message; another rate than is noted is an error
    features
        data set of the features that these proposals were made of, in whose time base the videos' snippets are, where
        the proposals note none
    shard
        I/N: do the I-th of N shares of the videos, beside other processes on any machines; left out, torchrun or Slurm
        says which

    Examples
    --------
    pyws segments fuse proposals.json detections.json --method gaussian --iou 0.25
    """
    from dataclasses import asdict, replace

    from pyws.commands.parts import in_parts
    from pyws.data.annotations.activitynet import read_noted_detections, results_of, write_results
    from pyws.files import file_sha256
    from pyws.report.run import write_report
    from pyws.segments import PostprocessConfig, fuse_detections
    from pyws.sharding import this_shard

    config = replace(postprocessing.over(PostprocessConfig()), sign_weights=sign_weights)
    found, note = read_noted_detections(proposals)
    grids = grids_of(snippets_per_second, note, proposals, found.videos, features)
    settings = {**asdict(config), **grids.note()}

    def work(names: Sequence[str]) -> dict[str, Any]:
        chosen = found if len(names) == len(found.videos) else found.of_videos(names)
        return results_of(fuse_detections(chosen, config, grids))

    def write(results: Mapping[str, Any]) -> dict[str, Any]:
        write_results(out, results, settings)
        write_report(out, quiet=common.silent, inputs={"proposals": proposals})
        fused = sum(map(len, results.values()))
        common.say(
            f"{out}: {counted(fused, 'detection')} from {len(found)} proposals of {counted(len(found.videos), 'video')}"
        )
        counts = {"videos": len(found.videos), "proposals": len(found), "detections": fused}
        return {"out": str(out), **counts, "settings": settings}

    parameters = {"stage": "segments fuse", "proposals": file_sha256(proposals), **settings}
    return in_parts(out, this_shard(shard), parameters, found.sizes(), work, write, common)
