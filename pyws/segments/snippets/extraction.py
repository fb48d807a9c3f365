"""Features of many videos: one file a video, resumable, the next videos decoded while the network works."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyws.data.features.files import SafetensorsFile, write_snippets
from pyws.data.features.listing import checked_name
from pyws.data.video.sampled import SampledVideo
from pyws.data.video.sources import name_of
from pyws.errors import DataError
from pyws.files import file_sha256, only_writer, read_json, run_entries, write_json
from pyws.progress import track
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import Sampling, WindowReader, source_of
from pyws.sharding import WHOLE, Shard, size_of_video

FORMAT = "pyws features 1"


def extract(
    network: SnippetNetwork,
    sampling: Sampling,
    videos: Sequence[Path],
    out: Path,
    folder_fps: float | None = None,
    batch: int = 8,
    decoders: int = 2,
    scores: bool = False,
    on_error: str = "error",
    quiet: bool = True,
    shard: Shard = WHOLE,
) -> dict[str, Any]:
    """Write ``out/features/VIDEO.safetensors`` for each video, and ``out/manifest.json``.

    A file has ``features`` (snippets, width), ``seconds`` (snippets, 2), perhaps ``scores`` (snippets, classes), and a
    note with fps, window, stride, offset, start and end. A video whose file is there, made so, is left as it is.

    Parameters
    ----------
    network : gives the features
    sampling : which frames a snippet has
    videos : files and folders of frames, of different names
    out : the folder
    folder_fps : frames a second of folders of frames
    batch : windows that go through the network together
    decoders : videos that are decoded at once
    scores : keep the scores of the classes too
    on_error : "error" stops at the first bad video, "skip" notes it and goes on
    shard : which of the videos this process sees

    Returns
    -------
    The manifest: settings, and of each video its snippets and seconds, or its error. Where other shards are not done,
    also ``shard`` and ``missing``, the names of their videos.

    Raises
    ------
    DataError : a bad video (see ``on_error``), two videos of one name, or another run writes to the folder
    """
    names = [checked_name(path, name_of(path)) for path in videos]
    named: dict[str, Path] = {}
    for path, name in zip(videos, names, strict=True):
        if (other := named.setdefault(name, path)) is not path:
            raise DataError(other, f"has the name of {path}, and so would their features; rename one")
    made = _settings(network, sampling, scores)
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] = {"format": FORMAT, **made}
    ended = False

    def leave(last: bool) -> None:
        nonlocal ended
        everything = found if shard.whole else _earlier(out, made) | run_entries(out)
        manifest["videos"] = {name: everything[name] for name in names if name in everything}
        ended = last
        if last:
            write_json(out / "manifest.json", manifest)

    mine = shard.share(names, lambda name: size_of_video(named[name]))
    with only_writer(out, shard, leaving=leave) as writer:
        jobs = _ahead(network, sampling, [(name, named[name]) for name in mine], out, made, folder_fps, batch, decoders)
        for name, path, reader in track(jobs, "features", total=len(mine), quiet=quiet):
            try:
                found[name] = _of_video(network, sampling, path, reader, out, name, made, scores)
            except DataError as error:
                if on_error == "error":
                    raise
                found[name] = {"error": str(error)}
                (out / "features" / f"{name}.safetensors").unlink(missing_ok=True)
            writer.append(name, found[name])
    missing = [name for name in names if name not in manifest["videos"]]
    if missing or not ended:
        return {**manifest, "shard": str(shard), "missing": missing}
    _describe(out, manifest, sampling)
    return manifest


def _earlier(out: Path, made: dict[str, Any]) -> dict[str, Any]:
    """What shards that ended before any other came have written of features made so."""
    path = out / "manifest.json"
    before = read_json(path) if path.is_file() else {}
    same = isinstance(before, dict) and {**before, "videos": {}} == {"format": FORMAT, **made, "videos": {}}
    return dict(before["videos"]) if same else {}


def _describe(out: Path, manifest: dict[str, Any], sampling: Sampling) -> None:
    """Write what the data set is, once all videos are there."""
    found = manifest["videos"].values()
    whole = sum("error" not in one for one in found)
    if not whole:
        raise DataError(out, f"no video could be read, such as {next(iter(found))['error']}")
    about = {"snippets_per_second": sampling.rate, "description": f"{manifest['network']}, {whole} videos"}
    write_json(out / "dataset.json", about)


def _settings(network: SnippetNetwork, sampling: Sampling, scores: bool) -> dict[str, Any]:
    """Everything that the features depend on beside the videos."""
    classifier = network.classifier
    digest = file_sha256(classifier.file) if classifier.file else "random"
    view = {"resize": list(classifier.resize), "crop": classifier.crop, "short_side": classifier.short_side}
    return {
        "network": classifier.name,
        "weights": digest,
        "precision": network.precision,
        "scores": scores,
        **asdict(sampling),
        **view,
    }


def _ahead(
    network: SnippetNetwork,
    sampling: Sampling,
    jobs: Sequence[tuple[str, Path]],
    out: Path,
    made: dict[str, Any],
    folder_fps: float | None,
    batch: int,
    decoders: int,
) -> Iterator[tuple[str, Path, WindowReader | DataError | None]]:
    """The videos in order, the next ``decoders`` already being read; None in the place of one that is done."""
    left, started = deque(jobs), deque[tuple[str, Path, Any]]()

    def start() -> None:
        name, path = left.popleft()
        reader: Any = None
        try:
            if not _is_done(out / "features" / f"{name}.safetensors", {**made, "video": source_of(path)}):
                reader = WindowReader(
                    SampledVideo(path, sampling.fps, sampling.offset, folder_fps), network.classifier, sampling, batch
                )
        except OSError as error:
            reader = DataError(path, f"cannot be read: {error.strerror or error}")
        except DataError as error:
            reader = error
        started.append((name, path, reader))

    try:
        while left or started:
            while left and len(started) < max(1, decoders):
                start()
            yield started.popleft()
    finally:
        for _, _, reader in started:
            if isinstance(reader, WindowReader):
                reader.close()


def _is_done(path: Path, made: dict[str, Any]) -> bool:
    try:
        note = SafetensorsFile(path).note() if path.is_file() else {}
    except DataError:
        return False
    return bool(note) and all(note.get(key) == value for key, value in made.items())


def _of_video(
    network: SnippetNetwork,
    sampling: Sampling,
    path: Path,
    reader: WindowReader | DataError | None,
    out: Path,
    name: str,
    made: dict[str, Any],
    scores: bool,
) -> dict[str, Any]:
    file = out / "features" / f"{name}.safetensors"
    if isinstance(reader, DataError):
        raise reader
    if reader is not None:
        try:
            batches = [network(windows) for windows in reader]
        finally:
            reader.close()
        video = reader.video
        first = video.start + sampling.offset
        starts = first + np.arange(sum(len(features) for features, _ in batches)) * sampling.stride / sampling.fps
        seconds = np.stack([starts, np.minimum(starts + sampling.window / sampling.fps, video.end)], 1)
        tensors = {"features": torch.cat([one for one, _ in batches]).numpy(), "seconds": seconds}
        if scores:
            tensors["scores"] = torch.cat([one for _, one in batches]).numpy()
        note = {**made, "video": source_of(path), "start": video.start, "end": video.end, "first": first}
        if scores:
            note["labels"] = list(network.classifier.labels)
        write_snippets(file, tensors, note)
    stored = SafetensorsFile(file)
    times = stored.times()
    assert times is not None
    return {"source": str(path), "snippets": stored.shape()[0], "start": times.start, "end": times.end}
