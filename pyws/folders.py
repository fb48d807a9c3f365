"""Folders that runs write into, one writer at a time or the shards of one run; new folders, whole or empty."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyws.errors import DataError
from pyws.files import (
    TEMPORARY,
    append_bytes,
    is_open_file,
    lock_file,
    parse_json,
    read_text,
    remove_unheld,
    walk,
    write_errors,
)
from pyws.sharding import WHOLE, Shard

UNFINISHED = ".unfinished"  # in a folder that is not whole yet
_RUN = ".run"  # the folder, in one that is written into, where its writers tell each other that they are there


class Writer:
    """One of the processes that write into a folder, see :func:`only_writer`.

    It holds a lock on a file of its own, to which it may add lines. What a killed one added stays there, while the
    system frees its lock.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.folder, self.shard = folder, shard
        self._file = -1

    def append(self, name: str, value: Any) -> None:
        """Add a line that says what became of something, durable when the method returns."""
        with write_errors(self.folder / _RUN / self._name):
            append_bytes(self._file, f"{json.dumps([name, value], allow_nan=False)}\n".encode())

    def clear(self) -> None:
        """Drop what this process and killed ones have added. Only with the door closed, and nobody else there."""
        os.ftruncate(self._file, 0)
        for path in (self.folder / _RUN).glob("*.jsonl"):
            if path.name != self._name:
                path.unlink()

    def enter(self) -> list[str]:
        """Take the lock; returns the names of the others that hold theirs. Only with the door closed."""
        others = self._others()
        strangers = [name for name in others if not name.endswith(f"-of-{self.shard.count}.jsonl")]
        own = self._name
        if own in others or strangers:
            which = "another run" if self.shard.whole else f"another run of shard {self.shard}, or of other shards"
            raise DataError(self.folder, f"is being written by {which}; wait for it or choose another folder")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC  # a link would lead to another file
        self._file = os.open(self.folder / _RUN / own, flags)
        lock_file(self._file)
        if os.fstat(self._file).st_size:
            os.write(self._file, b"\n")  # the last line of a killed run may not be whole
        return others

    def leave(self) -> list[str]:
        """Free the lock; returns the names of the others that hold theirs. Only with the door closed."""
        os.close(self._file)
        self._file = -1
        return self._others()

    def withdraw(self) -> None:
        """Leave nothing behind, but what a killed run left. Only with the door closed."""
        run = self.folder / _RUN
        if self._file >= 0:
            self.leave()
            own = run / self._name
            if not own.stat().st_size:
                own.unlink()
        if not any(run.glob("*.jsonl")):
            self.remove()

    def remove(self) -> None:
        """Remove what all runs left, the door last. Whoever comes meanwhile finds it gone, or makes it and keeps it."""
        run = self.folder / _RUN
        for path in [*run.glob("*.jsonl"), run / "door"]:
            path.unlink()
        with suppress(OSError):
            run.rmdir()

    def move(self, folder: Path) -> None:
        """Give the folder another name, where nothing is or an empty folder; it is held as before."""
        if is_held(folder):
            raise DataError(folder, "is being written by another run; wait for it or choose another folder")
        with write_errors(folder):
            shutil.rmtree(folder / _RUN, ignore_errors=True)  # a killed run left it
            os.replace(self.folder, folder)
        self.folder = folder

    def take(self, folder: Path, last: str) -> None:
        """Move what lies in another folder, which nobody holds, into this one; what goes by a name at the end."""
        for path in sorted(folder.iterdir(), key=lambda path: path.name == last):
            if path.name != _RUN:
                os.replace(path, self.folder / path.name)

    @property
    def _name(self) -> str:
        return f"{self.shard.index}-of-{self.shard.count}.jsonl"

    def _others(self) -> list[str]:
        return sorted(path.name for path in (self.folder / _RUN).glob("*.jsonl") if _is_held(path))


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not lock_file(descriptor, wait=False)
    finally:
        os.close(descriptor)


@contextmanager
def _door(folder: Path) -> Iterator[None]:
    """Held for the moment in which a writer comes or goes, so that only one does at a time.

    The lock is on a file, since a folder cannot be locked over NFS. The last writer removes the file, and the next one
    that waited for it must not go on with a file that is no longer there.
    """
    path = folder / _RUN / "door"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with suppress(FileExistsError):
                path.parent.mkdir()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if path.parent.is_symlink():  # to nowhere: it would never open
                raise
            continue
        try:
            lock_file(descriptor)
            if not is_open_file(descriptor, path):
                continue
            yield
            return
        finally:
            os.close(descriptor)


