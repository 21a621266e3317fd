"""One evaluation run: every item once, whatever is killed on the way, by one process or many.

Knows the order of things: read the items, refuse a folder of another run, answer what is not answered yet, join, list
failures. Knows nothing about how an item is answered (`predictors.py`) or scored (`figures.py`).

Item ``i`` belongs to worker ``i mod workers``, so workers need not talk to each other; each writes to a journal of its
own. Under ``torchrun`` the workers are its processes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any, TypeAlias

from elysium.data.records import Problem
from elysium.data.records.images import FIRST_RECORDS, check_images
from elysium.errors import ElysiumError, InputError, OutputError
from elysium.evaluation.baselines import build_baseline, is_baseline
from elysium.evaluation.items import DEFAULT_TEXT_KEY, Item, read_items
from elysium.evaluation.journal import Journal
from elysium.evaluation.predictors import Predictor, build_predictor, check_pair
from elysium.evaluation.results import FAILURES, PARTS, RUN, Result, join_parts, read_results
from elysium.evaluation.runs import lenient, read_failures, sha256
from elysium.files import atomic_write_text, ensure_folder

Report: TypeAlias = Callable[[str, str | None], None]
"""Told of each item that is done: its id, and what went wrong or None."""

_SAME = (
    "task",
    "model",
    "model_sha256",
    "annotations_sha256",
    "images",
    "protocol",
    "text_key",
    "limit",
    "max_frames",
    "options",
    "dtype",
    "tokens_per_frame",
)
_FAILED = ".failures"
_LONG = timedelta(days=30)  # shares of sequences differ in length, and torch's default of 30 minutes is soon over
_PACKAGES = ("elysium-video", "torch", "transformers", "numpy", "av", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Settings:
    """What is to be evaluated, and how.

    Attributes:
        task: of `items.TASKS`. annotations: a file of records. images: the folder that their frames lie in.
        model: bundled name, folder, hub id, or a baseline's name. output: the folder of the run.
        protocol: "standard", or "published" for SOT and RSOT as the released code runs them.
        text_key, limit, max_frames: as of `read_items`.
        options: of `Elysium.track` (search_window, clip_length, min_score, lost_policy, fine, zoom), or of `ground` for
            REC (zoom); only those that were given.
        device, dtype, threads, reference, tokens_per_frame: as of `Elysium.from_pretrained`.
    """

    task: str
    annotations: Path
    images: Path
    model: str
    output: Path
    protocol: str = "standard"
    text_key: str = DEFAULT_TEXT_KEY
    limit: int | None = None
    max_frames: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    reference: bool = False
    tokens_per_frame: int | None = None

    def items(self, on_problem: Callable[[Problem], None] | None = None) -> list[Item]:
        """The items, in the order of the file."""
        return read_items(
            self.annotations, self.task, text_key=self.text_key, limit=self.limit, max_frames=self.max_frames,
            on_problem=on_problem or lenient,
        )  # fmt: skip


def begin(settings: Settings, command: Sequence[str] = ()) -> list[Item]:
    """Check everything that can be checked before a model is loaded, and write ``run.json``; returns the items.

    Raises:
        SourceError, InputError: annotations, images or options that make no sense, or a folder that holds the results
        of another run. OutputError: a folder that cannot be written.
    """
    items = settings.items()
    if not items:
        raise InputError(f"{settings.annotations} holds nothing to evaluate", "Give a file with records.")
    check_images((item.record for item in items[:FIRST_RECORDS]), settings.images)
    check_pair(settings.task, settings.model, settings.protocol == "published")
    if is_baseline(settings.model):
        build_baseline(settings.model)
    elif settings.tokens_per_frame is not None:
        from elysium.inference.loading import check_tokens_per_frame

        check_tokens_per_frame(settings.model, settings.tokens_per_frame)
    facts = describe_run(settings, command)
    ensure_folder(settings.output)
    _refuse_other(settings.output / RUN, facts)
    if not (settings.output / RUN).exists():
        atomic_write_text(settings.output / RUN, json.dumps(facts, indent=2) + "\n")
    return items


def describe_run(settings: Settings, command: Sequence[str]) -> dict[str, Any]:
    """What ``run.json`` says: the settings, what the files were, with what it was run."""
    values = {
        key: str(value.resolve()) if isinstance(value, Path) else value for key, value in asdict(settings).items()
    }
    del values["output"]
    return {
        **values,
        "annotations_sha256": sha256(settings.annotations),
        "model_sha256": model_sha256(settings.model),
        "command": shlex.join(command),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def model_sha256(model: str) -> str | None:
    """Of the weights of a bundled model, a folder or NanoTrack; None for other baselines and for models of the hub."""
    from elysium.inference.loading import locate, weight_files

    if is_baseline(model):
        networks = sorted(Path(model.partition(":")[2]).expanduser().glob("*.onnx")) if ":" in model else []
        return "+".join(sha256(path) for path in networks) or None
    digests = [sha256(path) for path in weight_files(Path(locate(model)))]
    if len(digests) > 1:  # of shards: of the list of theirs
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    return digests[0] if digests else None


def _refuse_other(path: Path, facts: dict[str, Any]) -> None:
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in _SAME if before.get(key) != facts[key]]
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(f"{path} is not the record of a run", "Choose another --output.") from error
    if changed:
        told = "; ".join(f"{key} was {before.get(key)!r}, is {facts[key]!r}" for key in changed)
        raise OutputError(f"{path.parent} holds the results of another run: {told}", "Choose another --output.")


def done_before(settings: Settings) -> set[str]:
    """The ids that have results already."""
    return {result.id for result in read_results(settings.output, may_be_empty=True)}


def work(settings: Settings, items: Sequence[Item], worker: int, workers: int, report: Report) -> None:
    """Answer this worker's share of the items that have no result yet. Failures are told, listed and passed over."""
    done = done_before(settings)
    share = [item for i, item in enumerate(items) if i % workers == worker and item.id not in done]
    if not share:
        return
    predictor = load_predictor(settings, worker)
    failures: list[dict[str, str]] = []
    listed = settings.output / PARTS / f"{worker}{_FAILED}"
    with Journal(settings.output / PARTS / f"{worker}.jsonl", Result) as journal:
        listed.unlink(missing_ok=True)  # of a run that was killed: those items come again
        for item in share:
            result, problem = attempt(predictor, item)
            if result is not None:
                journal.write(result)
            else:
                failures.append({"id": item.id, "error": str(problem)})
                _write_lines(listed, failures)
            report(item.id, problem or (result.failure if result is not None else None) or None)


