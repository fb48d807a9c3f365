"""Initial pseudo-annotations (PA.v0): activation maps to masks, masks to superpixels (WS^2 section 3.1, Alg. 2)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional

from pyws import ops
from pyws.files import atomic_write

SLIC_REVISION = 1  # of pyws.ops.slic: higher wherever its labels change, so that no cache mixes them

Scope = Literal["frame", "clip"]
Scale = Literal["frame", "map"]


def cut_maps(maps: Tensor, size: tuple[int, int], scale: Scale = "frame") -> Tensor:
    """Pixels (..., H, W) of a frame where maps (..., h, w), scaled to it, exceed Otsu's threshold; bool.

    Parameters
    ----------
    scale : "frame": of the scaled map's values, as the paper has it; "map": of the map's own. A scaled map has more
        values between the object's and the background's, so that its threshold is another one

    Examples
    --------
    >>> maps = torch.tensor([[[0.0, 0.0, 0.0, 4.0]]])
    >>> cut_maps(maps, (1, 8)).tolist()
    [[[False, False, False, False, False, False, True, True]]]
    >>> cut_maps(maps, (1, 8), "map").tolist()
    [[[False, False, False, False, False, True, True, True]]]
    """
    if scale == "frame":
        return ops.otsu_masks(maps, size).masks
    flat = maps.float().flatten(0, -3)
    scaled = functional.interpolate(flat[None], size=size, mode="bilinear", align_corners=False)[0]
    return (scaled > ops.otsu(flat)[:, None, None]).reshape(*maps.shape[:-2], *size)


def initial_masks(maps: Tensor, size: tuple[int, int], scale: Scale = "frame") -> Tensor:
    """Maps of the tags of a video to the pixels of each tag.

    Each map is scaled to the frame (bilinear, ``align_corners=False``) and cut by Otsu's threshold of the frame. Pixels
    that several tags claim go to the one whose map, scaled to [0, 1], is larger there, the first of equals.

    Parameters
    ----------
    maps : (B, K, h, w) float, not negative, one map for each of K tags
    size : (H, W) of the frames
    scale : see :func:`cut_maps`

    Returns
    -------
    (B, H, W) int64, 0 for background, k + 1 for tag k; a constant map claims nothing

    Examples
    --------
    >>> maps = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0, 0.0]]]])
    >>> initial_masks(maps, (1, 4))
    tensor([[[2, 0, 0, 1]]])
    """
    _check_maps("initial_masks", maps)
    foreground = cut_maps(maps, size, scale)
    if maps.shape[1] == 1:
        return foreground[:, 0].long()
    best, tag = torch.where(foreground, scaled_maps(maps, size), -1).max(1)
    return torch.where(best >= 0, tag + 1, 0)


def scaled_maps(maps: Tensor, size: tuple[int, int], scope: Scope = "frame") -> Tensor:
    """Maps (B, K, h, w) scaled to frames of ``size`` (bilinear, ``align_corners=False``), then to [0, 1].

    Parameters
    ----------
    scope : the range that becomes [0, 1] is that of each map ("frame"), or that of a class over all B ("clip")

    Returns
    -------
    (B, K, H, W) float; a constant map becomes 0
    """
    _check_maps("scaled_maps", maps)
    scores = functional.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)
    axes = (2, 3) if scope == "frame" else (0, 2, 3)
    low, high = scores.amin(axes, keepdim=True), scores.amax(axes, keepdim=True)
    return (scores - low) / torch.where(high > low, high - low, 1)


def _check_maps(name: str, maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(f"{name}: maps must be (B, K, h, w) float, got {tuple(maps.shape)} {maps.dtype}")


def claimed(scores: Tensor, scope: Scope = "frame") -> Tensor:
    """Where scaled maps (B, K, H, W) exceed Otsu's threshold of the frame, or of all B frames of a clip; bool."""
    if scope == "clip":
        return claimed(scores.transpose(0, 1).flatten(1, 2)[None]).view(scores.transpose(0, 1).shape).transpose(0, 1)
    flat = scores.flatten(0, 1)
    return (flat > ops.otsu(flat)[:, None, None]).reshape(scores.shape)


def refine_masks(
    superpixels: Tensor,
    masks: Tensor,
    alpha: float = 0.5,
    beta: float = 0.4,
    overlap: str = "superpixel",
    beta_on: str = "superpixel",
) -> Tensor:
    """Replace masks by the superpixels that their union covers (Alg. 2); each takes the tag with most of its pixels.

    Parameters
    ----------
    superpixels : (B, H, W) int32 or int64 labels
    masks : (B, H, W) integers, 0 for background
    alpha, beta, overlap, beta_on : see :func:`pyws.ops.superpixel_select`

    Returns
    -------
    (B, H, W) of the dtype of ``masks``
    """
    selected = ops.superpixel_select(superpixels, masks > 0, alpha, beta, overlap, beta_on=beta_on).mask
    tags = int(masks.max()) if masks.numel() else 0
    if tags > 1:
        masks = ops.superpixel_vote(superpixels, masks, num_classes=tags + 1, alpha=0.0).classes
        return torch.where(selected, masks, 0)
    return selected.to(masks.dtype)


