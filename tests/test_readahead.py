"""Items fetched ahead are the same items, and no more are fetched than was said."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from elysium.readahead import read_ahead


def counted(upto: int, fetched: list[int], closed: list[bool], fails_at: int = -1) -> Iterator[int]:
    try:
        for number in range(upto):
            if number == fails_at:
                raise ValueError(f"no {number}")
            fetched.append(number)
            yield number
    finally:
        closed.append(True)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_same_items_in_order(count: int) -> None:
    assert list(read_ahead(range(20), count)) == list(range(20))
    assert list(read_ahead([], count)) == []


def test_they_come_from_one_other_thread_and_not_too_early() -> None:
    fetched: list[int] = []
    closed: list[bool] = []
    names: set[str] = set()

    def named() -> Iterator[int]:
        for number in counted(100, fetched, closed):
            names.add(threading.current_thread().name)
            yield number

    items = read_ahead(named(), 4)
    for number in range(10):
        assert next(items) == number
        assert len(fetched) <= number + 1 + 4
    items.close()
    assert len(names) == 1 and threading.current_thread().name not in names
    assert not any("read ahead" in thread.name for thread in threading.enumerate())


def test_closing_closes_the_source_and_an_error_comes_in_its_place() -> None:
    fetched: list[int] = []
    closed: list[bool] = []
    items = read_ahead(counted(100, fetched, closed), 2)
    assert next(items) == 0
    items.close()
    assert closed == [True] and len(fetched) <= 3
    broken = read_ahead(counted(9, [], [], fails_at=3), 5)
    assert [next(broken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no 3"):
        next(broken)
