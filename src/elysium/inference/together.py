"""Several videos at once: what their trackers ask at the same time is answered in one batch.

Each video is tracked in a thread of its own, its clips in order; reading and decoding frames goes on in these threads
while the model works in the one that called. A tracker sees an engine as any other, and its answers do not depend on
the company (in float32).

Knows threads and queues of questions. Does not know: what is tracked, or how questions are answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from elysium.inference.answers import Answer, Request
from elysium.inference.clips import Answers

Item = TypeVar("Item")
Result = TypeVar("Result")
PATIENCE_S = 0.02  # that a question waits for company, while others are still reading frames
_TICK_S = 0.5  # how long Ctrl-C may take to be noticed at most


class _Asked:
    def __init__(self, requests: Sequence[Request], free: bool) -> None:
        self.requests, self.free = list(requests), free
        self.answers: Future[list[Answer]] = Future()
        self.since = time.monotonic()


class Together:
    """One engine for the trackers of several videos.

    Args:
        engine: answers lists of requests, in one thread.
        at_once: videos that are tracked at the same time, 1 or more.
    """

    def __init__(self, engine: Answers, at_once: int) -> None:
        self.engine, self.at_once = engine, at_once
        self._changed = threading.Condition()
        self._asked: list[_Asked] = []
        self._over = False

    @property
    def max_batch(self) -> int:
        return self.engine.max_batch

    @property
    def region_marks(self) -> bool:
        return self.engine.region_marks

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        """Answers, as of `Engine.run`, for a tracker's thread. Raises KeyboardInterrupt if the work was stopped."""
        asked = _Asked(requests, free)
        with self._changed:
            if self._over:
                raise KeyboardInterrupt
            self._asked.append(asked)
            self._changed.notify_all()
        return asked.answers.result()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with what ``function`` gives for it, as they are done. Iterate over it where the engine may run.

        ``function`` may ask `run`; an exception of it is raised here, and ends the work on the others.
        """
        waiting, working = iter(items), dict[Future[Result], Item]()
        self._over = False
        with ThreadPoolExecutor(self.at_once, "video") as pool:
            try:
                while True:
                    for item in islice(waiting, self.at_once - len(working)):
                        future = pool.submit(function, item)
                        working[future] = item
                        future.add_done_callback(self._notify)
                    if not working:
                        return
                    self._answer(working)
                    for future in [future for future in working if future.done()]:
                        yield working.pop(future), future.result()
            finally:
                self._stop()

    def _notify(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()

    def _answer(self, working: Iterable[Future[Result]]) -> None:
        """Wait until all that are at work have asked something, or the first has waited long enough; answer them."""
        with self._changed:
            while not any(future.done() for future in working):
                busy = sum(not future.done() for future in working) - len(self._asked)
                waited = time.monotonic() - self._asked[0].since if self._asked else 0.0
                if self._asked and (not busy or waited >= PATIENCE_S):
                    break
                self._changed.wait(PATIENCE_S - waited if self._asked else _TICK_S)
            asked, self._asked = self._asked, []
        for free in (False, True):
            self._answer_all([one for one in asked if one.free == free], free)

    def _answer_all(self, asked: Sequence[_Asked], free: bool) -> None:
        """What one of them asks may be at fault; if answering all fails, each is answered by itself."""
        if not asked:
            return
        try:
            answers = iter(self.engine.run([request for one in asked for request in one.requests], free=free))
            for one in asked:
                one.answers.set_result(list(islice(answers, len(one.requests))))
        except Exception as error:
            if len(asked) == 1:
                asked[0].answers.set_exception(error)
                return
            for one in asked:
                self._answer_all([one], free)
        except BaseException:  # Ctrl-C: nobody is left waiting for what will not come
            for one in asked:
                one.answers.set_exception(KeyboardInterrupt())
            raise

    def _stop(self) -> None:
        """Whoever waits for an answer, or asks from now on, is stopped as by Ctrl-C."""
        with self._changed:
            self._over = True
            for one in self._asked:
                one.answers.set_exception(KeyboardInterrupt())
            self._asked = []
