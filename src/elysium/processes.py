"""Work shared out to processes, answers in order; and the memory of long ones. Knows nothing about the work."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from typing import TypeVar

from elysium.errors import ElysiumError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
_AHEAD = 4  # tasks a process has waiting: enough to keep it busy, few enough for the memory


def in_order(
    function: Callable[[Asked], Answer], tasks: Iterable[Asked], workers: int = 1
) -> Iterator[tuple[Asked, Answer]]:
    """Each task with its answer, in the order of the tasks, which are taken only a few ahead.

    With several ``workers`` the function runs in processes of its own, so it, the tasks and the answers must be
    picklable (and a script that calls this needs the usual ``if __name__ == "__main__"``); an exception of it is raised
    here. Closing the iterator ends the processes. Raises ElysiumError if one of them was killed.
    """
    if workers == 1:
        for task in tasks:
            yield task, function(task)
        return
    # Spawned, not forked: whoever calls this may have threads, which a fork would leave behind with their locks held.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_deaf)
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
    except BrokenProcessPool as error:
        told = "A process ended before its work was done; perhaps the memory did not suffice"
        raise ElysiumError(told, "Use fewer --workers.") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def release_memory() -> None:
    """Hand freed heap pages back to the system where the C library (glibc) would keep them.

    Tensors of a clip come and go in changing sizes; without this the process keeps growing by the gaps between them
    (measured: 13 % from 200 to 2,000 frames). Decoders free their frames in threads, whose pools glibc lets grow.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return found


def _deaf() -> None:
    """Ctrl-C reaches the whole group: only the process that shares out the work is to answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
