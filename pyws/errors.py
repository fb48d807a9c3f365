"""The exceptions that pyws raises beyond Python's own ``ValueError`` and ``TypeError``."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any

SHOWN = 50  # problems that an error lists
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """A name as one line of text: newlines, control characters and bytes that are no text are escaped.

    Examples
    --------
    >>> printable("new\\nline.avi")
    'new\\\\nline.avi'
    """
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(text))


def shown(text: str) -> str:
    """Text for a terminal, of several lines perhaps: characters that would steer it, or turn the line, are escaped.

    Examples
    --------
    >>> shown("dog\\x1b[31m")
    'dog\\\\x1b[31m'
    """
    return _STEERING.sub(lambda found: repr(found[0])[1:-1], text)


def name_bytes(name: str) -> bytes:
    """A name of files in UTF-8, for hashes; names may be bytes that are no text.

    Examples
    --------
    >>> name_bytes("a"), name_bytes("\\udcff")
    (b'a', b'\\xed\\xb3\\xbf')
    """
    return name.encode("utf-8", "surrogatepass")


def tell(text: str) -> None:
    """Print a line on standard error for a person; where that cannot be written (a log on a full disk), the line is
    lost and nothing else. That nobody reads it any more is still a BrokenPipeError."""
    try:
        print(shown(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        drop_output(sys.stderr)


@contextmanager
def printing() -> Iterator[None]:
    """That standard output cannot be written, as where it is a file on a full disk, as a WriteError that says so."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output(sys.stdout)
        raise WriteError("standard output", error.strerror or str(error)) from error


