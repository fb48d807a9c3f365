"""Initial masks of actors and actions: 2D and 3D Grad-CAM, Otsu, and their union (WS^2 section 3.1, eq. 4-5).

An actor classifier of frames and an action classifier of clips, both trained from tags, give one map for each tagged
actor and action. The mask of a pair is the union of both masks (Fig. 3 of the paper); in videos of several pairs the
maps decide which pair a superpixel belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pyws import ops
from pyws.data.tagged.label_space import LabelSpace
from pyws.data.video.clips import Clip, MapRule, clips_of
from pyws.data.video.frames import FrameFolder, VideoFile
from pyws.files import file_sha256
from pyws.masks.cam import GradCAM
from pyws.masks.initial_masks.annotator import Chunk, InitialMasks, VideoAnnotator
from pyws.masks.initial_masks.cam_to_mask import Scope, class_masks, cut_maps, heat_of, scaled_maps
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.multi_scale import multi_scale_cam
from pyws.models.classifier import Classifier, input_of
from pyws.models.classifiers import open_classifier
from pyws.models.devices import on_device, rows_of, set_precision


@dataclass(frozen=True)
class ActorActionConfig:
    """How the maps of an actor and an action classifier become masks.

    Parameters
    ----------
    map_rule
        The frame that a map of a clip belongs to: the middle of the part it stands for, that part's start, or evenly
        from the first frame to the last
    otsu_per
        Scale and threshold each map by itself, or all maps of a clip together: then an actor may leave the view
    multi_label
        Videos of several tags: maps decide for each superpixel, the video is left out, or its main tag alone counts
    """

    map_rule: MapRule = "centre"
    otsu_per: Scope = "frame"
    multi_label: Literal["pairwise", "skip", "single"] = "pairwise"


@dataclass(frozen=True)
class Branch:
    """A classifier, the class of it that stands for each train id (-1 for none), and its maps."""

    classifier: Classifier
    weights: Path
    classes: tuple[int, ...]
    cam: GradCAM

    @staticmethod
    def open(path: Path, names: tuple[str, ...], part: tuple[int, ...], output_stride: int, device: Any) -> Branch:
        """A classifier of pyws masks classify for ``names[part[id]]``.

        Raises
        ------
        ValueError : it does not know a name that is needed
        """
        classifier = open_classifier(path, output_stride)
        classifier.model.to(device)
        missing = sorted({names[index] for index in part if index} - set(classifier.labels))
        if missing:
            raise ValueError(f"{path}: must know {', '.join(missing)}; it knows {', '.join(classifier.labels)}")
        ready, classes = classifier.for_inference(), (classifier.labels.index(names[k]) if k else -1 for k in part)
        return Branch(ready, path, tuple(classes), GradCAM(ready.model, ready.layer).attached())

    def maps(
        self,
        images: Tensor,
        sampled: list[int],
        clip: Clip,
        clip_config: ActorActionConfig,
        config: InitialMaskConfig,
        ids: tuple[int, ...],
    ) -> Tensor:
        """Maps (B, K, h, w) of the sampled frames of a clip and the classes of ``ids``, see
        :func:`~.multi_scale.multi_scale_cam`.

        Parameters
        ----------
        images : (N, H, W, 3) uint8, the real frames of the clip
        sampled : frames of the video, each one that a map of the clip belongs to
        """
        classes = [[self.classes[index] for index in ids]]
        classifier = self.classifier
        shown = sampled if not classifier.frames else clip.indices()
        images = rows_of(images, [index - clip.start for index in shown])

        def at(scale: float, mirrored: bool) -> Tensor:
            short_side = max(1, round(classifier.short_side * scale))
            inputs = classifier.prepare(images[None] if classifier.frames else images, short_side)
            with input_of(classifier.name, inputs):
                maps = self.cam(inputs.flip(-1) if mirrored else inputs, classes)
            if not classifier.frames:
                return maps
            maps = maps[0].transpose(0, 1)  # (t', K, h, w)
            of_frame = {frame: index for index, frame in clip.of_maps(len(maps), clip_config.map_rule)}
            return rows_of(maps, [of_frame[index] for index in sampled])

        size, scope = (images.shape[1], images.shape[2]), clip_config.otsu_per
        return multi_scale_cam(at, size, config.scales, config.mirror, config.power, scope)


class ActorActionAnnotator:
    """An :class:`~.annotator.Annotator` of actors and actions.

    Parameters
    ----------
    space : what tags and masks mean
    actor, action : files of pyws masks classify; one of them may be None. A classifier of clips decides which frames
        are sampled; with one of images alone all frames are
    config, clip_config : how masks are made
    device : where the classifiers run; None for the CPU

    Raises
    ------
    ValueError, DataError : no classifier, two of clips of different lengths, or one that misses a label
    """

    def __init__(
        self,
        space: LabelSpace,
        actor: Path | None,
        action: Path | None,
        config: InitialMaskConfig,
        clip_config: ActorActionConfig = ActorActionConfig(),
        device: torch.device | None = None,
    ) -> None:
        if actor is None and action is None:
            raise ValueError("masks init: an actor classifier, an action classifier or both are needed")
        if action is not None and not space.has_actions:
            raise ValueError("masks init: an action classifier needs tags of actions, these are objects alone")
        if config.otsu_resolution == "map" and clip_config.otsu_per == "clip":
            raise ValueError("masks init: otsu_resolution 'map' needs otsu_per 'frame'")
        self.space, self.config, self.clip_config, self.device = space, config, clip_config, device
        stride = config.output_stride
        self.actor = Branch.open(actor, space.actors, space.actor, stride, device) if actor else None
        self.action = Branch.open(action, space.actions, space.action, 32, device) if action else None
        for one in filter(None, (self.actor, self.action)):
            set_precision(one.classifier.model, config.precision, torch.device(device or "cpu"))
        of_clips = [one for one in (self.action, self.actor) if one and one.classifier.frames]
        sizes = {(one.classifier.frames, _maps_of(one, device)) for one in of_clips}
        if len(sizes) > 1:
            raise ValueError(f"masks init: classifiers of clips must agree in (frames, maps) of a clip, got {sizes}")
        self.frames, self.maps = sizes.pop() if sizes else (0, 0)

    def parameters(self) -> dict[str, Any]:
        """See ``Annotator``."""
        first = self.actor or self.action
        assert first is not None
        return {
            "classifier": first.classifier.name,
            "layer": first.classifier.layer,
            "weights_sha256": file_sha256(first.weights),
            "action_classifier": self.action.classifier.name if self.action else None,
            "action_weights_sha256": file_sha256(self.action.weights) if self.action else None,
            "clip_frames": self.frames,
            "tags": [
                {"id": index, "tag": name, "classes": [first.classes[index]]}
                for index, name in enumerate(self.space.names)
                if index
            ],
            **asdict(self.config),
            **asdict(self.clip_config),
        }

    def kept_tags(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """By ``multi_label``."""
        if len(ids) > 1 and self.clip_config.multi_label != "pairwise":
            return ids[:1] if self.clip_config.multi_label == "single" else ()
        return ids

    def of_video(self, frames: FrameFolder | VideoFile, ids: tuple[int, ...], sampled: Sequence[int]) -> VideoAnnotator:
        """The clips are kept, so that it can be seen which frames a mask was made from."""
        starts = [[clip.start, clip.real] for clip in clips_of(len(frames), self.frames)] if self.frames else []
        return VideoAnnotator({"clips": starts}, partial(self.initial_masks, ids))

    def chunks(self, length: int) -> list[Chunk]:
        """Clip by clip; a frame of two clips belongs to the first that has a map of it."""
        if not self.frames:
            step = self.config.batch
            batches = [list(range(start, min(start + step, length))) for start in range(0, length, step)]
            return [Chunk(batch, batch) for batch in batches]
        chunks, seen = [], set[int]()
        for clip in clips_of(length, self.frames):
            sampled = [frame for _, frame in clip.of_maps(self.maps, self.clip_config.map_rule) if frame not in seen]
            seen |= set(sampled)
            if sampled:
                chunks.append(Chunk(list(range(clip.start, clip.start + clip.real)), sampled))
        return chunks

    def initial_masks(self, ids: tuple[int, ...], images: Tensor, chunk: Chunk) -> InitialMasks:
        """See ``VideoAnnotator``; of a video with the tags ``ids``."""
        size = (images.shape[1], images.shape[2])
        clip = Clip(chunk.read[0], len(chunk.read), max(self.frames, len(chunk.read)))
        images, found, seen = on_device(images, self.device), [], {}
        for kind, branch in (("actor", self.actor), ("action", self.action)):
            if branch:
                maps = branch.maps(images, chunk.sampled, clip, self.clip_config, self.config, ids)
                found.append(self._scores_and_masks(maps, size))
                seen[kind] = maps
        joined, scores = join_branches(found, [self.space.actor[k] for k in ids], [self.space.action[k] for k in ids])
        if len(ids) == 1:
            masks = joined[:, 0].byte()
        else:
            best, tag = torch.where(joined, scores, -1).max(1)
            masks = torch.where(best >= 0, tag + 1, 0).byte()
        selection = self.config.selection
        return InitialMasks(
            masks,
            lambda superpixels: refine_class_masks(superpixels, joined, scores, *selection),
            heat_of(list(seen.values()), size),
            {kind: heat_of([maps], size) for kind, maps in seen.items()} if len(seen) > 1 else {},
        )

    def _scores_and_masks(self, maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Scores in [0, 1] and class masks of one branch, (B, K, H, W) each; a lone pair needs no scores."""
        if self.clip_config.otsu_per == "clip":
            scores = scaled_maps(maps, size, "clip")
            return scores, class_masks(scores, "clip")
        masks = cut_maps(maps, size, self.config.otsu_resolution)
        return (masks if maps.shape[1] == 1 else scaled_maps(maps, size)), masks


