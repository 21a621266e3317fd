"""The process that has the model: takes orders from a pipe, one at a time, and sends back what comes of them.

Sent to it: `(DO, task, arguments)`, and about the present task `(CANCEL, "", {})` or `(ABANDON, "", {})`. Sent by it:
`("ready", name)` or `("failed", error)` after loading; then for each task any number of `("progress", (stage, done,
total, image))` and one `("done", value)` or `("failed", error)`. It ends with the server. Knows the pipe; the tasks are
in `tasks`.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from elysium.errors import ElysiumError

DO, CANCEL, ABANDON = "do", "cancel", "abandon"  # abandoned: nobody wants what is there so far either
_TOLD_EVERY_S = 0.1


@dataclass(frozen=True)
class ModelSettings:
    """What `Elysium.from_pretrained` is given."""

    model: str = "nano"
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None


class Report:
    """What a task tells while it works, and where it learns that it should stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._stop, self._leave = threading.Event(), threading.Event()
        self._stage, self._told_s = "", 0.0

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for more; what is there so far may be wanted."""
        return self._stop.is_set()

    def cancel(self, abandon: bool) -> None:
        if abandon:
            self._leave.set()
        self._stop.set()

    def renew(self) -> None:
        """For the next task."""
        self._stop.clear()
        self._leave.clear()
        self._stage = ""

    def progress(self, stage: str, done: int, total: int | None = None, image: bytes | None = None) -> None:
        """Say how many frames of how many are done; too many of these are passed over, but for the last.

        Raises ElysiumError where nobody wants the task any more.
        """
        if self._leave.is_set():
            raise ElysiumError("Nobody waits for this any more")
        now = time.monotonic()
        if stage == self._stage and done != total and image is None and now - self._told_s < _TOLD_EVERY_S:
            return
        self._stage, self._told_s = stage, now
        self._pipe.send(("progress", (stage, done, total, image)))


def serve(pipe: Connection, settings: ModelSettings) -> None:
    """Load the model and do what comes through the pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    try:
        from elysium.app import tasks
        from elysium.inference.pipelines import Elysium

        model = Elysium.from_pretrained(
            settings.model, device=settings.device, dtype=settings.dtype, threads=settings.threads
        )
    except ElysiumError as error:
        pipe.send(("failed", error))
        return
    pipe.send(("ready", model.name))
    report, orders = Report(pipe), queue.SimpleQueue[tuple[str, dict[str, Any]]]()
    threading.Thread(target=_listen, args=(pipe, report, orders), daemon=True).start()
    while True:
        task, arguments = orders.get()
        try:
            answer: tuple[str, Any] = ("done", tasks.TASKS[task](model, report, **arguments))
        except ElysiumError as error:
            answer = ("failed", error)
        except Exception as error:
            traceback.print_exc()  # a bug: the operator sees where, the visitor that
            answer = ("failed", ElysiumError(f"This failed unexpectedly: {type(error).__name__}", "Try once more."))
        pipe.send(answer)


def _listen(pipe: Connection, report: Report, orders: queue.SimpleQueue[tuple[str, dict[str, Any]]]) -> None:
    """Sort what comes in; without a server there is nothing left to do."""
    while True:
        try:
            kind, task, arguments = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        if kind in (CANCEL, ABANDON):
            report.cancel(kind == ABANDON)
        else:
            report.renew()
            orders.put((task, arguments))
