"""A file of JSON values, an array or lines, as a stream: gzipped or not, cut off or broken, in bounded memory.

Knows JSON and UTF-8, nothing about what the values mean.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from elysium.errors import InputError, SourceError

AnyPath: TypeAlias = str | os.PathLike[str]
ByteFile: TypeAlias = io.BufferedReader | gzip.GzipFile

MAX_RECORD_BYTES = 64 * 2**20  # a longer one is no record but a broken file; this is what bounds the memory
CHUNK_BYTES = 2**18
_CUT_SHORT = re.compile(r"[-.]?[A-Za-z]{0,8}[-+]?|u[0-9A-Fa-f]{0,4}")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that mean nothing
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Item:
    """One value of the file, and where it stands; both count from 1. ``start`` and ``size`` are bytes, of the contents
    of a gzipped file."""

    record: int
    line: int
    value: Any
    start: int = 0
    size: int = 0


@dataclass(frozen=True)
class Problem:
    """One defect. `str()` is a sentence that says where and what."""

    file: str
    record: int
    line: int
    field: str  # empty if it is the whole record
    message: str
    fatal: bool = False  # nothing can be made of this record
    torn: bool = False  # the file ends in the middle of it

    def __str__(self) -> str:
        field = f", {self.field}" if self.field else ""
        return f"{self.file}, record {self.record} (line {self.line}){field}: {self.message}"


def stream(path: AnyPath) -> Iterator[Item | Problem]:
    """The values of the file, and a Problem in the place of each that is not JSON; memory stays bounded."""
    name = os.fspath(path)
    try:
        with _opened(path) as file:
            head = file.read1(CHUNK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
            if not head:
                raise InputError(f"{name!r} is empty", "Give a file with at least one record.")
            if head[:1] not in (b"[", b"{"):
                raise InputError(f"{name!r} is neither a JSON array nor JSON lines in UTF-8", "Check the path.")
            file.seek(0)
            yield from (_array(file, name) if head[:1] == b"[" else _lines(file, name))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"Cannot read the annotations {name!r}: {reason}", "Check the path.") from error


def _opened(path: AnyPath) -> ByteFile:
    with Path(path).open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(path, "rb") if zipped else Path(path).open("rb")


def _lines(file: ByteFile, name: str) -> Iterator[Item | Problem]:
    record, line, start, end = 0, 0, 0, 0
    try:
        for line in itertools.count(1):
            raw = file.readline(MAX_RECORD_BYTES + 1)
            if not raw:
                return
            start, end = end, end + len(raw)
            if len(raw) > MAX_RECORD_BYTES:
                yield Problem(name, record + 1, line, "", _TOO_LONG, True)
                return
            text = raw.removeprefix(codecs.BOM_UTF8).strip()
            if text:
                record += 1
                start += raw.index(text)
                yield _parsed(name, record, line, text, start, torn=not raw.endswith(b"\n"))
    except EOFError:
        yield _cut(name, record + 1, line)  # a gzip file that was not finished


_TOO_LONG = f"is longer than {MAX_RECORD_BYTES >> 20} MB; are the records on lines of their own?"


def _parsed(name: str, record: int, line: int, text: bytes, start: int, torn: bool) -> Item | Problem:
    try:
        return Item(record, line, json.loads(text), start, len(text))
    except (ValueError, RecursionError) as error:
        return _cut(name, record, line) if torn and _unfinished(error) else _broken(name, record, line, error)


def _unfinished(error: BaseException) -> bool:
    """Whether what could not be read may be the beginning of something that can.

    What is only unfinished fails at its very end, or at a number, a word (`tru`) or an escape that is cut there,
    except for texts, which fail where they start.
    """
    if isinstance(error, UnicodeDecodeError):
        return error.reason == "unexpected end of data"
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or bool(_CUT_SHORT.fullmatch(error.doc, error.pos))


def _cut(name: str, record: int, line: int) -> Problem:
    return Problem(name, record, line, "", "the file is cut off here", True, True)


def _broken(name: str, record: int, line: int, error: BaseException) -> Problem:
    """`error` is what the JSON or the UTF-8 decoder said."""
    if isinstance(error, UnicodeDecodeError):
        return Problem(name, record, line, "", f"is not UTF-8 (byte {error.object[error.start]:#04x})", True)
    told = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
    return Problem(name, record, line, "", f"is not JSON ({told})", True)


def _array(file: ByteFile, name: str) -> Iterator[Item | Problem]:
    """The entries of an array. After a broken one nothing is certain, so that is the last."""
    window, record = _Window(file), 1
    try:
        window.peek()
        window.advance(window.at + 1)
        while (mark := window.peek()) and mark != "]":
            line, start = window.line, window.byte
            value = window.value()
            yield Item(record, line, value, start, window.byte - start)
            mark = window.peek()
            record += 1
            if mark == ",":
                window.advance(window.at + 1)
            elif mark != "]":
                break
        if not mark:
            yield _cut(name, record, window.line)
            return
        if mark == "]":
            window.advance(window.at + 1)
            mark = window.peek()
        if mark:
            told = f"stands outside of the array, or lacks a comma before it ({mark!r})"
            yield Problem(name, record, window.line, "", told, True)
    except EOFError:
        yield _cut(name, record, window.line)
    except OverflowError:
        yield Problem(name, record, window.line, "", _TOO_LONG, True)
    except (ValueError, RecursionError) as error:
        yield _broken(name, record, window.line, error)


class _Window:
    """A stretch of the text of a file that moves on as values are taken from it."""

    def __init__(self, file: ByteFile) -> None:
        self.text, self.at, self.line, self.byte = "", 0, 1, 0
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder()

    def advance(self, to: int) -> None:
        passed = self.text[self.at : to]
        self.line += passed.count("\n")
        self.byte += len(passed) if passed.isascii() else len(passed.encode("utf-8", "surrogateescape"))
        self.at = to

    def peek(self) -> str:
        """The next character that is not white space, "" at the end of the file."""
        while True:
            self.advance(cast(re.Match[str], _SPACE.match(self.text, self.at)).end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._fill():
                return ""

    def value(self) -> Any:
        """The JSON value that starts here. Raises EOFError if the file ends in it, ValueError if it is broken."""
        while True:
            try:
                value, end = self._json.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not _unfinished(error):
                    raise
            else:
                if end < len(self.text) or not self._fill():  # a number may go on in the next chunk
                    self._check(end)
                    self.advance(end)
                    return value
                continue
            if len(self.text) - self.at > MAX_RECORD_BYTES:
                raise OverflowError
            if not self._fill():
                raise EOFError

    def _check(self, end: int) -> None:
        """Raise UnicodeDecodeError for the first byte from here to `end` that is not UTF-8."""
        if bad := _NOT_UTF8.search(self.text, self.at, end):
            raise UnicodeDecodeError("utf-8", bytes([ord(bad[0]) - 0xDC00]), 0, 1, "invalid start byte")

    def _fill(self) -> bool:
        """Read on, each time at least as much as is there, so that a long value is not parsed too often."""
        data = self._file.read1(max(CHUNK_BYTES, len(self.text) - self.at))
        if data:
            if not self.byte and not self.text and data.startswith(codecs.BOM_UTF8):
                self.byte = len(codecs.BOM_UTF8)  # which the decoder leaves out
            self.text, self.at = self.text[self.at :] + self._decoder.decode(data), 0
        return bool(data)
