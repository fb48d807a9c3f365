"""Synthetic clips and streams with known truth: textured actors that move over real photographs.

Actors differ in shape and texture, actions only in motion, and the camera pans and shakes: a classifier has to find
the actor to name it and has to watch it move to name its action. The photographs are those that scikit-image ships
inside its package; nothing is downloaded. Everything here is synthetic and named so wherever it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from pyws.data.sprites import PAINTERS, SPRITE, Image

ACTORS = tuple(PAINTERS)
ACTIONS = (
    "jumping",
    "rolling",
    "running",
    "none",
)  # "none", the actor at rest, stays last: it is the background of streams
FINE = 2  # scenes are drawn this many times finer and averaged down, which gives smooth edges and half-pixel motion
SCENERY = ("astronaut", "coffee", "rocket", "motorcycle", "grass", "gravel", "brick")


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are drawn; lengths in pixels and frames, times in seconds."""

    height: int = 96
    width: int = 128
    fps: float = 8.0
    actor_size: tuple[float, float] = (48.0, 62.0)
    pan: float = 4.0
    shake: float = 0.25
    instance_seconds: tuple[float, float] = (1.5, 6.0)
    gap_seconds: tuple[float, float] = (1.0, 4.0)


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


def make_clip(seed: int, index: int, frames: int = 16, config: SceneConfig = SceneConfig()) -> Clip:
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


def make_stream(seed: int, index: int, seconds: float = 48.0, config: SceneConfig = SceneConfig()) -> Stream:
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
    camera = _camera(random, len(plan), config)
    scenery = _scenery(random, config)
    sprite = PAINTERS[actor](random)
    size = random.uniform(*config.actor_size)
    motion = _motion(random, plan, size, config)
    frames = np.empty((len(plan), config.height, config.width, 3), np.uint8)
    masks = np.empty(frames.shape[:3], bool)
    margin = _margin(config)
    for index, (shift, pose) in enumerate(zip(camera, motion, strict=True)):
        row, column = np.clip(np.rint(shift * FINE).astype(int) + margin, 0, 2 * margin)
        canvas = scenery[row : row + config.height * FINE, column : column + config.width * FINE].copy()
        cover = _paste(canvas, sprite, pose, shift, size)
        frames[index] = _coarse(canvas)
        masks[index] = _coarse(cover) >= 128
    return frames, masks


