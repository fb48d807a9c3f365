"""Pictures of a video beside a page: frames in one sheet of tiles, each kind of mask in another that lies over it.

A thousand videos fit into :data:`PICTURE_BYTES`: the more videos, the fewer and smaller the tiles of each.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.frames import Pixels
from pyws.data.video.png import RUNS
from pyws.errors import DataError, name_bytes
from pyws.files import atomic_write, read_json, write_json
from pyws.report.colours import shown_colours
from pyws.report.pictures import outline

PICTURE_BYTES = 36 * 2**20  # bytes for the pictures of a page
RUNGS = ((48, 480), (36, 400), (24, 352), (16, 320), (12, 288), (10, 256), (8, 224), (6, 192), (4, 160), (2, 128))
"""Frames of a video and the width of each, from the most to the least."""
_QUALITY = 72
Tile = tuple[float, str, Pixels | None, Mapping[str, Pixels]]  # place, name, picture, masks by caption
_FORMAT = 1


@dataclass(frozen=True)
class Strip:
    """The pictures of a video; paths are relative to the page.

    Parameters
    ----------
    frames : a sheet of tiles, "" where the frames cannot be read
    layers : caption of a kind of mask to its sheet
    places : where each tile is on the timeline
    names : names of the frames
    columns, rows : columns and rows of a sheet
    width, height : width and height of a tile, in pixels
    """

    frames: str
    layers: Mapping[str, str]
    places: Sequence[float]
    names: Sequence[str]
    columns: int
    rows: int
    width: int
    height: int


def rungs(videos: int, layers: int) -> list[tuple[int, int]]:
    """Numbers of frames and widths that may fit the share of a video, the largest first.

    Examples
    --------
    >>> rungs(3, 1)[0], rungs(1000, 2)[0]
    ((48, 480), (10, 256))
    """
    share = PICTURE_BYTES / max(videos, 1)
    cost = 0.06 + 0.01 * layers  # bytes a pixel that even a plain picture takes
    fitting = [rung for rung in RUNGS if rung[0] * rung[1] ** 2 * 9 / 16 * cost <= share]
    return fitting or [RUNGS[-1]]


def folder_of(video: str) -> str:
    """A folder's name for a video of any name.

    Examples
    --------
    >>> folder_of("clip 1"), folder_of("../x")
    ('clip_1-95f95409', '..x-d6b96a97')
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", video.replace("/", ""))[:60]
    return (
        plain if plain == video and plain.strip(".") else f"{plain}-{hashlib.sha256(name_bytes(video)).hexdigest()[:8]}"
    )


def write_strip(
    page: Path,
    video: str,
    key: Any,
    wanted: Sequence[tuple[int, int]],
    tiles: Callable[[int], Sequence[Tile]],
    max_bytes: float,
) -> Strip | None:
    """Write the sheets of a video under ``page``, or take those that an earlier call with the same key wrote.

    Parameters
    ----------
    page : folder of pictures; its parent holds the page
    video : the name
    key : what the pictures depend on, as JSON
    wanted : (frames, width) to try, the largest first
    tiles : the frames of a number: place, name, picture (H, W, 3) or None, and masks (H, W) by caption
    max_bytes : largest size of all sheets together, in bytes

    Returns
    -------
    None where there is no frame.
    """
    folder = page / folder_of(video)
    stamp = hashlib.sha256(json.dumps([_FORMAT, key, list(wanted)], sort_keys=True).encode()).hexdigest()
    kept = _kept(folder, stamp)
    if kept is not None:
        return kept
    found: Sequence[Tile] = ()
    for number, (count, width) in enumerate(wanted):
        if not number or count < len(found):
            found = tiles(count)
        if not found:
            return None
        strip, sheets = _sheets(found, width)
        if number + 1 == len(wanted) or sum(map(len, sheets.values())) <= max_bytes:
            break
    for name, content in sheets.items():
        with atomic_write(folder / name, "wb") as file:
            file.write(content)
    base = f"{page.name}/{folder.name}/"
    strip = replace(strip, frames=strip.frames and base + strip.frames,
                    layers={caption: base + name for caption, name in strip.layers.items()})  # fmt: skip
    write_json(folder / "strip.json", {"stamp": stamp, **asdict(strip)}, None)
    return strip


