"""Two streams of one video side by side: RGB, then optical flow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pyws.errors import DataError

_ROWS_APART = 1  # flow needs the next frame, so that its last snippet may be missing


class Stored(Protocol):
    """An array (snippets, width) that lies somewhere on disk."""

    def shape(self) -> tuple[int, ...]:
        """Its shape, without reading it; a file that is too short for it is a DataError."""

    def read(self) -> np.ndarray:
        """The array."""


@dataclass(frozen=True)
class JoinedStreams:
    """Two streams of one video, side by side: RGB, then flow; one that has a row more than the other loses it."""

    path: Path
    rgb: Stored
    flow: Stored

    def rows(self) -> tuple[int, int]:
        """Snippets of either stream.

        Raises
        ------
        DataError : they differ by more than one, or one of them is not (snippets, width)
        """
        rgb, flow = self.rgb.shape(), self.flow.shape()
        if len(rgb) != 2 or len(flow) != 2 or abs(rgb[0] - flow[0]) > _ROWS_APART:
            rule = f"rgb and flow must have as many snippets, or one of them one more, got {rgb} and {flow}"
            raise DataError(self.path, rule)
        return rgb[0], flow[0]

    def shape(self) -> tuple[int, ...]:
        return min(self.rows()), self.rgb.shape()[1] + self.flow.shape()[1]

    def read(self) -> np.ndarray:
        rows = min(self.rows())
        return np.concatenate([self.rgb.read()[:rows], self.flow.read()[:rows]], axis=1)
