"""Ray, started here or found on a cluster, and a function carried over a list by it.

Knows Ray, which is imported when it is needed. Knows nothing of what is done.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from elysium.errors import ElysiumError, InputError
from elysium.files import output_error

OBJECT_STORE_BYTES = 200_000_000  # of a Ray started here: descriptions of work pass through it, no pixels
_REMEDY = 'Install elysium with its extra: pip install "elysium-video[build]"'
_MOST_BLOCKS = 2000  # pieces that a list is cut into: Ray keeps something of each


@dataclass(frozen=True)
class Crew:
    """A step, and who does it.

    Args:
        make: called once in each process, gives the function that is called for each item.
        workers: so many processes. num_gpus: that each of them holds, a share of one among them.
    """

    make: Callable[[], Callable[[Any], Any]]
    workers: int = 1
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        if not self.num_gpus >= 0 or (self.num_gpus > 1 and self.num_gpus % 1):
            raise InputError(f"A process cannot have {self.num_gpus:g} GPUs", "Give a share of one, or a whole number.")


MOST_TRIES = 2


@dataclass(frozen=True)
class Mark:
    """A file that says that ``run`` is working on something, by which a function that is called again because its
    process ended knows of it."""

    path: Path
    run: str

    def tries(self) -> tuple[int, str]:
        """How often the run has begun this without coming to its end, and where it was."""
        try:
            run, tries, at = self.path.read_text(encoding="utf-8").split(" ")
            return (int(tries), at) if run == self.run else (0, "")
        except (OSError, ValueError):
            return 0, ""

    def begin(self, tries: int, at: str) -> None:
        """Write down that this is try number ``tries``, and where it is (one word). Raises OutputError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(f"{self.run} {tries} {at}", encoding="utf-8")
        except OSError as error:
            raise output_error(self.path, error) from error

    def end(self) -> None:
        self.path.unlink(missing_ok=True)

    def given_up(self) -> str:
        """Why this is not to be tried once more, in a sentence; "" if it may be."""
        tries, at = self.tries()
        return f"{at}: the process that worked on it ended without a word, {tries} times" if tries >= MOST_TRIES else ""


@contextmanager
def cluster(processes: int, address: str | None = None, gpus: float = 0.0) -> Iterator[None]:
    """Ray for as long as the block lasts: started here with room for so many ``processes``, or that at ``address``.

    One that runs already in this process is used as it is, and left running. Raises InputError without Ray, or if it is
    without an ``address`` and has not so many ``gpus``, for which it would wait for ever; ElysiumError if it cannot be
    started or reached.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what a later Ray does; this one warns of it
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError as error:
        raise InputError("Sharing the work out needs the package ray, which is not installed", _REMEDY) from error
    if ray.is_initialized():
        _check_gpus(gpus)
        with redirect_stdout(cast(TextIO, _Aside())):
            yield
        return
    here = {"num_cpus": processes, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    place = here if address is None else {"address": address}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **place)
    except Exception as error:  # Ray raises what it likes
        where = "start" if address is None else f"reach at {address!r}"
        raise ElysiumError(f"Ray is impossible to {where}: {error}", "Check the address, or leave it out.") from error
    try:
        if address is None:
            _check_gpus(gpus)
        with redirect_stdout(cast(TextIO, _Aside())):
            yield
    finally:
        ray.shutdown()


def _check_gpus(wanted: float) -> None:
    import ray

    found = ray.cluster_resources().get("GPU", 0.0)
    if wanted > found:
        told = f"The processes are to have {wanted:g} GPUs together, and Ray finds {found:g} here"
        raise InputError(told, "Give them a smaller share, or a cluster with --ray.")


class _Aside:
    """Where Ray's messages go, which it prints on stdout: to stderr, but for those about processes that ended, which
    whoever shares out the work tells in fewer words."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if "(raylet)" not in line:
                print(line, file=sys.stderr)
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def carried(crews: Sequence[Crew], items: Sequence[Any]) -> Iterator[Any]:
    """What comes of each item after all ``crews``, one behind the other, as it is done, in whatever order.

    Ray Data streams the items through; memory holds a few of them. Functions, items and answers must be picklable. A
    process that ends is replaced, and what it was doing is done again, without end: a function keeps a `Mark` to see
    when it is enough. To be called inside of `cluster`.

    Raises ElysiumError where a process cannot start or a function raises, or Ray itself comes to its end; Ray has then
    written on stderr where.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = min(len(items), _MOST_BLOCKS)
    data: Any = ray.data.from_items([{"value": item} for item in items], override_num_blocks=blocks)
    for crew in crews:
        pool = ActorPoolStrategy(size=crew.workers, max_tasks_in_flight_per_actor=2)
        data = data.map(_Worker, fn_constructor_args=(crew.make,), compute=pool, num_cpus=1, num_gpus=crew.num_gpus)
    try:
        for row in data.iter_rows():
            yield row["value"]
    except ray.exceptions.RayError as error:
        told = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise ElysiumError(f"Ray gave up: {told}", "When that is mended, the same command goes on.") from error


class _Worker:
    """What Ray makes in each process."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        with suppress(ImportError):  # OpenCV's threads would fight those of the other processes
            import cv2

            cv2.setNumThreads(0)
        self._function = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"value": self._function(row["value"])}
