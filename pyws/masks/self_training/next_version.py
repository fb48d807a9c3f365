"""The next version of the pseudo-annotations: what a model predicts, and where several predictions of it agree."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pyws import ops
from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.clips import shrunk
from pyws.data.video.frames import Pixels
from pyws.data.video.optical_flow import Flow, carry, consistency, dense_flow
from pyws.masks.refinement.appearance import superpixel_means
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.masks.self_training.stopping import LoopConfig
from pyws.masks.self_training.train_segmentation import TrainingConfig, best_ids, predict_scores
from pyws.models.image_networks.deeplab import DeepLabV2

VIEWS = tuple((scale, mirrored) for scale in (1.0, 0.75, 1.25) for mirrored in (False, True))
FLOW_SIDE = 240  # pixels of the short side of the frames that masks are carried between
SURE = 0.5  # consistency of the ways there and back above which the mask of a neighbour says something


@dataclass(frozen=True)
class Prediction:
    """What a model says of a frame.

    Parameters
    ----------
    probabilities : (K, H, W) float32 of the ids that may appear
    mask : (H, W) uint8, the id with the highest score
    agreed : (H, W) bool, where all views say so
    """

    probabilities: Tensor
    mask: Pixels
    agreed: NDArray[np.bool_]


class NextVersion:
    """Pseudo-annotations of frames by a model, as a loop asks for them.

    Parameters
    ----------
    model : in eval mode
    data : the frames, with the pseudo-annotations of version 0
    loop : what is left out, and whether superpixels refine
    training : how the model sees frames
    device : where it is
    """

    def __init__(
        self, model: DeepLabV2, data: Annotations, loop: LoopConfig, training: TrainingConfig, device: torch.device
    ) -> None:
        self.model, self.data, self.loop, self.training, self.device = model, data, loop, training, device
        self._recent: OrderedDict[Frame, Prediction] = OrderedDict()

    def predict(self, frame: Frame) -> Prediction:
        """What the model says; with "views" in ``loop.disagreement`` the mean over scales and mirror images."""
        if frame in self._recent:
            return self._recent[frame]
        allowed = self.data.tags[frame.video] if self.loop.constrain_labels else None
        clip, side = [self.data.clip(frame, self.training.offsets)], self.training.short_side
        views = VIEWS if "views" in self.loop.disagreement else VIEWS[:1]
        seen = [predict_scores(self.model, clip, allowed, side, self.device, *view) for view in views]
        ids = seen[0][0]
        probabilities = torch.stack([scores[0].softmax(0).cpu() for _, scores in seen]).mean(0)
        masks = [best_ids(ids, scores)[0].numpy() for _, scores in seen]
        mask = masks[0] if len(masks) == 1 else best_ids(ids, probabilities[None])[0].numpy()
        agreed = np.all([mask == one for one in masks], 0)
        self._recent[frame] = Prediction(probabilities, mask, agreed)
        if len(self._recent) > 3:  # a frame and those before and after
            self._recent.popitem(last=False)
        return self._recent[frame]

    def annotation(self, frame: Frame, before: Pixels) -> Pixels:
        """The pseudo-annotation (H, W) uint8 of a frame that had the one ``before``."""
        found = self.predict(frame)
        ids = found.mask
        if self.loop.refine_pa:
            labels, classes = self.data.superpixels_of(frame), len(self.data.space)
            ids = ops.superpixel_vote(labels[None], torch.from_numpy(ids)[None], classes).classes[0].numpy()
        if self.loop.empty == "keep" and not ids.any():
            return before
        left_out = ~found.agreed
        if "v0" in self.loop.disagreement:
            left_out |= ids != self.data.mask(self.data.folder / "pa/v0", frame)
        if "neighbours" in self.loop.disagreement:
            left_out |= ~self._as_neighbours(frame, found.mask)
        return np.where(left_out, np.uint8(IGNORE), ids)

    def soft_labels(self, frame: Frame) -> Tensor:
        """The probabilities (K, H, W) of the ids that may appear, means over superpixels where these refine."""
        probabilities = self.predict(frame).probabilities
        if not self.loop.refine_pa:
            return probabilities
        labels = self.data.superpixels_of(frame).numpy()
        return torch.from_numpy(superpixel_means(labels, probabilities.numpy()).T[:, labels]).float()

    def _as_neighbours(self, frame: Frame, mask: Pixels) -> NDArray[np.bool_]:
        """(H, W): False where a mask of the sampled frame before or after, carried along optical flow, is another."""
        picture = shrunk(self.data.picture(frame), FLOW_SIDE)
        own, agreed = _resized(mask, picture), np.ones(picture.shape[:2], bool)
        for other in self.data.beside(frame):
            there = shrunk(self.data.picture(other), FLOW_SIDE)
            forth, back = dense_flow(picture, there), dense_flow(there, picture)
            theirs = _resized(self.predict(other).mask, there)
            ids = np.union1d(own, theirs)
            carried = ids[carry((theirs == ids[:, None, None]).astype(np.float32), forth).argmax(0)]
            agreed &= (carried == own) | (consistency(forth, back) < SURE) | _leaves(forth)
        return _resized(agreed.astype(np.uint8), mask).astype(bool)


def _leaves(flow: Flow) -> NDArray[np.bool_]:
    """(H, W): what is outside the frame where the flow leads."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width]
    row, column = y + flow[..., 1], x + flow[..., 0]
    return (row < 0) | (row > height - 1) | (column < 0) | (column > width - 1)


def _resized(mask: Pixels, like: Pixels) -> Pixels:
    """A mask at the size of a picture or of another mask, the id at the middle of each pixel."""
    values = torch.from_numpy(mask)[None, None]
    return functional.interpolate(values, size=like.shape[:2], mode="nearest-exact")[0, 0].numpy()
