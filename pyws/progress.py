"""Progress of long work: a rich bar on a terminal, plain lines otherwise, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from pyws.errors import printable, tell

Item = TypeVar("Item")

PLAIN_SECONDS = 5.0  # between two plain lines
FIRST_SECONDS = 3.0  # a time is estimated from so many seconds of steps, or from FIRST_STEPS
FIRST_STEPS = 10


def track(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    quiet: bool = False,
    size: Callable[[Item], int] | None = None,
) -> Iterator[Item]:
    """Iterate over ``items`` and show how far the work is and how long it will take, on standard error.

    Parameters
    ----------
    items : what is worked through
    description : what the work is, in a few words
    total : number of items; taken from ``len(items)`` where it has one
    quiet : show nothing; so does a total of 0
    size : how many an item counts as, such as the frames of a batch; one where it is left out. ``items`` then has a
        length, or ``total`` is the sum

    Examples
    --------
    >>> [item for item in track([1, 2], "doubling", quiet=True)]
    [1, 2]
    """
    description = printable(description)
    if total is None and isinstance(items, Sized):
        total = len(items) if size is None else sum(map(size, items))
    if quiet or total == 0:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, description, total, size)
    else:
        yield from _plain(items, description, total, size)


def duration(seconds: float) -> str:
    """A time for people, in the unit that fits.

    Examples
    --------
    >>> duration(0.4), duration(95), duration(5400), duration(112000)
    ('1 s', '2 min', '1.5 h', '31 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{round(hours)} h"


class Pace:
    """How long a training will take: said after its first steps, then shown with what it measures as it goes.

    Parameters
    ----------
    what : is trained
    steps : steps that are left of the whole training, a step being what :meth:`step` counts; may be a fraction
    bound : "about", or "at most" where the training may end before
    quiet : say nothing

    Examples
    --------
    >>> pace = Pace("a network", 100, quiet=True)
    >>> for _ in range(10):
    ...     pace.step()
    >>> pace.done, pace.left() >= 0
    (10, True)
    """

    def __init__(self, what: str, steps: float, bound: str = "about", quiet: bool = False) -> None:
        self.what, self.steps, self.bound, self.quiet = what, steps, bound, quiet
        self.done = 0
        self._began = self._said = time.monotonic()
        self._announced = False

    def step(self) -> None:
        """A step is done."""
        self.done += 1
        passed = time.monotonic() - self._began
        if not self._announced and (self.done >= FIRST_STEPS or passed >= FIRST_SECONDS):
            self._announced = True
            pace = f"{passed / self.done:.3g} s a step, {round(self.steps)} steps"
            whole = duration(self.steps * passed / self.done)
            self._print(f"{self.what}: {self.bound} {whole} on this machine ({pace})")

    def left(self) -> float:
        """Seconds that are left, at the pace so far."""
        passed = time.monotonic() - self._began
        return max(self.steps - self.done, 0.0) * passed / max(self.done, 1)

    def show(self, number: int, total: int, values: dict[str, float | None], unit: str = "epoch") -> None:
        """Say how far it is and what was measured; not more often than every few seconds, but for the last time."""
        if number == total or time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            measured = "".join(f", {name} {value:.4g}" for name, value in values.items() if value is not None)
            left = f", {self.bound} {duration(self.left())} left" if self.done < self.steps and number < total else ""
            self._print(f"{self.what}: {unit} {number}/{total}{measured}{left}")

    def _print(self, text: str) -> None:
        if not self.quiet:
            tell(text)


def _bar(
    items: Iterable[Item], description: str, total: int | None, size: Callable[[Item], int] | None
) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task, 1 if size is None else size(item))


def _plain(
    items: Iterable[Item], description: str, total: int | None, size: Callable[[Item], int] | None
) -> Iterator[Item]:
    of = "" if total is None else f"/{total}"
    began = said = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1 if size is None else size(item)
        now = time.monotonic()
        if now - said >= PLAIN_SECONDS and done != total:
            left = f", {duration((total - done) * (now - began) / done)} left" if total and done else ""
            tell(f"{description}: {done}{of}{left}")
            said = now
    tell(f"{description}: {done}{of} done")
