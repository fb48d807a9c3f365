"""Training DeepLab-v2 on one version of the pseudo-annotations: samples, one epoch, predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.data.tagged.label_space import IGNORE, LabelSpace
from pyws.data.video.clips import shrunk
from pyws.data.video.frames import Pixels
from pyws.distributed import Group, JoinedLayers
from pyws.errors import check_fields
from pyws.masks.seeds import seed_of
from pyws.masks.self_training.image_ops import as_images, gaussian_blur
from pyws.masks.self_training.pseudo_annotations import Annotations, Frame
from pyws.models.devices import Precision, on_device
from pyws.models.image_networks.deeplab import RATES, DeepLabV2, build_deeplab
from pyws.progress import Pace


@dataclass(frozen=True)
class TrainingConfig:
    """How the segmentation network is trained; the defaults come from the paper, or from its authors' code base.

    Parameters
    ----------
    backbone
        resnet101, resnet50, resnet18, efficientnet-lite0 or small2d
    output_stride
        Pixels between two positions of its features: 8 or 16
    heads
        Score of a pair of an actor and an action: one of its own, or the sum of the scores of actor and action
    frozen_norm
        Batch norm keeps the statistics and the scale of the pretrained weights
    frozen_body
        Only the head learns: for few frames, and several times faster
    rates
        Dilations of the summed 3x3 convolutions
    linear_head
        Score by one 1x1 convolution instead of the dilated ones, a linear layer at each position: for few frames
    clip_frames
        Frames that the network sees to segment the middle one: odd; with 1 no action can be told by its motion
    clip_step
        Frames of the video from one frame of a clip to the next
    short_side
        Maximum short side of the network's input, in pixels; larger frames are made smaller
    crop
        Side of the training crops, in pixels
    batch
        Batch size, in crops
    max_epoch
        Epochs that the learning rate is scheduled for; training stops early where the criterion stops rising
    equal_steps
        An epoch has as many crops as there are frames to train on, however few of them are selected: a strict selection
        trains as long as none
    lr
        Initial learning rate of SGD; it decays to 0 as (1 - step / steps) ** power
    decay_power
        Power of the learning rate's decay
    momentum
        Momentum of SGD
    weight_decay
        Weight decay of SGD
    head_lr
        Factor of lr for the head; 10 is DeepLab's own protocol
    bias_lr
        Factor of lr * head_lr for the head's biases; 2 is DeepLab's own protocol
    scale
        Range of random scaling
    rotation
        Maximum random rotation, in degrees
    blur
        Maximum standard deviation of the blur of every second crop, in pixels
    flip
        Mirror every second crop
    precision
        Precision of the forward passes of the network and of the first classifier: float32, or bfloat16, see
        :func:`pyws.models.devices.set_precision`
    """

    backbone: str = "resnet101"
    output_stride: int = 8
    heads: Literal["joint", "factorised"] = "joint"
    frozen_norm: bool = True
    frozen_body: bool = False
    rates: tuple[int, ...] = RATES
    linear_head: bool = False
    clip_frames: int = 1
    clip_step: int = 1
    short_side: int | None = None
    crop: int = 224
    batch: int = 12
    max_epoch: int = 96
    equal_steps: bool = False
    lr: float = 7e-4
    decay_power: float = 0.9
    momentum: float = 0.9
    weight_decay: float = 4e-5
    head_lr: float = 1.0
    bias_lr: float = 1.0
    scale: tuple[float, float] = (0.5, 2.0)
    rotation: float = 10.0
    blur: float = 1.0
    flip: bool = True
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        counts = ("crop", "batch", "max_epoch", "clip_frames", "clip_step", "output_stride", "short_side")
        check_fields(self, "training", ">= 1", *counts)
        check_fields(self, "training", "> 0", "lr", "scale")
        check_fields(self, "training", ">= 0", "decay_power", "weight_decay", "head_lr", "bias_lr", "rotation", "blur")
        check_fields(self, "training", "in [0, 1)", "momentum")
        if not self.rates or min(self.rates) < 1:
            raise ValueError(f"training: rates must be >= 1, at least one, got {self.rates}; or linear_head")
        if self.linear_head and tuple(self.rates) != RATES:  # a manifest has a list
            raise ValueError("training: rates are of the dilated convolutions, which linear_head leaves out")
        if self.clip_frames % 2 == 0:
            raise ValueError(f"training: clip_frames must be odd, so that one is the middle, got {self.clip_frames}")
        if not self.scale[0] <= self.scale[1]:
            raise ValueError(f"training: scale must be a range, the smaller factor first, got {self.scale}")

    @property
    def offsets(self) -> tuple[int, ...]:
        """Places of the frames of a clip beside the one that is segmented.

        Examples
        --------
        >>> TrainingConfig(clip_frames=3, clip_step=2).offsets
        (-2, 0, 2)
        """
        reach = self.clip_frames // 2
        return tuple(self.clip_step * step for step in range(-reach, reach + 1))


def segmentation_network(config: TrainingConfig, space: LabelSpace, weights: Path | None = None) -> DeepLabV2:
    """The network of a configuration for a label space; random weights where none are given.

    Raises
    ------
    ValueError : factorised heads, but labels without actions
    """
    factors = None
    if config.heads == "factorised":
        if not space.has_actions:
            raise ValueError("heads: factorised heads need pairs of actors and actions, these labels are objects alone")
        factors = (space.actor, space.action)
    options = {name: getattr(config, name) for name in ("output_stride", "frozen_norm", "frozen_body", "clip_frames")}
    options["rates"] = None if config.linear_head else config.rates
    return build_deeplab(config.backbone, len(space), weights, factors=factors, **options)


def make_optimizer(model: DeepLabV2, config: TrainingConfig) -> torch.optim.SGD:
    """SGD over what is not frozen."""
    head = config.lr * config.head_lr
    fresh = [branch.weight for branch in model.branches]
    fresh += [] if model.motion is None else list(model.motion.parameters())
    groups = [
        {"params": [p for p in model.body.parameters() if p.requires_grad], "base_lr": config.lr},
        {"params": fresh, "base_lr": head},
        {"params": [branch.bias for branch in model.branches], "base_lr": head * config.bias_lr},
    ]
    for group in groups:
        group["lr"] = group["base_lr"]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def train_epoch(
    model: DeepLabV2,
    optimizer: torch.optim.SGD,
    data: Annotations,
    folder: Path,
    frames: Sequence[Frame],
    config: TrainingConfig,
    epoch: int,
    seed: int,
    device: torch.device,
    count: int | None = None,
    pace: Pace | None = None,
    group: Group = Group(),  # noqa: B008
) -> float:
    """Every frame once, as a random crop; the mean cross entropy.

    The order depends on the seed and the epoch, each crop on the seed, the epoch, the frame and how often it has come:
    an epoch that is repeated after an interruption is the same, and so are its results on a CPU.

    Parameters
    ----------
    count : crops of the epoch, frames again and again in a new order; None for one of each frame
    pace : counts the steps
    group : the processes that train together, each on its part of every batch
    """
    model.train()
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    count = len(frames) if count is None else count
    rounds = [torch.randperm(len(frames), generator=generator) for _ in range(math.ceil(count / len(frames)))]
    order = torch.cat(rounds)[:count]
    steps = math.ceil(count / config.batch)
    total = torch.zeros((), dtype=torch.float64, device=device)  # read once: no step waits for the GPU
    with JoinedLayers(model, group) as layers:
        for step, places in enumerate(torch.arange(count).split(config.batch)):
            chosen, layers.rows = order[places], len(places)
            done = (epoch * steps + step) / (config.max_epoch * steps)
            for parameters in optimizer.param_groups:
                parameters["lr"] = parameters["base_lr"] * (1 - done) ** config.decay_power
            crops = []
            mine = slice(group.rank, None, group.world)
            for place, index in zip(places[mine].tolist(), chosen[mine].tolist(), strict=True):
                again = (place // len(frames),) if place >= len(frames) else ()
                number = seed_of(seed, epoch, *frames[index], *again)
                crops.append(_crop(data, folder, frames[index], config, number))
            images, targets = (on_device(part, device) for part in _stacked(crops, config.crop))
            loss = cross_entropy(model(images), targets, group)
            optimizer.zero_grad()
            loss.backward()
            group.add_gradients(model)
            optimizer.step()
            if pace is not None:
                pace.step()
            total += loss.detach().double() * len(chosen)
    return sum(group.gather([float(total)])) / count


def _stacked(crops: Sequence[tuple[Tensor, Tensor]], side: int) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) and masks (B, S, S), or soft labels (B, classes, S, S); of a process that has no crop of a
    batch B is 0."""
    if not crops:
        return torch.empty(0, 3, side, side), torch.empty(0, side, side, dtype=torch.int64)
    images, targets = zip(*crops, strict=True)
    return torch.stack(images), torch.stack(targets)


