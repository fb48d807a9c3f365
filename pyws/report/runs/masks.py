"""Runs that make masks of videos in one go: pyws masks init, refine and predict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyws.data.tagged.label_space import IGNORE
from pyws.data.video.ahead import map_in_threads
from pyws.data.video.frames import FrameFolder, Pixels, evenly, in_order, open_frames, read_mask
from pyws.errors import DataError, name_bytes
from pyws.progress import track
from pyws.report import pictures
from pyws.report.colours import shown_colours
from pyws.report.page.html import VideoList
from pyws.report.page.strips import PICTURE_BYTES, Strip, Tile, rungs, write_strip
from pyws.report.page.videos import Lane, Measure, Video
from pyws.report.runs.parts import Page, Place, problems_of, settings

Kind = Literal["init", "refine", "predict"]
Lanes = Callable[[Mapping[str, int]], Sequence[Lane]]
FULL = 0.9  # share of a frame that a mask of all covers
MEASURES = (
    Measure("iou", "IoU with truth"),
    Measure("agreement", "agreement of last and first masks"),
    Measure("rank", "rank of a tag among the classes", False),
    Measure("score", "lowest score of a tag"),
    Measure("empty", "share of frames without mask", False),
    Measure("selected", "share of frames selected", None),
    Measure("area", "share of pixels masked", None),
)
TITLES = {
    "init": "First masks from tags",
    "refine": "Masks refined by a model of each video",
    "predict": "Masks of videos",
}


def masks_page(place: Place, manifest: Mapping[str, Any]) -> Page:
    """The page of a folder that pyws masks init, refine or predict wrote."""
    predicted = manifest["format"] == "pyws masks predict"
    kind: Kind = "predict" if predicted else "refine" if "refinement" in manifest["parameters"] else "init"
    entries = manifest["videos"]
    folders = masks_of_run(place.run, kind, next((entry for entry in entries.values() if "masks" in entry), {}))
    names = manifest.get("label_space", {}).get("names", [])
    videos = masked_videos(place, entries, folders, names)
    done = sum(entry.get("status", "failed" if "error" in entry else "done") == "done" for entry in entries.values())
    lead = f"{done} of {len(entries)} videos are done."
    made = settings(manifest, {"made by": f"pyws masks {kind}"})
    return Page(TITLES[kind], lead, [made], VideoList(videos, MEASURES), problems_of(videos))


def masks_of_run(run: Path, kind: Kind, entry: Mapping[str, Any]) -> dict[str, Path]:
    """Caption and folder of each kind of mask of a run, the one that it made first; ``entry`` is one of its videos."""
    if kind == "predict":
        return {"mask": run / "masks"}
    if kind == "refine":
        return {"refined": run / "pa/v0"} | ({"before": Path(entry["masks"])} if "masks" in entry else {})
    return {"PA.v0": run / "pa/v0", "initial": run / "init"}


def shown_of_run(videos: int, kind: Kind, masks: int) -> list[list[int]]:
    """Which of the masks of one of so many videos such a run draws: on the sheet of overlays, and on the page."""
    tiles, _ = rungs(videos, len(masks_of_run(Path(), kind, {"masks": ""})))[0]
    return [evenly(masks, pictures.SHEET), evenly(masks, tiles)]


def draw_video(
    place: Place,
    name: str,
    entry: Mapping[str, Any],
    videos: int,
    kind: Kind,
    folders: dict[str, Path],
    names: Sequence[str],
    heats: Mapping[str, Path],
    superpixels: Callable[[Pixels, str], NDArray[np.integer]] | None = None,
) -> None:
    """The overlays and the tiles of one of so many videos of such a run, drawn anew where its masks are newer.

    The rest is as :func:`pyws.report.pictures.draw_masks` has it.
    """
    out = place.run / "overlays" / name
    if not pictures.is_drawn(out, folders.values()):
        pictures.draw_masks(entry["source"], folders, out, names=names, heats=heats, superpixels=superpixels)
        draw_tiles(place, name, entry, videos, kind)


def draw_tiles(place: Place, name: str, entry: Mapping[str, Any], videos: int, kind: Kind) -> None:
    """The pictures that the page of such a run will have of one of so many videos, while its frames are kept."""
    source = Path(entry["source"])
    folders = {caption: folder / name for caption, folder in masks_of_run(place.run, kind, entry).items()}
    stems = [path.stem for path in in_order(next(iter(folders.values())).glob("*.png"))]
    positions, _ = _positions(source, stems, entry.get("frames"))
    _Tiles(source, stems, positions, folders).strip(place, name, entry, videos)


def masked_videos(
    place: Place,
    entries: Mapping[str, Mapping[str, Any]],
    folders: Mapping[str, Path],
    names: Sequence[str],
    more: Callable[[str], tuple[Mapping[str, float], Lanes]] = lambda name: ({}, lambda places: ()),
) -> list[Video]:
    """The videos of a run with their masks, made side by side; ``more`` gives measures and lanes of each by its name.

    The rest is as :func:`masked_video` has it.
    """

    def one(item: tuple[str, Mapping[str, Any]]) -> Video:
        return masked_video(place, *item, folders, names, len(entries), *more(item[0]))

    with closing(map_in_threads(one, entries.items())) as made:
        return list(track(made, "pictures of the report", len(entries), place.quiet))


def masked_video(
    place: Place,
    name: str,
    entry: Mapping[str, Any],
    folders: Mapping[str, Path],
    names: Sequence[str],
    count: int,
    measures: Mapping[str, float],
    lanes: Lanes,
) -> Video:
    """A video with its masks: a player of what is there of them, how much they cover, and what looks wrong.

    Parameters
    ----------
    place : folder of the run
    name, entry : name and record of the video, as the manifest of the first stage has it
    folders : caption to a folder that holds ``VIDEO/FRAME.png``; the first one is what the run ends with
    names : names of the ids in the masks
    count : videos of the run, which share the bytes for pictures
    measures : further ones by which videos can be sorted
    lanes : makes further lanes of the places of the frames that have masks
    """
    folders = {caption: folder / name for caption, folder in folders.items() if (folder / name).is_dir()}
    truth = None if place.truth is None else place.truth / name
    if truth is not None and truth.is_dir():
        folders["truth"] = truth
    tags = list(entry.get("tags", ()))
    problems = [entry["error"]] if "error" in entry else []
    if entry.get("status") == "started":
        problems.append("not finished")
    first = next(iter(folders), None)
    files = in_order(folders[first].glob("*.png")) if first else []
    if not files or "source" not in entry:
        return Video(name, tags, problems=[*problems, *([] if problems else ["without masks"])])
    source = Path(entry["source"])
    positions, total = _positions(source, [path.stem for path in files], entry.get("frames"))
    reader = _Tiles(source, [path.stem for path in files], positions, folders)
    strip = reader.strip(place, name, entry, count)
    areas = _areas(files)
    found = {"area": float(areas.sum(1).mean()), "empty": float((areas.sum(1) == 0).mean()), **measures}
    if entry.get("scores"):
        found["score"] = min(map(float, entry["scores"].values()))
    if entry.get("ranks"):
        found["rank"] = max(map(float, entry["ranks"].values()))
    if truth is not None and "truth" in folders:
        score = mean_iou(files, truth)
        found |= {} if score is None else {"iou": score}
    colours = {}
    for index in np.flatnonzero(areas.any(0)).tolist():
        label = names[index] if index < len(names) else f"id {index}"
        colours[label] = "#{:02x}{:02x}{:02x}".format(*shown_colours()[index].tolist())
    curves = {label: _over_time(areas[:, index], positions, total)
              for label, index in zip(colours, np.flatnonzero(areas.any(0)).tolist(), strict=True)}  # fmt: skip
    more = lanes(dict(zip((path.stem for path in files), positions, strict=True)))
    shown = [*more, Lane("share of pixels", curves=curves)] if curves else list(more)
    facts = {"source": str(source), "frames": f"{len(files)} of {total} have masks"}
    facts |= {f"score of {tag}": f"{value:.3f}" for tag, value in entry.get("scores", {}).items()}
    facts |= {f"rank of {tag}": f"{value} of the classes" for tag, value in entry.get("ranks", {}).items()}
    problems += [*entry.get("warnings", ()), *_wrong(found)]
    if reader.problem:
        problems.append(reader.problem)
    return Video(name, tags, float(total), "frame", shown, strip, found, problems, facts, colours)


class _Tiles:
    """Frames and masks of a number of frames that are spread evenly over those that have masks."""

    def __init__(
        self, source: Path, stems: Sequence[str], positions: Sequence[int], folders: Mapping[str, Path]
    ) -> None:
        self.source, self.stems, self.positions, self.folders = source, stems, positions, folders
        self.problem = ""

    def strip(self, place: Place, name: str, entry: Mapping[str, Any], count: int) -> Strip | None:
        """The pictures of one of so many videos; made anew where frames or masks changed."""
        masks = {caption: _digest(folder) for caption, folder in self.folders.items()}
        key, share = [str(self.source), entry.get("fingerprint"), masks], PICTURE_BYTES / max(count, 1)
        return write_strip(place.pictures, name, key, rungs(count, len(self.folders)), self, share)

    def __call__(self, count: int) -> list[Tile]:
        chosen = evenly(len(self.stems), count)
        indices = [self.positions[one] for one in chosen]
        shown: list[Pixels | None]
        try:
            shown = list(open_frames(self.source).read(indices))
        except DataError as error:
            shown, self.problem = [None] * len(indices), f"frames cannot be read: {error}"
        tiles: list[Tile] = []
        for one, position, picture in zip(chosen, indices, shown, strict=True):
            paths = {caption: folder / f"{self.stems[one]}.png" for caption, folder in self.folders.items()}
            masks = {caption: read_mask(path) for caption, path in paths.items() if path.is_file()}
            tiles.append((float(position), self.stems[one], picture, masks))
        return tiles


def _positions(source: Path, stems: Sequence[str], frames: int | None) -> tuple[list[int], int]:
    """The index of each frame in its video, and the number of frames."""
    if source.is_dir():
        place = {stem: index for index, stem in enumerate(FrameFolder(source).stems)}
        if all(stem in place for stem in stems):
            return [place[stem] for stem in stems], len(place)
    elif all(stem.isdigit() for stem in stems):
        return [int(stem) for stem in stems], max(frames or 0, int(stems[-1]) + 1)
    return list(range(len(stems))), len(stems)


def _digest(folder: Path) -> str:
    """Changes with any mask in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.png")):
        total.update(name_bytes(f"{path.name} "))
        total.update(path.read_bytes())
    return total.hexdigest()


