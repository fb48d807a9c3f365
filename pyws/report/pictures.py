"""Pictures of masks: overlays on frames, and contact sheets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pyws.data.video.ahead import map_in_threads
from pyws.data.video.frames import Pixels, evenly, open_frames, read_heat, read_mask, write_picture
from pyws.report.colours import shown_colours
from pyws.report.movies import heat

SHEET = 6  # frames of a video on its sheet of overlays
_LONGEST = 60_000  # pixels of the pictures on a side of a sheet; a JPEG has at most 65,535
_CAPTION = 16  # pixels of height
_GAP = 4
_TILE = 320  # pixels of width


def overlay(image: Pixels, mask: NDArray[np.integer], opacity: float = 0.5) -> Pixels:
    """A frame with its mask laid over it in bright colours of the palette, and the mask's outline drawn.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    mask : (H, W) integer ids, 0 for background (or bool)
    opacity : opacity of the colour inside the mask, in [0, 1]

    Examples
    --------
    >>> overlay(np.zeros((1, 4, 3), np.uint8), np.array([[0, 1, 1, 1]]), opacity=0.5)[0, :, 0].tolist()
    [0, 255, 127, 127]
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or mask.shape != image.shape[:2]:
        raise ValueError(
            f"overlay: image must be (H, W, 3) uint8 and mask (H, W), got {image.shape} {image.dtype}, {mask.shape}"
        )
    ids = mask.astype(np.uint8)
    inside, edge, mixed = ids > 0, outline(ids), image.copy()
    mixed[inside] = (image[inside] * (1 - opacity) + shown_colours()[ids[inside]] * opacity).astype(np.uint8)
    mixed[edge] = shown_colours()[ids[edge]]
    return mixed


def legend(names: Mapping[int, str], width: int, scale: str = "") -> Pixels:
    """A strip (16 a row, width, 3) with the colour and the name of each id.

    Parameters
    ----------
    names : names of the ids
    width : width of the strip
    scale : what the colours of maps mean; "" without maps
    """
    entries = [(_square(index), name) for index, name in names.items()] + ([(_ramp(), scale)] if scale else [])
    places: list[tuple[Pixels, str, int, int]] = []
    x = y = 0
    for colours, name in entries:
        wide = colours.shape[1] + 11 + 7 * len(name)
        if x and x + wide > width:
            x, y = 0, y + _CAPTION
        places.append((colours, name, x, y))
        x += wide
    strip = Image.new("RGB", (width, y + _CAPTION), (255, 255, 255))
    draw = ImageDraw.Draw(strip)
    for colours, name, x, y in places:
        strip.paste(Image.fromarray(colours), (x + 2, y + 3))
        draw.text((x + colours.shape[1] + 5, y + 2), name, fill=(0, 0, 0))
    return np.asarray(strip)


def _square(index: int) -> Pixels:
    return np.tile(shown_colours()[index], (11, 11, 1))


def _ramp() -> Pixels:
    """What a map does to mid grey, from 0 to 1."""
    return heat(np.full((11, 64, 3), 128, np.uint8), np.tile(np.linspace(0, 1, 64), (11, 1)))


def outline(ids: Pixels) -> NDArray[np.bool_]:
    """Foreground pixels with another id left, right, above or below."""
    edge = np.zeros(ids.shape, bool)
    below, right = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    edge[1:] |= below
    edge[:-1] |= below
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (ids > 0)


def contact_sheet(rows: Sequence[Sequence[Pixels]], captions: Sequence[str] = (), width: int = _TILE) -> Pixels:
    """Pictures side by side, one row a frame.

    Parameters
    ----------
    rows : pictures (H, W, 3) uint8, as many in each row
    captions : one a column, written above it
    width : width of each picture in the sheet, in pixels, less where the sheet would be larger than a JPEG can be;
        heights keep the shape of the picture

    Returns
    -------
    (height, width, 3) uint8 RGB
    """
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(f"contact_sheet: rows must be equally long and not empty, got {[len(row) for row in rows]}")
    if captions and len(captions) != len(rows[0]):
        raise ValueError(f"contact_sheet: captions must be one a column, got {len(captions)} for {len(rows[0])}")
    columns = len(rows[0])
    longest = max(columns * width, sum(_height(row[0], width) for row in rows))
    width = max(1, width * _LONGEST // longest) if longest > _LONGEST else width
    heights = [_height(row[0], width) for row in rows]
    top = _CAPTION if captions else 0
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) - _GAP, top + sum(heights) + _GAP * (len(rows) - 1)), (255, 255, 255)
    )
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        draw.text((column * (width + _GAP) + 2, 2), caption, fill=(0, 0, 0))
    y = top
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture).resize((width, height)), (column * (width + _GAP), y))
        y += height + _GAP
    return np.asarray(sheet)


def _height(picture: Pixels, width: int) -> int:
    """Height of a picture that is scaled to a width."""
    return max(1, round(width * picture.shape[0] / picture.shape[1]))


