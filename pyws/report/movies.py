"""Activation maps over the frames that they belong to: pictures and videos."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pyws.data.video.frames import Pixels
from pyws.files import atomic_write

# x264's AVX-512 code gives now these bytes, now others, for the same pictures; its plain C, in a preset that is as fast
# so, does not, nor does it depend on the processor.
_SAME_EVERYWHERE = {"preset": "veryfast", "x264-params": "no-asm=1:threads=1"}
_LINE = 16  # pixels of height of a line of text
_OPACITY = 0.6  # opacity of the colour where a map is 1


def heat(frame: Pixels, scores: NDArray[np.floating]) -> Pixels:
    """A frame with a map laid over it: the higher, the more of it and the warmer.

    Parameters
    ----------
    frame : (H, W, 3) uint8 RGB
    scores : (H, W) in [0, 1]

    Examples
    --------
    >>> heat(np.full((1, 2, 3), 100, np.uint8), np.array([[0.0, 1.0]])).tolist()[0][0]
    [100, 100, 100]
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or scores.shape != frame.shape[:2]:
        raise ValueError(f"heat: frame must be (H, W, 3) uint8 and scores (H, W), got {frame.shape}, {scores.shape}")
    level = np.clip(np.nan_to_num(scores), 0, 1)
    colours = _colours()[(level * 255).astype(np.uint8)]
    share = (_OPACITY * level)[..., None]
    return (frame * (1 - share) + colours * share + 0.5).astype(np.uint8)


def titled(picture: Pixels, *lines: str) -> Pixels:
    """A picture under lines of text."""
    height, width = picture.shape[:2]
    sheet = Image.new("RGB", (width, height + _LINE * len(lines)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        draw.text((2, 2 + _LINE * row), line, fill=(0, 0, 0))
    sheet.paste(Image.fromarray(picture), (0, _LINE * len(lines)))
    return np.asarray(sheet)


def write_video(path: str | os.PathLike[str], pictures: Iterable[Pixels], fps: int = 12) -> int:
    """Write pictures (H, W, 3) uint8 of one size as an mp4 video, whole or not at all; returns their number.

    The last row or column of odd sizes is repeated: the format halves colour.
    """
    import io

    import av

    memory, count = io.BytesIO(), 0
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=_SAME_EVERYWHERE if codec == "libx264" else {})
        for picture in pictures:
            even = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), "edge")
            if not count:
                stream.height, stream.width, stream.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                container.mux(packet)
            count += 1
        if not count:
            raise ValueError(f"write_video: needs pictures, got none for {path}")
        for packet in stream.encode():
            container.mux(packet)
    with atomic_write(Path(path), "wb") as file:
        file.write(memory.getvalue())
    return count


@cache
def _colours() -> Pixels:
    """256 colours from dark blue over green and yellow to red: nine of the scale "turbo", and what lies between them.

    Each map has them, and to load a library that draws takes as long as ten frames through a network.
    """
    stops = np.array(
        [(48, 18, 59), (70, 107, 227), (40, 187, 235), (50, 241, 151), (164, 252, 59), (236, 209, 57), (251, 128, 34),
         (210, 48, 5), (122, 4, 2)]
    )  # fmt: skip
    places = np.linspace(0, len(stops) - 1, 256)
    return np.stack([np.interp(places, range(len(stops)), channel) for channel in stops.T], 1).astype(np.uint8)
