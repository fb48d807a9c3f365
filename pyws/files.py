"""Files written whole or not at all; regular files and JSON read within bounds, with errors that name the file."""

from __future__ import annotations

import errno
import gzip
import hashlib
import inspect
import io
import itertools
import json
import os
import re
import stat
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, TypeVar, Union, get_args, get_origin, get_type_hints

from pyws.errors import DataError, WriteError, reading

Made = TypeVar("Made")
_TYPES: Mapping[Any, tuple[type, ...]] = {
    bool: (bool,), str: (str,), int: (int,), float: (int, float), types.NoneType: (types.NoneType,)
}  # fmt: skip
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
          stat.S_IFDIR: "a folder"}  # fmt: skip
_DEEPEST = 64  # folders within each other that are searched
_TAKES = {b"{": 192, b"[": 72, b",": 32}  # bytes in memory of an object, a list, and a number with its place


def bound(name: str, default: int) -> int:
    """A bound that the environment may raise: the variable ``name``, or ``default``.

    Examples
    --------
    >>> bound("PYWS_NO_SUCH_BOUND", 7)
    7
    """
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text) > 0):
        raise ValueError(f"{name}: must be a whole number > 0, got {text!r}")
    return int(text)


def max_bytes() -> int:
    """What a file may unpack to: the variable PYWS_MAX_MIB, 1024 if not set."""
    return bound("PYWS_MAX_MIB", 1024) << 20


def check_bytes(path: str | os.PathLike[str], size: int) -> None:
    """Raise DataError where a file is, or unpacks to, more than :func:`max_bytes`."""
    if size > max_bytes():
        rule = f"must unpack to at most {max_bytes() >> 20} MiB, got more; PYWS_MAX_MIB in the environment raises it"
        raise DataError(path, rule)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read bytes. Pipes, devices, sockets and folders are refused, and none is waited for.

    Raises
    ------
    DataError : not a regular file
    OSError : missing or not to be read
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise DataError(path, f"must be a regular file, found {_KINDS.get(kind, 'something else')}")
    return os.fdopen(descriptor, "rb")


def check_regular(path: str | os.PathLike[str]) -> None:
    """As :func:`open_regular`, before a library opens the file itself."""
    open_regular(path).close()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the contents of a regular file, in hexadecimal.

    Raises
    ------
    DataError : not a regular file
    OSError : missing or not to be read
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def open_text(path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "strict") -> Iterator[TextIO]:
    """Open a regular file of text of at most :func:`max_bytes`, its ends of lines as they are; what goes wrong with it
    inside the block is a DataError that names it."""
    with reading(path), open_regular(path) as file:
        check_bytes(path, os.fstat(file.fileno()).st_size)
        with io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="") as text:
            yield text


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a regular file, see :func:`open_text`."""
    with open_text(path, encoding, errors) as file:
        return file.read()


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file that are not empty, stripped, such as the names of classes."""
    return [line.strip() for line in read_text(path, "utf-8-sig").splitlines() if line.strip()]


def check_depth(folder: str | os.PathLike[str], depth: int) -> None:
    """Raise DataError for a folder so many folders within one that is searched, where those are too many."""
    if depth > _DEEPEST:
        raise DataError(folder, f"must not be nested deeper than {_DEEPEST} folders")


