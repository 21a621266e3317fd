"""Work in units that know nothing of each other: in several processes, stopped and gone on with, written atomically.

While it runs, what is done lies beside the output, in ``<output>.partial``: a line that says what is being done, then a
line for each unit that is done. The same command goes on from there; units that failed are tried again, and so are
those of which anything has changed since: what they were given, or a file or folder that they read. In the end the
lines are put in the order of the units, so that the output is the same whatever the number of processes and however
often it was stopped.

Knows: units, processes, files. Does not know: what is done with a unit, and what the lines say.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from elysium.errors import ElysiumError, InputError, OutputError
from elysium.files import atomic_path, output_error
from elysium.processes import in_order

Unit: TypeAlias = tuple[str, Any]
"""A name that no other unit has, and what is needed to know besides (small, picklable)."""
Report: TypeAlias = Callable[[int], None]
"""Called after each unit with how many there have been."""
Work: TypeAlias = Callable[[Unit], list[str]]
"""The lines of a unit; picklable. Raises ElysiumError where nothing can be made of it; warns with LeftOut of items that
are left out, and with other UserWarnings of what else is to be known."""
Marks: TypeAlias = dict[str, str | None]
"""Files and folders by their paths, and what changes when one of them does; None where there is none."""


class LeftOut(UserWarning):
    """Items of a unit that nothing could be made of."""


@dataclass
class Done:
    """What came of it: how many lines, of how many units, those that gave none with the reason, what was warned of in
    others, in how many of these something was left out, and how many units were there from an earlier, stopped run."""

    lines: int = 0
    units: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    left_out: int = 0
    resumed: int = 0


def carry_out(
    work: Work, units: Iterable[Unit], output: Path, about: Mapping[str, Any], *, nothing: str,
    reads: Iterable[Path] = (), workers: int = 1, report: Report | None = None,
) -> Done:  # fmt: skip
    """Write the lines of all units, in their order.

    Args:
        about: what says that an earlier, stopped run was the same.
        nothing: what is said where there is no unit, or none gave a line.
        reads: the files, or folders of files, that units are made of.

    Raises:
        InputError: two units of one name; another run is writing the output; no unit gave a line (then nothing is
        written, and the first reason told).
    """
    do = partial(_do, work, tuple(map(os.path.abspath, reads)))
    with _Journal(output, dict(about)) as journal:
        told, order = Done(), []
        for name, answer, resumed in _answered(do, units, workers, journal):
            order.append(name)
            told.units += 1
            told.resumed += resumed
            if isinstance(answer, str):
                told.failed[name] = answer
            else:
                told.lines += answer.lines
                told.told |= {name: answer.told} if answer.told else {}
                told.left_out += answer.left_out
            if report is not None:
                report(told.units)
        if not told.lines:
            reason = next(iter(told.failed.values()), nothing)
            raise InputError(reason, "Nothing was written." if told.failed else "Check the path.")
        with atomic_path(output) as path, path.open("wb") as file:
            journal.copy(order, file)
    journal.path.unlink(missing_ok=True)
    return told


def _answered(
    do: Callable[[_Task], _Answer], units: Iterable[Unit], workers: int, journal: _Journal
) -> Iterator[tuple[str, _Place | str, bool]]:
    """Each unit, in order, with its place in the journal, or why it gave no lines, and whether it was there before."""
    for task, answer in in_order(do, _tasks(units, journal), workers):
        if isinstance(answer, _Made):
            journal.add(task, answer)
        yield task.name, answer if isinstance(answer, str) else journal.places[task.name], answer is None


@dataclass(frozen=True)
class _Task:
    """A unit, without what is needed to do it where it is ``done`` already."""

    name: str
    given: Any
    digest: str
    done: bool


@dataclass(frozen=True)
class _Made:
    """The lines of a unit, what was warned of, whether something was left out, and what was read for it."""

    lines: list[str]
    told: list[str]
    left_out: bool
    read: Marks


_Answer: TypeAlias = _Made | str | None
"""What came of a task, or what is wrong with it, or None where it was done."""


def _tasks(units: Iterable[Unit], journal: _Journal) -> Iterator[_Task]:
    """Raises InputError for two units of one name."""
    seen: set[str] = set()
    for name, given in units:
        if name in seen:
            raise InputError(f"Two parts have the name {name!r}", "Rename one of them.")
        seen.add(name)
        digest = hashlib.blake2b(pickle.dumps(given), digest_size=16).hexdigest()
        done = journal.has(name, digest)
        yield _Task(name, None if done else given, digest, done)


def _do(work: Work, reads: tuple[str, ...], task: _Task) -> _Answer:
    if task.done:
        return None
    with warnings.catch_warnings(record=True) as told, _noting(reads) as read:
        warnings.simplefilter("always", UserWarning)
        try:
            lines = work((task.name, task.given))
        except OutputError:  # of every other unit, too
            raise
        except ElysiumError as error:
            return str(error)
    ours = [one for one in told if issubclass(one.category, UserWarning)]
    left_out = any(issubclass(one.category, LeftOut) for one in ours)
    return _Made(lines, [str(one.message) for one in ours], left_out, {path: _mark(path) for path in sorted(read)})


# --- What a unit is made of ---

_read: set[str] | None = None
_places: tuple[str, ...] = ()
_hears = False


@contextmanager
def _noting(places: tuple[str, ...]) -> Iterator[set[str]]:
    """The files below ``places`` that are read inside, and the folders there that are listed.

    Python itself tells of them (PEP 578), so that no reader can be forgotten; what libraries in C open, it does not
    know.
    """
    global _read, _places, _hears
    if not _hears:  # for good: it cannot be taken away again
        sys.addaudithook(_hear)
        _hears = True
    _read, _places = set(), places
    try:
        yield _read
    finally:
        _read = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _read is None or event not in ("open", "os.listdir", "os.scandir"):
        return
    path = arguments[0]
    if isinstance(path, str | os.PathLike) and not (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        name = os.path.abspath(os.fsdecode(path))
        if name.startswith(_places):
            _read.add(name)


def _mark(path: str) -> str | None:
    """Size and time of change of a file; of a folder, its time changes with the names in it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{found.st_size} {found.st_mtime_ns}"


