"""Work shared out to processes, answers in order. Knows nothing about the work."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
_AHEAD = 4  # tasks a process has waiting: enough to keep it busy, few enough for the memory


def in_order(
    function: Callable[[Asked], Answer], tasks: Iterable[Asked], workers: int = 1
) -> Iterator[tuple[Asked, Answer]]:
    """Each task with its answer, in the order of the tasks, which are taken only a few ahead.

    With several ``workers`` the function runs in processes of its own, so it, the tasks and the answers must be
    picklable; an exception of it is raised here. Closing the iterator ends the processes.
    """
    if workers == 1:
        for task in tasks:
            yield task, function(task)
        return
    # Spawned, not forked: whoever calls this may have threads, which a fork would leave behind with their locks held.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    waiting: deque[tuple[Asked, Future[Answer]]] = deque()
    coming = iter(tasks)
    try:
        while True:
            for task in islice(coming, _AHEAD * workers - len(waiting)):
                waiting.append((task, pool.submit(function, task)))
            if not waiting:
                return
            task, future = waiting.popleft()
            yield task, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