def _areas(files: Sequence[Path]) -> np.ndarray:
    """(masks, 256) the share of the frame that each id but 0 and 255 covers."""
    counts = np.zeros((len(files), 256))
    for row, path in enumerate(files):
        mask = read_mask(path)
        counts[row] = np.array(Image.fromarray(mask).histogram()) / mask.size  # in a third of the time of bincount
    counts[:, [0, IGNORE]] = 0
    return counts


def _over_time(values: np.ndarray, positions: Sequence[int], total: int) -> np.ndarray:
    """(frames,) the value of the nearest frame that has one."""
    middles = (np.array(positions[1:]) + np.array(positions[:-1])) / 2
    return values[np.searchsorted(middles, np.arange(total))]


def mean_iou(files: Sequence[Path], folder: Path) -> float | None:
    """Mean IoU of the foregrounds of masks and of their namesakes in a folder; None where there are none."""
    found = []
    for path in files:
        if (folder / path.name).is_file():
            mask, other = read_mask(path) > 0, read_mask(folder / path.name) > 0
            if mask.shape == other.shape:
                union = (mask | other).sum()
                found.append(float((mask & other).sum() / union) if union else 1.0)
    return float(np.mean(found)) if found else None


def _wrong(measures: Mapping[str, float]) -> list[str]:
    """What looks wrong with the masks of a video."""
    found = []
    if measures["area"] > FULL:
        found.append(f"masks cover all: {measures['area']:.0%} of the pixels")
    if measures["empty"] == 1:
        found.append("without any mask")
    elif measures["empty"] > 0.5:
        found.append(f"most frames without mask: {measures['empty']:.0%}")
    return found
