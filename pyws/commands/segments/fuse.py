"""pyws segments fuse: proposals to detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.commands.segments.postprocessing import Postprocessing, PostprocessingOptions
from pyws.data.features.listing import SNIPPETS_PER_SECOND


def fuse(
    proposals: Positional[Path],
    out: Positional[Path],
    postprocessing: PostprocessingOptions = Postprocessing(),  # noqa: B008
    sign_weights: bool = False,
    snippets_per_second: float = SNIPPETS_PER_SECOND,
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
        of gaussian: divide by the signed weights, as the released code does
    snippets_per_second
        the grid on which proposals overlap

    Examples
    --------
    pyws segments fuse proposals.json detections.json --method gaussian --iou 0.25
    """
    from dataclasses import asdict, replace

    from pyws.data.annotations.activitynet import read_detections, write_detections
    from pyws.segments import PostprocessConfig, fuse_detections

    config = replace(postprocessing.over(PostprocessConfig()), sign_weights=sign_weights)
    settings = {**asdict(config), "snippets_per_second": snippets_per_second}
    found = read_detections(proposals)
    fused = fuse_detections(found, config, snippets_per_second)
    write_detections(out, fused, settings)
    common.say(f"{out}: {len(fused)} detections from {len(found)} proposals of {len(found.videos)} videos")
    counts = {"videos": len(found.videos), "proposals": len(found), "detections": len(fused)}
    return {"out": str(out), **counts, "settings": settings}
