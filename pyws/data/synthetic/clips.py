"""Synthetic clips and streams with known truth: textured actors that move over real photographs.

Actors differ in shape and texture, actions only in motion, and the camera pans and shakes: a classifier has to find
the actor to name it and has to watch it move to name its action. The photographs are those that scikit-image ships
inside its package; nothing is downloaded. Everything here is synthetic and named so wherever it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyws.data.synthetic.actors import PAINTERS, Image
from pyws.data.synthetic.rendering import SceneConfig, actor_path, camera_path, coarse, paste, scenery, view_of

ACTORS = tuple(PAINTERS)
ACTIONS = ("jumping", "rolling", "running", "none")  # "none", the actor at rest, stays last: the background of streams


@dataclass(frozen=True)
class Clip:
    """A synthetic clip with one actor doing one action.

    ``frames`` (T, H, W, 3) uint8; ``masks`` (T, H, W) bool, the true pixels of the actor; ``actor`` and ``action``
    are its tags.
    """

    name: str
    frames: Image
    actor: str
    action: str
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Stream:
    """A synthetic untrimmed stream: one actor, several instances of several actions, rest between them.

    ``frames`` (T, H, W, 3) uint8; ``segments`` holds (start, end, action) in seconds, the truth.
    """

    name: str
    frames: Image
    fps: float
    actor: str
    segments: tuple[tuple[float, float, str], ...]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.frames) / self.fps


def make_clip(seed: int, index: int, frames: int = 16, config: SceneConfig = SceneConfig()) -> Clip:  # noqa: B008
    """Draw clip ``index`` of the synthetic set of ``seed``; every pair of actor and action comes equally often.

    Parameters
    ----------
    seed, index : which clip; a clip depends on these two, ``frames`` and ``config`` alone
    frames : its length
    config : sizes and speeds

    Examples
    --------
    >>> clip = make_clip(seed=0, index=5, frames=4)
    >>> clip.actor, clip.action, clip.frames.shape, clip.masks.shape
    ('car', 'rolling', (4, 96, 128, 3), (4, 96, 128))
    """
    actor, action = ACTORS[index // len(ACTIONS) % len(ACTORS)], ACTIONS[index % len(ACTIONS)]
    random = np.random.default_rng([seed, 1, index])
    images, masks = _draw(random, actor, [action] * frames, config)
    return Clip(f"clip_{index:04d}", images, actor, action, masks)


def make_stream(seed: int, index: int, seconds: float = 48.0, config: SceneConfig = SceneConfig()) -> Stream:  # noqa: B008
    """Draw untrimmed stream ``index`` of the synthetic set of ``seed``.

    Instances last ``config.instance_seconds`` and the rest between them ``config.gap_seconds``, both drawn evenly;
    the stream begins and ends at rest.

    Examples
    --------
    >>> stream = make_stream(seed=0, index=0, seconds=16.0)
    >>> stream.frames.shape, stream.duration
    ((128, 96, 128, 3), 16.0)
    >>> all(0 < start < end < 16 for start, end, action in stream.segments)
    True
    """
    random = np.random.default_rng([seed, 2, index])
    total = round(seconds * config.fps)
    plan, segments = _schedule(random, total, config)
    actor = ACTORS[int(random.integers(len(ACTORS)))]
    images, _ = _draw(random, actor, plan, config)
    return Stream(f"stream_{index:02d}", images, config.fps, actor, segments)


def _schedule(
    random: np.random.Generator, total: int, config: SceneConfig
) -> tuple[list[str], tuple[tuple[float, float, str], ...]]:
    """The action of each frame, and the instances in seconds."""
    plan = ["none"] * total
    segments = []
    actions = ACTIONS[:-1]

    def draw(seconds: tuple[float, float]) -> int:
        return round(float(random.uniform(*seconds)) * config.fps)

    start = draw(config.gap_seconds)
    while (end := start + draw(config.instance_seconds)) < total - 1:
        action = actions[int(random.integers(len(actions)))]
        plan[start:end] = [action] * (end - start)
        segments.append((start / config.fps, end / config.fps, action))
        start = end + draw(config.gap_seconds)
    return plan, tuple(segments)


def _draw(
    random: np.random.Generator, actor: str, plan: list[str], config: SceneConfig
) -> tuple[Image, NDArray[np.bool_]]:
    """All frames of a scene and the actor's pixels: camera path, photograph, then the actor pasted over it."""
    camera = camera_path(random, len(plan), config)
    photograph = scenery(random, config)
    sprite = PAINTERS[actor](random)
    size = random.uniform(*config.actor_size)
    motion = actor_path(random, plan, size, config)
    frames = np.empty((len(plan), config.height, config.width, 3), np.uint8)
    masks = np.empty(frames.shape[:3], bool)
    for index, (shift, pose) in enumerate(zip(camera, motion, strict=True)):
        canvas = view_of(photograph, shift, config)
        cover = paste(canvas, sprite, pose, shift, size)
        frames[index] = coarse(canvas)
        masks[index] = coarse(cover) >= 128
    return frames, masks
