"""Features of many videos: one file a video, resumable, the next videos decoded while the network works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from pyws.data.features.files import SafetensorsFile, write_snippets
from pyws.data.features.listing import FORMAT, checked_name
from pyws.data.features.packs import PackedVideo, move_packs, pack_videos, packed_in, remove_packed
from pyws.data.video.optical_flow import FlowMethod
from pyws.data.video.sampled import SampledVideo
from pyws.data.video.sources import check_name_fits, name_of
from pyws.data.video.thumbnails import Thumbnails
from pyws.errors import DataError, reading
from pyws.files import file_sha256, read_json, write_json
from pyws.folders import Writer, only_writer, run_entries
from pyws.models.devices import Precision
from pyws.models.image_networks.raft import Raft
from pyws.progress import track
from pyws.run_manifest import check_same
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import Sampling, WindowReader, source_of
from pyws.sharding import WHOLE, Shard, size_of_video

_SETTINGS = ""  # the line of a run that says what its features depend on; no video has this name


@dataclass(frozen=True)
class FlowNetwork:
    """A network of optical flow beside that of RGB.

    Parameters
    ----------
    network : network with two input channels
    method : how the flow is found
    """

    network: SnippetNetwork
    method: FlowMethod | Raft


@dataclass(frozen=True)
class Pictures:
    """Small pictures of a video, taken while it is read.

    Parameters
    ----------
    count, width : how many are needed, and how wide they are, in pixels
    give : called with the name of a video that was read, its entry of the manifest, and its pictures
    """

    count: int
    width: int
    give: Callable[[str, Mapping[str, Any], Thumbnails], object]


@dataclass(frozen=True)
class _Stream:
    """One of the networks that see a video.

    Parameters
    ----------
    made : everything that the features depend on beside the videos
    """

    network: SnippetNetwork
    flow: FlowMethod | Raft | None
    made: dict[str, Any]
    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def stored(self, name: str) -> SafetensorsFile | PackedVideo | None:
        """Where the features of a video lie: in a file of its own, or else in a pack; None where they are not there."""
        file = self.file(name)
        return SafetensorsFile(file) if file.is_file() else self._packed.get(name)

    def is_done(self, name: str, path: Path) -> bool:
        stored, made = self.stored(name), {**self.made, "video": source_of(path)}
        try:
            note = stored.note() if stored else {}
        except DataError:
            return False
        return bool(note) and all(note.get(key) == value for key, value in made.items())

    def drop(self, name: str) -> None:
        """Remove features that were made of what a video was before."""
        with suppress(OSError):  # a name that no file can have
            self.file(name).unlink(missing_ok=True)
        if name in self._packed:
            remove_packed(self.folder, [name])

    @cached_property
    def _packed(self) -> dict[str, PackedVideo]:
        return packed_in(self.folder)


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
    flow: FlowNetwork | None = None,
    videos_per_file: int | None = None,
    pictures: Pictures | None = None,
) -> dict[str, Any]:
    """Write ``out/features/VIDEO.safetensors`` for each video, and ``out/manifest.json``.

    With ``flow`` there are two of each video, ``out/features/rgb`` and ``out/features/flow`` have them, of the same
    snippets; features of RGB that lie there already without flow are moved. With ``videos_per_file`` files are joined
    to packs once all videos are there (:mod:`pyws.data.features.packs`).

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
    flow : the network of a second stream
    videos_per_file : videos in a pack; None for a file of each
    pictures : which are taken of videos that are read; None for none

    Returns
    -------
    The manifest: settings, and of each video its snippets and seconds, or its error. Where other shards are not done,
    also ``shard`` and ``missing``, the names of their videos.

    Raises
    ------
    DataError : a bad video (see ``on_error``), two videos of one name, another run writes to the folder, also shards of
        other settings, or the folder has flow and none is asked for
    """
    names = [name_of(path) for path in videos]
    named: dict[str, Path] = {}
    for path, name in zip(videos, names, strict=True):
        if (other := named.setdefault(name, path)) is not path:
            raise DataError(other, f"has the name of {path}, and so would their features; rename one")
    streams = _streams(network, flow, sampling, scores, out)
    made = streams[0].made | ({"flow": streams[1].made} if flow else {})
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] = {"format": FORMAT, **made}
    ended = False

    def enter(writer: Writer, first: bool) -> None:
        try:
            check_same(out, run_entries(out).get(_SETTINGS, made), made)
        except DataError:
            if not first:
                raise
            writer.clear()  # what a killed run noted is made anew
        writer.append(_SETTINGS, made)

    def leave(last: bool) -> None:
        nonlocal ended
        everything = found if shard.whole else _earlier(out, made) | run_entries(out)
        manifest["videos"] = {name: everything[name] for name in names if name in everything}
        ended = last
        if last:
            write_json(out / "manifest.json", manifest)
        if last and videos_per_file and len(manifest["videos"]) == len(names):
            for stream in streams:
                pack_videos(stream.folder, names, videos_per_file, quiet)

    mine = shard.share(names, lambda name: size_of_video(named[name]))
    with only_writer(out, shard, enter, leave) as writer:
        if flow:
            _move_rgb(out / "features", mine)
        jobs = _ahead(streams, sampling, [(name, named[name]) for name in mine], folder_fps, batch, decoders, pictures)
        for name, path, readers in track(jobs, "features", total=len(mine), quiet=quiet):
            try:
                found[name] = _of_video(streams, sampling, path, readers, name, scores)
            except DataError as error:
                if on_error == "error":
                    raise
                found[name] = {"error": str(error)}
                for stream in streams:
                    stream.drop(name)
            writer.append(name, found[name])
            if pictures and (taken := _taken(readers)) and "error" not in found[name]:
                pictures.give(name, found[name], taken)
    missing = [name for name in names if name not in manifest["videos"]]
    if missing or not ended:
        return {**manifest, "shard": str(shard), "missing": missing}
    _describe(out, manifest, sampling)
    return manifest


def precision_in(out: Path, network: str) -> Precision | None:
    """The precision that a network's features in a folder have, or a run that did not end began with; None of none."""
    path = out / "manifest.json"
    before = run_entries(out).get(_SETTINGS) or (read_json(path) if path.is_file() else None)
    if not isinstance(before, dict) or before.get("network") != network:
        return None
    return cast(Precision, before["precision"]) if before.get("precision") in get_args(Precision) else None


