"""ahead: the order of the items, errors in their place, and how far it runs."""

import threading

import pytest

from pyws.data.video.ahead import ahead


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
