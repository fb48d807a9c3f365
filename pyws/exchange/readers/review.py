"""What a file of corrections says, whatever its format, before it is held against the videos that pyws knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pyws.data.video.decoders import MAX_PIXELS
from pyws.errors import DataError
from pyws.exchange.writers.mask_folders import FLAT

Regions = list[tuple["str | int", NDArray[np.bool_]]]
"""(label or id, (H, W) bool) of a frame; later ones lie on top."""


@dataclass(frozen=True)
class Span:
    """When a label is shown: seconds of the file, or frames from 0, the last one included."""

    label: str
    start: float
    end: float
    in_frames: bool = False


@dataclass
class Reviewed:
    """What people said of a video.

    Parameters
    ----------
    video : its name
    present : segments; None where nobody looked for any
    absent : where a label is not
    labels : that were looked for, also where none was found
    masks : regions of a frame by its name, or by its number from 0; decoded when they are called for
    """

    video: str
    present: list[Span] | None = None
    absent: list[Span] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    masks: dict[str | int, Callable[[], Regions]] = field(default_factory=dict)


class Reviews(dict[str, Reviewed]):
    """Reviews by video, made when they are asked for."""

    def __missing__(self, video: str) -> Reviewed:
        self[video] = Reviewed(video)
        return self[video]

    def searched(self, video: str) -> list[Span]:
        """The segments of a video, which was searched for them."""
        one = self[video]
        one.present = [] if one.present is None else one.present
        return one.present


def frame_of(name: str) -> tuple[str, str]:
    """Video and frame of the name of a picture.

    Examples
    --------
    >>> frame_of("images/dog/00012.jpg"), frame_of("dog__00012.png"), frame_of("12.jpg")
    (('dog', '00012'), ('dog', '00012'), ('', '12'))
    """
    path = PurePosixPath(str(name).replace("\\", "/"))
    if FLAT in path.stem:
        video, _, frame = path.stem.rpartition(FLAT)
        return video, frame
    return path.parent.name, path.stem


def video_of(address: str) -> str:
    """The name of a video out of a path or address; what Label Studio puts before an upload is left out.

    Examples
    --------
    >>> video_of("/data/local-files/?d=films/a%20dog.mp4"), video_of("/data/upload/1/1a2b3c4d-dog.mp4")
    ('a dog', 'dog')
    """
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    stem, folder = PurePosixPath(path).stem, PurePosixPath(path).parent
    head, dash, rest = stem.partition("-")
    uploaded = "upload" in folder.parts and dash and len(head) == 8 and all(c in "0123456789abcdef" for c in head)
    return rest if uploaded else stem


def number(where: Any, record: Mapping[str, Any], key: str, minimum: float = -np.inf) -> float:
    """A finite number of a record, from ``minimum``.

    Raises
    ------
    DataError : missing, or none; names the place and the key
    """
    try:
        value = float(record[key])
    except (KeyError, TypeError, ValueError, OverflowError):
        value = np.nan
    if not np.isfinite(value) or value < minimum or isinstance(record.get(key), bool):
        bound = f" of {minimum:g} or more" if np.isfinite(minimum) else ""
        raise DataError(where, f"{key} must be a number{bound}, got {str(record.get(key))[:40]!r}")
    return value


def whole(where: Any, record: Mapping[str, Any], key: str) -> int:
    """A whole number of a record, from 0.

    Raises
    ------
    DataError : missing, or none
    """
    value = number(where, record, key, 0)
    if value != int(value) or value > 2**40:
        raise DataError(where, f"{key} must be a whole number, got {str(record[key])[:40]!r}")
    return int(value)


def check_size(where: Any, height: int, width: int) -> None:
    """Raise DataError for a picture of no pixels or more than MAX_PIXELS."""
    if not 0 < height * width <= MAX_PIXELS:
        raise DataError(where, f"must be of 1 to {MAX_PIXELS} pixels, got {height}x{width}")


def polygon_mask(where: Any, points: Iterable[tuple[float, float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool inside a polygon of (x, y).

    Raises
    ------
    DataError : fewer than three points, or one that is not finite
    """
    corners = list(points)
    if len(corners) < 3 or not np.isfinite(np.array(corners, np.float64)).all():
        raise DataError(where, f"a polygon must have three or more points, got {len(corners)}")
    check_size(where, *size)
    bounded = [(min(max(x, -1e6), 1e6), min(max(y, -1e6), 1e6)) for x, y in corners]
    picture = Image.new("1", size[::-1])
    ImageDraw.Draw(picture).polygon(bounded, fill=1)
    return np.asarray(picture, bool)


def run_lengths(where: Any, lengths: Any, size: tuple[int, int], order: str) -> NDArray[np.bool_]:
    """(H, W) bool of run lengths, background first, along rows ("C") or down columns ("F").

    Raises
    ------
    DataError : lengths that do not fill the size
    """
    check_size(where, *size)
    total = size[0] * size[1]
    good = isinstance(lengths, list) and all(type(one) is int and 0 <= one <= total for one in lengths)
    if not good or sum(lengths) != total:
        raise DataError(where, f"run lengths must be whole numbers that fill {size[0]}x{size[1]} pixels")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size, order="F" if order == "F" else "C")
