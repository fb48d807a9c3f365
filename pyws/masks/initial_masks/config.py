"""The configuration of initial masks, every default on one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyws.errors import check_fields
from pyws.masks.initial_masks.superpixels import Superpixels
from pyws.models.devices import Precision


@dataclass(frozen=True)
class InitialMaskConfig:
    """How initial masks are made; a folder holds masks of one configuration.

    Parameters
    ----------
    short_side
        Short side of an image classifier's input, in pixels; a classifier of pyws masks classify keeps its own
    scales
        Factors of the input's short side; maps are averaged over them. Small inputs show whole objects, large ones
        their outline.
    mirror
        Average with the maps of the mirrored frames
    power
        Exponent of the averaged map, which lies in [0, 1], before its threshold; above 1 masks are tighter
    motion
        Weight the maps of an image classifier by optical flow less the camera's motion; needs OpenCV
    output_stride
        Input pixels between two positions of the last feature map: 32, or 16 with dilated kernels
    otsu_resolution
        Values that Otsu's threshold is computed from: those of the map scaled to the frame, or of the map itself
    superpixels
        Implementation of SLIC: pyws.ops.slic, or scikit-image's
    region_area
        Mean area of a superpixel, in pixels of the frame
    compactness
        Weight of position against colour in SLIC
    iterations
        Iterations of SLIC
    alpha
        Minimum share of a superpixel that the initial mask must cover
    beta
        Bound on the share of the frame that one superpixel, or what --beta-on names, may cover
    beta_on
        What beta bounds: each superpixel, or each connected part of a refined mask
    overlap
        What alpha bounds: the share of the superpixel, the IoU of superpixel and mask, or the share of the smaller
    batch
        Batch size of an image classifier, in frames
    precision
        Precision of the forward passes of networks: float32, or bfloat16, see :func:`pyws.models.devices.set_precision`
    max_frames
        Maximum number of frames of a video that get masks, spread evenly; 0 for all
    """

    short_side: int = 384
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    power: float = 1.0
    motion: bool = False
    output_stride: int = 32
    otsu_resolution: Literal["frame", "map"] = "frame"
    superpixels: Literal["pyws", "skimage"] = "pyws"
    region_area: int = 768
    compactness: float = 10.0
    iterations: int = 5
    alpha: float = 0.5
    beta: float = 0.4
    beta_on: Literal["superpixel", "component"] = "superpixel"
    overlap: Literal["superpixel", "iou", "min"] = "superpixel"
    batch: int = 8
    max_frames: int = 0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_fields(self, "masks init", ">= 1", "short_side", "batch", "output_stride")
        check_fields(self, "masks init", "> 0", "power", "scales")
        check_fields(self, "masks init", "in [0, 1]", "alpha")
        check_fields(self, "masks init", ">= 0", "beta", "max_frames")
        if not self.scales:
            raise ValueError("masks init: scales: at least one is needed, got none")
        self.superpixel_cache(Path())

    @property
    def selection(self) -> tuple[float, float, str, str]:
        """Arguments alpha, beta, overlap and beta_on of :func:`pyws.ops.superpixel_select`."""
        return self.alpha, self.beta, self.overlap, self.beta_on

    def superpixel_cache(self, out: Path) -> Superpixels:
        """Superpixels by this configuration, kept under ``out``."""
        return Superpixels(out / "slic", self.region_area, self.compactness, self.iterations, self.superpixels)
