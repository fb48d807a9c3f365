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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pyws.data.tagged.dataset import TaggedVideo
from pyws.data.tagged.label_space import with_ids
from pyws.data.video.ahead import Workers, shared_workers
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
from pyws.data.video.remembered import Shown, nothing_again
from pyws.data.video.sources import check_same_source
from pyws.errors import DataError
from pyws.masks.initial_masks.annotator import Annotator, Chunk, VideoAnnotator
from pyws.masks.initial_masks.superpixels import Superpixels
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
    shown: Shown = nothing_again,
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
    shown : which of the frames that have masks ``finished`` reads

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
    parameters, space = annotator.parameters(), annotator.space.document()
    with open_annotations(out, parameters, space, shard, sizes) as manifest, shared_workers() as workers:
        entries, left = manifest.document["videos"], deque(map(named.__getitem__, manifest.mine))
        begun = deque[_Begun]()

        def begin_next() -> None:
            if left and not begun:
                begun.append(_Begun(annotator, left.popleft(), out, manifest, workers, shown))

        begin_next()
        try:
            while begun:
                with closing(begun.popleft()) as work:
                    try:
                        work.finish(quiet, begin_next)
                    except DataError:
                        if on_error == "error":
                            raise
                    entry = entries.get(work.video.name, {})
                    if entry.get("status") == "done":
                        finished(work.video.name, entry)
                begin_next()
        finally:
            for one in begun:
                one.close()
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


