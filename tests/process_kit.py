"""Calls in a process of their own. Knows nothing about what is called."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Answer = TypeVar("Answer")


def in_fresh_process(function: Callable[..., Answer], *args: object) -> Answer:
    """What a function of a module answers in a new process, which has no threads and may fork.

    By the time a test runs, the process of the tests has threads of Ray, gRPC, web servers and more. A child forked
    from it inherits the locks that they hold, without those who would let go of them, and may wait for ever: also a
    loader's process of PyTorch, which forks.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_starts_others_as_usual) as pool:
        return pool.submit(function, *args).result()


def _starts_others_as_usual() -> None:
    """A spawned process would spawn its own as well."""
    multiprocessing.set_start_method(None, force=True)
