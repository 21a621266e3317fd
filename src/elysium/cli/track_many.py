"""`elysium track-many`: a list of videos and queries, one folder of results each; stopped, it goes on where it was."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.cli.outputs import (
    DEFAULT_SAVE,
    OutputPlan,
    check_writable,
    folder_names,
    parse_formats,
    save_result,
)
from elysium.cluster import Crew, Mark, carried, cluster
from elysium.errors import ElysiumError, InputError
from elysium.files import atomic_write_text

if TYPE_CHECKING:
    from elysium.inference.pipelines import Elysium
    from elysium.manifest import ManifestItem

FAILURES = "failures.jsonl"
AT_ONCE = 4


def track_many(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="A .jsonl or .csv file: videos and queries.", show_default=False)
    ],
    output: Annotated[str, typer.Option("--output", metavar="DIR", help="A folder of results for each item.")],
    model: common.Model = "nano",
    save: Annotated[str, typer.Option("--save", metavar="LIST", help="As of `elysium track`.")] = DEFAULT_SAVE,
    clip_length: common.ClipLength = None,
    lost_policy: common.LostPolicyOption = "search",
    zoom: common.Zoom = False,
    tokens_per_frame: common.TokensPerFrame = None,
    at_once: Annotated[int, typer.Option("--at-once", metavar="N", help="So many videos share a batch.")] = AT_ONCE,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help=(
        "So many processes on Ray, each with the model and one video at a time; 0: this process alone."))] = 0,
    ray: Annotated[str | None, typer.Option("--ray", metavar="ADDRESS", show_default=False, help=(
        "Work on this Ray cluster, with --workers; all its machines must see the same files."))] = None,
    gpus: Annotated[float, typer.Option("--gpus", metavar="SHARE", help="Of a GPU for each of the --workers.")] = 0.0,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    quiet: common.Quiet = False,
) -> int:
    """Follow objects in many videos, as a manifest lists them.

    Each line or row: source, and expression(s) or box(es); optionally id, box_format, at_s, start_s, end_s, stride,
    max_frames. Items whose files are all there are skipped, so a run that was stopped goes on. Items that fail are
    listed in failures.jsonl, and the exit code is 1. With --workers a video that ends its process is such an item, too.

    Example: elysium track-many clips.jsonl --output runs/clips
    """
    from elysium.manifest import read_manifest

    formats = parse_formats(save)
    if not formats:
        raise InputError("--save none would leave nothing to skip by, and nothing to read", "Save at least json.")
    common.check_clip_length(clip_length)
    common.check_lost_policy(lost_policy)
    common.at_least("--at-once", at_once)
    common.at_least("--tokens-per-frame", tokens_per_frame)
    common.check_workers(workers, ray)
    if gpus and not workers:
        raise InputError(f"--gpus {gpus:g} is for each of --workers 0", "Give --workers 1 or more, or --device cuda.")
    items = read_manifest(manifest)
    folder = Path(output)
    check_writable(folder)
    options = {"clip_length": clip_length, "lost_policy": lost_policy, "zoom": zoom}
    work = Work(folder.resolve(), formats, model, device, dtype, threads, options, tokens_per_frame)
    waiting = [item for item in items if not _is_done(work.plan(item))]
    common.check_machine(device, dtype, threads)
    failures: list[dict[str, str]] = []
    if waiting:
        crew = Crew(partial(_worker, work), workers, gpus) if workers else None
        tracked = _tracked(work, waiting, at_once) if crew is None else _shared_out(crew, waiting, ray)
        for item, done in _told(tracked, waiting, quiet):
            if done.fatal:
                raise ElysiumError(done.problem)
            for sentence in done.warnings:
                common.warn(f"{item.id}: {sentence}")
            if done.problem:
                failures.append({"id": item.id, "source": item.source, "error": done.problem})
                common.error_line(f"{item.id}: {done.problem}")
    _write_failures(folder / FAILURES, failures)
    if not quiet:
        skipped = len(items) - len(waiting)
        print(f"{len(waiting) - len(failures)} done, {skipped} skipped (done before), {len(failures)} failed: {folder}")
    return common.SOME_FAILED if failures else common.DONE


def _is_done(plan: OutputPlan) -> bool:
    return all((plan.folder / name).exists() for name in plan.names.values())


@dataclass(frozen=True)
class Work:
    """What every process has to know: where results go, and how it is tracked. ``run`` tells this run from others."""

    folder: Path
    formats: tuple[str, ...]
    model: str
    device: str
    dtype: str
    threads: int | None
    options: dict[str, Any]  # of `Elysium.track`
    tokens_per_frame: int | None
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    def plan(self, item: ManifestItem) -> OutputPlan:
        return OutputPlan(self.folder / item.id, folder_names(self.formats))

    def load(self) -> Elysium:
        tokens = self.tokens_per_frame
        return common.load_model(self.model, self.device, self.dtype, self.threads, tokens_per_frame=tokens)


@dataclass(frozen=True)
class Done:
    """What came of an item: ``problem`` is "" if its files are there; a ``fatal`` one is not of this item alone."""

    problem: str = ""
    warnings: tuple[str, ...] = ()
    fatal: bool = False


def _tracked(work: Work, items: Sequence[ManifestItem], at_once: int) -> Iterator[tuple[ManifestItem, Done]]:
    """Each item, as it is done here."""
    from elysium.inference.together import Together

    model = work.load()
    together = Together(model.engine, at_once)
    shared = model.with_engine(together)
    return together.map(lambda item: _track_one(shared, item, work), items)


def _shared_out(crew: Crew, items: Sequence[ManifestItem], ray: str | None) -> Iterator[tuple[ManifestItem, Done]]:
    """Each item, as it is done by one of the processes of Ray."""
    with cluster(crew.workers, ray, crew.workers * crew.num_gpus):
        yield from carried([crew], items)


def _worker(work: Work) -> Callable[[ManifestItem], tuple[ManifestItem, Done]]:
    """What each process of Ray does with an item: it tracks with a model of its own, and gives up on what ended it."""
    try:
        model = work.load()
    except ElysiumError as error:
        problem = str(error)
        return lambda item: (item, Done(problem, fatal=True))

    def track(item: ManifestItem) -> tuple[ManifestItem, Done]:
        mark = Mark(work.folder / f".{item.id}.begun", work.run)
        told = mark.given_up()
        try:
            if not told:
                mark.begin(mark.tries()[0] + 1, "tracking")
            return item, Done(told) if told else _track_one(model, item, work)
        except ElysiumError as error:
            return item, Done(str(error))
        finally:
            mark.end()

    return track


def _track_one(model: Elysium, item: ManifestItem, work: Work) -> Done:
    """Track one item and write its files."""
    try:
        result = model.track(
            item.source, item.expressions or None, item.boxes or None, item.box_format, at_s=item.at_s or None,
            start_s=item.start_s, end_s=item.end_s, stride=item.stride, max_frames=item.max_frames,
            **work.options,
        )  # fmt: skip
        _, failed = save_result(result, work.plan(item))
    except ElysiumError as error:
        return Done(str(error))
    return Done(str(failed[0]) if failed else "", tuple(result.warnings))


def _write_failures(path: Path, failures: list[dict[str, str]]) -> None:
    """The list of this run's failures; gone when there are none."""
    if failures:
        atomic_write_text(path, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in failures))
    else:
        path.unlink(missing_ok=True)


def _told(
    tracked: Iterator[tuple[ManifestItem, Done]], items: Sequence[ManifestItem], quiet: bool
) -> Iterator[tuple[ManifestItem, Done]]:
    """The same, with a progress line on stderr: items done, time left."""
    with _progress(len(items), quiet) as line:
        line(0, items[0].id)
        for number, (item, done) in enumerate(tracked, start=1):
            line(number, item.id)
            yield item, done


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Any]:
    if quiet:
        yield lambda number, name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("tracking", total=total)
        began = time.monotonic()
        yield lambda number, name: shown.update(
            task, completed=number, description=f"{name} ({time.monotonic() - began:.0f} s)"
        )