def _streams(
    network: SnippetNetwork, flow: FlowNetwork | None, sampling: Sampling, scores: bool, out: Path
) -> list[_Stream]:
    folder, made = out / "features", _settings(network, sampling, scores)
    if flow is None:
        if (folder / "flow").is_dir():
            raise DataError(folder, "has flow beside RGB, and none is asked for: give --flow, or another folder")
        return [_Stream(network, None, made, folder)]
    made_of_flow = {**_settings(flow.network, sampling, scores), "method": str(flow.method)}
    return [
        _Stream(network, None, made, folder / "rgb"),
        _Stream(flow.network, flow.method, made_of_flow, folder / "flow"),
    ]


def _move_rgb(folder: Path, names: Sequence[str]) -> None:
    """Move features that a run without flow has written to the folder that features of RGB have beside flow."""
    (folder / "rgb").mkdir(parents=True, exist_ok=True)
    move_packs(folder, folder / "rgb")
    for name in names:
        if (folder / f"{name}.safetensors").is_file():
            os.replace(folder / f"{name}.safetensors", folder / "rgb" / f"{name}.safetensors")


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
    streams: Sequence[_Stream],
    sampling: Sampling,
    jobs: Sequence[tuple[str, Path]],
    folder_fps: float | None,
    batch: int,
    decoders: int,
    pictures: Pictures | None,
) -> Iterator[tuple[str, Path, list[WindowReader | None] | DataError]]:
    """The videos in order, the next ``decoders`` already being read; None in the place of a stream that is done."""
    left, started = deque(jobs), deque[tuple[str, Path, Any]]()

    def reader(stream: _Stream, name: str, path: Path) -> WindowReader | None:
        if stream.is_done(name, path):
            return None
        video = SampledVideo(path, sampling.fps, sampling.offset, folder_fps)
        if pictures:
            video.take(pictures.count, pictures.width)
        return WindowReader(video, stream.network.classifier, sampling, batch, stream.flow)

    def start() -> None:
        name, path = left.popleft()
        readers: Any
        try:
            with reading(path):
                check_name_fits(path)
                checked_name(path, name)
                readers = [reader(stream, name, path) for stream in streams]
        except DataError as error:
            readers = error
        started.append((name, path, readers))

    try:
        while left or started:
            while left and len(started) < max(1, decoders):
                start()
            yield started.popleft()
    finally:
        for _, _, readers in started:
            _close(readers)


def _taken(readers: list[WindowReader | None] | DataError) -> Thumbnails | None:
    """The pictures of a video that was read."""
    found = () if isinstance(readers, DataError) else readers
    return next((reader.video.thumbnails for reader in found if reader is not None), None)


def _close(readers: list[WindowReader | None] | DataError) -> None:
    for reader in () if isinstance(readers, DataError) else readers:
        if reader is not None:
            reader.close()


def _of_video(
    streams: Sequence[_Stream],
    sampling: Sampling,
    path: Path,
    readers: list[WindowReader | None] | DataError,
    name: str,
    scores: bool,
) -> dict[str, Any]:
    """Write what the streams say of a video, where it is not there yet; returns its entry of the manifest."""
    if isinstance(readers, DataError):
        raise readers
    try:
        for stream, reader in zip(streams, readers, strict=True):
            if reader is not None:
                _write(stream, sampling, path, reader, name, scores)
    finally:
        _close(readers)
    stored = streams[0].stored(name)
    times = stored.times() if stored else None
    assert stored is not None
    assert times is not None
    return {"source": str(path), "snippets": stored.shape()[0], "start": times.start, "end": times.end}


def _write(stream: _Stream, sampling: Sampling, path: Path, reader: WindowReader, name: str, scores: bool) -> None:
    batches = [stream.network(windows) for windows in reader]
    video = reader.video
    first = video.start + sampling.offset
    starts = first + np.arange(sum(len(features) for features, _ in batches)) * sampling.stride / sampling.fps
    seconds = np.stack([starts, np.minimum(starts + sampling.window / sampling.fps, video.end)], 1)
    tensors = {"features": torch.cat([one for one, _ in batches]).numpy(), "seconds": seconds}
    note = {**stream.made, "video": source_of(path), "start": video.start, "end": video.end, "first": first}
    if scores:
        tensors["scores"] = torch.cat([one for _, one in batches]).numpy()
        note["labels"] = list(stream.network.classifier.labels)
    write_snippets(stream.file(name), tensors, note)