def cross_entropy(scores: Tensor, targets: Tensor, group: Group = Group()) -> Tensor:  # noqa: B008
    """Mean over the pixels that are not 255; 0 where there is none. Of several processes the part of this one, which
    add up to the mean over the pixels of all.

    Parameters
    ----------
    scores : (B, classes, S, S)
    targets : (B, S, S) int64 ids, or (B, classes, S, S) probabilities, 0 of all classes where nothing is known

    Examples
    --------
    >>> scores = torch.tensor([0.0, 2.0]).reshape(1, 2, 1, 1)
    >>> hard, soft = torch.ones(1, 1, 1, dtype=torch.long), torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    >>> bool(cross_entropy(scores, hard) == cross_entropy(scores, soft))
    True
    """
    if targets.ndim == scores.ndim:
        total = -(targets * scores.log_softmax(1)).sum()
        known = (targets.sum(1) > 0).sum()
    else:
        total = functional.cross_entropy(scores, targets, ignore_index=IGNORE, reduction="sum")
        known = (targets != IGNORE).sum()
    group.add([known])
    return total / known.clamp(min=1)


def _crop(data: Annotations, folder: Path, frame: Frame, config: TrainingConfig, seed: int) -> tuple[Tensor, Tensor]:
    picture = data.clip(frame, config.offsets, config.short_side)
    mask = torch.from_numpy(data.mask(folder, frame).astype(np.int64))[None]
    mask = functional.interpolate(mask[None].float(), size=picture.shape[:2], mode="nearest")[0].long()
    target = mask[0] if not data.has_soft_labels(folder) else data.soft_labels(folder, frame, mask[0])
    return random_crop(as_images([picture])[0], target, config, torch.Generator().manual_seed(seed))


