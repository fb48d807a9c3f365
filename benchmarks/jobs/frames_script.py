"""First masks as people script them today: pytorch-grad-cam, OpenCV and scikit-image, a frame after another.

python benchmarks/jobs/frames_script.py OUT CLASS WEIGHTS FRAMES...
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from skimage.measure import regionprops
from skimage.segmentation import slic

from pyws.models.image_networks.efficientnet_lite import EfficientNetLite

SHORT_SIDE, STRIDE, REGION = 384, 32, 768
ALPHA, BETA = 0.5, 0.4  # thresholds of WS^2's Algorithm 2


def main(out: str, label: str, weights: str, folders: list[str]) -> None:
    model = EfficientNetLite().eval()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    cam = GradCAM(model, [model.features])
    for folder in folders:
        for path in sorted(Path(folder).iterdir()):
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            height, width = image.shape[:2]
            scale = SHORT_SIDE / min(height, width)
            size = [round(side * scale / STRIDE) * STRIDE for side in (width, height)]
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            shown = torch.from_numpy((small.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
            found = cam(shown, [ClassifierOutputTarget(int(label))])[0]
            level = np.round(255 * cv2.resize(found, (width, height))).astype(np.uint8)
            mask = cv2.threshold(level, 0, 1, cv2.THRESH_OTSU)[1].astype(bool)
            pixels = slic(image, n_segments=round(height * width / REGION), compactness=10.0, start_label=1)
            refined = np.zeros_like(mask, dtype=np.uint8)
            area = mask.sum()
            for region in regionprops(pixels):
                rows, columns = region.coords.T
                inside = mask[rows, columns].sum()
                if inside > ALPHA * region.area or inside > BETA * area:
                    refined[rows, columns] = 1
            target = Path(out) / Path(folder).name / f"{path.stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), refined)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
