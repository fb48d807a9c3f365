"""What a run was begun with and how far it is: one JSON document in the folder that it writes.

Every manifest has ``format`` and ``version``, ``parameters`` (everything that the results depend on: a run goes on only
with the same) and ``packages`` (versions when it began). How far the run is stands beside them, as the run likes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyws.errors import DataError
from pyws.files import Writer, only_writer, read_json, run_entries, sync_folder, write_json
from pyws.sharding import WHOLE, Shard

MANIFEST = "manifest.json"


class RunManifest:
    """The manifest of a run, and its file.

    Parameters
    ----------
    path : the file
    document : what it holds
    writer : of the folder, to which entries of single videos are added; without one only :meth:`flush` writes

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with open_run(folder, "pyws example", 1, {"lr": 0.1}, ["numpy"], {"videos": {}}) as manifest:
    ...     manifest.put("v", {"status": "done"})
    >>> with open_run(folder, "pyws example", 1, {"lr": 0.1}, ["numpy"]) as manifest:  # goes on
    ...     manifest.document["videos"]
    {'v': {'status': 'done'}}
    >>> with open_run(folder, "pyws example", 1, {"lr": 0.2}, ["numpy"]):
    ...     pass
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: ...: holds a run with lr 0.1, not 0.2; choose another folder
    """

    def __init__(self, path: Path, document: dict[str, Any], writer: Writer | None = None) -> None:
        self.path, self.document, self._writer = path, document, writer
        self.mine: list[str] = []
        """Videos that are this process's to do, in the order in which it does them."""
        self.missing: list[str] = []
        """After the run: videos of which there is nothing, since another shard works on them or was killed."""
        self.last = False
        """After the run: no other shard was there any more, and this one wrote the manifest."""

    def put(self, video: str, entry: Mapping[str, Any]) -> None:
        """Say what became of a video: a line more on disk, however many there are, durable when the method returns."""
        self.document["videos"][video] = entry
        if self._writer is not None:
            self._writer.append(video, entry)

    def flush(self) -> None:
        """Write the document now, durable when the method returns."""
        write_json(self.path, self.document)
        sync_folder(self.path.parent)


@contextmanager
def open_run(
    folder: str | os.PathLike[str],
    kind: str,
    version: int,
    parameters: Mapping[str, Any],
    packages: Sequence[str],
    progress: Mapping[str, Any] | None = None,
    owned: Sequence[str] = (),
    shard: Shard = WHOLE,
    videos: Mapping[str, float] | None = None,
) -> Iterator[RunManifest]:
    """Hold the folder of a run, begin the run or go on with it, and write the manifest when the block ends.

    What becomes of each video is a line in the folder until then. Of several shards, the one that leaves last writes
    the manifest of all; it is the same as that of a single process.

    Parameters
    ----------
    folder : made where it does not exist; nobody else but other shards writes into it meanwhile
    kind, version : of the manifest's format
    parameters : what the run must have been begun with to be gone on with
    packages : the packages whose versions are noted, beside pyws
    progress : the other fields of a new manifest
    owned : files or folders in ``folder`` that only a run makes; without a manifest they are somebody else's
    shard : which of the processes of the run this is
    videos : all videos of the run, by name, and about how long each takes; the shards part them by that
        (:meth:`pyws.sharding.Shard.share`), and the manifest lists them in this order, after those of earlier runs

    Raises
    ------
    DataError : another run writes there, or was begun with other parameters (names the first that differs); the
        manifest is damaged or of another format; files without a manifest
    """
    path = Path(folder) / MANIFEST
    wanted = new_document(kind, version, parameters, packages, progress)
    manifest = RunManifest(path, wanted)
    listed = dict(videos or {})
    manifest.mine = shard.share(list(listed), listed.__getitem__)

    def enter(writer: Writer, first: bool) -> None:
        if path.is_file():
            manifest.document = read_manifest(path, kind, version, wanted["parameters"])
            if first and run_entries(folder):
                manifest.flush()
                writer.clear()
        else:
            for owner in owned:
                if (path.parent / owner).exists():
                    raise DataError(folder, f"holds {owner} but no {MANIFEST}; choose another folder")
            manifest.flush()

    def leave(last: bool) -> None:
        if not shard.whole:
            manifest.document = read_manifest(path, kind, version)
        entries = manifest.document.get("videos", {})
        manifest.missing = [name for name in listed if not _is_settled(entries.get(name))]
        manifest.last = last
        if last:
            if "videos" in manifest.document:
                others = {name: entry for name, entry in entries.items() if name not in listed}
                manifest.document["videos"] = others | {name: entries[name] for name in listed if name in entries}
            manifest.flush()

    with only_writer(folder, shard, enter, leave) as writer:
        manifest._writer = writer
        yield manifest


def new_document(
    kind: str,
    version: int,
    parameters: Mapping[str, Any],
    packages: Sequence[str],
    progress: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a run that begins; values are as JSON gives them back (lists for tuples)."""
    versions = {package: importlib.metadata.version(package) for package in packages}
    document = {
        "format": kind,
        "version": version,
        "parameters": parameters,
        "packages": {"pyws": _own_version(), **versions},
        **(progress or {}),
    }
    return json.loads(json.dumps(document, allow_nan=False))


def read_manifest(
    path: str | os.PathLike[str], kind: str, version: int, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read a manifest, with what a run that goes on, or was killed, has added to it.

    Parameters
    ----------
    path : the file
    kind, version : the format that it must have
    parameters : what the run must have been begun with; None for anything

    Raises
    ------
    DataError : missing, damaged, of another format, or of a run with other parameters; names the first that differs
    """
    document = read_json(path)
    fits = isinstance(document, dict) and (document.get("format"), document.get("version")) == (kind, version)
    if not fits or not isinstance(document.get("parameters"), dict):
        raise DataError(path, f"must be a manifest of {kind}, version {version}; choose another folder, or remove it")
    if isinstance(document.get("videos"), dict):
        document["videos"] |= run_entries(Path(path).parent)
    if parameters is not None:
        check_same(Path(path).parent, document["parameters"], parameters)
    return document


def check_same(path: str | os.PathLike[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise at the first parameter in which a run that is there differs from the one that is to go on.

    Raises
    ------
    DataError : names ``path`` and the parameter

    Examples
    --------
    >>> check_same("run", {"seed": 1, "loop": {"lr": 0.5}}, {"seed": 1, "loop": {"lr": 1.0}})
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: run: holds a run with loop.lr 0.5, not 1.0; choose another folder
    """
    difference = _first_difference("", before, json.loads(json.dumps(now)))
    if difference is not None:
        name, was, wanted = difference
        raise DataError(path, f"holds a run with {name} {was!r}, not {wanted!r}; choose another folder")


def _first_difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any] | None:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*now, *before]):
            found = _first_difference(f"{name}.{key}" if name else key, before.get(key), now.get(key))
            if found is not None:
                return found
        return None
    return None if before == now else (name, before, now)


def _is_settled(entry: Any) -> bool:
    """Whether an entry says what became of a video, and not only that somebody began with it."""
    return entry is not None and not (isinstance(entry, dict) and entry.get("status") == "started")


def _own_version() -> str:
    from pyws import __version__

    return __version__
