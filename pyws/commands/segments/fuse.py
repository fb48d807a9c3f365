"""pyws segments fuse: proposals to detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions
from pyws.data.features.listing import SNIPPETS_PER_SECOND

Method = Literal["none", "nms", "soft-nms", "gaussian", "uniform", "exponential", "t"]


def fuse(
    proposals: Positional[Path],
    out: Positional[Path],
    method: Method = "gaussian",
    iou: float = 0.25,
    temperature: float = 0.2,
    overlap: Literal["iou", "own"] = "iou",
    sigma: float | None = None,
    sign_weights: bool = False,
    ranking: Literal["score", "support"] = "score",
    snap: bool = False,
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
    method
        none, suppression (nms, soft-nms), or fusion by a distribution
    iou
        overlap above which proposals are one
    temperature
        of the fusions; small follows the best proposal, large weighs all alike
    overlap
        iou, or own (the released rule: over the candidate's own length)
    sigma
        of soft-nms; 0.5 if not given
    sign_weights
        of gaussian: divide by the signed weights, as the released code does
    ranking
        of the fusions: by the fused score, or by support, the sum of the scores above 0 that were fused
    snap
        of the fusions: move bounds to the nearest snippet
    snippets_per_second
        the grid on which proposals overlap

    Examples
    --------
    pyws segments fuse proposals.json detections.json --method gaussian --iou 0.25
    """
    from pyws.data.annotations.activitynet import read_detections, write_detections
    from pyws.segments import PostprocessConfig, fuse_detections

    settings = {"method": method, "iou": iou, "temperature": temperature, "overlap": overlap, "sigma": sigma,
                "sign_weights": sign_weights, "ranking": ranking, "snap": snap,
                "snippets_per_second": snippets_per_second}  # fmt: skip
    config = PostprocessConfig(method, temperature, iou, overlap, "score", sigma, sign_weights, ranking, snap)
    found = read_detections(proposals)
    fused = fuse_detections(found, config, snippets_per_second)
    write_detections(out, fused, settings)
    common.say(f"{out}: {len(fused)} detections from {len(found)} proposals of {len(found.videos)} videos")
    counts = {"videos": len(found.videos), "proposals": len(found), "detections": len(fused)}
    return {"out": str(out), **counts, "settings": settings}
