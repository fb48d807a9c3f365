"""The painted actors of the synthetic scenes: a ball, a car, a cat, each with its own shape and texture."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageChops, ImageDraw

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

SPRITE = 96  # side of the square that an actor is painted on
UNIT = 4  # painters think in hundredths of the side; pixels for each on the larger canvas that is averaged down


@cache
def photo(name: str) -> Image:
    """A photograph (H, W, 3) that lies inside the scikit-image package."""
    from skimage import data

    picture = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return np.ascontiguousarray(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2))


def _canvas() -> tuple[Pictures.Image, ImageDraw.ImageDraw]:
    picture = Pictures.new("RGBA", (100 * UNIT, 100 * UNIT), (0, 0, 0, 0))
    return picture, ImageDraw.Draw(picture)


def _finished(picture: Pictures.Image) -> Image:
    """(SPRITE, SPRITE, 4); alpha is 0 or 255, since the scene does the smoothing."""
    sprite = np.asarray(picture.resize((SPRITE, SPRITE), Pictures.Resampling.BOX)).copy()
    sprite[..., 3] = np.where(sprite[..., 3] >= 128, 255, 0)
    return sprite


def _box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return left * UNIT, top * UNIT, right * UNIT, bottom * UNIT


def _points(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * UNIT, y * UNIT) for x, y in pairs]


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def paint_ball(random: np.random.Generator) -> Image:
    """A beach ball: six sectors in two colours and white."""
    picture, draw = _canvas()
    hue = random.uniform(0, 1)
    colours = (_colour(hue, 0.9, 0.95), (248, 248, 242), _colour(hue + random.uniform(0.3, 0.7), 0.9, 0.85))
    for sector in range(6):
        draw.pieslice(_box(5, 5, 95, 95), 60 * sector, 60 * sector + 60, fill=colours[sector % 3])
    draw.ellipse(_box(41, 41, 59, 59), fill=(248, 248, 242))
    return _finished(picture)


def paint_car(random: np.random.Generator) -> Image:
    """A car from the side: lacquered body with a stripe, windows, two wheels."""
    picture, draw = _canvas()
    hue = random.uniform(0, 1)
    body, stripe = _colour(hue, 0.85, 0.8), _colour(hue, 0.25, 0.98)
    draw.polygon(_points((22, 46), (34, 22), (68, 22), (82, 46)), fill=body)
    draw.rounded_rectangle(_box(2, 44, 98, 74), radius=8 * UNIT, fill=body)
    draw.polygon(_points((30, 44), (38, 27), (49, 27), (49, 44)), fill=(40, 52, 66))
    draw.polygon(_points((53, 44), (53, 27), (65, 27), (74, 44)), fill=(40, 52, 66))
    draw.rectangle(_box(4, 54, 96, 59), fill=stripe)
    draw.ellipse(_box(91, 49, 98, 57), fill=(255, 236, 150))
    for wheel in (24, 76):
        draw.ellipse(_box(wheel - 14, 60, wheel + 14, 88), fill=(24, 24, 26))
        draw.ellipse(_box(wheel - 6, 68, wheel + 6, 80), fill=(196, 198, 202))
    return _finished(picture)


def paint_cat(random: np.random.Generator) -> Image:
    """A cat from the side, its fur cut from the photograph of Chelsea the cat."""
    shape, draw = _canvas()
    solid = (255, 255, 255, 255)
    draw.line(_points((14, 56), (4, 34), (10, 16)), fill=solid, width=9 * UNIT, joint="curve")
    draw.ellipse(_box(8, 38, 74, 78), fill=solid)
    for leg in (14, 28, 52, 64):
        draw.rounded_rectangle(_box(leg, 62, leg + 10, 94), radius=4 * UNIT, fill=solid)
    draw.ellipse(_box(56, 18, 98, 60), fill=solid)
    draw.polygon(_points((59, 30), (61, 4), (76, 20)), fill=solid)
    draw.polygon(_points((95, 30), (93, 4), (79, 20)), fill=solid)
    picture = _fur(random)
    picture.putalpha(ImageChops.darker(shape.getchannel("A"), picture.getchannel("A")))
    draw = ImageDraw.Draw(picture)
    for eye in (69, 85):
        draw.ellipse(_box(eye - 4, 33, eye + 4, 41), fill=(190, 220, 90))
        draw.ellipse(_box(eye - 1.5, 33, eye + 1.5, 41), fill=(10, 10, 10))
    draw.polygon(_points((74, 45), (80, 45), (77, 49)), fill=(214, 120, 120))
    return _finished(picture)


def _fur(random: np.random.Generator) -> Pictures.Image:
    """An opaque square of ginger fur, as large as the canvas."""
    top, left = 150 + int(random.integers(20)), 40 + int(random.integers(40))  # the flank, no eyes and no background
    piece = photo("chelsea")[top : top + 110, left : left + 110].astype(np.float32) * random.uniform(0.85, 1.15)
    fur = Pictures.fromarray(np.clip(piece, 0, 255).astype(np.uint8))
    return fur.resize((100 * UNIT, 100 * UNIT), Pictures.Resampling.BILINEAR).convert("RGBA")


def paint_clutter(random: np.random.Generator) -> Image:
    """Something that is no actor: a polygon cut from a photograph."""
    shape, draw = _canvas()
    turns = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(5, 9))))
    reach = random.uniform(30, 48, len(turns))
    corners = zip(50 + reach * np.cos(turns), 50 + reach * np.sin(turns), strict=True)
    draw.polygon(_points(*corners), fill=(255, 255, 255, 255))
    return _cut(random, shape, ("coffee", "rocket", "motorcycle", "astronaut"))


def paint_occluder(random: np.random.Generator) -> Image:
    """A post or a trunk that stands in front: as high as the square, a fifth to a third as wide."""
    shape, draw = _canvas()
    half = random.uniform(10, 16)
    draw.rounded_rectangle(_box(50 - half, 1, 50 + half, 99), radius=4 * UNIT, fill=(255, 255, 255, 255))
    return _cut(random, shape, ("brick", "gravel", "grass"))


def _cut(random: np.random.Generator, shape: Pictures.Image, photos: tuple[str, ...]) -> Image:
    """The shape, filled with a random piece of one of the photographs."""
    picture = photo(photos[int(random.integers(len(photos)))])
    side = int(min(picture.shape[:2]) * random.uniform(0.3, 0.8))
    top, left = (int(random.integers(length - side + 1)) for length in picture.shape[:2])
    filled = Pictures.fromarray(picture[top : top + side, left : left + side]).resize(shape.size).convert("RGBA")
    filled.putalpha(shape.getchannel("A"))
    return _finished(filled)


PAINTERS: dict[str, Callable[[np.random.Generator], Image]] = {
    "ball": paint_ball,
    "car": paint_car,
    "cat": paint_cat,
}
