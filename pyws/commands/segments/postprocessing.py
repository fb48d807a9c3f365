"""The options by which candidate segments become detections, the same in every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from pyws.segments.detection.postprocess import PostprocessConfig

Method = Literal["none", "nms", "soft-nms", "gaussian", "uniform", "exponential", "t"]


@dataclass(frozen=True)
class Postprocessing:
    """How candidate segments become detections; what is not given stays as it is by default or in the run.

    Parameters
    ----------
    method
        none, suppression (nms, soft-nms), or fusion by a distribution (the others)
    iou
        overlap above which segments are one, in nms and the fusions
    temperature
        temperature of the fusions; a small one follows the best segment, a large one weighs all alike
    overlap
        iou, or own (the released rule: over the candidate's own length)
    sigma
        width of the Gaussian by which soft-nms lowers scores
    ranking
        what ranks fused segments: the fused score, support (the sum of the scores above 0 that were fused), or
        1 - exp(-support)
    snap
        what the fusions do with bounds: nearest moves them to the nearest snippet, none leaves them where they are
    """

    method: Method | None = None
    iou: float | None = None
    temperature: float | None = None
    overlap: Literal["iou", "own"] | None = None
    sigma: float | None = None
    ranking: Literal["score", "support", "saturated"] | None = None
    snap: Literal["nearest", "none"] | None = None

    def over(self, usual: PostprocessConfig) -> PostprocessConfig:
        """These options on top of a configuration.

        Raises
        ------
        ValueError : an option that the method does not have
        """
        from dataclasses import replace

        given = {name: value for name, value in vars(self).items() if value is not None}
        if self.iou is not None:
            given["iou_threshold"] = given.pop("iou")
        if self.snap is not None:
            given["snap"] = self.snap == "nearest"
        base = usual if self.method in (None, usual.method) else usual.with_method(given["method"])
        return replace(base, **given)


PostprocessingOptions = Annotated[Postprocessing, tyro.conf.arg(name="")]