def drop_output(stream: Any) -> None:
    """Lead a stream that cannot be written to nowhere: what is left in its buffer would fail again at the end."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class PywsError(Exception):
    """Base of every exception that pyws defines."""


class DataError(PywsError, ValueError):
    """A file or data set is not what it must be.

    Parameters
    ----------
    path : the file, folder or record that is wrong; the message starts with it
    rule : what must hold, and what was found

    Examples
    --------
    >>> raise DataError("truth.json", "segment must end after it starts, got [4.0, 2.0]")
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: truth.json: segment must end after it starts, got [4.0, 2.0]
    """

    def __init__(self, path: str | PathLike[str], rule: str) -> None:
        super().__init__(f"{printable(path)}: {rule}")
        self.path = path
        self.rule = rule


@contextmanager
def named_as(**files: Any) -> Iterator[None]:
    """Errors of what a function calls ``ground_truth`` ("ground truth") and the like name the file that it came from.

    Examples
    --------
    >>> with named_as(ground_truth="truth.json"):
    ...     raise DataError("ground truth", "subset must be one of test, got 'val'")
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: truth.json: subset must be one of test, got 'val'
    """
    try:
        yield
    except DataError as error:
        name = str(error.path).replace(" ", "_")
        if not isinstance(files.get(name), (str, PathLike)):
            raise
        raise DataError(files[name], error.rule) from error


@contextmanager
def reading(path: str | PathLike[str], rule: str | None = None) -> Iterator[None]:
    """What goes wrong with a file inside the block is a :class:`DataError` that names it.

    Parameters
    ----------
    path : the file or folder that is read
    rule : what is said where something else is raised than the system's errors: readers of hostile bytes raise whatever
        they meet; None lets that pass, but for bytes that are no text

    Examples
    --------
    >>> with reading("set.pkl", "is not a safe pickle"):
    ...     [].pop()
    Traceback (most recent call last):
        ...
    pyws.errors.DataError: set.pkl: is not a safe pickle: pop from empty list
    """
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        if rule is None and isinstance(error, UnicodeDecodeError):
            raise DataError(path, f"is not {error.encoding.upper()} text: byte {error.start}") from error
        if rule is None:
            raise
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(path, f"{rule}: {said}") from error


def listed(problems: Sequence[str]) -> str:
    """Problems below a sentence, a line each; only the first of many.

    Examples
    --------
    >>> listed(["a", "b"])
    '\\n  a\\n  b'
    """
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "".join(f"\n  {one}" for one in [*problems[:SHOWN], *more])


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    Examples
    --------
    >>> counted(1, "video"), counted(2, "video")
    ('1 video', '2 videos')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def loader_says(error: ImportError, package: str) -> str:
    """What to add to how ``package`` is installed: nothing where it is not there, and why it does not load where it is.

    Examples
    --------
    >>> loader_says(ModuleNotFoundError("No module named 'cv2'", name="cv2"), "cv2")
    ''
    >>> loader_says(ImportError("libGL.so.1: cannot open shared object file"), "cv2")
    '; what is installed does not load: libGL.so.1: cannot open shared object file'
    """
    is_missing = isinstance(error, ModuleNotFoundError) and error.name == package
    return "" if is_missing else f"; what is installed does not load: {error}"


def check_fields(config: object, who: str, rule: str, *names: str) -> None:
    """Raise unless numbers of a configuration, or tuples of them, keep a rule; None, a default, keeps every one.

    Parameters
    ----------
    config : has the attributes ``names``
    who : begins the message
    rule : "> 0", ">= 1" and the like, or an interval such as "in (0, 1]"; NaN and infinity break all of them

    Raises
    ------
    ValueError : the first that breaks it

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_fields(SimpleNamespace(share=0.0), "masks train", "in (0, 1]", "share")
    Traceback (most recent call last):
        ...
    ValueError: masks train: share must be in (0, 1], got 0.0
    """
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        if not all(number is None or keeps(number, rule) for number in numbers):
            raise ValueError(f"{who}: {name} must be {rule}, got {value}")


def check_option(who: str, name: str, value: object, known: Sequence[str]) -> None:
    """Raise ValueError unless a value is one of those that are known.

    Examples
    --------
    >>> check_option("proposals", "overlap", "ioU", ("iou", "own"))
    Traceback (most recent call last):
        ...
    ValueError: proposals: overlap must be one of iou, own, got 'ioU'
    """
    if value not in known:
        raise ValueError(f"{who}: {name} must be one of {', '.join(known)}, got {value!r}")


def keeps(value: float, rule: str) -> bool:
    """Whether a number keeps a rule of :func:`check_fields`.

    Examples
    --------
    >>> keeps(0, "> 0"), keeps(0.5, "in (0, 1]"), keeps(float("inf"), ">= 1")
    (False, True, False)
    """
    sign, _, bounds = rule.partition(" ")
    if sign == "in":
        low, high = map(float, bounds[1:-1].split(","))
        return low <= value <= high and (bounds[0] == "[" or value > low) and (bounds[-1] == "]" or value < high)
    return math.inf > value > float(bounds) if sign == ">" else math.inf > value >= float(bounds)


class WriteError(PywsError, OSError):
    """A file that cannot be written: no space, no permission. What was there before is as it was.

    Parameters
    ----------
    path : the file; the message starts with it
    reason : why not

    Examples
    --------
    >>> raise WriteError("labels.safetensors", "No space left on device")
    Traceback (most recent call last):
        ...
    pyws.errors.WriteError: labels.safetensors: cannot be written: No space left on device
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{printable(path)}: cannot be written: {reason}")
        self.path = path
        self.reason = reason


class TrainingError(PywsError, RuntimeError):
    """A loss or weight that is no longer finite."""


def check_loss(loss: float, what: str, epoch: int) -> None:
    """Raise TrainingError where the mean loss of an epoch, counted from 0, is not finite.

    Examples
    --------
    >>> check_loss(float("nan"), "masks train", 2)
    Traceback (most recent call last):
        ...
    pyws.errors.TrainingError: masks train: loss must be finite, got nan in epoch 3; give a lower --lr
    """
    if not math.isfinite(loss):
        rule = f"loss must be finite, got {loss} in epoch {epoch + 1}"
        raise TrainingError(f"{what}: {rule}; give a lower --lr")