def join_branches(
    branches: list[tuple[Tensor, Tensor]], actors: list[int], actions: list[int]
) -> tuple[Tensor, Tensor]:
    """The union of the masks of both branches, and the score of each pair.

    Parameters
    ----------
    branches : (scores, class masks) of the actor branch, then of the action branch, or of one alone; (B, K, H, W) each,
        one map for each of the K pairs of the video
    actors, actions : (K,) actor and action of each pair

    Returns
    -------
    class masks (B, K, H, W) bool and scores (B, K, H, W). The score is the larger of both; where all pairs have one
    actor it is the score of the action, and where all have one action the score of the actor: the map that differs
    decides.
    """
    if len(branches) == 1:
        scores, masks = branches[0]
        return masks, scores
    (actor_scores, actor_masks), (action_scores, action_masks) = branches
    scores = torch.maximum(actor_scores, action_scores)
    if len(actors) > 1 and len(set(actors)) == 1:
        scores = action_scores
    elif len(actions) > 1 and len(set(actions)) == 1:
        scores = actor_scores
    return actor_masks | action_masks, scores


def refine_class_masks(
    superpixels: Tensor,
    masks: Tensor,
    scores: Tensor,
    alpha: float,
    beta: float,
    overlap: str,
    beta_on: str = "superpixel",
) -> Tensor:
    """Superpixels that a pair's mask covers go to that pair; of several, to the one with the highest mean score.

    Parameters
    ----------
    superpixels : (B, H, W) int32 or int64 labels from 0
    masks, scores : class masks (B, K, H, W) bool and float in [0, 1]
    alpha, beta, overlap, beta_on : see :func:`pyws.ops.superpixel_select`

    Returns
    -------
    (B, H, W) uint8, 0 for background, k + 1 for pair k of at most 255; ties go to the first pair

    Examples
    --------
    >>> superpixels = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    >>> masks = torch.tensor([[[[1, 1, 0, 1, 1, 1]], [[0, 1, 1, 0, 0, 0]]]]).bool()
    >>> scores = torch.tensor([[[[0.6, 0.6, 0.1, 0.9, 0.9, 0.9]], [[0.1, 0.9, 0.9, 0.2, 0.2, 0.2]]]])
    >>> refine_class_masks(superpixels, masks, scores, 0.5, 1.1, "superpixel")
    tensor([[[2, 2, 2, 1, 1, 1]]], dtype=torch.uint8)
    """
    count = masks.shape[1]
    chosen = [
        ops.superpixel_select(superpixels, masks[:, k], alpha, beta, overlap, beta_on=beta_on).mask
        for k in range(count)
    ]
    if count == 1:
        return chosen[0].byte()
    batch, pixels = len(superpixels), superpixels[0].numel()
    labels = superpixels.long().flatten(1)
    sizes = labels.amax(1) + 1
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    frames = torch.arange(batch + 1, device=labels.device) * pixels
    rows = scores.double().flatten(2).transpose(1, 2).reshape(batch * pixels, count)
    means = ops.class_mean(rows, (labels + starts[:-1, None]).flatten(), starts, frames)
    means = means.view(batch, *superpixels.shape[1:], count)
    best, pair = torch.where(torch.stack(chosen, -1), means, -1).max(-1)
    return torch.where(best >= 0, pair + 1, 0).byte()


def _maps_of(branch: Branch, device: torch.device | None) -> int:
    """How many maps a clip has."""
    classifier = branch.classifier
    clip = torch.zeros(1, classifier.frames, classifier.stride, classifier.stride, 3, dtype=torch.uint8, device=device)
    return branch.cam(classifier.prepare(clip, classifier.stride), 0).shape[1]
