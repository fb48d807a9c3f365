"""Initial masks of tagged objects: an image classifier, Grad-CAM and Otsu, frame by frame (WS^2 section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyws.data.tagged.label_space import LabelSpace, object_labels
from pyws.data.video.ahead import map_in_threads
from pyws.data.video.clips import are_plain, stack
from pyws.data.video.frames import FrameFolder, Pixels, VideoFile, evenly
from pyws.data.video.optical_flow import FlowMethod
from pyws.files import file_sha256
from pyws.masks.cam import GradCAM
from pyws.masks.initial_masks.annotator import Chunk, InitialMasks, VideoAnnotator
from pyws.masks.initial_masks.cam_to_mask import heat_of, initial_masks, refine_masks, scaled_maps
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.motion import motion_weights, neighbours
from pyws.masks.initial_masks.multi_scale import multi_scale_cam
from pyws.masks.initial_masks.tag_to_class import common_tags, rank_of, tag_warnings
from pyws.models.classifier import Classifier, input_of
from pyws.models.devices import on_device, rows_of
from pyws.models.image_networks.raft import Raft

CHOOSING_FRAMES = 32
Seen = dict[int, dict[int, Tensor]]  # maps (h, w) of frames of a video that were made before, by frame and class


@dataclass(frozen=True)
class ImageAnnotator:
    """An :class:`~.annotator.Annotator` of single frames; each tag is one class of an image classifier.

    Parameters
    ----------
    tags : classes of each tag, in the order of the ids in the masks
    device : where the classifier is; None for the CPU
    warnings : what is doubtful about the classes of some tags
    flow : how ``config.motion`` finds optical flow
    """

    classifier: Classifier
    weights: Path
    tags: dict[str, list[int]]
    config: InitialMaskConfig
    device: torch.device | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)
    flow: FlowMethod | Raft = "dis"

    @property
    def space(self) -> LabelSpace:
        """Label space of the tags."""
        return object_labels(self.tags)

    def parameters(self) -> dict[str, Any]:
        """See ``Annotator``."""
        labels = "\n".join(self.classifier.labels).encode()
        return {
            "classifier": self.classifier.name,
            "layer": self.classifier.layer,
            "weights_sha256": file_sha256(self.weights),
            "labels_sha256": hashlib.sha256(labels).hexdigest(),
            "tags": [
                {"id": index, "tag": tag, "classes": classes}
                for index, (tag, classes) in enumerate(self.tags.items(), start=1)
            ],
            **asdict(self.config),
            "flow": str(self.flow),
        }

    def kept_tags(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """All of them: where masks overlap, the tag with the larger map wins."""
        return ids

    def of_video(self, frames: FrameFolder | VideoFile, ids: tuple[int, ...], sampled: Sequence[int]) -> VideoAnnotator:
        """The class that stands for each tag: where several show it ("dog"), the one with the highest mean score.

        One map of many classes is worse: those that score low add their own mistakes. The mean is over at most
        CHOOSING_FRAMES of the frames that get masks, whose maps the same passes give, but for frames of one colour.
        ``scores`` are mean probabilities of all classes of each tag, ``ranks`` those of its best class among all, which
        larger inputs change less, and ``warnings`` what speaks against the tags.
        """
        tags = {self.space.names[index]: self.tags[self.space.names[index]] for index in ids}
        chosen = [sampled[place] for place in evenly(len(sampled), CHOOSING_FRAMES)]
        total, mean = torch.zeros(2, len(self.classifier.labels), dtype=torch.float64)
        looked, seen = 0, Seen()
        _ = self.cam  # made before threads use it
        # A video file is decoded from its start in any case; of a folder, the others are read when their turn comes.
        frames.again.remember(chosen if isinstance(frames, FrameFolder) else sampled)
        candidates, pictures = sorted({one for classes in tags.values() for one in classes}), frames.read(chosen)
        batches = [chosen[start : start + self.config.batch] for start in range(0, len(chosen), self.config.batch)]

        def scores_of(job: tuple[list[int], list[Pixels]]) -> Tensor:
            images = stack(job[1], frames.path)
            return self._scores(images, job[0], candidates, seen)[~are_plain(images)]

        read = ((places, list(islice(pictures, len(places)))) for places in batches)
        with closing(map_in_threads(scores_of, read)) as found:
            for scores in found:
                total += scores.sum(0)
                mean += scores.softmax(1).sum(0)
                looked += len(scores)
        mean /= max(1, looked)
        means = mean.tolist()
        own = {index for classes in tags.values() for index in classes}
        others = {**common_tags(self.classifier.labels), **self.tags}
        foreign = {name: classes for name, classes in others.items() if not own & set(classes)}
        doubts = [self.warnings[tag] for tag in tags if tag in self.warnings]
        best = {tag: classes[int(total[classes].argmax())] for tag, classes in tags.items()}
        about = {
            "classes": best,
            "scores": {tag: round(float(mean[classes].sum()), 6) for tag, classes in tags.items()},
            "ranks": {tag: rank_of(means, classes) for tag, classes in tags.items()},
            "warnings": doubts + tag_warnings(means, tags, foreign),
        }
        return VideoAnnotator(about, partial(self.initial_masks, list(best.values()), seen))

    def chunks(self, length: int) -> list[Chunk]:
        """All frames, batch by batch."""
        step = self.config.batch
        batches = [list(range(start, min(start + step, length))) for start in range(0, length, step)]
        if not self.config.motion:
            return [Chunk(batch, batch) for batch in batches]
        return [Chunk(neighbours(batch, length), batch) for batch in batches]

    def initial_masks(self, classes: list[int], seen: Seen, images: Tensor, chunk: Chunk) -> InitialMasks:
        """See ``VideoAnnotator``; each tag is one class, and each superpixel takes the tag with most of its pixels."""
        size = (images.shape[1], images.shape[2])
        maps = self.maps(chunk.shown(images), chunk.sampled, classes, seen)
        if self.config.motion:
            weights = motion_weights(images, chunk.read, chunk.sampled, self.flow)
            maps = scaled_maps(maps, size) * weights[:, None].to(maps.device)
        masks = initial_masks(maps, size, self.config.otsu_resolution)
        selection = self.config.selection
        heat = heat_of([maps], size)
        return InitialMasks(masks, lambda superpixels: refine_masks(superpixels, masks, *selection), heat)

    def maps(self, frames: Tensor, places: Sequence[int], classes: list[int], seen: Seen) -> Tensor:
        """Maps (B, K, h, w) of K classes in frames (B, H, W, 3) uint8 with these places in their video, see
        :func:`~.multi_scale.multi_scale_cam`."""

        def at(scale: float, mirrored: bool) -> Tensor:
            if scale == 1 and not mirrored:
                return self._of_whole(frames, places, classes, seen)
            inputs = self._inputs(frames, scale)
            return self._explained(inputs.flip(3) if mirrored else inputs, classes)

        size, config = (frames.shape[1], frames.shape[2]), self.config
        return multi_scale_cam(at, size, config.scales, config.mirror, config.power)

    @cached_property
    def cam(self) -> GradCAM:
        """The maps of the classifier."""
        return GradCAM(self.classifier.model, self.classifier.layer).attached()

    def _inputs(self, frames: Tensor, scale: float = 1.0) -> Tensor:
        return self.classifier.prepare(on_device(frames, self.device), max(1, round(self.short_side * scale)))

    def _explained(self, inputs: Tensor, classes: list[int]) -> Tensor:
        """Maps (B, K, h, w) of K classes for what the network takes."""
        with input_of(self.classifier.name, inputs):
            return self.cam(inputs, [classes])

    def _scores(self, frames: Tensor, places: list[int], classes: list[int], seen: Seen) -> Tensor:
        """Scores (B, classes) of frames, float64 on the CPU; where maps cost nothing more, they are kept."""
        inputs = self._inputs(frames)
        with input_of(self.classifier.name, inputs):
            found = self.cam.linear(inputs, [classes])
        if found is not None:
            for place, maps in zip(places, found, strict=True):
                seen[place] = dict(zip(classes, maps, strict=True))
        assert self.cam.logits is not None
        return self.cam.logits.double().cpu()

    def _of_whole(self, frames: Tensor, places: Sequence[int], classes: list[int], seen: Seen) -> Tensor:
        """Maps (B, K, h, w) at the usual scale, of the frames that were not looked at before."""
        fresh = [row for row, place in enumerate(places) if place not in seen]
        shown = frames if len(fresh) == len(places) else rows_of(frames, fresh)
        made = iter(self._explained(self._inputs(shown), classes) if fresh else ())
        return torch.stack(
            [torch.stack([seen[place][one] for one in classes]) if place in seen else next(made) for place in places]
        )

    @property
    def short_side(self) -> int:
        """Short side of the classifier's input, in pixels."""
        return self.classifier.short_side or self.config.short_side
