"""Running a converter: in several processes, stopped and gone on with, written atomically.

While it runs, what is done lies beside the output, in ``<output>.partial``: a line that says what is being converted,
then a line for each unit that gave records. The same command goes on from there (take the file away if what is
converted has changed in between); units that failed are tried again. In the end the records are put in the order of
the units, so that the file is the same whatever the number of processes and however often it was stopped.

Knows: units, processes, files. Does not know: what is in the records.
"""

from __future__ import annotations

import fcntl
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from elysium.data.convert.base import Options, Unit, checked
from elysium.data.convert.registry import converter
from elysium.errors import ElysiumError, InputError
from elysium.files import atomic_path, check_target, ensure_folder, output_error
from elysium.processes import in_order

Report = Callable[[int], None]
"""Called after each unit with how many there have been."""


@dataclass
class Converted:
    """What came of it: how many records, of how many units, those that gave none with the reason, what was said of
    others (entries that were left out), and how many units were there from an earlier, stopped run."""

    records: int = 0
    units: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    resumed: int = 0


def convert(
    name: str, source: Path, output: Path, options: Options | None = None, workers: int = 1,
    report: Report | None = None,
) -> Converted:  # fmt: skip
    """Write the records of ``source`` as JSON lines.

    Raises:
        SourceError, InputError: a source that is not there, or something else; no unit gave a record (then nothing is
        written, and the first reason told).
    """
    options = checked(name, converter(name), options or Options())
    check_target(output, source)
    ensure_folder(output.parent)
    with _Journal(output, {"converter": name, "source": str(source.resolve()), **_plain(options)}) as journal:
        told = Converted(resumed=len(journal.places))
        order = []
        for unit_name, answer in _answered(name, source, options, workers, journal):
            order.append(unit_name)
            told.units += 1
            if isinstance(answer, str):
                told.failed[unit_name] = answer
            else:
                told.records += answer.records
                told.told |= {unit_name: answer.told} if answer.told else {}
            if report is not None:
                report(told.units)
        if not told.records:
            reason = next(iter(told.failed.values()), f"{source} holds nothing to convert")
            raise InputError(reason, "Nothing was written." if told.failed else "Check the path.")
        with atomic_path(output) as path, path.open("wb") as file:
            journal.copy(order, file)
    journal.path.unlink(missing_ok=True)
    return told


def _plain(options: Options) -> dict[str, Any]:
    return {name: str(v.resolve()) if isinstance(v, Path) else v for name, v in asdict(options).items()}


def _answered(
    name: str, source: Path, options: Options, workers: int, journal: _Journal
) -> Iterator[tuple[str, _Place | str]]:
    """Each unit, in order, with its place in the journal, or why it gave no records."""
    for task, answer in in_order(_work, _tasks(name, source, options, set(journal.places)), workers):
        if isinstance(answer, tuple):
            journal.add(task.unit[0], *answer)
        yield task.unit[0], answer if isinstance(answer, str) else journal.places[task.unit[0]]


@dataclass(frozen=True)
class _Task:
    """A unit, without what is needed to convert it where that is ``done`` already."""

    name: str
    source: Path
    unit: Unit
    options: Options
    done: bool


def _tasks(name: str, source: Path, options: Options, done: set[str]) -> Iterator[_Task]:
    """The units of a source. Raises InputError for two of one name."""
    seen: set[str] = set()
    for unit in converter(name).units(source, options):
        if unit[0] in seen:
            raise InputError(f"{source} has two of {unit[0]!r}", "Rename one of them.")
        seen.add(unit[0])
        known = unit[0] in done
        yield _Task(name, source, (unit[0], None) if known else unit, options, known)


def _work(task: _Task) -> tuple[list[str], list[str]] | str | None:
    """The records of a unit as lines, and what was warned of; or what is wrong with it; or None where it is done."""
    if task.done:
        return None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        try:
            found = converter(task.name).records(task.source, task.unit, task.options)
            lines = [record.to_json() for record in found]
        except ElysiumError as error:
            return str(error)
    return lines, [str(warning.message) for warning in told if issubclass(warning.category, UserWarning)]


@dataclass(frozen=True)
class _Place:
    """Where the line of a unit begins in the journal, how many records it has, what was warned of."""

    start: int
    records: int
    told: list[str]


class _Journal:
    """The file of what is done."""

    def __init__(self, output: Path, about: dict[str, Any]) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".partial")
        self.about = about
        self.places: dict[str, _Place] = {}

    def __enter__(self) -> _Journal:
        try:
            self.file: BinaryIO = self.path.open("r+b" if self.path.exists() else "w+b")
        except OSError as error:
            raise output_error(self.path, error) from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.close()
            raise InputError(f"Another run is writing {self.output}", "Wait for it, or choose another name.") from error
        if not self._read():
            self.file.seek(0)
            self.file.truncate()
            self.places = {}
            self._write(self.about)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if not self.places:
            self.path.unlink(missing_ok=True)

    def _read(self) -> bool:
        """Find the units that are there, and cut off a line that was not finished; whether it is of the same run."""
        if self.file.readline() != self._line(self.about):
            return False
        while True:
            at = self.file.tell()
            line = self.file.readline()
            if not line.endswith(b"\n"):
                self.file.seek(at)
                self.file.truncate()
                return True
            try:
                entry = json.loads(line)
            except ValueError:  # damaged: what comes after it is done again
                self.file.seek(at)
                self.file.truncate()
                return True
            self.places[entry["unit"]] = _Place(at, len(entry["lines"]), entry["told"])

    @staticmethod
    def _line(entry: dict[str, Any]) -> bytes:
        return json.dumps(entry).encode() + b"\n"

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self.file.write(self._line(entry))
            self.file.flush()
        except OSError as error:
            raise output_error(self.path, error) from error

    def add(self, unit: str, lines: list[str], told: list[str]) -> None:
        """Keep the records of one more unit, and what was warned of."""
        self.places[unit] = _Place(self.file.seek(0, 2), len(lines), told)
        self._write({"unit": unit, "lines": lines, "told": told})

    def copy(self, units: list[str], file: BinaryIO) -> None:
        """Write the records of ``units`` that gave any, in their order, a line each."""
        for unit in units:
            if unit in self.places:
                self.file.seek(self.places[unit].start)
                for line in json.loads(self.file.readline())["lines"]:
                    file.write(line.encode() + b"\n")
