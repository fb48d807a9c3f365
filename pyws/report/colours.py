"""The colours of everything that is shown: of label ids in pictures, of classes and lines in charts and timelines."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from functools import cache

import numpy as np

from pyws.data.video.frames import Pixels, palette

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")  # told apart by all


def colour(index: int) -> str:
    """The colour of a class or a line, by its place."""
    return COLOURS[index % len(COLOURS)]


_FIRST = 7  # ids below have the palette's pure colours; many of the others would be one red, or white
_STEP, _START = 0.13, 0.22  # hues that follow, as parts of the circle; with the next line chosen for 43 ids far apart
_ROWS = ((0.45, 1.0), (0.8, 0.85), (0.85, 1.0))  # saturation and value, in turn


@cache
def shown_colours() -> Pixels:
    """Colours of the ids (256, 3) for people: bright, so that they are seen on dark frames, and none white or grey.

    Examples
    --------
    >>> shown_colours()[[0, 1, 4, 7]].tolist()
    [[0, 0, 0], [255, 85, 85], [85, 85, 255], [218, 255, 140]]
    """
    shown = np.zeros((256, 3))
    pure = palette()[1:_FIRST] > 0
    shown[1:_FIRST] = np.where(pure, 255, 85)
    for index in range(_FIRST, 256):
        saturation, value = _ROWS[(index - _FIRST) % len(_ROWS)]
        hue = (_START + _STEP * (index - _FIRST)) % 1
        shown[index] = np.multiply(hsv_to_rgb(hue, saturation, value), 255)
    return np.rint(shown).astype(np.uint8)
