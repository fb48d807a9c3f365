"""What a run was begun with and how far it is: one JSON document in the folder that it writes.

Every manifest has ``format`` and ``version``, ``parameters`` (everything that the results depend on: a run goes on only
with the same) and ``packages`` (versions when it began). How far the run is stands beside them, as the run likes.

When a command ends, :func:`seal` notes what it wrote and how it was called: in ``hashes.json`` of a folder, and beside
a file in ``FILE.hashes.json``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyws.errors import DataError, printable
from pyws.files import TEMPORARY, file_sha256, read_json, sync_folder, walk, write_json
from pyws.folders import UNFINISHED, Writer, only_writer, run_entries
from pyws.sharding import WHOLE, Shard

MANIFEST = "manifest.json"
HASHES = "hashes.json"
ORIGIN = "origin.json"  # in a data set of features that is not whole yet: where its contents come from
_FORMAT = {"format": "pyws hashes", "version": 1}
_ABOVE = 4  # folders above a file, one of which may have hashes of it
_TICK = 10_000_000  # nanoseconds by which the time of a file may lie behind the clock
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_ROUNDS = 8  # one that goes on writing notes itself what it wrote when it ends
MANIFESTS = (MANIFEST, "run.json")  # the latter of pyws segments train
# Pages can be written anew at any time, with other options; tags and truth are put beside features by people.
_LEFT_OUT = {HASHES, "report", "report.html", "tensorboard", ".run", "tags.csv", "truth.json", "truth.json.gz",
             ORIGIN, UNFINISHED}  # fmt: skip
_sealing: ContextVar[Mapping[str, Callable[[Path], None]] | None] = ContextVar("what notes hashes", default=None)


Word = str | None | list[str]
"""On the command line that wrote a result: None stands for that result, a name in a list for another one."""
Finished = Callable[[str, Mapping[str, Any]], None]
"""Called with the name and the entry of a video that is done, as long as the folder of the run is held."""


class RunManifest:
    """The manifest of a run, and its file.

    Parameters
    ----------
    path : the file
    document : what it holds
    writer : name of the process in the folder, to which entries of single videos are added; without one only
        :meth:`flush` writes

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
    the manifest of all; it is the same as a single process writes.

    Parameters
    ----------
    folder : made where it does not exist; nobody else but other shards writes into it meanwhile
    kind, version : kind and version of the manifest's format
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
    path: str | os.PathLike[str], kind: str, version: int | None, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read a manifest, with what a run that goes on, or was killed, has added to it.

    Parameters
    ----------
    path : the file
    kind, version : the format that it must have; None for any version
    parameters : what the run must have been begun with; None for anything

    Raises
    ------
    DataError : missing, damaged, of another format, or of a run with other parameters; names the first that differs
    """
    if not Path(path).exists():
        raise DataError(Path(path).parent, f"must be a folder that {kind} wrote, found no {Path(path).name} there")
    check_sealed(path)
    document = read_json(path)
    fits = isinstance(document, dict) and document.get("format") == kind and version in (None, document.get("version"))
    if not fits or not isinstance(document.get("parameters"), dict):
        wanted = kind if version is None else f"{kind}, version {version}"
        raise DataError(path, f"must be a manifest of {wanted}; choose another folder, or remove it")
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
    pyws.errors.DataError: run: holds a run with loop.lr 0.5, not 1.0; choose another folder, or go on with ...
    """
    difference = _first_difference("", before, json.loads(json.dumps(now)))
    if difference is not None:
        again = "or go on with the options, and the version of pyws, that it was begun with"
        raise DataError(path, f"holds a run with {difference}; choose another folder, {again}")