def _kept(folder: Path, stamp: str) -> Strip | None:
    try:
        document = read_json(folder / "strip.json")
        fits = isinstance(document, dict) and document.pop("stamp", "") == stamp
        strip = Strip(**document) if fits else None
    except (DataError, TypeError):
        return None
    if strip is None:
        return None
    files = [name for name in (strip.frames, *strip.layers.values()) if name]
    return strip if all((folder.parent.parent / name).is_file() for name in files) else None


def _sheets(found: Sequence[Tile], width: int) -> tuple[Strip, dict[str, bytes]]:
    """The sheets of some tiles, by the names of their files."""
    first = found[0]
    tall, wide = (next(iter(first[3].values())) if first[2] is None else first[2]).shape[:2]
    width = min(width, wide)
    size = (width, max(1, round(width * tall / wide)))
    columns = min(len(found), 8)
    rows = -(-len(found) // columns)
    captions = list(dict.fromkeys(caption for tile in found for caption in tile[3]))
    names = {caption: f"mask{index}.png" for index, caption in enumerate(captions)}
    sheets = {name: _png(_layer([tile[3].get(caption) for tile in found], size, columns, rows))
              for caption, name in names.items()}  # fmt: skip
    pictures = [tile[2] for tile in found]
    shown = any(picture is not None for picture in pictures)
    if shown:
        sheets["frames.jpg"] = _jpg(pictures, size, columns, rows)
    strip = Strip("frames.jpg" if shown else "", names, [round(float(tile[0]), 3) for tile in found],
                  [tile[1] for tile in found], columns, rows, *size)  # fmt: skip
    return strip, sheets


def _jpg(pictures: Sequence[Pixels | None], size: tuple[int, int], columns: int, rows: int) -> bytes:
    sheet = Image.new("RGB", (columns * size[0], rows * size[1]), (32, 36, 43))
    for index, picture in enumerate(pictures):
        if picture is not None:
            tile = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            sheet.paste(tile, (index % columns * size[0], index // columns * size[1]))
    memory = io.BytesIO()
    sheet.save(memory, "JPEG", quality=_QUALITY)
    return memory.getvalue()


def _layer(masks: Sequence[Pixels | None], size: tuple[int, int], columns: int, rows: int) -> NDArray[np.uint16]:
    """(rows * h, columns * w): 2 * id + 1 on outlines of masks, 2 * id inside, 0 outside."""
    sheet = np.zeros((rows * size[1], columns * size[0]), np.uint16)
    for index, mask in enumerate(masks):
        if mask is None:
            continue
        small = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
        top, left = index // columns * size[1], index % columns * size[0]
        edge = outline(small)
        sheet[top : top + size[1], left : left + size[0]] = np.where(small > 0, 2 * small.astype(np.uint16) + edge, 0)
    return sheet


def _png(sheet: NDArray[np.uint16]) -> bytes:
    """A palette PNG of as few colours as there are ids: clear outside, half clear inside, solid outlines."""
    codes = np.flatnonzero(np.bincount(sheet.ravel()))[:256]
    table = np.full(int(sheet.max()) + 1, len(codes) - 1, np.uint8)
    table[codes] = np.arange(len(codes))
    places = table[sheet]
    colours = shown_colours()[codes // 2].copy()
    colours[codes // 2 == IGNORE] = 128
    image = Image.fromarray(places, "P")
    image.putpalette(colours.tobytes())
    alpha = bytes(0 if code == 0 else 255 if code % 2 else 130 for code in codes.tolist())
    memory = io.BytesIO()
    image.save(memory, "PNG", transparency=alpha, compress_type=RUNS)
    return memory.getvalue()