def random_crop(
    image: Tensor, target: Tensor, config: TrainingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Scale, rotate, mirror, cut out and blur, in one resampling.

    Parameters
    ----------
    image : (3, H, W) float in [0, 1], or a clip (3 T, H, W)
    target : (H, W) int64 mask, or (classes, H, W) soft labels
    config : the size of the crop and the ranges
    generator : source of all random numbers

    Returns
    -------
    image (3, S, S), or clip, and mask (S, S) or soft labels (classes, S, S); outside the frame the image is black, the
    mask 255 and soft labels 0
    """
    scale, angle, mirrored, down, right, blurred, sigma = torch.rand(7, generator=generator, dtype=torch.float64)
    low, high = config.scale
    zoom = float(low + (high - low) * scale)
    theta = math.radians(config.rotation) * float(2 * angle - 1)
    sign = -1.0 if config.flip and mirrored < 0.5 else 1.0
    size = config.crop
    # The middle of the crop in the frame: anywhere where the crop lies inside; if it never does, the frame's middle.
    middle = [
        side / 2 + (float(place) - 0.5) * max(side - size / zoom, 0.0)
        for side, place in zip(image.shape[1:], (down, right), strict=True)
    ]
    steps = (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / zoom
    y, x = torch.meshgrid(steps, steps * sign, indexing="ij")
    cos, sin = math.cos(theta), math.sin(theta)
    rows, columns = middle[0] + cos * y - sin * x, middle[1] + sin * y + cos * x
    grid = torch.stack([2 * columns / image.shape[2] - 1, 2 * rows / image.shape[1] - 1], -1)[None].float()
    cut = functional.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if target.ndim == 3:
        target = functional.grid_sample(target[None], grid, mode="nearest", align_corners=False)[0]
    else:  # 0 is what lies outside; ids are moved up by one to tell the background from it
        ids = functional.grid_sample((target[None, None] + 1).float(), grid, mode="nearest", align_corners=False)[0, 0]
        target = torch.where(ids > 0, ids.round().long() - 1, IGNORE)
    if blurred < 0.5 and config.blur > 0:
        cut = gaussian_blur(cut, float(sigma) * config.blur)
    return cut[0], target


@torch.no_grad()
def predict(
    model: nn.Module,
    pictures: Sequence[Pixels],
    allowed: Sequence[int] | None,
    short_side: int | None,
    device: torch.device,
) -> Tensor:
    """Masks of frames of one size, at their full size, by :func:`predict_scores`.

    Returns
    -------
    (B, H, W) uint8 ids, on the CPU; the lower id of equals
    """
    ids, scores = predict_scores(model, pictures, allowed, short_side, device)
    return best_ids(ids, scores)


def best_ids(ids: Tensor, scores: Tensor) -> Tensor:
    """The id (K,) with the highest score (B, K, H, W), the first of equals: (B, H, W) uint8, on the CPU."""
    return ids.to(torch.uint8)[scores.max(1).indices.cpu()]  # argmax(1) takes 4 to 18 times as long on a CPU


@torch.no_grad()
def predict_scores(
    model: nn.Module,
    pictures: Sequence[Pixels],
    allowed: Sequence[int] | None,
    short_side: int | None,
    device: torch.device,
    scale: float = 1.0,
    mirrored: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scores of frames of one size, at their full size.

    Parameters
    ----------
    model : images (B, 3, H, W) to scores (B, classes, H, W), in eval mode
    pictures : (H, W, 3) uint8 each, or clips (H, W, 3 T) where the model sees clips
    allowed : ids that may appear beside the background, e.g. the video's tags; None for all
    short_side : what the network sees is made so small
    device : where the model is
    scale, mirrored : another view, in which the frames are so many times as large, or mirror images; the scores are
        those of the frames as they are

    Returns
    -------
    The ids that may appear (K,) int64, on the CPU, and their scores (B, K, H, W), before any softmax.
    """
    shown = pictures if short_side is None else [shrunk(picture, short_side) for picture in pictures]
    images = on_device(as_images(shown), device)
    if scale != 1:
        images = functional.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
    scores = model(images.flip(3)).flip(3) if mirrored else model(images)
    ids = torch.arange(scores.shape[1]) if allowed is None else torch.tensor([0, *sorted(allowed)])
    if allowed is not None:
        scores = scores[:, on_device(ids, device)]
    size = pictures[0].shape[:2]
    if scores.shape[2:] != size:
        scores = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)
    return ids, scores


def predict_frames(
    model: nn.Module,
    data: Annotations,
    frames: Sequence[Frame],
    constrain: bool,
    config: TrainingConfig,
    device: torch.device,
) -> Iterator[tuple[Frame, Tensor]]:
    """Each frame with its predicted mask (H, W) uint8; ``constrain`` keeps to the tags of the video."""
    model.eval()
    for frame in frames:
        allowed = data.tags[frame.video] if constrain else None
        clip = data.clip(frame, config.offsets)
        yield frame, predict(model, [clip], allowed, config.short_side, device)[0]