def _first_difference(name: str, before: Any, now: Any) -> str | None:
    """Words for it. What one of both does not know, as another version may, is the same as None."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*now, *before]):
            found = _first_difference(f"{name}.{key}" if name else key, before.get(key), now.get(key))
            if found is not None:
                return found
        return None
    return None if before == now else f"{name} {before!r}, not {now!r}"


def _is_settled(entry: Any) -> bool:
    """Whether an entry says what became of a video, and not only that somebody began with it."""
    return entry is not None and not (isinstance(entry, dict) and entry.get("status") == "started")


def _own_version() -> str:
    from pyws import __version__

    return __version__


def strangers(result: str | os.PathLike[str]) -> Mapping[str, int]:
    """Files in a folder that no command of ours has written, by path within it: when each was. None in the folder of a
    run, nor where one is to be gone on with."""
    folder = Path(result)
    if not folder.is_dir() or any((folder / name).exists() for name in (".run", ORIGIN, UNFINISHED, *MANIFESTS)):
        return {}
    known = read_hashes(folder)["files"] if (folder / HASHES).is_file() else {}
    return {name: (folder / name).lstat().st_mtime_ns for name in _files(folder) if name not in known}


def seal(result: str | os.PathLike[str], words: Sequence[Word], foreign: Mapping[str, int] | None = None) -> None:
    """Note the hashes of the files of a result, and the command that ended just now.

    A file that was not written since it was hashed keeps the hash that it had, so that one that decays is found by a
    later comparison, and not taken for what the command wrote.

    Parameters
    ----------
    result : a folder, or a file; what goes by the name of a file and ``.json`` belongs to it
    words : the command line
    foreign : what :func:`strangers` found there before; where it was not written anew it is not of the result

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_json(folder / "found.json", {})
    >>> seal(folder / "found.json", ["segments", "fuse", "proposals.json", None])
    >>> differences(folder, read_hashes(folder / "found.json")["files"])
    {}
    """
    result, path, foreign = Path(result), _hashes_of(Path(result)), foreign or {}
    torch = sys.modules.get("torch")  # whose sums depend on the number of threads
    threads = torch.get_num_threads() if torch else 1
    # The name of the result is left out: two runs that differ in it alone have the same files.
    command = {"words": list(words), "folder": os.getcwd(), "relative": not result.is_absolute(),
               "threads": threads}  # fmt: skip
    for _ in range(_ROUNDS):  # until nothing is left to note: another process may have noted what it wrote meanwhile
        began = time.time_ns()
        before, sealed = (read_hashes(result), path.stat().st_mtime_ns) if path.is_file() else (None, 0)
        files = _hashed(result, foreign, before["files"] if before else {}, sealed)
        commands = before["commands"] if before else []
        if result.is_file():  # which the last command made alone
            commands = [command]
        elif command not in commands:
            commands = [*commands, command]
        document = {**_FORMAT, "commands": commands, "files": files}
        if document == before:
            return
        write_json(path, document)
        os.utime(path, ns=(began, began))  # what is written from now on is hashed anew


def check_sealed(path: str | os.PathLike[str]) -> None:
    """Look whether a file that is to be read is still what its command wrote, where hashes of it lie beside or above.

    Without hashes, or without the file, nothing is said. A run that goes on writes its files anew before they are
    hashed anew, and people may change theirs: so a file that was written since is another one, of which a warning
    speaks where the hashes are of it alone.

    Raises
    ------
    DataError : its contents changed and nobody has written it since: the disk, or a copy, has damaged it
    """
    file = Path(os.path.abspath(path))
    alone = [file.with_name(f"{name}.{HASHES}") for name in (file.name, file.stem)]
    above = [folder / HASHES for folder in file.parents[:_ABOVE]]
    try:
        noted = next((place, digest) for place in (*alone, *above) if (digest := _noted(place, file)) is not None)
        if file_sha256(file) == noted[1]:
            return
        written, sealed = file.stat().st_mtime_ns, noted[0].stat().st_mtime_ns
    except (OSError, StopIteration):
        return
    which = f"is not what its command wrote, says {noted[0].name}"
    if written < sealed - _TICK:
        repair = f"bring back a copy, run that command again, or remove {noted[0]} if you made the change"
        raise DataError(path, f"{which}, and nobody has written it since: it is damaged; {repair}")
    if noted[0] in alone and str(file) not in (_sealing.get() or {}):  # this command's own result is sealed at its end
        warnings.warn(f"{printable(path)}: {which}; it was written since", stacklevel=2)


def _noted(place: Path, file: Path) -> str | None:
    """The hash that a document of hashes has for a file; found in its text, since it may list a million of others."""
    if not place.is_file():
        return None
    known = place.stat()
    text = _text_of(place, known.st_mtime_ns, known.st_size)
    key = (json.dumps(os.path.relpath(file, place.parent)) + ': "').encode()
    start = text.find(key)
    found = _DIGEST.match(text, start + len(key)) if start >= 0 else None
    return None if found is None else found[0].decode()


@lru_cache(maxsize=1)
def _text_of(place: Path, written: int, size: int) -> bytes:
    """A document of hashes that was written then: files of one folder are looked up one after the other."""
    return place.read_bytes()


@contextmanager
def sealing(results: Mapping[Path, Callable[[Path], None]]) -> Iterator[None]:
    """Say what notes the hashes of each result that a command writes, for :func:`seal_whole` within the block."""
    token = _sealing.set({os.path.abspath(path): note for path, note in results.items()})
    try:
        yield
    finally:
        _sealing.reset(token)


def seal_whole(folder: Path, result: Path) -> None:
    """Note the hashes of a folder that is to be whole at the next step, as ``result``: however a command is stopped, a
    whole folder then has them. Where no command writes it, nothing is noted."""
    note = (_sealing.get() or {}).get(os.path.abspath(result))
    if note is not None:
        note(folder)


def _hashed(result: Path, foreign: Mapping[str, int], known: Mapping[str, str], sealed: int) -> dict[str, str]:
    """Hashes of the files of a result; ``known`` those of the files that were not written since."""
    place, files = place_of(result), {}
    for name in sorted(_files(result)):
        written = (place / name).lstat().st_mtime_ns
        if written != foreign.get(name):
            files[name] = known[name] if name in known and written < sealed else file_sha256(place / name)
    return files


def read_hashes(result: str | os.PathLike[str]) -> dict[str, Any]:
    """The document that :func:`seal` wrote: ``commands`` and ``files``, hashes by path within the folder.

    Raises
    ------
    DataError : missing, since the command has not ended; or damaged

    Examples
    --------
    >>> read_hashes("no-such-run")
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: no-such-run: must be a folder or a file that a command wrote
    """
    path = _hashes_of(Path(result))
    if not path.is_file():
        if not Path(result).exists():
            raise DataError(result, "must be a folder or a file that a command wrote")
        rule = f"has no {path.name}: no command wrote it, it has not ended, or it is a part of another; end it first"
        raise DataError(result, rule)
    document = read_json(path)
    known = isinstance(document, dict) and _FORMAT.items() <= document.items()
    if not (known and _are_commands(document.get("commands")) and _are_files(document.get("files"))):
        rule = "must be {format}, version {version}; it is damaged, or of another version of pyws"
        raise DataError(path, rule.format(**_FORMAT))
    return document


def differences(folder: str | os.PathLike[str], expected: dict[str, str]) -> dict[str, str]:
    """What is wrong with the files of a folder, by path: that one is missing, changed or cannot be read.

    Parameters
    ----------
    folder : where the files lie
    expected : SHA-256 by path within the folder

    Examples
    --------
    >>> differences("no-such-run", {"pa/v0/fox/1.png": "0" * 64})
    {'pa/v0/fox/1.png': 'is missing'}
    """
    found = {name: _difference(Path(folder) / name, digest) for name, digest in expected.items()}
    return {name: what for name, what in found.items() if what}


def place_of(result: Path) -> Path:
    """The folder in which the files of a result lie."""
    return result.parent if result.is_file() else result


def _hashes_of(result: Path) -> Path:
    return result.with_name(f"{result.name}.{HASHES}") if result.is_file() else result / HASHES


def _difference(path: Path, digest: str) -> str:
    try:
        return "" if file_sha256(path) == digest else f"is not what the run wrote ({path.stat().st_size} bytes now)"
    except FileNotFoundError:
        return "is missing"
    except DataError as error:
        return error.rule
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _files(result: Path) -> Iterator[str]:
    """What a result consists of; results of other commands that lie in its folder are their own, and what another shard
    has not finished writing is of nobody yet."""
    if result.is_file():
        beside = f"{result.name}.json"
        yield from (name for name in (result.name, beside) if (result.parent / name).is_file())
        return
    for parent, folders, names in walk(result):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        others = {name.removesuffix(f".{HASHES}") for name in names if name.endswith(f".{HASHES}")}
        left_out = _LEFT_OUT.union(*({name, f"{name}.json", f"{name}.{HASHES}"} for name in others))
        own = (name for name in names if name not in left_out and not TEMPORARY.fullmatch(name))
        yield from (os.path.relpath(os.path.join(parent, name), result) for name in own)


def _are_commands(given: Any) -> bool:
    return isinstance(given, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("folder"), str)
        and isinstance(one.get("relative", False), bool)
        and isinstance(one.get("threads"), int)
        and isinstance(one.get("words"), list)
        and all(_is_word(word) for word in one["words"])
        for one in given
    )


def _is_word(given: Any) -> bool:
    """A name in a list leads nowhere else."""
    if isinstance(given, list):
        return len(given) == 1 and isinstance(given[0], str) and Path(given[0]).name == given[0]
    return given is None or isinstance(given, str)


def _are_files(given: Any) -> bool:
    """Whether these are hashes of files within the folder: no name leads out of it."""
    return isinstance(given, dict) and all(
        not os.path.isabs(name) and ".." not in Path(name).parts
        and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None
        for name, digest in given.items()
    )  # fmt: skip
