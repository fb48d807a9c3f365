"""The interface between annotators, which make initial masks, and the pipeline, which reads frames and writes files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from pyws.data.tagged.label_space import LabelSpace
from pyws.data.video.frames import FrameFolder, VideoFile
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.models.devices import rows_of


class Chunk(NamedTuple):
    """Frames of a video that are processed together, by their indices.

    Parameters
    ----------
    read : frames to read
    sampled : the indices that get masks
    """

    read: list[int]
    sampled: list[int]

    def shown(self, images: Tensor) -> Tensor:
        """Those of the frames ``read`` (N, H, W, 3) that are sampled."""
        if self.sampled == self.read:
            return images
        place = {index: row for row, index in enumerate(self.read)}
        return rows_of(images, [place[index] for index in self.sampled])


class InitialMasks(NamedTuple):
    """M_init of the sampled frames of a chunk, and its refinement.

    Parameters
    ----------
    masks : (B, H, W) uint8, 0 for background, k + 1 for the k-th tag of the video
    refine : superpixels (B, H, W) to M_refine (B, H, W), of the same ids
    heat : (B, h, w) in [0, 1], for pictures: where any tag is seen
    branches : likewise, by each of several classifiers alone: "actor", "action"
    """

    masks: Tensor
    refine: Callable[[Tensor], Tensor]
    heat: Tensor
    branches: Mapping[str, Tensor] = {}


class VideoAnnotator(NamedTuple):
    """What makes initial masks of one video.

    Parameters
    ----------
    about : what is chosen once for the video and kept in the manifest
    initial_masks : from the frames ``chunk.read`` (N, H, W, 3) uint8 and the chunk; several threads may call it at once
    """

    about: dict[str, Any]
    initial_masks: Callable[[Tensor, Chunk], InitialMasks]


class Annotator(Protocol):
    """What makes initial masks of a tagged video: :mod:`.image_annotator` from single frames,
    :mod:`.actor_action_annotator` from frames and clips."""

    @property
    def config(self) -> InitialMaskConfig:
        """Configuration of superpixels, refinement and sampling."""

    @property
    def space(self) -> LabelSpace:
        """What the ids of tags and masks mean."""

    def parameters(self) -> dict[str, Any]:
        """Everything that the masks depend on beside the frames; what must agree for a folder to be continued."""

    def kept_tags(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The tags of a video that are annotated; none means that the video is left out."""

    def of_video(self, frames: FrameFolder | VideoFile, ids: tuple[int, ...], sampled: Sequence[int]) -> VideoAnnotator:
        """For a video with the tags ``ids``; ``sampled`` are the frames that get masks."""

    def chunks(self, length: int) -> list[Chunk]:
        """The parts of a video of so many frames, whatever is done already."""
