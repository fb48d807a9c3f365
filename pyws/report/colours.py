"""The colours of everything that is shown: of label ids in pictures, of classes and lines in charts and timelines."""

from __future__ import annotations

from functools import cache

import numpy as np

from pyws.data.video.frames import Pixels, palette

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")  # told apart by all


def colour(index: int) -> str:
    """The colour of a class or a line, by its place."""
    return COLOURS[index % len(COLOURS)]


@cache
def shown_colours() -> Pixels:
    """The palette's colours (256, 3) for people: as bright as they can be, and a third white, so that navy is seen.

    Examples
    --------
    >>> shown_colours()[[0, 1, 4]].tolist()
    [[0, 0, 0], [255, 85, 85], [85, 85, 255]]
    """
    colours = palette().astype(np.float64)
    bright = 255 * colours / np.maximum(colours.max(1, keepdims=True), 1)
    shown = np.rint((2 * bright + 255) / 3).astype(np.uint8)
    shown[0] = 0
    return shown
