"""`elysium track-many`: a list of videos and queries, one folder of results each; stopped, it goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    quiet: common.Quiet = False,
) -> int:
    """Follow objects in many videos, as a manifest lists them.

    Each line or row: source, and expression(s) or box(es); optionally id, box_format, at_s, start_s, end_s, stride,
    max_frames. Items whose files are all there are skipped, so a run that was stopped goes on. Items that fail are
    listed in failures.jsonl, and the exit code is 1.

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
    items = read_manifest(manifest)
    folder = Path(output)
    check_writable(folder)
    plans = {item.id: OutputPlan(folder / item.id, folder_names(formats)) for item in items}
    waiting = [item for item in items if not _is_done(plans[item.id])]
    common.check_machine(device, dtype, threads)
    failures: list[dict[str, str]] = []
    if waiting:
        loaded = common.load_model(model, device, dtype, threads, tokens_per_frame=tokens_per_frame)
        options = {"clip_length": clip_length, "lost_policy": lost_policy, "zoom": zoom}
        for item, problem in _told(_tracked(loaded, waiting, plans, options, at_once), waiting, quiet):
            if problem is not None:
                failures.append({"id": item.id, "source": item.source, "error": problem})
                common.error_line(f"{item.id}: {problem}")
    _write_failures(folder / FAILURES, failures)
    done = len(waiting) - len(failures)
    if not quiet:
        print(f"{done} done, {len(items) - len(waiting)} skipped (done before), {len(failures)} failed: {folder}")
    return common.SOME_FAILED if failures else common.DONE


def _is_done(plan: OutputPlan) -> bool:
    return all((plan.folder / name).exists() for name in plan.names.values())


def _tracked(
    model: Elysium, items: Sequence[ManifestItem], plans: Mapping[str, OutputPlan], options: Mapping[str, Any],
    at_once: int,
) -> Iterator[tuple[ManifestItem, str | None]]:  # fmt: skip
    """Each item, as it is done, with what went wrong or None."""
    from elysium.inference.together import Together

    together = Together(model.engine, at_once)
    shared = model.with_engine(together)
    return together.map(lambda item: _track_one(shared, item, plans[item.id], options), items)


def _track_one(model: Elysium, item: ManifestItem, plan: OutputPlan, options: Mapping[str, Any]) -> str | None:
    """Track one item, with ``options`` of `Elysium.track`, and write its files; what went wrong, or None."""
    try:
        result = model.track(
            item.source, item.expressions or None, item.boxes or None, item.box_format, at_s=item.at_s or None,
            start_s=item.start_s, end_s=item.end_s, stride=item.stride, max_frames=item.max_frames, **options,
        )  # fmt: skip
        for sentence in result.warnings:
            common.warn(f"{item.id}: {sentence}")
        _, failed = save_result(result, plan)
    except ElysiumError as error:
        return str(error)
    return str(failed[0]) if failed else None


def _write_failures(path: Path, failures: list[dict[str, str]]) -> None:
    """The list of this run's failures; gone when there are none."""
    if failures:
        atomic_write_text(path, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in failures))
    else:
        path.unlink(missing_ok=True)


def _told(
    tracked: Iterator[tuple[ManifestItem, str | None]], items: Sequence[ManifestItem], quiet: bool
) -> Iterator[tuple[ManifestItem, str | None]]:
    """The same, with a progress line on stderr: items done, time left."""
    with _progress(len(items), quiet) as line:
        line(0, items[0].id)
        for number, (item, problem) in enumerate(tracked, start=1):
            line(number, item.id)
            yield item, problem


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