def files_within(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Paths of the files in a folder and in those within, links to folders left alone.

    Raises
    ------
    DataError : a folder that cannot be read, or one that is nested too deeply
    """
    left = [(Path(folder), 0)]
    while left:
        place, depth = left.pop()
        check_depth(place, depth)
        with reading(place):
            entries = sorted(place.iterdir())
        yield from (entry for entry in entries if entry.is_file())
        left += [(entry, depth + 1) for entry in reversed(entries) if entry.is_dir() and not entry.is_symlink()]


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """:func:`os.walk`, no deeper than files of pyws lie: before Python 3.12 it fails a thousand folders down."""
    for parent, folders, names in os.walk(folder):
        yield parent, folders, names
        if len(Path(parent).relative_to(folder).parts) >= _DEEPEST:
            folders.clear()


TEMPORARY = re.compile(r"\..+\.tmp")  # what atomic_write leaves behind where it was killed


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write a text file of lines, whole or not at all."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", previous: Path | None = None) -> Iterator[IO[Any]]:
    """Open a temporary file that becomes ``path`` only when the block ends without an error.

    Parameters
    ----------
    path : the file to write; its folder is made where it does not exist
    mode : "w" (UTF-8 text) or "wb"
    previous : where the file that is there goes once the new one is whole; None for nowhere

    Yields
    ------
    The open file. After an error, an interrupt or a full disk ``path`` is as it was before.

    Raises
    ------
    WriteError : no space, no permission, read-only, no regular file, or whatever else the system says

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(path := folder / "a.txt") as file:
    ...     _ = file.write("whole")
    >>> path.read_text()
    'whole'
    """
    target = Path(path)
    with write_errors(target):
        if target.exists() and not target.is_file():
            raise WriteError(target, f"must be a regular file, found {_KINDS.get(stat.S_IFMT(target.stat().st_mode))}")
        if target.exists() and not os.access(target, os.W_OK):  # to take its place would need no permission of its own
            raise WriteError(target, "it is read-only; remove it, or allow that it is written")
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _open_temporary(target)
        with _Bytes(open(descriptor, "r+b", 0)) if "b" in mode else open(descriptor, mode, encoding="utf-8") as file:
            try:
                yield file
                file.flush()
                os.fsync(descriptor)
                if previous is not None and target.exists():
                    os.replace(target, previous)
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


class _Bytes(io.BufferedRandom):
    """A file that libraries write by its method alone: given the descriptor, Pillow and NumPy take fewer bytes than
    they have for all where the disk is full."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def _open_temporary(target: Path) -> tuple[int, Path]:
    """A file beside ``target`` to write, locked: the one that a killed writer left, as long as nobody else has it."""
    for number in itertools.count():
        path = target.with_name(f".{target.name[:32]}.{number}.tmp")  # 255 bytes leave no room for more
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link, which somebody laid to have another file written over
                continue
            raise
        if lock_file(descriptor, wait=False) and is_open_file(descriptor, path):
            os.ftruncate(descriptor, 0)
            return descriptor, path
        os.close(descriptor)
    raise AssertionError("the numbers do not end")


def remove_unheld(path: Path) -> None:
    """Remove a temporary file, unless its writer lives and still has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, or no file of atomic_write
        path.unlink(missing_ok=True)
        return
    try:
        unheld = lock_file(descriptor, wait=False)
        if unheld and is_open_file(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)


def is_open_file(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """What the system says against writing a file, as a WriteError that names it; of other files it stays as it is."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        other = None if error.filename is None else Path(os.fsdecode(error.filename))
        if other is not None and not TEMPORARY.fullmatch(other.name) and other not in (target, *target.parents):
            raise
        reason = error.strerror or f"{error} (is the disk full?)"  # NumPy counts bytes and says no reason
        raise WriteError(target, f"{reason}; nothing half-written is left, the same command goes on") from error


def lock_file(descriptor: int, wait: bool = True) -> bool:
    """Lock an open file until it is closed; whether that was done, where another one holding it is not waited for."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names of the files in a folder durable: after a loss of power, what was renamed there is there."""
    with write_errors(Path(folder)):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append a line to a text file, durable when the function returns; whole or not at all.

    Raises
    ------
    WriteError : no space, no permission, or whatever else the system says

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
    >>> append_line(path, "one")
    >>> path.read_text()
    'one\\n'
    """
    with write_errors(Path(path)), open(path, "ab", buffering=0) as file:
        append_bytes(file.fileno(), f"{line}\n".encode())


def append_bytes(descriptor: int, data: bytes) -> None:
    """Add bytes to the end of a file, durably; where not all of them can be written, none is left."""
    before = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, before)
        raise


def write_json(path: str | os.PathLike[str], document: Any, indent: int | None = 1) -> None:
    """Write ``document`` as JSON, whole or not at all; NaN and infinities are refused. ``.gz`` files are compressed.

    Examples
    --------
    >>> import tempfile
    >>> write_json(path := Path(tempfile.mkdtemp()) / "a.json", {"a": 1})
    >>> read_json(path)
    {'a': 1}
    """
    raw = f"{json.dumps(document, indent=indent, allow_nan=False)}\n".encode()
    with atomic_write(path, "wb") as file:  # no time stamp: the same document, the same bytes
        file.write(gzip.compress(raw, mtime=0) if str(path).endswith(".gz") else raw)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON document; ``.gz`` files are decompressed.

    Raises
    ------
    DataError : the file is missing, not a regular file, unreadable, truncated, not UTF-8 or not JSON, unpacks to more
        than :func:`max_bytes` or to values that take eight times as much, has a key twice in one object, or a whole
        number of more than 64 bits; it names the file and the place

    Examples
    --------
    >>> read_json("no-such-file.json")
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: no-such-file.json: cannot be read: No such file or directory
    """
    try:
        with reading(path), open_regular(path) as file:
            source = gzip.GzipFile(fileobj=file) if str(path).endswith(".gz") else file
            raw = source.read(max_bytes() + 1)
        check_bytes(path, len(raw))
        check_bytes(path, sum(raw.count(mark) * size for mark, size in _TAKES.items()) // 8)
        return parse_json(raw.decode("utf-8-sig"), lambda pairs: _object(path, pairs))
    except DataError:
        raise
    except json.JSONDecodeError as error:
        rule = f"is not valid JSON: {error.msg} at line {error.lineno} column {error.colno} ({len(raw)} bytes)"
    except UnicodeDecodeError as error:
        rule = f"is not UTF-8 text: byte {error.start} of {len(raw)}"
    except RecursionError:
        rule = "is nested too deeply"
    except ValueError as error:
        rule = f"holds a number that is too long: {error}"
    except (EOFError, zlib.error) as error:
        rule = f"is truncated or damaged: {error}"
    raise DataError(path, rule)


def parse_json(text: str | bytes, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """A JSON document whose whole numbers fit into 64 bits, as every array of numbers does.

    Parameters
    ----------
    text : the document
    hook : makes an object of its pairs; None for a dictionary

    Raises
    ------
    ValueError : no JSON, or a longer number
    RecursionError : nested too deeply

    Examples
    --------
    >>> parse_json('{"frames": 1000000000000000000000}')
    Traceback (most recent call last):
        ...
    ValueError: must be whole numbers of 64 bits, got one of 22 digits
    """
    return json.loads(text, object_pairs_hook=hook, parse_int=_whole)


def _whole(digits: str) -> int:
    if len(digits) < 21 and -(2**63) <= (value := int(digits)) < 2**64:
        return value
    raise ValueError(f"must be whole numbers of 64 bits, got one of {len(digits)} digits")


def _object(path: str | os.PathLike[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise DataError(path, f"must have each key once, got {twice!r} twice")
    return found


def made_of(path: str | os.PathLike[str], what: str, maker: Callable[..., Made], fields: Any) -> Made:
    """What a class makes of a JSON object with its arguments; lists become tuples where it takes those.

    Parameters
    ----------
    path : the file that the object was read from
    what : what the file calls it
    maker : a class whose arguments are annotated, such as a dataclass
    fields : the arguments by name

    Raises
    ------
    DataError : an argument is unknown, missing or of another type, or the class refuses it; names the file and which

    Examples
    --------
    >>> from pyws.sharding import Shard
    >>> made_of("run.json", "shard", Shard, {"index": 2, "count": 3})
    Shard(index=2, count=3)
    >>> made_of("run.json", "shard", Shard, {"index": "2"})
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: run.json: shard: index must be int, got '2'
    """
    with reading(path, what):
        return maker(**_arguments(maker, fields))


def arguments_of(path: str | os.PathLike[str], what: str, maker: Callable[..., Any], fields: Any) -> dict[str, Any]:
    """The arguments that :func:`made_of` calls a class with."""
    with reading(path, what):
        return _arguments(maker, fields)


def _arguments(maker: Callable[..., Any], fields: Any) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise TypeError(f"must be an object of settings, got {fields!r}")
    known = {name: each for name, each in inspect.signature(maker).parameters.items() if each.kind != each.VAR_KEYWORD}
    missing = [name for name, each in known.items() if each.default is each.empty and name not in fields]
    unknown = [name for name in fields if name not in known]
    if missing or unknown:
        raise TypeError(f"must have {missing[0]}, which it lacks" if missing else f"has an unknown {unknown[0]!r}")
    hints = get_type_hints(maker.__init__)
    return {name: _argument(name, hints.get(name, Any), value) for name, value in fields.items()}


def _argument(name: str, hint: Any, value: Any) -> Any:
    try:
        return _as(hint, value)
    except TypeError:
        wanted = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
        raise TypeError(f"{name} must be {wanted}, got {value!r}") from None


def _as(hint: Any, value: Any) -> Any:
    """A value of JSON as an annotation has it; TypeError where it is of another type."""
    origin, within = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for each in within:
            with suppress(TypeError):
                return _as(each, value)
    elif origin is Literal:
        if any(value == each and type(value) is type(each) for each in within):
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        of_any_length = within[1:] == (...,)
        if of_any_length or len(value) == len(within):
            kinds = within[:1] * len(value) if of_any_length else within
            return tuple(_as(kind, each) for kind, each in zip(kinds, value, strict=True))
    elif origin is list and isinstance(value, list):
        return [_as(within[0], each) for each in value]
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _as(within[1], each) for key, each in value.items()}
    elif isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return hint(**_arguments(hint, value))
    elif hint is Any or type(value) in _TYPES.get(hint, ()):
        return value
    raise TypeError