def attempt(predictor: Predictor, item: Item) -> tuple[Result | None, str | None]:
    """The answer to an item, or what went wrong. Whatever it was (OpenCV's trackers have errors of their own), it must
    not keep the others from being answered."""
    try:
        return predictor(item), None
    except ElysiumError as error:
        return None, str(error)
    except MemoryError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return None, f"{type(error).__name__}: {first}"


def load_predictor(settings: Settings, worker: int = 0) -> Predictor:
    """The model or baseline of the settings, loaded; with several GPUs, on the one of this worker."""
    published = settings.protocol == "published"
    if is_baseline(settings.model):
        return build_predictor(settings.task, settings.model, settings.images, published=published)
    from elysium.inference.pipelines import Elysium

    model = Elysium.from_pretrained(
        settings.model, device=device_of(settings.device, worker), dtype=settings.dtype, threads=settings.threads,
        reference=settings.reference, tokens_per_frame=settings.tokens_per_frame,
    )
    return build_predictor(settings.task, model, settings.images, published=published, **settings.options)


def device_of(device: str, worker: int) -> str:
    """The device of a worker: with "auto" and several GPUs, one after the other (under torchrun the launcher's own)."""
    import torch

    count = torch.cuda.device_count() if device == "auto" else 0
    return f"cuda:{int(os.environ.get('LOCAL_RANK', worker)) % count}" if count > 1 else device


def work_in_processes(settings: Settings, items: Sequence[Item], workers: int, report: Report) -> None:
    """The same by several processes at once.

    Raises ElysiumError if a worker ends with one, OutputError if one dies.
    """
    context = multiprocessing.get_context("spawn")  # a forked process with PyTorch's threads may hang
    told: Queue[tuple[str | None, str | None]] = context.Queue()
    processes = [
        context.Process(target=_child, args=(settings, items, worker, workers, told)) for worker in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes) or not told.empty():
            try:
                id, problem = told.get(timeout=0.2)
            except Empty:
                continue
            if id is None:
                raise InputError(problem or "A worker stopped")
            report(id, problem)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    if any(process.exitcode for process in processes):
        codes = ", ".join(str(process.exitcode) for process in processes)
        raise OutputError(f"A worker died (exit codes {codes})", "Start the same command again: it goes on from here.")


def _child(
    settings: Settings, items: Sequence[Item], worker: int, workers: int, told: Queue[tuple[str | None, str | None]]
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(settings, items, worker, workers, lambda id, problem: told.put((id, problem)))
    except ElysiumError as error:
        told.put((None, str(error)))
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on alone, and hold its journal."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def distributed() -> tuple[int, int] | None:
    """(rank, number of processes) under torchrun, else None."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and "LOCAL_RANK" not in os.environ:
        return None
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def join_group() -> None:
    """Under torchrun: meet the other processes."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_LONG)


def wait_for_all() -> None:
    """Under torchrun: until every process has come here."""
    import torch.distributed as dist

    dist.barrier()
    dist.destroy_process_group()


def finish(settings: Settings, items: Sequence[Item]) -> list[dict[str, str]]:
    """Join the parts; list and return the failures of this run (the list goes when there are none)."""
    parts, done = sorted((settings.output / PARTS).glob(f"*{_FAILED}")), done_before(settings)
    failures = [failure for part in parts for failure in read_failures(part) if failure["id"] not in done]
    results = read_results(settings.output, may_be_empty=True)
    failures += [{"id": result.id, "error": result.failure} for result in results if result.failure]
    for part in parts:
        part.unlink()
    join_parts(settings.output, (item.id for item in items))
    if failures:
        _write_lines(settings.output / FAILURES, failures)
    else:
        (settings.output / FAILURES).unlink(missing_ok=True)
    return failures


def _write_lines(path: Path, values: Sequence[dict[str, str]]) -> None:
    atomic_write_text(path, "".join(json.dumps(value) + "\n" for value in values))
