"""Progress lines on stderr. Knows nothing about what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int | None], None]


@contextmanager
def frame_progress(label: str, *, quiet: bool = False) -> Iterator[Report | None]:
    """Yield `report(frames_done, frames_in_all or None)`, or None when `quiet`."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn

    class Speed(TextColumn):
        def __init__(self) -> None:
            super().__init__("")

        def render(self, task: Task):  # type: ignore[no-untyped-def]  # rich.text.Text, imported only here
            seconds = task.finished_time or task.elapsed  # from the start: the first clip is the slow one
            speed = f"{task.completed / seconds:.1f}" if seconds and task.completed else "..."
            self.text_format = f"{speed} frames/s"
            return super().render(task)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as line:
        task = line.add_task(label, total=None)
        yield lambda done, total: line.update(task, completed=done, total=total)


@contextmanager
def counted(label: str, quiet: bool = False, total: int | None = None) -> Iterator[Callable[[int], None] | None]:
    """Yield what is told how many things are done, of ``total`` if that is known; None when `quiet`."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    unknown = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed}"), TimeElapsedColumn())
    known = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*(unknown if total is None else known), console=Console(stderr=True)) as line:
        task = line.add_task(label, total=total)
        yield lambda done: line.update(task, completed=done)
