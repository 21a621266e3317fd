"""Stopping a run without losing what was done, and going on with it.

Ctrl-C or SIGTERM lets the step end, saves a checkpoint and stops; the same one again stops at once (a launcher may send
the other one too). Of several processes all stop after the same step, whichever was told. Knows signals and the
Trainer's callbacks, and which configuration a folder belongs to. Does not know: models, data.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pydantic import ValidationError
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from elysium.config import TrainConfig
from elysium.errors import InputError
from elysium.files import atomic_write_text

CONFIG = "run_config.json"
PROCESSES = "processes"


class StopGently(TrainerCallback):
    """Turns the first SIGINT or SIGTERM into "save, then stop" at the end of the step.

    ``asked`` says whether that happened. Signals are only caught in the main thread, and as before afterwards.
    """

    def __init__(self) -> None:
        self.asked = False
        self._heard: set[int] = set()
        self._over = multiprocessing.RawValue("b", 0)
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loader = kwargs.get("train_dataloader")
        loader = getattr(loader, "base_dataloader", loader)
        if loader is not None:
            loader.worker_init_fn = _Deaf(loader.worker_init_fn, self._over)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.world_size > 1:
            told = torch.tensor(float(bool(self._heard)), device=args.device)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            self.asked = bool(told)
        else:
            self.asked = bool(self._heard)
        if self.asked:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.restore()

    def restore(self) -> None:
        """Signals do again what they did before, in the loader's processes too."""
        self._over.value = 1
        while self._before:
            signal.signal(*self._before.popitem())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number in self._heard:
            raise KeyboardInterrupt
        self._heard.add(number)
        print("stopping after this step; once more stops at once", flush=True)


class _Deaf:
    """Begins a loader's process: signals that a whole group gets are for its parent, who would miss the process; until
    training is ``over``, when its end is asked for in the same way."""

    def __init__(self, begin: Any, over: Any) -> None:
        self.begin, self.over = begin, over

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._hear)
        if self.begin is not None:
            self.begin(worker)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.over.value:
            os._exit(1)


def claim(config: TrainConfig, num_processes: int = 1, writes: bool = True) -> str | None:
    """The checkpoint to go on from, None in a new folder; the configuration is written down beside it if ``writes``.

    The number of processes belongs to it: which samples are done, and which are due, depends on it.

    Raises InputError that lists what differs if the checkpoint is of another configuration.
    """
    path, last = config.output_dir / CONFIG, get_last_checkpoint(str(config.output_dir))
    values = json.loads(config.model_dump_json())
    if last and path.is_file():
        remedy = f"Choose another output_dir, or take {path} away to go on all the same"
        _refuse_changed(path, values, num_processes, remedy)
    if writes:
        atomic_write_text(path, json.dumps({**values, PROCESSES: num_processes}, indent=2) + "\n")
    return last


def refuse_changed(done: Path, config: TrainConfig) -> None:
    """Raises InputError if a finished stage, whose configuration is in ``done``, had another than ``config``."""
    values = json.loads(config.model_dump_json())
    _refuse_changed(done, values, None, f"Choose another output_dir, or take {done.parent} away to train it again")


def _refuse_changed(path: Path, values: dict[str, Any], num_processes: int | None, remedy: str) -> None:
    before, now = _as_written_today(path), flat(values)
    if num_processes is not None and PROCESSES in before:
        now[PROCESSES] = num_processes
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        told = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
        raise InputError(f"{path.parent} was begun with another configuration: {told}", remedy)


def _as_written_today(path: Path) -> dict[str, Any]:
    """A configuration that was written down, keys that have come since at their defaults."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    number = {PROCESSES: values.pop(PROCESSES)} if PROCESSES in values else {}
    with suppress(ValidationError):  # a key that is gone will be among the differences
        values = json.loads(TrainConfig.model_validate(values).model_dump_json())
    return flat(values) | number


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found
