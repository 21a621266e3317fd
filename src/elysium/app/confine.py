"""Watches over the process that opens an upload: a deadline, an end when nobody wants the result, words for its death.

Knows the answers of `elysium.app.intake`, nothing of what it does with a file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elysium.app.clips import Clip
from elysium.app.intake import as_order
from elysium.app.limits import Limits, Turned, check_files
from elysium.errors import SourceError
from elysium.files import output_error

_PLACES = 2  # uploads that are decoded at the same time
_AT_ONCE = threading.BoundedSemaphore(_PLACES)
_PATIENCE_S = 20.0  # an upload waits no longer for its turn, since a thread of the server waits with it
_TICK_S = 0.1


def take_in(
    files: list[Path],
    folder: Path,
    name: str,
    limits: Limits,
    *,
    told: Callable[[int], None] | None = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> Clip:
    """Decode an upload into ``folder``, in another process.

    Args:
        files: as they were uploaded; one video, or images of one size.
        folder: for the frames; removed again if this fails.
        name: what to call it.
        told: called with the number of frames that are there.
        unwanted: asked now and then whether the result is still wanted.

    Raises:
        InputError, SourceError: what is wrong with the upload, or that it took too much time or memory.
        Turned: too many uploads at once, or not wanted any more.
    """
    check_files(files, limits)
    check_room(folder.parent, limits)
    if not _AT_ONCE.acquire(timeout=_PATIENCE_S):
        raise Turned("Too many uploads are being read just now", "Try again in a minute.")
    try:
        folder.mkdir(mode=0o700)
        facts = _answer(as_order(files, folder, name, limits), name, limits, told, unwanted)
    except OSError as error:
        raise output_error(folder, error) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _AT_ONCE.release()
    width, height = facts["resolution_wh"]
    return Clip(name, folder, facts["fps"], (width, height), tuple(facts["times_s"]), tuple(facts["warnings"]))


def wait_for_all(seconds: float) -> None:
    """Return once no upload is being decoded, or after so long for each place."""
    free = [_AT_ONCE.acquire(timeout=seconds) for _ in range(_PLACES)]
    for _ in range(sum(free)):
        _AT_ONCE.release()


def check_room(folder: Path, limits: Limits) -> None:
    """Raise Turned where the disk of ``folder`` is nearly full."""
    if shutil.disk_usage(folder).free < limits.min_free_bytes:
        raise Turned("The disk of this server is full", "Try again later.")


def _answer(
    order: str, name: str, limits: Limits, told: Callable[[int], None] | None, unwanted: Callable[[], bool]
) -> dict[str, Any]:
    """What the process says of the upload; ended when it is late or unwanted."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads take memory each
    child = subprocess.Popen(
        [sys.executable, "-m", "elysium.app.intake"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for the server
    )  # fmt: skip
    lines: list[dict[str, Any]] = []
    listener = threading.Thread(target=_listen, args=(child, order, lines, told), daemon=True)
    listener.start()
    deadline = time.monotonic() + limits.intake_seconds
    try:
        while listener.is_alive():
            listener.join(_TICK_S)
            if unwanted():
                raise Turned("The upload is not wanted any more")
            if time.monotonic() > deadline:
                raise SourceError(f"Reading {name!r} took too long", "Cut it, or make its frames smaller.")
    finally:
        child.kill()
        code = child.wait()
        listener.join()
    last = lines[-1] if lines else {}
    if "error" in last:
        raise SourceError(*last["error"])
    if "clip" not in last:
        raise SourceError(f"{name!r} could not be read: {_why(code)}", "Convert it to MP4, or make its frames smaller.")
    facts: dict[str, Any] = last["clip"]
    return facts


def _listen(
    child: subprocess.Popen[str], order: str, lines: list[dict[str, Any]], told: Callable[[int], None] | None
) -> None:
    """Give the order and collect the answers, until the process ends."""
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(order + "\n")
        child.stdin.flush()  # and left open: its end tells the process that the server is gone
        for text in child.stdout:
            line = json.loads(text)
            lines.append(line)
            if told is not None and "frames" in line:
                told(line["frames"])
        child.wait()
    except (OSError, ValueError):
        return  # it was killed; what it said last decides


def _why(code: int) -> str:
    """Why a process ended without an answer."""
    if code == -getattr(signal, "SIGXCPU", 0) or code == -getattr(signal, "SIGKILL", 9):
        return "it took too much time or memory"
    return "the decoder broke off"
