"""Raw answers of a model as JSON lines, with the keys of the published evaluation: one line a question.

Written so that a run killed at any moment can go on: each line goes out whole and at once, half a line at the end is
taken away before more is added, and the ids that are there say what is done. Knows nothing about what an answer means,
which clips there are, or metrics.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from elysium.errors import InputError, OutputError, SourceError
from elysium.files import output_error

AnyPath: TypeAlias = str | os.PathLike[str]
Size: TypeAlias = tuple[int, int]

_REMEDY = "Mend this line, or start anew with another output."
_START = b'{"vid"'  # how every line begins; half a line that does not is none of ours and is left alone
_BLOCK = 2**16


@dataclass(frozen=True)
class RawAnswer:
    """One question and what the model said. The order of the fields is that of the keys in the file."""

    vid: str  # "clip_a|0": the video, and which of its clips
    id: str  # the record, and which of its clips; no two lines of a file have the same
    question: str  # with an `<image>` for each frame
    prompt: str  # the question in the model's own frame of a conversation
    gt: str  # what would have been right, in the words of an answer
    predict: str
    image_size: Size | None = None  # width, height in pixels; None where it is not known

    def to_json(self) -> str:
        """One line without its end, as `json.dumps` writes it by default: published files come back to the byte."""
        return json.dumps(asdict(self))

    @classmethod
    def from_value(cls, value: Any) -> RawAnswer:
        """From a parsed line; keys besides the seven are left out. Raises ValueError that says what is wrong."""
        if not isinstance(value, dict):
            raise ValueError("is not an object")
        missing = [field.name for field in fields(cls) if field.name not in value]
        if missing:
            raise ValueError(f"has no {', '.join(missing)}")
        texts = {key: value[key] for key in ("vid", "id", "question", "prompt", "gt", "predict")}
        for key in ("vid", "id"):  # some data sets number their videos
            if type(texts[key]) is int:
                texts[key] = str(texts[key])
        wrong = [key for key, text in texts.items() if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"has a {wrong[0]} that is not text")
        return cls(**texts, image_size=_size(value["image_size"]))


def _size(value: Any) -> Size | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
        raise ValueError(f"has the image_size {value!r}, not width and height in whole pixels")
    return value[0], value[1]


def read_raw(path: AnyPath) -> Iterator[RawAnswer]:
    """The answers of a file, one at a time. A last line cut off by a kill is left out with a warning.

    Raises:
        SourceError: the file cannot be read. InputError: a line that is no answer or has the id of an earlier one,
        or a file that is empty.
    """
    seen: dict[str, int] = {}
    for line, answer in _numbered(path):
        if seen.setdefault(answer.id, line) != line:
            told = f"{os.fspath(path)}, line {line}: the id {answer.id!r} is that of line {seen[answer.id]} already"
            raise InputError(told, "Take one of the two out: each question counts once.")
        yield answer
    if not seen:
        raise InputError(f"{os.fspath(path)!r} holds no answer", "Run the evaluation first.")


def done_ids(path: AnyPath) -> set[str]:
    """The ids that a file has answers for: what need not be asked again. None for a file that is not there or empty.

    Raises SourceError or InputError as `read_raw` does, but not for a file that is empty.
    """
    if not Path(path).exists() or Path(path).stat().st_size == 0:
        return set()
    return {answer.id for _, answer in _numbered(path)}


def _numbered(path: AnyPath) -> Iterator[tuple[int, RawAnswer]]:
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            for line, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                try:
                    yield line, RawAnswer.from_value(json.loads(raw))
                except (ValueError, RecursionError) as error:
                    if not raw.endswith(b"\n") and _is_torn(raw):
                        warnings.warn(f"{name}, line {line}: cut off in the middle, left out", stacklevel=3)
                        return
                    told = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
                    raise InputError(f"{name}, line {line}: {told}", _REMEDY) from error
    except OSError as error:
        raise SourceError(f"Cannot read the answers {name!r}: {error.strerror or error}", "Check the path.") from error


def _is_torn(tail: bytes) -> bool:
    """Whether a last line without an end is the beginning of one of ours (a crash may leave zeros after it)."""
    start = tail.rstrip(b"\0")
    if not start.startswith(_START[: len(start)]):
        return False
    try:
        return not json.loads(start)  # a whole object is not torn, whatever it lacks
    except ValueError:
        return True


class RawWriter:
    """Appends answers to a file, one line at a time, each handed to the system before `write` returns.

    Makes the file and its folder. `done` has the ids that were there before. One process alone may write to a file.

    Raises:
        InputError: the file is there but holds something else; it is left as it was. OutputError: it cannot be
        written.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = Path(path)
        self.done = frozenset(done_ids(path))  # before anything is changed: it refuses files that are not ours
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
            self._mend_end()
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, answer: RawAnswer) -> None:
        """Append one line. If that fails, no part of it stays. Raises OutputError."""
        line = answer.to_json().encode() + b"\n"
        if self._file.closed:
            raise OutputError(f"{str(self.path)!r} is closed", "Write before you close it.")
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(0, "the disk took only a part of a line")
        except OSError as error:
            os.ftruncate(self._file.fileno(), before)
            raise output_error(self.path, error) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RawWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mend_end(self) -> None:
        """Take away half a last line; give a whole one that lacks it its end."""
        tail = _last_line(self.path)
        if not tail:
            return
        if tail.strip(b"\0") and not _is_torn(tail):
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
