"""The first stage of WS^2 over a set of videos: frames and tags to PA.v0, resumable and safe to interrupt.

What is written under the output folder, and read by the second stage::

    manifest.json                      parameters, packages, label space, and what became of each video
    init/<video>/<frame>.png           M_init, before superpixels
    pa/v0/<video>/<frame>.png          M_refine, the pseudo-annotation
    slic/<parameters>/<video>/<frame>.png   superpixels, for the stages to come
    heat/<video>/<frame>.png           where any tag is seen, small and grey, for pictures
    heat-actor, heat-action            likewise, by each classifier alone, where there are two

Masks are palette PNGs of the ids of ``manifest["label_space"]``; 0 is background. A video's entry has its ``source``,
``tags`` by name and as ``ids``, and ``sampled``, the indices of the frames that have masks. Every file appears whole or
not at all, so that its presence means that it is done.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pyws.data.tagged.dataset import TaggedVideo
from pyws.data.video.ahead import map_in_threads
from pyws.data.video.clips import are_plain, stack
from pyws.data.video.frames import (
    FrameFolder,
    Pixels,
    VideoFile,
    evenly,
    open_frames,
    read_mask,
    total_bytes,
    write_heat,
    write_mask,
)
from pyws.data.video.png import is_whole
from pyws.data.video.sources import check_same_source
from pyws.errors import DataError
from pyws.masks.initial_masks.annotator import Annotator, Chunk
from pyws.progress import track
from pyws.run_manifest import Finished, RunManifest, open_run
from pyws.sharding import WHOLE, Shard, size_of_video

FORMAT = ("pyws masks init", 4)  # kind and version of the manifest
MAX_TAGS = 254  # ids 1..254 of an 8-bit mask; 255 is left for "ignore"


def annotate(
    annotator: Annotator,
    videos: Sequence[TaggedVideo],
    out: Path,
    on_error: Literal["error", "skip"] = "error",
    quiet: bool = False,
    shard: Shard = WHOLE,
    finished: Finished = lambda name, entry: None,
) -> RunManifest:
    """Make PA.v0 of videos, going on where an earlier run of the same parameters stopped.

    Parameters
    ----------
    annotator : how first masks are made
    videos : videos with different names, with tags in the annotator's label space
    out : the folder to write
    on_error : "error" stops at the first bad video, "skip" notes the error in the manifest and goes on
    shard : which of the videos this process makes
    finished : called for each of its videos that is done; what it writes into the folder is a part of the run

    Returns
    -------
    The manifest, with what other shards have written so far.

    Raises
    ------
    DataError : a bad video (see ``on_error``), two videos of one name, a video without a tag or with one outside the
        label space, or ``out`` belongs to a run with other parameters or is being written by another one
    """
    count = Counter(video.name for video in videos)
    for video in videos:
        if count[video.name] > 1:
            raise DataError(video.name, "two videos have this name, and so would their masks")
        if not video.tags:
            raise DataError(video.name, "has no tag")
        if not 0 < min(video.tags) <= max(video.tags) < len(annotator.space):
            raise DataError(video.name, f"tags must be among the {len(annotator.space) - 1} labels, got {video.tags}")
    named = {video.name: video for video in videos}
    sizes = {name: size_of_video(video.source) for name, video in named.items()}
    with open_annotations(out, annotator.parameters(), annotator.space.document(), shard, sizes) as manifest:
        entries = manifest.document["videos"]
        for video in map(named.__getitem__, manifest.mine):
            try:
                made = _annotate_video(annotator, video, out, manifest, quiet)
                if made is not entries.get(video.name):
                    manifest.put(video.name, made)
            except DataError as error:
                source = os.path.abspath(video.source)
                if entries.get(video.name, {}).get("source", source) == source:
                    manifest.put(video.name, {"source": source, "status": "failed", "error": str(error)})
                if on_error == "error":
                    raise
            if entries.get(video.name, {}).get("status") == "done":
                finished(video.name, entries[video.name])
    return manifest


@contextmanager
def open_annotations(
    out: Path,
    parameters: dict[str, Any],
    space: dict[str, Any],
    shard: Shard = WHOLE,
    videos: Mapping[str, float] | None = None,
) -> Iterator[RunManifest]:
    """Hold the folder of pseudo-annotations of version 0, and begin or continue it.

    Parameters
    ----------
    out : the folder
    parameters : everything that the masks depend on beside the frames
    space : label space of the masks, :meth:`LabelSpace.document`
    shard, videos : see :func:`pyws.run_manifest.open_run`

    Raises
    ------
    DataError : see :func:`pyws.run_manifest.open_run`; or the folder has another label space
    """
    packages, facts = ("torch", "scikit-image", "numpy", "pillow"), {"label_space": space, "videos": {}}
    with open_run(out, *FORMAT, parameters, packages, facts, ("init", "pa"), shard, videos) as manifest:
        if manifest.document.get("label_space") != space:
            raise DataError(out, "holds masks of another label space; choose another folder")
        yield manifest


def _annotate_video(
    annotator: Annotator, video: TaggedVideo, out: Path, manifest: RunManifest, quiet: bool
) -> dict[str, Any]:
    ids = annotator.kept_tags(video.tags)
    state: dict[str, Any] = {
        "source": os.path.abspath(video.source),  # masks train may run elsewhere
        "tags": [annotator.space.names[index] for index in ids or video.tags],
        "ids": list(ids or video.tags),
        "subset": video.subset,
    }
    if not ids:
        return {**state, "status": "left out", "error": f"shows {len(video.tags)} tags"}
    frames = open_frames(video.source)
    chunks = _thinned(annotator.chunks(len(frames)), annotator.config.max_frames)
    sampled = [index for chunk in chunks for index in chunk.sampled]
    state |= {"fingerprint": frames.fingerprint(), "frames": len(frames), "sampled": sampled, "status": "started"}
    name = video.name
    files = {
        index: (out / "init" / name / f"{frames.stems[index]}.png", out / "pa/v0" / name / f"{frames.stems[index]}.png")
        for index in sampled
    }
    paths = list(itertools.chain(*files.values()))
    before = manifest.document["videos"].get(name, {})
    if before.get("fingerprint", state["fingerprint"]) != state["fingerprint"]:
        check_same_source(before, video.source, out)
    if any(before.get(key) != state[key] for key in ("fingerprint", "ids")):
        for path in paths:
            path.unlink(missing_ok=True)
    elif before.get("status") == "done" and before.get("bytes") == total_bytes(paths):
        return before
    about = annotator.describe(frames, ids, sampled)
    state |= about
    manifest.put(name, state)
    shares = _write_masks(annotator, frames, name, ids, about, chunks, files, out, quiet)
    report = _report(list(files.values()), shares)
    if report["init_empty"]:
        doubt = (
            f"{report['init_empty']} of {len(files)} frames have no mask: they are of one colour, or nothing in them"
        )
        state["warnings"] = [*state.get("warnings", ()), f"{doubt} speaks for the tags"]
    return {**state, "status": "done", "bytes": total_bytes(paths), "report": report}


def _write_masks(
    annotator: Annotator,
    frames: FrameFolder | VideoFile,
    name: str,
    ids: tuple[int, ...],
    about: dict[str, Any],
    chunks: list[Chunk],
    files: dict[int, tuple[Path, Path]],
    out: Path,
    quiet: bool,
) -> dict[Path, float]:
    """Whole chunks of the same frames as in an uninterrupted run: a resumed run writes the same bytes.

    Frames are read ahead, and chunks are worked on side by side. Returns the share of the frame that each mask covers.
    """
    superpixels = annotator.config.superpixel_cache(out)
    table = np.array([0, *ids], np.uint8)
    left = [chunk for chunk in chunks if not all(is_whole(path) for index in chunk.sampled for path in files[index])]

    def write(job: tuple[Chunk, list[Pixels]]) -> dict[Path, float]:
        chunk, pictures = job
        images = stack(pictures, frames.path)
        shown, stems = chunk.shown(images), [frames.stems[index] for index in chunk.sampled]
        labels = torch.from_numpy(superpixels.of_frames(shown.numpy(), name, stems))
        first = annotator.initial_masks(images, chunk, ids, about)
        refined = first.refine(labels.to(first.masks.device))
        heats = {"heat": first.heat} | {f"heat-{kind}": maps for kind, maps in first.branches.items()}
        levels = {folder: maps.cpu().numpy() for folder, maps in heats.items()}
        pairs = np.stack([table.take(masks.cpu().numpy()) for masks in (first.masks, refined)], 1)
        pairs[are_plain(shown).numpy()] = 0
        shares = {}
        for place, (index, pair) in enumerate(zip(chunk.sampled, pairs, strict=True)):
            for folder, maps in levels.items():
                write_heat(out / folder / name / f"{stems[place]}.png", maps[place])
            for path, mask in zip(files[index], pair, strict=True):  # last: masks say that the frame is done
                write_mask(path, mask)
                shares[path] = _share(mask)
        return shares

    tracked = track(left, f"{name}, frames", quiet=quiet, size=lambda chunk: len(chunk.sampled))
    with closing(map_in_threads(write, zip(left, _in_one_pass(frames, left), strict=True))) as written:
        return {path: share for _, shares in zip(tracked, written, strict=True) for path, share in shares.items()}


def _share(mask: Pixels) -> float:
    """Share of the frame that a mask covers."""
    return float((mask > 0).mean())


def _in_one_pass(frames: FrameFolder | VideoFile, chunks: list[Chunk]) -> Iterator[list[Pixels]]:
    """The pictures of each chunk; chunks may overlap, but a later one starts no earlier."""
    wanted = sorted({index for chunk in chunks for index in chunk.read})
    incoming = zip(wanted, frames.read(wanted), strict=True)
    held: dict[int, Pixels] = {}
    for chunk in chunks:
        while chunk.read[-1] not in held:
            held.update([next(incoming)])
        held = {index: picture for index, picture in held.items() if index >= chunk.read[0]}
        yield [held[index] for index in chunk.read]


def _thinned(chunks: list[Chunk], max_frames: int) -> list[Chunk]:
    """Chunks of which at most ``max_frames`` frames are sampled, spread evenly; 0 for all."""
    sampled = [index for chunk in chunks for index in chunk.sampled]
    if not 0 < max_frames < len(sampled):
        return chunks
    kept = {sampled[place] for place in evenly(len(sampled), max_frames)}
    thinned = [Chunk(chunk.read, [index for index in chunk.sampled if index in kept]) for chunk in chunks]
    return [chunk for chunk in thinned if chunk.sampled]


def _report(files: list[tuple[Path, Path]], known: dict[Path, float]) -> dict[str, Any]:
    """Shares of the frames that the masks cover, and frames without a mask; masks of unknown share are read."""
    report: dict[str, Any] = {}
    for kind, name in enumerate(("init", "refined")):
        paths = [pair[kind] for pair in files]
        shares = [known[path] if path in known else _share(read_mask(path)) for path in paths]
        report[f"{name}_area"] = round(sum(shares) / len(shares), 6)
        report[f"{name}_empty"] = shares.count(0.0)
    return report
