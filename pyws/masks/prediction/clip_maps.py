"""Activation maps of a video's clips, each with the frame that it belongs to and the frames that it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyws.data.video.clips import Clip, MapRule, clips_of, stack
from pyws.data.video.frames import FrameFolder, Pixels, VideoFile
from pyws.masks.cam import GradCAM
from pyws.models.classifier import Classifier, input_of


@dataclass(frozen=True)
class ClipMaps:
    """The maps of one class over one clip.

    ``frames`` the pictures of the clip's real frames; ``maps`` (t', h, w) float, not negative; ``frame_of`` the frame
    of the video that each map belongs to, None where that is a repeated one; ``span_of`` the first and last frame of
    the video that each map stands for; ``label`` and ``score`` of the class.
    """

    clip: Clip
    frames: list[Pixels]
    maps: Tensor
    frame_of: list[int | None]
    span_of: list[tuple[int, int] | None]
    label: str
    score: float

    def map_at(self, frame: int) -> int:
        """The map that stands for a frame of the video."""
        return (frame - self.clip.start) * len(self.maps) // self.clip.frames


def maps_of_video(
    classifier: Classifier,
    video: FrameFolder | VideoFile,
    label: str | None = None,
    rule: MapRule = "centre",
    clips: Sequence[Clip] | None = None,
) -> Iterator[ClipMaps]:
    """The maps of clips of a video.

    Parameters
    ----------
    classifier : classifier of clips
    label : the class that is explained; the highest of each clip where it is None
    rule : see :func:`pyws.data.video.clips.map_places`
    clips : which clips, of the length that the classifier takes; all of the video where it is None

    Raises
    ------
    ValueError : a classifier of images, or an unknown label
    DataError : the video cannot be read
    """
    if not classifier.frames:
        raise ValueError(f"maps: the network must classify clips, {classifier.name} classifies images")
    if label is not None and label not in classifier.labels:
        raise ValueError(f"maps: label must be one of {', '.join(classifier.labels[:10])}, ..., got {label!r}")
    for clip in clips_of(len(video), classifier.frames) if clips is None else clips:
        frames = list(video.read(range(clip.start, clip.start + clip.real)))
        pictures = stack(frames, video.path)[[index - clip.start for index in clip.indices()]]
        inputs = classifier.prepare(pictures[None], classifier.short_side)
        device = next(classifier.model.parameters()).device
        wanted = None if label is None else classifier.labels.index(label)
        with torch.no_grad(), GradCAM(classifier.model, classifier.layer) as cam, input_of(classifier.name, inputs):
            maps = cam(inputs.to(device), (lambda scores: scores.amax(1)) if wanted is None else wanted)[0].cpu()
            assert cam.logits is not None
            scores = cam.logits[0].cpu()
        chosen = int(scores.argmax()) if wanted is None else wanted
        belongs = dict(clip.of_maps(len(maps), rule))
        yield ClipMaps(
            clip,
            frames,
            maps,
            [belongs.get(index) for index in range(len(maps))],
            [_span(clip, index, len(maps)) for index in range(len(maps))],
            classifier.labels[chosen],
            float(scores[chosen]),
        )


def _span(clip: Clip, index: int, maps: int) -> tuple[int, int] | None:
    """First and last real frame of the part of the clip that a map stands for; several maps may share a frame."""
    first = -(-index * clip.frames // maps)
    last = max(first, -(-(index + 1) * clip.frames // maps) - 1)
    return (clip.start + first, clip.start + min(last, clip.real - 1)) if first < clip.real else None
