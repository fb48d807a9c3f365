"""First masks of objects: an image classifier, Grad-CAM and Otsu, frame by frame (WS^2 section 3.1)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyws.data.tagged.label_space import LabelSpace, objects
from pyws.data.video.frames import FrameFolder, VideoFile
from pyws.masks.cam import GradCAM
from pyws.masks.initial_masks.cam_to_mask import initial_masks, refine_masks
from pyws.masks.initial_masks.pipeline import Chunk, FirstMasks, Settings
from pyws.models.classifiers import Classifier

CHOOSING_FRAMES = 32


@dataclass(frozen=True)
class ObjectAnnotator:
    """Masks of tagged objects, each tag by one class of an image classifier; an ``Annotator`` of initial.py."""

    classifier: Classifier
    weights: Path
    tags: dict[str, list[int]]
    """Classes of each tag, in the order of the ids in the masks."""
    settings: Settings
    device: torch.device | None = None
    """Where the classifier is; None for the CPU."""

    @property
    def space(self) -> LabelSpace:
        """The tags as objects."""
        return objects(self.tags)

    def parameters(self) -> dict[str, Any]:
        """See ``Annotator``."""
        labels = "\n".join(self.classifier.labels).encode()
        return {
            "classifier": self.classifier.name,
            "layer": self.classifier.layer,
            "weights_sha256": hashlib.sha256(self.weights.read_bytes()).hexdigest(),
            "labels_sha256": hashlib.sha256(labels).hexdigest(),
            "tags": [
                {"id": index, "tag": tag, "classes": classes}
                for index, (tag, classes) in enumerate(self.tags.items(), start=1)
            ],
            **asdict(self.settings),
        }

    def kept_tags(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """All of them: pixels that several tags claim go to the one with the larger map."""
        return ids

    @torch.no_grad()
    def describe(self, frames: FrameFolder | VideoFile, ids: tuple[int, ...]) -> dict[str, Any]:
        """The class that stands for each tag: where several show it ("dog"), the one with the highest mean score.

        One map of many classes is worse: those that score low add their own mistakes. The mean is over at most
        CHOOSING_FRAMES frames spread over the video.
        """
        tags = [self.space.names[index] for index in ids]
        count = min(len(frames), CHOOSING_FRAMES)
        chosen = [int((k + 0.5) * len(frames) / count) for k in range(count)]
        total = torch.zeros(len(self.classifier.labels), dtype=torch.float64)
        if any(len(self.tags[tag]) > 1 for tag in tags):
            for picture in frames.read(chosen):
                inputs = self.classifier.prepare(torch.tensor(picture[None], device=self.device), self.short_side)
                total += self.classifier.model(inputs)[0].double().cpu()
        return {"classes": {tag: self.tags[tag][int(total[self.tags[tag]].argmax())] for tag in tags}}

    def chunks(self, length: int) -> list[Chunk]:
        """All frames, batch by batch."""
        step = self.settings.batch
        batches = [list(range(start, min(start + step, length))) for start in range(0, length, step)]
        return [Chunk(batch, batch) for batch in batches]

    def first_masks(self, images: Tensor, chunk: Chunk, ids: tuple[int, ...], about: dict[str, Any]) -> FirstMasks:
        """See ``Annotator``; each superpixel takes the tag with most of its pixels."""
        classes = [about["classes"][self.space.names[index]] for index in ids]
        shown = images[[chunk.read.index(index) for index in chunk.sampled]]
        masks = initial_masks(self.maps(shown, classes), (images.shape[1], images.shape[2]), self.settings.otsu_scale)
        rule = self.settings.rule
        return FirstMasks(masks, lambda superpixels: refine_masks(superpixels, masks, *rule))

    def maps(self, frames: Tensor, classes: list[int]) -> Tensor:
        """Maps (B, K, h, w) of K classes in frames (B, H, W, 3); of the size of the frames, in [0, 1], where several
        are averaged."""
        frames = frames.to(self.device)
        with GradCAM(self.classifier.model, self.classifier.layer) as cam:

            def look(scale: float, mirrored: bool) -> Tensor:
                inputs = self.classifier.prepare(frames, max(1, round(self.short_side * scale)))
                return cam(inputs.flip(3) if mirrored else inputs, [classes])

            return self.settings.averaged(look, (frames.shape[1], frames.shape[2]))

    @property
    def short_side(self) -> int:
        """Of the frames that the classifier sees."""
        return self.classifier.short_side or self.settings.short_side
