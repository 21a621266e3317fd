"""Getting things ready in a thread while whoever wants them is at work on those before.

Knows nothing about the things.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterable[Item], count: int) -> Generator[Item, None, None]:
    """The same items, in order, up to ``count`` (1 or more) of them fetched ahead by one thread.

    An exception of ``items`` is raised where the item would have come. Closing the generator waits for the item that is
    being fetched, and fetches no more.
    """
    source, pool, end = iter(items), ThreadPoolExecutor(1, "read ahead"), object()
    try:
        waiting: deque[Future[Item | object]] = deque(pool.submit(next, source, end) for _ in range(count))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, source, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(source, "close", None)
        if close is not None:
            close()
