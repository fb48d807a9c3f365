"""SLIC superpixels of frames, computed once and kept as PNG files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pyws import ops
from pyws.data.video.png import encode_png, read_whole
from pyws.errors import check_fields
from pyws.files import atomic_write

SLIC_REVISION = 1  # revision of pyws.ops.slic: higher wherever its labels change, so that no cache mixes them


FEWEST = 8  # superpixels of a frame: with one or two, no mask covers half of any, and all would be empty


@dataclass(frozen=True)
class Superpixels:
    """SLIC label maps of frames, computed once: they depend on the frame, never on the mask.

    A map is kept as ``folder/<hash of the method and its parameters>/<video>/<frame>.png`` (8 bits a pixel up to 256
    superpixels, else 16) that carries the method and the hash of its frame's pixels. A file of another frame, or a
    damaged one, is computed again.

    Parameters
    ----------
    region_area : pixels of a superpixel, on average: its size, not the number, is what should agree among videos; in
        frames that hold fewer than FEWEST of that size they are smaller
    method : who computes them: "pyws", :func:`pyws.ops.slic`, or "skimage", scikit-image
    """

    folder: Path
    region_area: int = 768
    compactness: float = 10.0
    iterations: int = 5
    method: str = "pyws"

    def __post_init__(self) -> None:
        check_fields(self, "superpixels", ">= 1", "region_area", "iterations")
        check_fields(self, "superpixels", "> 0", "compactness")
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
                write = partial(_write_labels, method=self.method)
                list(pool.map(write, [paths[i] for i in missing], [keys[i] for i in missing], made))
                if len(missing) == len(frames):
                    return made
                for index, one in zip(missing, made, strict=True):
                    labels[index] = one
        return np.stack([one for one in labels if one is not None])

    def _compute(self, frames: NDArray[np.uint8], pool: ThreadPoolExecutor) -> NDArray[np.int32]:
        area = area_of(frames[0], self.region_area)
        if self.method == "pyws":
            images = torch.from_numpy(frames).permute(0, 3, 1, 2)
            return ops.slic(images, compactness=self.compactness, iterations=self.iterations, region_area=area).numpy()
        from skimage.segmentation import slic

        count = max(1, round(frames.shape[1] * frames.shape[2] / area))
        each = partial(
            slic, n_segments=count, compactness=self.compactness, max_num_iter=self.iterations, start_label=0
        )  # scikit-image's defaults: CIELAB, sigma 0, connectivity enforced
        return np.stack(list(pool.map(each, frames))).astype(np.int32)


def area_of(frame: NDArray[np.uint8], wanted: int) -> int:
    """Mean area of the superpixels of a frame (H, W, 3): the wanted one, or less where FEWEST would not fit.

    Examples
    --------
    >>> area_of(np.zeros((240, 320, 3), np.uint8), 768), area_of(np.zeros((20, 30, 3), np.uint8), 768)
    (768, 75)
    """
    return min(wanted, max(1, frame.shape[0] * frame.shape[1] // FEWEST))


def _hash_of(frame: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(repr(frame.shape).encode())
    digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def _write_labels(path: Path, key: str, labels: NDArray[np.int32], method: str) -> None:
    most = labels.max()
    if most > 65535:
        return  # no PNG holds them; frames beyond 50 million pixels are computed again
    stored = labels.astype(np.uint8 if most <= 255 else np.uint16)
    with atomic_write(path, "wb") as file:
        file.write(encode_png(stored, text={"method": method, "frame": key}))


def _read_labels(path: Path, key: str, size: tuple[int, ...]) -> NDArray[np.int32] | None:
    """Labels from the cache, or None where there are none of this very frame, whole."""
    content = read_whole(path)
    if content is None:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (size[1], size[0]) or image.info.get("frame") != key:
                return None
            return np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError):
        return None