# --- The journal ---


@dataclass(frozen=True)
class _Place:
    """Where the line of a unit begins in the journal, how many lines it has, and what else that says."""

    start: int
    lines: int
    digest: str
    read: Marks
    told: list[str]
    left_out: bool


class _Journal:
    """The file of what is done."""

    def __init__(self, output: Path, about: dict[str, Any]) -> None:
        self.output = output
        self.path = _journal_path(output)
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
            try:
                self._keep(at, json.loads(line if line.endswith(b"\n") else b""))
            except (ValueError, KeyError):  # the end, or damaged: what comes after it is done again
                self.file.seek(at)
                self.file.truncate()
                return True

    @staticmethod
    def _line(entry: dict[str, Any]) -> bytes:
        return json.dumps(entry).encode() + b"\n"

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self.file.write(self._line(entry))
            self.file.flush()
        except OSError as error:
            raise output_error(self.path, error) from error

    def has(self, name: str, digest: str) -> bool:
        """Whether a unit is done, and was made of what is there now."""
        place = self.places.get(name)
        return place is not None and place.digest == digest and all(_mark(p) == m for p, m in place.read.items())

    def add(self, task: _Task, made: _Made) -> None:
        """Keep what came of one more unit."""
        entry = {"unit": task.name, "digest": task.digest, **asdict(made)}
        self._keep(self.file.seek(0, 2), entry)
        self._write(entry)

    def _keep(self, start: int, entry: dict[str, Any]) -> None:
        rest = {key: entry[key] for key in ("digest", "read", "told", "left_out")}
        self.places[entry["unit"]] = _Place(start, len(entry["lines"]), **rest)

    def copy(self, units: list[str], file: BinaryIO) -> None:
        """Write the lines of ``units`` that gave any, in their order."""
        for unit in units:
            if unit in self.places:
                self.file.seek(self.places[unit].start)
                for line in json.loads(self.file.readline())["lines"]:
                    file.write(line.encode() + b"\n")


def _journal_path(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def begun(output: Path, about: Mapping[str, Any]) -> bool:
    """Whether a stopped run left parts of ``output`` that one with the same ``about`` goes on with."""
    try:
        with _journal_path(output).open("rb") as file:
            return file.readline() == _Journal._line(dict(about))
    except OSError:
        return False
