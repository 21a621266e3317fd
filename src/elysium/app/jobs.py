"""A bounded queue in front of one model, which lives in a process that may die and is then started again.

Knows jobs (a task's name and its arguments), their progress, and how to end one. Knows nothing of what a task does
(`tasks`), nor of visitors but the names they give themselves here.
"""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from elysium.app import worker
from elysium.app.worker import ModelSettings
from elysium.errors import ElysiumError, ModelError

_WAIT_S = 0.5  # how often somebody who waits for a job looks up, at the latest
_LOAD_S = 600.0  # how long a model may take to load
CANCEL_GRACE_S = 20.0  # who says nothing for so long after a cancel is ended; writing what is there may take longer


class QueueFull(ElysiumError):
    """No more jobs are taken just now."""


class JobFailed(ElysiumError):
    """A job ended without a result."""


class Cancelled(ElysiumError):
    """A job was given up before it had a result."""


@dataclass(frozen=True)
class Progress:
    """Where a job stands.

    Args:
        waiting: jobs before it; 0 for the one that runs.
        stage: what it is doing, one word or two.
        done, total: frames, where there are frames to count.
        fps: frames per second of the present stage, 0.0 before the first.
        image: the newest JPEG of a live view.
    """

    waiting: int = 0
    stage: str = ""
    done: int = 0
    total: int | None = None
    fps: float = 0.0
    image: bytes | None = None


@dataclass(eq=False)
class Job:
    """One thing that the model is asked to do for one visitor; made by `JobQueue.submit`."""

    number: int
    owner: str
    task: str
    arguments: dict[str, Any]
    state: str = "waiting"  # running, done, failed, cancelled
    progress: Progress = field(default_factory=Progress)
    value: Any = None
    error: ElysiumError | None = None
    cancel_asked_s: float | None = None
    abandoned: bool = False  # cancelled, and what is there by then is not wanted either
    changed: threading.Condition = field(default_factory=threading.Condition)
    stage_began_s: float = 0.0

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def updates(self) -> Iterator[Progress]:
        """Its progress, whenever that changes, until it is over. What comes too fast is left out."""
        seen: Progress | None = None
        while True:
            with self.changed:
                if not self.over and self.progress is seen:
                    self.changed.wait(_WAIT_S)
                over, now = self.over, self.progress
            if now is not seen:
                seen = now
                yield now
            if over:
                return

    def result(self) -> Any:
        """What the task gave. Waits for it. Raises the ElysiumError that it ended with."""
        for _ in self.updates():
            pass
        if self.error is not None:
            raise self.error
        return self.value

    def set(self, **changes: Any) -> None:
        """Change fields, and wake whoever waits."""
        with self.changed:
            for name, value in changes.items():
                setattr(self, name, value)
            self.changed.notify_all()

    def advance(self, stage: str, done: int, total: int | None, image: bytes | None = None) -> None:
        """Take down what the process reports."""
        now = time.monotonic()
        if stage != self.progress.stage:
            self.stage_began_s = now
        passed = now - self.stage_began_s
        fps = done / passed if done and passed > 0 else 0.0
        self.set(progress=Progress(0, stage, done, total, fps, image))


