"""Work done ahead: what comes next is made by another thread while the present item is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


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
        waiting: deque[Future[Item | object]] = deque(pool.submit(next, source, _END) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, source, _END))
                yield item  # type: ignore[misc]  # every other object came from the source
        finally:
            for future in waiting:
                future.cancel()
