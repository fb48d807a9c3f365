"""What a classifier of images or clips is: a network, and what its input and output mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyws.models.devices import on_device
from pyws.models.inference import for_inference

FLOW_LIMIT = 20.0  # pixels a frame that flow is clipped to, as I3D's was in training


@dataclass(frozen=True)
class Classifier:
    """A network in eval mode, and what its input and output mean.

    Parameters
    ----------
    layer : dotted name of the layer for class activation maps
    mean : subtracted from RGB in 0..1, then divided by std
    labels : name of each class; synonyms are parted by commas
    frames : frames of a clip, where it classifies clips; 0 where it classifies images
    short_side : short side of the frames that it was trained on, in pixels; 0 where that is not known
    stride : input pixels between two positions of the layer, at most
    fixed : side of the squares that it takes, where it takes no other size (vision transformers); else 0
    resize : resizing in the evaluation that its weights were published with: the short side, or both sides, that frames
        are scaled to before a square is cut out of the middle
    crop : side of that square, in pixels; 0 for whole frames
    interpolation : how frames are scaled: bilinear or bicubic
    fps : frames a second of the clips that it was trained on; 0 of images
    file : file of its weights; None of random ones
    channels : channels of its input: 3 of RGB, 2 of optical flow
    """

    name: str
    model: nn.Module
    layer: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    frames: int = 0
    short_side: int = 0
    stride: int = 32
    fixed: int = 0
    resize: tuple[int, ...] = ()
    crop: int = 0
    interpolation: str = "bilinear"
    fps: float = 0.0
    file: Path | None = None
    channels: int = 3

    def prepare(self, frames: Tensor, short_side: int) -> Tensor:
        """Frames (B, H, W, 3) uint8 RGB, or clips (B, T, H, W, 3), to what the model takes.

        The whole frame is scaled so that its short side is ``short_side``, both sides rounded to multiples of the
        stride: the positions of the last feature map then tile the frame exactly. A model that takes one size alone
        gets the whole frame at that size.
        """
        height, width = frames.shape[-3:-1]
        scale = short_side / min(height, width)
        size = [max(self.stride, round(side * scale / self.stride) * self.stride) for side in (height, width)]
        size = [self.fixed, self.fixed] if self.fixed else size
        return self._normalised(_scaled(frames.flatten(0, -4).permute(0, 3, 1, 2), size), frames)

    def for_inference(self, *layers: str) -> Classifier:
        """The same with its network made ready for inference, see :func:`pyws.models.inference.for_inference`.

        The outputs of ``layer``, and of ``layers``, stay what they are.
        """
        side = self.fixed or max(2 * self.stride, 64)
        size = (self.channels, self.frames, side, side) if self.frames else (self.channels, side, side)
        return replace(self, model=for_inference(self.model, size, self.layer, *layers))

    def published_view(self, frames: Tensor) -> Tensor:
        """As :meth:`prepare`, but as the weights' publishers evaluate them: scaled by ``resize``, the middle cut out.

        Where they say nothing of it (``crop`` is 0) it is :meth:`prepare` at the size of training.
        """
        from torchvision.transforms.functional import center_crop

        if not self.crop:
            return self.prepare(frames, self.short_side)
        images = self.resized(frames.flatten(0, -4))
        return self._normalised(center_crop(images, [self.crop]), frames)

    def resized(self, frames: Tensor) -> Tensor:
        """Frames (B, H, W, 3) uint8 to (B, 3, h, w), scaled by ``resize`` or to ``short_side``, before any cut."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize

        size = list(self.resize) or [self.short_side]
        mode = InterpolationMode(self.interpolation)
        one_by_one = frames.permute(0, 3, 1, 2).split(1)  # what they are in float32 stays in the caches
        return torch.cat([resize(frame, size, mode, antialias=not self.frames) for frame in one_by_one])

    def flow_view(self, flow: Tensor) -> Tensor:
        """Optical flow (T, h, w, 2) of :meth:`resized` frames, in pixels, to what a network of flow takes.

        It is clipped to +-20 pixels and scaled to [-1, 1] (Carreira and Zisserman, CVPR 2017), and cut as RGB is.

        Returns
        -------
        (2, T, h, w): how far right, then how far down
        """
        from torchvision.transforms.functional import center_crop

        scaled = flow.permute(3, 0, 1, 2).clamp(-FLOW_LIMIT, FLOW_LIMIT) / FLOW_LIMIT
        return center_crop(scaled, [self.crop]) if self.crop else scaled

    def _normalised(self, images: Tensor, frames: Tensor) -> Tensor:
        """RGB (B * T, 3, h, w) uint8 to what the model takes; ``frames`` tell whether they are clips."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        rows = images.permute(0, 2, 3, 1).flatten(2).float()  # channel by channel, three numbers would be a loop
        shift, factor = (one.float().repeat(images.shape[3]) for one in (-mean / std, 1 / (255 * std)))
        rows = torch.addcmul(on_device(shift, images.device), rows, on_device(factor, images.device), out=rows)
        images = rows.unflatten(2, (-1, len(mean))).permute(0, 3, 1, 2)
        if frames.ndim == 5:
            return images.unflatten(0, frames.shape[:2]).transpose(1, 2).contiguous()
        return images


def _scaled(images: Tensor, size: list[int]) -> Tensor:
    """Images (B, 3, H, W) uint8 scaled to ``size``, in whole levels: networks were trained on pictures scaled so.

    A GPU rounds sums of float32 where the CPU adds in whole numbers: levels differ by one at most.
    """
    scaled = partial(functional.interpolate, size=size, mode="bilinear", align_corners=False, antialias=True)
    if images.device.type == "cpu":
        return scaled(images)
    return scaled(images.float()).round_().clamp_(0, 255).to(torch.uint8)


@contextmanager
def input_of(name: str, inputs: Tensor) -> Iterator[None]:
    """That a network refuses the size of its input, each in words of its own, as a ValueError that names both.

    Examples
    --------
    >>> with input_of("tiny", torch.zeros(1, 3, 2, 4)):
    ...     nn.Conv2d(3, 1, 5)(torch.zeros(1, 3, 2, 4))
    Traceback (most recent call last):
        ...
    ValueError: tiny cannot take frames of 4x2 pixels; other sizes are given by --short-side and --crop (...)
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        size = f"{inputs.shape[-1]}x{inputs.shape[-2]}"
        rule = f"{name} cannot take frames of {size} pixels; other sizes are given by --short-side and --crop"
        raise ValueError(f"{rule} ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from error
