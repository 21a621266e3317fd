"""Files of JSON lines that grow while a run goes on, and survive a kill at any moment.

Each line goes out whole and at once, half a line at the end is taken away before more is added, and the ids that are
there say what is done. Knows files and lines; knows nothing of what a line says.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from elysium.errors import InputError, OutputError, SourceError
from elysium.files import output_error

AnyPath: TypeAlias = str | os.PathLike[str]

_REMEDY = "Mend this line, or start anew with another output."
_BLOCK = 2**16


class Line(Protocol):
    """What a file holds one of a line: a dataclass whose first field is the first key of the line."""

    @property
    def id(self) -> str: ...

    def to_json(self) -> str:
        """One line without its end."""
        ...

    @classmethod
    def from_value(cls, value: Any) -> Any:
        """From a parsed line. Raises ValueError that says what is wrong."""
        ...


LineT = TypeVar("LineT", bound=Line)


def read_lines(path: AnyPath, kind: type[LineT], *, may_be_empty: bool = False) -> Iterator[LineT]:
    """The lines of a file, one at a time. A last line cut off by a kill is left out with a warning.

    ``may_be_empty``: a file without a whole line is none to complain about.

    Raises:
        SourceError: the file cannot be read. InputError: a line that is none of ``kind`` or has the id of an earlier
        one, or a file that is empty.
    """
    seen: dict[str, int] = {}
    for number, line in _numbered(path, kind):
        if seen.setdefault(line.id, number) != number:
            told = f"{os.fspath(path)}, line {number}: the id {line.id!r} is that of line {seen[line.id]} already"
            raise InputError(told, "Take one of the two out: each counts once.")
        yield line
    if not seen and not may_be_empty:
        raise InputError(f"{os.fspath(path)!r} holds no result", "Run the evaluation first.")


def done_ids(path: AnyPath, kind: type[LineT]) -> set[str]:
    """The ids that a file has lines for: what need not be done again. None for a file that is not there or empty.

    Raises SourceError or InputError as `read_lines` does, but not for a file that is empty.
    """
    if not Path(path).exists() or Path(path).stat().st_size == 0:
        return set()
    return {line.id for _, line in _numbered(path, kind)}


def _numbered(path: AnyPath, kind: type[LineT]) -> Iterator[tuple[int, LineT]]:
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                try:
                    yield number, kind.from_value(json.loads(raw))
                except (ValueError, RecursionError) as error:
                    if not raw.endswith(b"\n") and _is_torn(raw, b"{"):
                        warnings.warn(f"{name}, line {number}: cut off in the middle, left out", stacklevel=3)
                        return
                    told = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
                    raise InputError(f"{name}, line {number}: {told}", _REMEDY) from error
    except OSError as error:
        raise SourceError(f"Cannot read the results {name!r}: {error.strerror or error}", "Check the path.") from error


def _is_torn(tail: bytes, beginning: bytes) -> bool:
    """Whether a last line without an end is half of an object that begins so (a crash may leave zeros after it)."""
    start = tail.rstrip(b"\0")
    if not start.startswith(beginning[: len(start)]):
        return False
    try:
        return not json.loads(start)  # a whole object is not torn, whatever it lacks
    except ValueError:
        return True


class Journal(Generic[LineT]):
    """Appends lines of one kind to a file, each handed to the system before `write` returns.

    Makes the file and its folder. `done` has the ids that were there before. One process alone may write to a file;
    where the system can lock files, a second one is refused.

    Raises:
        InputError: the file is there but holds something else; it is left as it was. OutputError: it cannot be
        written, or another process writes to it.
    """

    def __init__(self, path: AnyPath, kind: type[LineT]) -> None:
        self.path, self.kind = Path(path), kind
        self.done = frozenset(done_ids(path, kind))  # before anything is changed: it refuses files that are not ours
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error
        try:
            self._lock()
            self._mend_end()
        except OSError as error:
            self._file.close()
            raise output_error(path, error) from error
        except OutputError:
            self._file.close()
            raise

    def write(self, line: LineT) -> None:
        """Append one line. If that fails, no part of it stays. Raises OutputError."""
        text = line.to_json().encode() + b"\n"
        if self._file.closed:
            raise OutputError(f"{str(self.path)!r} is closed", "Write before you close it.")
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(text) != len(text):
                raise OSError(0, "the disk took only a part of a line")
        except OSError as error:
            os.ftruncate(self._file.fileno(), before)
            raise output_error(self.path, error) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal[LineT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
        except BlockingIOError:
            raise OutputError(
                f"Another process is writing to {str(self.path)!r}", "Wait for it, or choose another output."
            ) from None

    def _mend_end(self) -> None:
        """Take away half a last line; give a whole one that lacks it its end."""
        tail = _last_line(self.path)
        if not tail:
            return
        beginning = f'{{"{fields(self.kind)[0].name}"'.encode()  # type: ignore[arg-type]  # lines are dataclasses
        if tail.strip(b"\0") and not _is_torn(tail, beginning):
            self._file.write(b"\n")
        else:
            os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - len(tail))


def _last_line(path: Path) -> bytes:
    """What stands after the last end of a line: nothing, unless the writer was interrupted."""
    tail = b""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at and b"\n" not in tail:
            step = min(_BLOCK, at)
            at = file.seek(at - step)
            tail = file.read(step) + tail
    return tail[tail.rfind(b"\n") + 1 :]
