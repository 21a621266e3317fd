"""A process that stands in for the one with the model: it answers at once, slowly, wrongly, or dies (see `serve`)."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any

from elysium.app.worker import ABANDON, CANCEL, ModelSettings
from elysium.errors import ElysiumError, InputError, ModelError

WRITES = 40  # reports of `writes`, a tenth of a second apart


def serve(pipe: Connection, settings: ModelSettings) -> None:
    """In the place of `worker.serve`. The name of the model decides about the start, the name of the task about the
    rest: `double` answers, `slow` waits for a cancel, `slow to stop` until it is abandoned, `gives up` fails after a
    cancel, `writes` takes its time then, `deaf` hears none, `fail` and `die` do so."""
    if settings.model == "missing":
        pipe.send(("failed", ModelError("No such model: 'missing'", "Check the name.")))
        return
    if settings.model == "dies":
        os._exit(3)
    pipe.send(("ready", settings.model))
    while True:
        try:
            _, task, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(pipe, task, arguments))


def _answer(pipe: Connection, task: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    if task == "die":
        os._exit(9)
    if task == "fail":
        return "failed", InputError("The box is empty", "Draw one.")
    if task == "deaf":
        time.sleep(3600)
    if task in ("slow", "slow to stop", "gives up", "writes"):
        pipe.send(("progress", ("tracking", 3, 10, None)))
        kind, _, _ = pipe.recv()
        return _after_cancel(pipe, task, kind)
    return "done", 2 * arguments["number"]


def _after_cancel(pipe: Connection, task: str, kind: str) -> tuple[str, Any]:
    if task == "gives up":
        return "failed", ElysiumError("It was given up")
    if task == "writes":
        for number in range(WRITES):
            time.sleep(0.1)
            pipe.send(("progress", ("drawing", number + 1, WRITES, None)))
        return "done", "written"
    while task == "slow to stop" and kind != ABANDON:
        kind, _, _ = pipe.recv()
    return "done", {CANCEL: "kept", ABANDON: "dropped"}[kind]