def _coarse(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over squares of FINE x FINE pixels, rounded."""
    parts = [fine[row::FINE, column::FINE] for row in range(FINE) for column in range(FINE)]
    return ((np.sum(parts, axis=0, dtype=np.uint16) + FINE * FINE // 2) // (FINE * FINE)).astype(np.uint8)


def _camera(random: np.random.Generator, frames: int, config: SceneConfig) -> NDArray[np.float64]:
    """(frames, 2) shift of the camera: a slow pan and a little shake."""
    time = np.arange(frames)[:, None]
    period, phase = random.uniform(40, 90, 2), random.uniform(0, 2 * np.pi, 2)
    pan = config.pan * np.sin(2 * np.pi * time / period + phase)
    return pan + np.clip(random.normal(0, config.shake, (frames, 2)), -4 * config.shake, 4 * config.shake)


def _motion(random: np.random.Generator, plan: list[str], size: float, config: SceneConfig) -> NDArray[np.float64]:
    """(frames, 4) pose of the actor: row, column of its centre, angle, and the side it faces (1 or -1)."""
    reach = size / 2 + config.pan
    ground = random.uniform(max(config.height * 0.6, reach), max(config.height - reach, config.height * 0.6))
    column = random.uniform(reach, config.width - reach)
    speed, height = random.uniform(4.5, 6.0), random.uniform(0.6, 0.85) * min(ground - size / 2, size)
    period, spin = random.uniform(7, 10), random.uniform(0.7, 1.0)
    facing, angle, phase = float(random.choice([-1.0, 1.0])), 0.0, random.uniform(0, 1)
    poses = np.empty((len(plan), 4))
    for index, action in enumerate(plan):
        row = ground
        phase = phase + 1 / period if action in ("jumping", "running") else 0.0
        if action == "running":
            column += facing * speed
            row -= 1.5 * abs(np.sin(2 * np.pi * phase))
        elif action == "rolling":
            column += facing * 0.5
            angle += facing * spin
        elif action == "jumping":
            row -= height * abs(np.sin(np.pi * phase))
        if action != "rolling":
            angle *= 0.5  # comes to stand on its feet again
        if not reach <= column <= config.width - reach:
            column = float(np.clip(column, reach, config.width - reach))
            facing = -facing
        poses[index] = row, column, angle, facing
    return poses


def _paste(canvas: Image, sprite: Image, pose: NDArray[np.float64], shift: NDArray[np.float64], size: float) -> Image:
    """Paint the sprite (SPRITE, SPRITE, 4) over ``canvas`` in place; returns where it covers, 0 or 255 a fine pixel."""
    row, column = (pose[0] - shift[0]) * FINE, (pose[1] - shift[1]) * FINE
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    half = size * FINE / 2 * (abs(cosine) + abs(sine))
    top, left = max(int(row - half), 0), max(int(column - half), 0)
    bottom, right = min(int(row + half) + 1, canvas.shape[0]), min(int(column + half) + 1, canvas.shape[1])
    cover = np.zeros(canvas.shape[:2], np.uint8)
    if top >= bottom or left >= right:
        return cover
    scale = SPRITE / (size * FINE)
    down = ((np.arange(top, bottom) + 0.5 - row) * scale)[:, None].astype(np.float32)
    across = ((np.arange(left, right) + 0.5 - column) * scale)[None].astype(np.float32)
    x = ((cosine * across + sine * down) * pose[3] + SPRITE / 2).astype(np.int32)
    y = ((cosine * down - sine * across) + SPRITE / 2).astype(np.int32)
    last = SPRITE - 1
    texel = sprite[np.clip(y, 0, last), np.clip(x, 0, last)]
    drawn = (x > 0) & (x < last) & (y > 0) & (y < last) & (texel[..., 3] > 0)
    canvas[top:bottom, left:right][drawn] = texel[..., :3][drawn]
    cover[top:bottom, left:right][drawn] = 255
    return cover


@cache
def _photo(name: str) -> Image:
    """A photograph (H, W, 3) that lies inside the scikit-image package."""
    from skimage import data

    photo = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return np.ascontiguousarray(photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, 2))


def _scenery(random: np.random.Generator, config: SceneConfig) -> Image:
    """A random piece of a photograph, as large as the frame and the camera's path around it, FINE times finer."""
    photo = _photo(SCENERY[int(random.integers(len(SCENERY)))])
    height, width = config.height * FINE + 2 * _margin(config), config.width * FINE + 2 * _margin(config)
    scale = min(photo.shape[0] / height, photo.shape[1] / width) * random.uniform(0.7, 1.0)
    rows, columns = int(height * scale), int(width * scale)
    top = int(random.integers(photo.shape[0] - rows + 1))
    left = int(random.integers(photo.shape[1] - columns + 1))
    piece = photo[top : top + rows, left : left + columns]
    piece = piece[:, ::-1] if random.random() < 0.5 else piece
    light = random.uniform(0.7, 1.1) * random.uniform(0.9, 1.1, 3)
    resized = Pictures.fromarray(np.ascontiguousarray(piece)).resize((width, height), Pictures.Resampling.BILINEAR)
    return np.clip(np.asarray(resized) * light.astype(np.float32), 0, 255).astype(np.uint8)


def _margin(config: SceneConfig) -> int:
    """How far the camera moves to each side, in fine pixels."""
    return round((config.pan + 4 * config.shake) * FINE)