@dataclass(frozen=True)
class Superpixels:
    """SLIC label maps of frames, computed once: they depend on the frame, never on the mask.

    A map is kept as ``folder/<hash of the method and its parameters>/<video>/<frame>.png`` (8 bits a pixel up to 256
    superpixels, else 16) that carries the method, the hash of its frame's pixels and of its own labels. A file of
    another frame, or a damaged one, is computed again.
    """

    folder: Path
    region_area: int = 768
    """Pixels of a superpixel, on average: its size, not the number, is what should agree among videos."""
    compactness: float = 10.0
    iterations: int = 10
    method: str = "pyws"
    """Who computes them: "pyws", :func:`pyws.ops.slic`, or "skimage", scikit-image."""

    def __post_init__(self) -> None:
        if self.region_area < 1:
            raise ValueError(f"superpixels: region_area must be >= 1, got {self.region_area}")
        if not self.compactness > 0:
            raise ValueError(f"superpixels: compactness must be > 0, got {self.compactness}")
        if self.iterations < 1:
            raise ValueError(f"superpixels: iterations must be >= 1, got {self.iterations}")
        if self.method not in ("pyws", "skimage"):
            raise ValueError(f"superpixels: method must be pyws or skimage, got {self.method!r}")

    @property
    def parameter_hash(self) -> str:
        version = SLIC_REVISION if self.method == "pyws" else importlib.metadata.version("scikit-image")
        name = "pyws slic" if self.method == "pyws" else "slic"
        text = f"{name} {version} {self.region_area} {self.compactness} {self.iterations} lab connected"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __call__(self, frame: NDArray[np.uint8], video: str, stem: str) -> NDArray[np.int32]:
        """Labels (H, W) from 0 of a frame (H, W, 3) uint8 RGB."""
        return self.of_frames(frame[None], video, [stem])[0]

    def of_frames(self, frames: NDArray[np.uint8], video: str, stems: list[str]) -> NDArray[np.int32]:
        """Labels (B, H, W) of frames (B, H, W, 3) of one video."""
        folder = self.folder / self.parameter_hash / video
        paths = [folder / f"{stem}.png" for stem in stems]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashing, PNG and scikit-image release the lock
            keys = list(pool.map(_hash_of, frames))
            labels = list(pool.map(lambda path, key: _read_labels(path, key, frames.shape[1:3]), paths, keys))
            missing = [index for index, found in enumerate(labels) if found is None]
            if missing:
                made = self._compute(frames[missing], pool)
                for index, one in zip(missing, made, strict=True):
                    labels[index] = one
                write = partial(_write_labels, method=self.method)
                list(pool.map(write, [paths[i] for i in missing], [keys[i] for i in missing], made))
        return np.stack([one for one in labels if one is not None])

    def _compute(self, frames: NDArray[np.uint8], pool: ThreadPoolExecutor) -> NDArray[np.int32]:
        if self.method == "pyws":
            images = torch.from_numpy(frames).permute(0, 3, 1, 2)
            return ops.slic(
                images, compactness=self.compactness, iterations=self.iterations, region_area=self.region_area
            ).numpy()
        from skimage.segmentation import slic

        count = max(1, round(frames.shape[1] * frames.shape[2] / self.region_area))
        each = partial(
            slic, n_segments=count, compactness=self.compactness, max_num_iter=self.iterations, start_label=0
        )  # scikit-image's defaults: CIELAB, sigma 0, connectivity enforced
        return np.stack(list(pool.map(each, frames))).astype(np.int32)


def _hash_of(frame: NDArray[np.uint8]) -> str:
    return hashlib.sha256(repr(frame.shape).encode() + np.ascontiguousarray(frame).tobytes()).hexdigest()


def _write_labels(path: Path, key: str, labels: NDArray[np.int32], method: str) -> None:
    if labels.max() > 65535:
        return  # no PNG holds them; frames beyond 50 million pixels are computed again
    stored = labels.astype(np.uint8 if labels.max() <= 255 else np.uint16)
    about = PngInfo()
    about.add_text("method", method)
    about.add_text("frame", key)
    about.add_text("labels", hashlib.sha256(labels.tobytes()).hexdigest())
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, format="PNG", pnginfo=about)
    with atomic_write(path, "wb") as file:
        file.write(buffer.getvalue())


def _read_labels(path: Path, key: str, size: tuple[int, ...]) -> NDArray[np.int32] | None:
    """Labels from the cache, or None where there are none of this very frame, whole."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.size != (size[1], size[0]) or image.info.get("frame") != key:
                return None
            labels = np.asarray(image).astype(np.int32)
            expected = image.info.get("labels")
    except (OSError, SyntaxError, ValueError):
        return None
    return labels if hashlib.sha256(labels.tobytes()).hexdigest() == expected else None