@contextmanager
def only_writer(
    folder: str | os.PathLike[str],
    shard: Shard = WHOLE,
    entering: Callable[[Writer, bool], None] = lambda writer, first: None,
    leaving: Callable[[bool], None] = lambda last: None,
) -> Iterator[Writer]:
    """Hold ``folder``, made where it does not exist, so that no two runs write into it at once but shards of one run.

    Temporary files of a run that was killed are removed first.

    Parameters
    ----------
    folder : what is written into
    shard : which part of the run this process is; the others of as many may write too
    entering : called before anybody else may enter, with the writer and whether nobody else is there
    leaving : called before anybody else may enter or leave, with whether nobody else is left

    Raises
    ------
    DataError : another process, or this one, holds it; a run that was killed holds nothing

    Examples
    --------
    >>> import tempfile
    >>> with only_writer(tempfile.mkdtemp()):
    ...     pass
    """
    target = Path(folder)
    writer = Writer(target, shard)
    with _door(target):
        try:
            alone = not writer.enter()
            if alone:
                _sweep(target)
            entering(writer, alone)
        except BaseException:
            writer.withdraw()
            raise
    try:
        yield writer
    finally:
        with _door(writer.folder):
            last = not writer.leave()
            leaving(last)
            if last:
                writer.remove()


def is_held(folder: str | os.PathLike[str]) -> bool:
    """Whether somebody writes into a folder, see :func:`only_writer`."""
    with suppress(FileNotFoundError):  # the last one goes just now
        return any(_is_held(path) for path in (Path(folder) / _RUN).glob("*.jsonl"))
    return False


def is_empty(folder: str | os.PathLike[str]) -> bool:
    """Whether there is nothing in a folder but what :func:`only_writer` puts there, and what killed writers left."""
    return all(name == _RUN or TEMPORARY.fullmatch(name) for name in os.listdir(folder))


def check_new_folder(folder: str | os.PathLike[str]) -> None:
    """Raise DataError where :func:`new_folder` would, before long work."""
    target = Path(folder)
    if target.exists() and not (target.is_dir() and (is_empty(target) or (target / UNFINISHED).exists())):
        raise DataError(target, "must be a new or empty folder")


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Fill ``folder``, new, empty or half-filled by a call that was killed; where the block fails it is empty again.

    Raises
    ------
    DataError : it holds something else, or another process fills it

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with new_folder(folder):
    ...     _ = (folder / "tags.csv").write_text("video,tag")
    >>> sorted(path.name for path in folder.iterdir())
    ['tags.csv']
    >>> with new_folder(folder):
    ...     pass
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: ...: must be a new or empty folder
    """
    target, unfinished = Path(folder), Path(folder, UNFINISHED)

    def enter(writer: Writer, first: bool) -> None:
        check_new_folder(target)
        unfinished.touch()

    def leave(last: bool) -> None:
        unfinished.unlink()  # the last step: with it goes the only sign that the folder is not whole

    check_new_folder(folder)
    with only_writer(target, entering=enter, leaving=leave):
        try:
            clear_folder(target, UNFINISHED)
            yield
        except BaseException:
            clear_folder(target, UNFINISHED)
            raise


def clear_folder(folder: Path, less: str) -> None:
    """Remove what is in a folder that is held, less what goes by a name."""
    for path in folder.iterdir():
        if path.name not in (_RUN, less):
            (shutil.rmtree if path.is_dir() else os.unlink)(path)


def run_entries(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What the writers of a folder, and those that were killed, have added by :meth:`Writer.append`; a line that is not
    whole is left out."""
    found: dict[str, Any] = {}
    for path in sorted((Path(folder) / _RUN).glob("*.jsonl")):
        for line in read_text(path).splitlines():
            try:
                name, value = parse_json(line)
            except (ValueError, TypeError, RecursionError):
                continue
            found[str(name)] = value
    return found


def _sweep(folder: Path) -> None:
    """Remove what killed writers left. Those that live, as one that ends with a report or hashes, hold their files."""
    for parent, _, names in walk(folder):
        for name in filter(TEMPORARY.fullmatch, names):
            remove_unheld(Path(parent, name))
