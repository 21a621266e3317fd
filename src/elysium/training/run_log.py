"""What a training run has logged: the JSON lines of a run, or of its stages, as typed series.

Knows the names of files in output folders, and that a resumed run may write a step twice. Does not know: PyTorch, how
quantities are made or drawn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import FloatArray
from elysium.errors import SourceError

LOG = "log.jsonl"
LOSS, SCORES, RATE, NORM = "Loss", "Validation scores", "Learning rate", "Gradient norm"
GROUPS = (LOSS, SCORES, RATE, NORM)
_LARGEST_STEP = 2**53
_REMEDY = f"Name the output folder of `elysium train`, or the {LOG} in it."


@dataclass(frozen=True)
class Series:
    """One quantity of a log, in the order of its steps."""

    steps: NDArray[np.int64]  # (N,)
    values: FloatArray  # (N,)


@dataclass(frozen=True)
class Log:
    """What one ``log.jsonl`` says: of a run, or of one of its stages."""

    name: str
    last_step: int
    series: Mapping[str, Series]  # by the name in the file


@dataclass(frozen=True)
class Run:
    """A training run: the logs of its stages in the order of training, or its only one."""

    name: str
    stages: tuple[Log, ...]

    @property
    def starts(self) -> list[int]:
        """The step of the run at which each stage begins, and that at which the last one ends."""
        return [0, *np.cumsum([stage.last_step for stage in self.stages]).tolist()]


def read_run(path: Path) -> Run:
    """The run whose output folder, folder of stages or log this is. Raises SourceError."""
    try:
        if path.is_file():
            return Run(path.absolute().parent.name if path.name == LOG else path.stem, (read_log(path),))
        if not path.is_dir():
            raise SourceError(f"There is no folder {str(path)!r}", _REMEDY)
        if (path / LOG).is_file():
            return Run(path.resolve().name, (read_log(path / LOG),))
        return Run(path.resolve().name, _read_stages(path))
    except OSError as error:
        raise SourceError(f"Cannot read {str(path)!r}: {error.strerror or error}", _REMEDY) from error


def read_log(path: Path) -> Log:
    """All series of a file of JSON lines. Lines that cannot be read are left out: a crash tears the last one.

    A run that goes on from a checkpoint writes steps again that it had logged before it was stopped: a line whose step
    is smaller than the one before takes back all that was logged from that step on. Raises SourceError without a
    single line to draw.
    """
    points: dict[str, dict[int, float]] = {}
    last_step = 0
    for step, values in _lines(path):
        if step < last_step:
            points = {key: {s: v for s, v in known.items() if s < step} for key, known in points.items()}
        last_step = step
        for key, value in values.items():
            points.setdefault(key, {})[step] = value
    series = {key: _series(known) for key, known in sorted(points.items()) if known}
    if not series:
        raise SourceError(f"{str(path)!r} holds not a single line of a training log that can be read", _REMEDY)
    return Log(path.absolute().parent.name, last_step, series)


def _series(points: Mapping[int, float]) -> Series:
    steps = sorted(points)
    return Series(np.array(steps, dtype=np.int64), np.array([points[step] for step in steps], dtype=np.float64))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The step of each readable line and those of its values that belong into a panel."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            step = line.get("step") if isinstance(line, dict) else None
            if type(step) is int and 0 <= step < _LARGEST_STEP:
                numbers = {key: value for key, value in line.items() if group_of(key) and _is_number(value)}
                yield step, {key: float(value) for key, value in numbers.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < _LARGEST_STEP)


def _read_stages(folder: Path) -> tuple[Log, ...]:
    """The logs of the folders in ``folder``, but those without a readable line: a stage may just have begun."""
    found, problems = [], []
    for stage in stage_folders(folder):
        try:
            found.append(read_log(stage / LOG))
        except SourceError as error:
            problems.append(error)
    if found:
        return tuple(found)
    raise problems[0] if problems else SourceError(f"{str(folder)!r} has no {LOG}, nor has a folder in it", _REMEDY)


def stage_folders(folder: Path) -> list[Path]:
    """The folders in ``folder`` that have a log, in the order of training.

    That is a stage after the one whose model it starts from, and else by the time of the last line. Times alone would
    not do: copies of a folder often have others.
    """
    folders = sorted((path.parent for path in folder.glob(f"*/{LOG}")), key=lambda one: (_written_at(one), one.name))
    by_name = {stage.name: stage for stage in folders}
    ordered: list[str] = []
    for name in by_name:
        chain: list[str] = []
        before: str | None = name
        while before in by_name and before not in chain and before not in ordered:
            chain.append(before)
            before = _stage_before(by_name[before])
        ordered += reversed(chain)
    return [by_name[name] for name in ordered]


def _written_at(folder: Path) -> float:
    return os.stat(folder / LOG).st_mtime


def _stage_before(folder: Path) -> str | None:
    """The name of the folder whose ``final`` model a stage started from, as far as it wrote that down."""
    for file in (folder / "run_config.json", folder / "final" / "training.json"):
        try:
            start = Path(json.loads(file.read_text(encoding="utf-8"))["model"]["path"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return start.parent.name if start.name == "final" else None
    return None


def group_of(key: str) -> str | None:
    """The group of panels that a name in a log belongs to.

    >>> group_of("loss_words"), group_of("val_SOT"), group_of("epoch")
    ('Loss', 'Validation scores', None)
    """
    if key == "loss" or key.startswith("loss_"):
        return LOSS
    return SCORES if key.startswith("val_") else {"learning_rate": RATE, "grad_norm": NORM}.get(key)


def last_values(log: Log) -> dict[str, float | None]:
    """The last value of every series; None for one that is not finite."""
    return {key: float(v) if np.isfinite(v := one.values[-1]) else None for key, one in log.series.items()}


def distinct(runs: Sequence[Run], paths: Sequence[Path]) -> list[Run]:
    """The runs, those that share a name called by their paths."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else Run(str(path), run.stages) for run, path in zip(runs, paths, strict=True)
    ]