class _Begun:
    """A video whose first chunks the threads have; the next may begin when they have the last.

    Whole chunks of the same frames are made as in an uninterrupted run: a resumed run writes the same bytes. An error
    is kept until :meth:`finish`.
    """

    def __init__(
        self,
        annotator: Annotator,
        video: TaggedVideo,
        out: Path,
        manifest: RunManifest,
        workers: Workers,
        shown: Shown,
    ) -> None:
        self.video, self.out, self.manifest, self.ahead, self.shown = video, out, manifest, workers.count, shown
        self.frames: FrameFolder | VideoFile | None = None
        self.entry: dict[str, Any] = {}
        self.chunks: list[Chunk] = []
        self.error: DataError | None = None
        try:
            self.entry = self._begin(annotator, workers)
        except DataError as error:
            self.error = error

    def _begin(self, annotator: Annotator, workers: Workers) -> dict[str, Any]:
        """Returns the video's entry of the manifest, as far as it is known."""
        video, name, manifest = self.video, self.video.name, self.manifest
        ids = annotator.kept_tags(video.tags)
        state: dict[str, Any] = {
            "source": os.path.abspath(video.source),  # masks train may run elsewhere
            "tags": [annotator.space.names[index] for index in ids or video.tags],
            "ids": list(ids or video.tags),
            "subset": video.subset,
        }
        if not ids:
            return {**state, "status": "left out", "error": f"shows {len(video.tags)} tags"}
        frames = self.frames = open_frames(video.source)
        chunks = _thinned(annotator.chunks(len(frames)), annotator.config.max_frames)
        sampled = [index for chunk in chunks for index in chunk.sampled]
        state |= {"fingerprint": frames.fingerprint(), "frames": len(frames), "sampled": sampled, "status": "started"}
        self.files = {
            index: tuple(self.out / kind / name / f"{frames.stems[index]}.png" for kind in ("init", "pa/v0"))
            for index in sampled
        }
        paths = list(itertools.chain(*self.files.values()))
        before: dict[str, Any] = manifest.document["videos"].get(name, {})
        if before.get("fingerprint", state["fingerprint"]) != state["fingerprint"]:
            check_same_source(before, video.source, self.out)
        if any(before.get(key) != state[key] for key in ("fingerprint", "ids")):
            for path in paths:
                path.unlink(missing_ok=True)
        elif before.get("status") == "done" and before.get("bytes") == total_bytes(paths):
            return before
        for places in self.shown(len(sampled)):
            frames.again.remember(sampled[place] for place in places)
        of_video = annotator.of_video(frames, ids, sampled)
        state |= of_video.about
        manifest.put(name, state)
        done = {index for index, masks in self.files.items() if all(map(is_whole, masks))}
        self.chunks = [chunk for chunk in chunks if not done.issuperset(chunk.sampled)]
        write = self._writer(annotator.config.superpixel_cache(self.out), of_video, frames, ids)
        self.written = workers.map(write, zip(self.chunks, _in_one_pass(frames, self.chunks), strict=True))
        return state

    def _writer(
        self, superpixels: Superpixels, of_video: VideoAnnotator, frames: FrameFolder | VideoFile, ids: tuple[int, ...]
    ) -> Callable[[tuple[Chunk, list[Pixels]]], dict[Path, float]]:
        """Writes the masks of a chunk, and returns the share of the frame that each covers."""
        out, name = self.out, self.video.name

        def write(job: tuple[Chunk, list[Pixels]]) -> dict[Path, float]:
            chunk, pictures = job
            images = stack(pictures, frames.path)
            shown, stems = chunk.shown(images), [frames.stems[index] for index in chunk.sampled]
            labels = torch.from_numpy(superpixels.of_frames(shown.numpy(), name, stems))
            first = of_video.initial_masks(images, chunk)
            refined = first.refine(labels.to(first.masks.device))
            heats = {"heat": first.heat} | {f"heat-{kind}": maps for kind, maps in first.branches.items()}
            levels = {folder: maps.cpu().numpy() for folder, maps in heats.items()}
            pairs = np.stack([with_ids(masks.cpu().numpy(), ids) for masks in (first.masks, refined)], 1)
            pairs[are_plain(shown).numpy()] = 0
            shares = {}
            for place, (index, pair) in enumerate(zip(chunk.sampled, pairs, strict=True)):
                for folder, maps in levels.items():
                    write_heat(out / folder / name / f"{stems[place]}.png", maps[place])
                for path, mask in zip(self.files[index], pair, strict=True):  # last: masks say that the frame is done
                    write_mask(path, mask)
                    shares[path] = _share(mask)
            return shares

        return write

    def close(self) -> None:
        """Drop the frames that are kept."""
        if self.frames is not None:
            self.frames.again.forget()

    def finish(self, quiet: bool, begin_next: Callable[[], None]) -> None:
        """Note in the manifest what became of the video, when its masks are written; an error is raised again.

        Calls ``begin_next`` when the threads have the last chunk.
        """
        entries, name, source = self.manifest.document["videos"], self.video.name, os.path.abspath(self.video.source)
        try:
            made = self._finished(quiet, begin_next)
            if made is not entries.get(name):
                self.manifest.put(name, made)
        except DataError as error:
            if entries.get(name, {}).get("source", source) == source:
                self.manifest.put(name, {"source": source, "status": "failed", "error": str(error)})
            raise

    def _finished(self, quiet: bool, begin_next: Callable[[], None]) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        if self.entry["status"] != "started":
            return self.entry
        shares: dict[Path, float] = {}
        tracked = track(self.chunks, f"{self.video.name}, frames", quiet=quiet, size=lambda chunk: len(chunk.sampled))
        with closing(self.written) as written:
            for number, (_, found) in enumerate(zip(tracked, written, strict=True), start=1):
                shares |= found
                if number >= len(self.chunks) - self.ahead:
                    begin_next()
        report = _report(list(self.files.values()), shares)
        if report["init_empty"]:
            without = f"{report['init_empty']} of {len(self.files)} frames have no mask"
            doubt = f"{without}: they are of one colour, or nothing in them speaks for the tags"
            self.entry["warnings"] = [*self.entry.get("warnings", ()), doubt]
        written_bytes = total_bytes(list(itertools.chain(*self.files.values())))
        return {**self.entry, "status": "done", "bytes": written_bytes, "report": report}


def _share(mask: Pixels) -> float:
    """Share of the frame that a mask covers."""
    return float(np.count_nonzero(mask) / mask.size)


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


def _report(files: list[tuple[Path, ...]], known: dict[Path, float]) -> dict[str, Any]:
    """Shares of the frames that the masks cover, and frames without a mask; masks of unknown share are read."""
    report: dict[str, Any] = {}
    for kind, name in enumerate(("init", "refined")):
        paths = [pair[kind] for pair in files]
        shares = [known[path] if path in known else _share(read_mask(path)) for path in paths]
        report[f"{name}_area"] = round(sum(shares) / len(shares), 6)
        report[f"{name}_empty"] = shares.count(0.0)
    return report