def _nearest(ids: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """Ids (H, W) at another size: of the pixel in whose place each lies."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, ids.shape, strict=True))
    return ids[rows.astype(int)[:, None], columns.astype(int)]


def refinement(
    image: Pixels, before: NDArray[np.integer], after: NDArray[np.integer], superpixels: NDArray[np.integer]
) -> Pixels:
    """What refinement by superpixels changed: kept pixels in white, those left out in red, those added in green, and
    the borders of superpixels as dark lines (WS^2, figure 3).

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    before, after : (H, W) ids, 0 for background; a pixel whose id changed counts as added
    superpixels : (H, W) labels

    Examples
    --------
    >>> grey, labels = np.full((1, 4, 3), 100, np.uint8), np.array([[0, 0, 1, 1]])
    >>> refinement(grey, np.array([[0, 1, 1, 0]]), np.array([[0, 0, 1, 1]]), labels)[0].tolist()
    [[100, 100, 100], [124, 35, 35], [177, 177, 177], [50, 177, 50]]
    """
    kept, added = (after > 0) & (after == before), (after > 0) & (after != before)
    left_out = (before > 0) & (after == 0)
    mixed = image.astype(np.float64)
    for where, colour in ((kept, (255, 255, 255)), (left_out, (255, 0, 0)), (added, (0, 255, 0))):
        mixed[where] = (mixed[where] + colour) / 2
    border = np.zeros(superpixels.shape, bool)
    border[:, :-1] |= superpixels[:, 1:] != superpixels[:, :-1]
    border[:-1] |= superpixels[1:] != superpixels[:-1]
    mixed[border] *= 0.7
    return mixed.astype(np.uint8)


def is_drawn(out: str | os.PathLike[str], folders: Iterable[Path]) -> bool:
    """Whether :func:`draw_masks` has written ``out.jpg`` since any file came into these folders."""
    sheet = Path(f"{out}.jpg")
    return sheet.is_file() and sheet.stat().st_mtime_ns >= max(folder.stat().st_mtime_ns for folder in folders)


def draw_masks(
    frames: str | os.PathLike[str],
    folders: dict[str, Path],
    out: str | os.PathLike[str],
    count: int = SHEET,
    names: Sequence[str] = (),
    heats: Mapping[str, Path] | None = None,
    superpixels: Callable[[Pixels, str], NDArray[np.integer]] | None = None,
) -> None:
    """Write ``out.jpg``, a contact sheet of frames and their masks, and each frame under its last mask in ``out/``.

    Parameters
    ----------
    frames : a folder of frames or a video file
    folders : caption and folder of each kind of mask, ``<frame>.png`` for some or all frames
    out : path of the pictures, without a suffix
    count : number of frames, spread evenly over those that have every kind of mask
    names : names of the ids; those that the masks have are listed below the frames
    heats : caption and folder of maps of the frames; a kind of map has a column where all frames shown have it
    superpixels : superpixels of a frame, by its stem; where they are given, a last column shows what the last kind of
        mask left out of the one before it and added to it, see :func:`refinement`
    """
    source, out = open_frames(frames), Path(out)
    masked = [
        index
        for index, stem in enumerate(source.stems)
        if all((folder / f"{stem}.png").is_file() for folder in folders.values())
    ]
    chosen = [masked[place] for place in evenly(len(masked), count)]
    warm = {
        caption: folder
        for caption, folder in (heats or {}).items()
        if all((folder / f"{source.stems[index]}.png").is_file() for index in chosen)
    }

    def row(job: tuple[int, Pixels]) -> tuple[list[Pixels], set[int]]:
        stem, picture = source.stems[job[0]], job[1]
        masks = [read_mask(folder / f"{stem}.png") for folder in folders.values()]
        write_picture(out / f"{stem}.jpg", overlay(picture, masks[-1]))
        small = np.asarray(Image.fromarray(picture).resize((_TILE, _height(picture, _TILE))))
        size = small.shape[:2]
        shown = [_nearest(mask, size) for mask in masks]
        maps = [heat(small, read_heat(folder / f"{stem}.png", size)) for folder in warm.values()]
        pictures = [small, *maps, *(overlay(small, mask) for mask in shown)]
        if superpixels is not None:
            labels = _nearest(superpixels(picture, stem), size)
            pictures.append(refinement(small, shown[-2], shown[-1], labels))
        return pictures, set(np.flatnonzero(np.bincount(np.concatenate(masks, None))).tolist())

    with closing(map_in_threads(row, zip(chosen, source.read(chosen), strict=True))) as made:
        rows = list(made)
    last = ["superpixels: white kept, red left out, green added"] if superpixels is not None else []
    sheet = contact_sheet([pictures for pictures, _ in rows], [f"{out.name}: frame", *warm, *folders, *last])
    shown = {index: names[index] for index in sorted(set().union(*(ids for _, ids in rows))) if 0 < index < len(names)}
    if shown or warm:
        sheet = np.concatenate([sheet, legend(shown, sheet.shape[1], "map: low to high" if warm else "")])
    write_picture(out.with_name(out.name + ".jpg"), sheet)
