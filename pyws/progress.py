"""Progress of long work: a rich bar on a terminal, plain lines otherwise, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

PLAIN_SECONDS = 5.0  # between two plain lines


def track(items: Iterable[Item], description: str, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """Iterate over ``items`` and show how far the work is, on standard error.

    Parameters
    ----------
    items : what is worked through
    description : what the work is, in a few words
    total : number of items; taken from ``len(items)`` where it has one
    quiet : show nothing

    Examples
    --------
    >>> [item for item in track([1, 2], "doubling", quiet=True)]
    [1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, description, total=total, console=Console(stderr=True))
    else:
        yield from _plain(items, description, total)


def _plain(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    of = "" if total is None else f"/{total}"
    said = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        if time.monotonic() - said >= PLAIN_SECONDS and done != total:
            print(f"{description}: {done}{of}", file=sys.stderr, flush=True)
            said = time.monotonic()
    print(f"{description}: {done}{of} done", file=sys.stderr, flush=True)
