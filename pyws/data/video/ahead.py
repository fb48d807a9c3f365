"""Work done ahead: what comes next is made by other threads while the present item is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
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


def map_in_threads(function: Callable[[Item], Made], items: Iterable[Item]) -> Generator[Made, None, None]:
    """``function`` of each item, in their order, by as many threads as torch has, which share those of torch.

    Items are made by a thread of their own, at most two more than there are workers. An error, of an item or of the
    function, comes where its result would have come. Leaving early stops each thread after the item that it is at.

    Examples
    --------
    >>> list(map_in_threads(lambda number: number**2, range(4)))
    [0, 1, 4, 9]
    """
    import torch  # which commands that draw nothing do without

    threads = torch.get_num_threads()
    workers = min(threads, MOST_WORKERS)
    source = iter(items)

    def made(item: Future[Item]) -> Made:
        given: Any = item.result()
        return _END if given is _END else function(given)

    try:
        with (
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(workers, "worker", torch.set_num_threads, (threads // workers,)) as pool,
            closing(_in_order(lambda: pool.submit(made, reader.submit(next, source, _END)), workers + 1)) as results,
        ):
            yield from results
    finally:
        torch.set_num_threads(threads)  # what threads to come start with


def _in_order(submit: Callable[[], Future[Made]], count: int) -> Generator[Made, None, None]:
    """Results of what is submitted, ``count`` of them ahead, until one is the end."""
    waiting = deque(submit() for _ in range(count))
    try:
        while (result := waiting.popleft().result()) is not _END:
            waiting.append(submit())
            yield result
    finally:
        for future in waiting:
            future.cancel()