class ModelProcess:
    """The process with the model: started on demand, asked one thing at a time.

    Raises ModelError (from `start`) if the model cannot be loaded.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self._process: Any = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Its number, while it lives."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self) -> None:
        """Start it and wait until the model is loaded; nothing if it runs already."""
        if self.pid is not None:
            return
        self.stop()
        context = multiprocessing.get_context("spawn")  # not forked: this process has threads
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=worker.serve, args=(theirs, self.settings), name="elysium-model", daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            kind, value = self._pipe.recv() if self._pipe.poll(_LOAD_S) else ("late", None)
        except (EOFError, OSError):
            kind, value = "ended", None
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        if kind != "ready":
            self.stop()
            if isinstance(value, ElysiumError):
                raise value
            raise ModelError(
                "The process that loads the model ended before it was ready", "Perhaps the memory did not suffice."
            )

    def run(self, job: Job, seconds: float) -> None:
        """Have the job done and write down how it ends; after so many seconds it is cancelled."""
        self.start()
        ends_s = time.monotonic() + seconds
        assert self._pipe is not None
        try:
            self._pipe.send((worker.DO, job.task, job.arguments))
            heard_s, asked = time.monotonic(), ""
            while not job.over:
                if job.cancel_asked_s is None and time.monotonic() > ends_s:
                    job.set(cancel_asked_s=time.monotonic())
                wish = "" if job.cancel_asked_s is None else worker.ABANDON if job.abandoned else worker.CANCEL
                if wish != asked:
                    self._pipe.send((wish, "", {}))
                    asked = wish
                if self._pipe.poll(0.05):
                    self._hear(job, *self._pipe.recv())
                    heard_s = time.monotonic()
                elif job.cancel_asked_s and time.monotonic() - max(heard_s, job.cancel_asked_s) > CANCEL_GRACE_S:
                    self.stop()
                    job.set(state="cancelled", error=Cancelled("The job was stopped"))
        except (EOFError, OSError):
            self.stop()
            told = "The process that runs the model ended before the job was done"
            job.set(state="failed", error=JobFailed(told, "It is being started again: try once more."))

    def _hear(self, job: Job, kind: str, value: Any) -> None:
        if kind == "progress":
            job.advance(*value)
        elif kind == "done":
            job.set(state="done", value=value)
        elif job.cancel_asked_s is not None:
            job.set(state="cancelled", error=Cancelled(value.message, value.remedy))
        else:
            job.set(state="failed", error=value)

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


class JobQueue:
    """At most ``max_waiting`` jobs wait for the model, one for each owner; they are done in order.

    Args:
        process: has the model.
        max_waiting: more are turned away.
        job_seconds: a job that takes longer is cancelled.
    """

    def __init__(self, process: ModelProcess, max_waiting: int, job_seconds: float) -> None:
        self.process, self.max_waiting, self.job_seconds = process, max_waiting, job_seconds
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="elysium-jobs", daemon=True)
        self._thread.start()

    def submit(self, owner: str, task: str, **arguments: Any) -> Job:
        """Put a job at the end of the queue. Raises QueueFull, also where the owner has one already."""
        with self._changed:
            if self._closed:
                raise QueueFull("The server is being stopped")
            if self._of(owner) is not None:
                raise QueueFull("Your job before this one is not done yet", "Wait for it, or stop it.")
            if len(self._waiting) >= self.max_waiting:
                raise QueueFull(
                    f"The model is busy, and {len(self._waiting)} others wait for it already",
                    "Try again in a few minutes.",
                )
            job = Job(next(self._numbers), owner, task, arguments)
            job.progress = Progress(waiting=len(self._waiting) + (self._running is not None), stage="waiting")
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def cancel(self, owner: str, abandon: bool = False) -> bool:
        """Give up the owner's job; what it has found so far still comes unless ``abandon``. False if there is none."""
        with self._changed:
            job = self._of(owner)
            if job is None:
                return False
            if job in self._waiting:
                self._waiting.remove(job)
                job.set(state="cancelled", error=Cancelled("The job was taken out of the queue"))
                self._tell_places()
            else:
                job.set(cancel_asked_s=job.cancel_asked_s or time.monotonic(), abandoned=job.abandoned or abandon)
            return True

    def busy(self, owner: str) -> bool:
        """Whether the owner has a job."""
        with self._changed:
            return self._of(owner) is not None

    def close(self) -> None:
        """Take no more jobs, and end the process."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.set(state="cancelled", error=Cancelled("The server is being stopped"))
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(timeout=5)
        self.process.stop()

    def _of(self, owner: str) -> Job | None:
        jobs = [*self._waiting, *([self._running] if self._running else [])]
        return next((job for job in jobs if job.owner == owner), None)

    def _tell_places(self) -> None:
        for place, job in enumerate(self._waiting):
            job.set(progress=Progress(waiting=place + (self._running is not None), stage="waiting"))

    def _work(self) -> None:
        """The thread that hands jobs to the process, for ever."""
        while True:
            with self._changed:
                self._running = None
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
                job.set(state="running", progress=Progress(stage="starting"))
                self._tell_places()
            try:
                self.process.run(job, self.job_seconds)
            except ElysiumError as error:  # the model could not be loaded again
                job.set(state="failed", error=error)
            except Exception as error:  # a bug must not take the queue with it
                job.set(state="failed", error=JobFailed(f"The job broke off: {error}", "Please report this."))
                self.process.stop()
