"""How well superpixels keep to objects: pyws.ops.slic and scikit-image's slic on DAVIS frames, as a Markdown table.

python benchmarks/slic_quality.py DAVIS [--frames N]     DAVIS holds JPEGImages/480p and Annotations/480p
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_cdt
from skimage.segmentation import find_boundaries, slic
from torch.nn import functional

from pyws import ops

Array = np.ndarray[Any, Any]

COUNTS = (100, 200, 500)
TOLERANCE = 2  # pixels between a boundary and its superpixel's
GRID = 32  # grid of the coarse masks, pixels: a stride of image classifiers
COLUMNS = ("superpixels", "boundary recall", "undersegmentation", "achievable accuracy", "IoU, true", "IoU, coarse")


def with_pyws(frame: Array, count: int) -> Array:
    return ops.slic(torch.from_numpy(frame).permute(2, 0, 1)[None], count)[0].numpy()


def with_scikit_image(frame: Array, count: int) -> Array:
    return slic(frame, n_segments=count, compactness=10, max_num_iter=10, start_label=0)


METHODS: dict[str, Callable[[Array, int], Array]] = {"scikit-image": with_scikit_image, "pyws": with_pyws}


def iou_refined(labels: Array, mask: Array, truth: Array) -> float:
    """IoU with the truth of the superpixels that a mask covers by more than half."""
    refined = (
        ops.superpixel_select(*(torch.from_numpy(x)[None] for x in (labels.astype(np.int32), mask))).mask[0].numpy()
    )
    return float((refined & truth).sum() / max((refined | truth).sum(), 1))


def measure(labels: Array, truth: Array) -> list[float]:
    """The columns of the table for one frame and its true mask."""
    area = np.bincount(labels.ravel())
    inside = np.bincount(labels[truth], minlength=len(area))
    less = np.minimum(inside, area - inside).sum() / truth.size
    far = distance_transform_cdt(~find_boundaries(labels, mode="thick"), "chessboard")
    recall = (far[find_boundaries(truth, mode="inner")] <= TOLERANCE).mean()
    share = functional.adaptive_avg_pool2d(
        torch.from_numpy(truth)[None, None].float(), [size // GRID for size in truth.shape]
    )
    coarse = functional.interpolate(share, truth.shape, mode="bilinear")[0, 0].numpy() > 0.5
    return [len(area), recall, less, 1 - less, iou_refined(labels, truth, truth), iou_refined(labels, coarse, truth)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--frames", type=int, default=4, help="of each sequence, evenly spread")
    options = parser.parse_args()
    rows: dict[tuple[int, str], list[list[float]]] = {(n, name): [] for n in COUNTS for name in METHODS}
    for sequence in sorted((options.davis / "JPEGImages/480p").iterdir()):
        paths = sorted(sequence.glob("*.jpg"))
        for path in paths[len(paths) // (2 * options.frames) :: max(1, len(paths) // options.frames)][: options.frames]:
            frame = np.array(Image.open(path).convert("RGB"))
            mask = options.davis / "Annotations/480p" / sequence.name / f"{path.stem}.png"
            truth = np.array(Image.open(mask)) > 0
            for (count, name), found in rows.items():
                found.append(measure(METHODS[name](frame, count), truth))
    print(f"| n_segments | method | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 2)}")
    for (count, name), found in rows.items():
        made, *means = np.mean(found, 0)
        print(f"| {count} | {name} | {made:.0f} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
