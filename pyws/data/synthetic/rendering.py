"""How synthetic scenes are drawn: a photograph that the camera moves over, and sprites pasted onto it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from pyws.data.synthetic.actors import SPRITE, Image, photo

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


def coarse(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over squares of FINE x FINE pixels, rounded."""
    parts = [fine[row::FINE, column::FINE] for row in range(FINE) for column in range(FINE)]
    return ((np.sum(parts, axis=0, dtype=np.uint16) + FINE * FINE // 2) // (FINE * FINE)).astype(np.uint8)


def camera_path(random: np.random.Generator, frames: int, config: SceneConfig) -> NDArray[np.float64]:
    """(frames, 2) shift of the camera: a slow pan and a little shake."""
    time = np.arange(frames)[:, None]
    period, phase = random.uniform(40, 90, 2), random.uniform(0, 2 * np.pi, 2)
    pan = config.pan * np.sin(2 * np.pi * time / period + phase)
    return pan + np.clip(random.normal(0, config.shake, (frames, 2)), -4 * config.shake, 4 * config.shake)


def actor_path(random: np.random.Generator, plan: list[str], size: float, config: SceneConfig) -> NDArray[np.float64]:
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
        phase = phase + 1 / period if action in ("jumping", "running", "flying") else 0.0
        if action == "running":
            column += facing * speed
            row -= 1.5 * abs(np.sin(2 * np.pi * phase))
        elif action == "rolling":
            column += facing * 0.5
            angle += facing * spin
        elif action == "jumping":
            row -= height * abs(np.sin(np.pi * phase))
        elif action == "flying":
            column += facing * speed
            row -= height * (0.6 + 0.4 * np.sin(2 * np.pi * phase))
        if action != "rolling":
            angle *= 0.5  # comes to stand on its feet again
        if not reach <= column <= config.width - reach:
            column = float(np.clip(column, reach, config.width - reach))
            facing = -facing
        poses[index] = row, column, angle, facing
    return poses


def paste(canvas: Image, sprite: Image, pose: NDArray[np.float64], shift: NDArray[np.float64], size: float) -> Image:
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


def scenery(random: np.random.Generator, config: SceneConfig) -> Image:
    """A random piece of a photograph, as large as the frame and the camera's path around it, FINE times finer."""
    picture = photo(SCENERY[int(random.integers(len(SCENERY)))])
    height, width = config.height * FINE + 2 * margin_of(config), config.width * FINE + 2 * margin_of(config)
    scale = min(picture.shape[0] / height, picture.shape[1] / width) * random.uniform(0.7, 1.0)
    rows, columns = int(height * scale), int(width * scale)
    top = int(random.integers(picture.shape[0] - rows + 1))
    left = int(random.integers(picture.shape[1] - columns + 1))
    piece = picture[top : top + rows, left : left + columns]
    piece = piece[:, ::-1] if random.random() < 0.5 else piece
    light = random.uniform(0.7, 1.1) * random.uniform(0.9, 1.1, 3)
    resized = Pictures.fromarray(np.ascontiguousarray(piece)).resize((width, height), Pictures.Resampling.BILINEAR)
    return np.clip(np.asarray(resized) * light.astype(np.float32), 0, 255).astype(np.uint8)


def view_of(picture: Image, shift: NDArray[np.float64], config: SceneConfig) -> Image:
    """What the camera sees of the scenery where it has moved by ``shift``, to be painted on."""
    margin = margin_of(config)
    row, column = np.clip(np.rint(shift * FINE).astype(int) + margin, 0, 2 * margin)
    return picture[row : row + config.height * FINE, column : column + config.width * FINE].copy()


def margin_of(config: SceneConfig) -> int:
    """How far the camera moves to each side, in fine pixels."""
    return round((config.pan + 4 * config.shake) * FINE)
