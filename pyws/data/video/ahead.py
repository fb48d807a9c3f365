"""Work done ahead: what comes next is made by other threads while the present item is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
_END: Any = object()
MOST_WORKERS = 4  # beyond, each takes several of torch's threads: every one holds what a network needs


def ahead(items: Iterable[Item], count: int = 1) -> Generator[Item, None, None]:
    """The items in their order, the next ``count`` of them already being made in a thread of their own.

    An error comes where its item would have come. Leaving early stops the thread after the item that it is at.

    Examples
    --------
    >>> list(ahead(number**2 for number in range(4)))
    [0, 1, 4, 9]
    """
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        yield from _in_order(lambda: pool.submit(next, source, _END), count)


class Workers:
    """As many threads as torch has, which divide torch's threads among them, and one that makes their items.

    Their work is done in the order in which it is given, whoever gives it. ``count`` results are made ahead.
    """

    def __init__(self) -> None:
        import torch  # which commands that draw nothing do without

        self._threads = torch.get_num_threads()
        workers = min(self._threads, MOST_WORKERS)
        self.count = workers + 1
        self._reader = ThreadPoolExecutor(1)
        self._pool = ThreadPoolExecutor(workers, "worker", torch.set_num_threads, (self._threads // workers,))

    def map(self, function: Callable[[Item], Made], items: Iterable[Item]) -> Generator[Made, None, None]:
        """See :func:`map_in_threads`; the first ``count`` are begun by the call itself."""
        source = iter(items)

        def made(item: Future[Item]) -> Made:
            given: Any = item.result()
            return _END if given is _END else function(given)

        return _in_order(lambda: self._pool.submit(made, self._reader.submit(next, source, _END)), self.count)

    def close(self) -> None:
        """Stop each thread after the item that it is at."""
        import torch

        self._reader.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)  # what threads to come start with


_shared: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextmanager
def shared_workers() -> Iterator[Workers]:
    """Threads that each :func:`map_in_threads` of this thread uses until the end of the block."""
    with closing(Workers()) as workers:
        token = _shared.set(workers)
        try:
            yield workers
        finally:
            _shared.reset(token)


def map_in_threads(function: Callable[[Item], Made], items: Iterable[Item]) -> Generator[Made, None, None]:
    """``function`` of each item, in order, by as many threads as torch has, which divide torch's threads among them.

    Items are made by a thread of their own, at most two more than there are workers. An error, of an item or of the
    function, comes where its result would have come. Leaving early stops each thread after the item that it is at.

    Examples
    --------
    >>> list(map_in_threads(lambda number: number**2, range(4)))
    [0, 1, 4, 9]
    """
    shared = _shared.get()
    with nullcontext(shared) if shared else closing(Workers()) as workers:
        yield from workers.map(function, items)


def _in_order(submit: Callable[[], Future[Made]], count: int) -> Generator[Made, None, None]:
    """Results of what is submitted, ``count`` of them ahead, until one is the end; the first are submitted now."""
    waiting = deque(submit() for _ in range(count))

    def results() -> Generator[Made, None, None]:
        try:
            while (result := waiting.popleft().result()) is not _END:
                waiting.append(submit())
                yield result
        finally:
            for future in waiting:
                future.cancel()

    return results()
