"""The configuration of refinement, every default on one line."""

from __future__ import annotations

from dataclasses import dataclass

from pyws.errors import check_fields


@dataclass(frozen=True)
class RefinementConfig:
    """How pseudo-annotations are refined by a model of their video; a folder holds masks of one configuration.

    Parameters
    ----------
    working_side
        Short side of the frames that masks are refined in, in pixels; the result is scaled to the frame
    feature_side
        Short side of the classifier's input for the features, in pixels
    layers
        Dotted names of the layers that features are taken from, early ones; empty: the layers of about a fourth and an
        eighth of the input's size, known for the usual architectures
    region_area
        Mean area of a superpixel, in pixels of the working size
    l2
        Weight of the squared coefficients of the appearance model beside the mean cross-entropy
    place_weight
        Log-odds that the place adds to the appearance at the middle of a mask, and subtracts far from it
    place_sigma
        Standard deviation of the blur that makes places of masks, in square roots of the median area of a mask
    rounds
        Times that the model is fitted, each to the masks of the one before
    crf_weight
        Pull of neighbours of like colour on the outlines, in the end (a local conditional random field); 0: none
    """

    working_side: int = 240
    feature_side: int = 480
    layers: tuple[str, ...] = ()
    region_area: int = 192
    l2: float = 0.0067
    place_weight: float = 2.0
    place_sigma: float = 0.6
    rounds: int = 2
    crf_weight: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "masks refine", ">= 1", "working_side", "feature_side", "region_area", "rounds")
        check_fields(self, "masks refine", "> 0", "l2", "place_sigma")
        check_fields(self, "masks refine", ">= 0", "place_weight", "crf_weight")
