"""ahead: the order of the items, errors in their place, and how far it runs."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from pyws.data.video.ahead import MOST_WORKERS, _in_order, ahead, map_in_threads, shared_workers


@pytest.mark.parametrize("count", [1, 3, 10])
def test_items_in_order_and_no_further_than_asked(count):
    made = []

    def items():
        for number in range(6):
            made.append(number)
            yield number

    found = []
    for number in ahead(items(), count):
        assert len(made) <= number + 1 + count
        found.append(number)
    assert found == made == list(range(6))
    assert list(ahead([], count)) == []
    assert list(ahead([None, None])) == [None, None]


def test_the_next_item_is_made_while_one_is_used():
    began = threading.Event()

    def items():
        yield 0
        began.set()
        yield 1

    source = ahead(items())
    assert next(source) == 0
    assert began.wait(10)
    assert list(source) == [1]


def test_an_error_comes_where_its_item_would():
    def items():
        yield 0
        yield 1
        raise OSError("gone")

    source = ahead(items(), 3)
    assert [next(source), next(source)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(source)


def test_leaving_early_stops_the_thread():
    before, made = threading.active_count(), []
    source = ahead((made.append(number) or number for number in range(1000)), 2)
    next(source)
    source.close()
    assert len(made) <= 4
    assert threading.active_count() == before


def test_leaving_early_calls_off_what_waits() -> None:
    """What no thread has begun is never made; torch's threads, which others use too, are not kept busy with it."""
    submitted: list[Future[str]] = []

    def submit() -> Future[str]:
        submitted.append(Future())
        return submitted[-1]

    found = _in_order(submit, 3)
    submitted[0].set_result("first")
    assert next(found) == "first"
    found.close()
    assert [one.cancelled() for one in submitted] == [False, True, True, True]


@pytest.mark.parametrize("threads", [1, 2, 6])
def test_side_by_side_keeps_order_and_shares_torchs_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = list(map_in_threads(lambda number: (number, torch.get_num_threads()), range(40)))
        after = [torch.get_num_threads()]
        with ThreadPoolExecutor(1) as other:
            after.append(other.submit(torch.get_num_threads).result())
    finally:
        torch.set_num_threads(before)
    workers = min(threads, MOST_WORKERS)
    assert made == [(number, threads // workers) for number in range(40)]
    assert after == [threads, threads]  # here and in threads to come


@pytest.mark.parametrize("of_item", [True, False])
def test_side_by_side_raises_an_error_in_its_place(of_item: bool) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        if of_item:
            raise ValueError("the fourth")
        yield 3

    def double(number: int) -> int:
        if number == 3:
            raise ValueError("the fourth")
        return 2 * number

    source = map_in_threads(double, items())
    assert [next(source) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(ValueError, match="the fourth"):
        next(source)


def test_side_by_side_reads_no_more_than_its_window() -> None:
    read: list[int] = []
    source = map_in_threads(lambda number: number, (read.append(number) or number for number in range(1000)))
    assert next(source) == 0
    source.close()
    assert len(read) <= 1 + min(torch.get_num_threads(), MOST_WORKERS) + 2


def test_maps_share_the_workers_of_a_block() -> None:
    """The second map begins when the first has not ended, and no thread is added for it."""
    began = threading.Event()

    def second(number: int) -> tuple[int, str]:
        began.set()
        return number, threading.current_thread().name

    with shared_workers() as workers:
        first = workers.map(lambda number: (number, threading.current_thread().name), range(6))
        other = workers.map(second, range(6))
        assert began.wait(10)
        found = [*first, *other, *map_in_threads(second, range(6))]
    assert [number for number, _ in found] == 3 * list(range(6))
    assert len({name for _, name in found}) <= min(torch.get_num_threads(), MOST_WORKERS)
    after = list(map_in_threads(second, range(2)))
    assert [number for number, _ in after] == [0, 1]


def test_leaving_a_block_stops_what_was_begun_and_not_used() -> None:
    read: list[int] = []
    before = threading.active_count()
    with pytest.raises(ValueError, match="of the user"), shared_workers() as workers:
        unused = workers.map(lambda number: number, (read.append(number) or number for number in range(1000)))
        raise ValueError("of the user")
    assert unused is not None
    assert len(read) <= workers.count
    assert threading.active_count() == before
