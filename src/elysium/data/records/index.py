"""Random access to a file of records: where each begins, kept beside it.

The index of ``tracks.jsonl`` is ``tracks.jsonl.index.npz``: made once, in one pass over the file, and made again when
the file is another one. Records are read and checked when they are asked for; nothing of them is held in memory, so a
file of millions costs 21 bytes a record.

Knows bytes, and of records whether they are chats and which share their frames. Does not know images or samples.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.data.records.checks import defects
from elysium.data.records.model import Record
from elysium.data.records.streaming import Problem, stream
from elysium.errors import InputError, OutputError, SourceError
from elysium.files import atomic_path

SUFFIX = ".index.npz"
_VERSION = 1
_ROW = np.dtype([("starts", np.int64), ("sizes", np.int32), ("is_chat", np.bool_), ("groups", np.int64)])
Report = Callable[[int], None]
"""Called with the number of records indexed so far."""


class RecordFile(Sequence[Record]):
    """The records of a file by their number from 0.

    Args:
        path: JSON lines or a JSON array, not gzipped.
        keep: whether the index is written beside the file (where that can be done) for the next time.
        report: told of the progress of making the index.

    Attributes:
        is_chat: (N,) which records are chats.
        groups: (N,) int64; records with equal numbers have the same frames in the same order.

    Raises:
        SourceError: the file cannot be read. InputError: it is gzipped, empty, or has a record that is not JSON.
    """

    def __init__(self, path: str | os.PathLike[str], keep: bool = True, report: Report | None = None) -> None:
        self.path = Path(path)
        self._mark = _fingerprint(self.path)
        index = _read_index(self.path, self._mark) or _make_index(self.path, self._mark, keep, report)
        self._starts, self._sizes = index["starts"], index["sizes"]
        self.is_chat: NDArray[np.bool_] = index["is_chat"]
        self.groups: NDArray[np.int64] = index["groups"]
        self._file: int | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: Any) -> Any:
        """Record ``number``. Raises InputError if it has a defect, or if the file is no longer the one indexed."""
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        text = os.pread(self._descriptor(), int(self._sizes[place]), int(self._starts[place]))
        try:
            value = json.loads(text)
        except ValueError as error:
            raise InputError(
                f"{self.path} has changed since it was opened: record {place + 1} is not where it was", "Start again."
            ) from error
        found = defects(value)
        if found:
            field, told, _ = found[0]
            raise InputError(f"{self.path}, record {place + 1}, {field}: {told}", "Mend this record or take it out.")
        return Record.model_validate(value)

    def _descriptor(self) -> int:
        """The open file, of this process: workers that were forked each open their own."""
        if self._file is None or self._process != os.getpid():
            try:
                self._file, self._process = os.open(self.path, os.O_RDONLY), os.getpid()
            except OSError as error:
                raise SourceError(f"Cannot read {self.path}: {error.strerror or error}", "Check the path.") from error
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None and self._process == os.getpid():
            os.close(self._file)  # type: ignore[arg-type]


def clips_of(groups: NDArray[np.int64], is_chat: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which records make up which clip: record numbers in the order of clips, (N,), and where each clip begins in them
    and the last one ends, (C + 1,). Tracks of one group are a clip, and so is each chat; clips of tracks come first,
    each kind in the order of the file."""
    tracks, chats = np.flatnonzero(~is_chat), np.flatnonzero(is_chat)
    _, first, which = np.unique(groups[tracks], return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))[which]  # numbers of clips in the order in which they begin
    order = np.argsort(by_appearance, kind="stable")
    sizes = np.concatenate([np.bincount(by_appearance, minlength=len(first)), np.ones(len(chats), np.int64)])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return np.concatenate([tracks[order], chats]), starts


def _fingerprint(path: Path) -> str:
    """What changes when the file does: its size, and when it was written."""
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise InputError(f"{path} is gzipped, which has no random access", "Unzip it: gunzip -k FILE")
        found = path.stat()
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror or error}", "Check the path.") from error
    return f"{_VERSION} {found.st_size} {found.st_mtime_ns}"


def _read_index(path: Path, mark: str) -> dict[str, NDArray[Any]] | None:
    """The index beside the file, if there is one and it is of this very file."""
    place = path.with_name(path.name + SUFFIX)
    try:
        with np.load(place, allow_pickle=False) as found:
            return dict(found) if str(found["mark"]) == mark else None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _make_index(path: Path, mark: str, keep: bool, report: Report | None) -> dict[str, NDArray[Any]]:
    rows = np.fromiter(_rows(path, report), dtype=_ROW)  # grows as it goes: a list would take ten times the memory
    if not len(rows):
        raise InputError(f"{str(path)!r} holds no record", "Give a file with at least one.")
    index = {"mark": np.array(mark), **{name: rows[name].copy() for name in _ROW.names or ()}}
    if keep:
        try:
            with atomic_path(path.with_name(path.name + SUFFIX)) as temporary, temporary.open("wb") as file:
                np.savez(file, **index)  # type: ignore[arg-type]
        except OutputError:
            pass  # a folder that is read-only: the index serves this process alone
    return index


def _rows(path: Path, report: Report | None) -> Iterator[tuple[int, int, int, int]]:
    """Start, size, whether it is a chat, and the group, of each record."""
    for number, item in enumerate(stream(path), 1):
        if isinstance(item, Problem):
            if item.torn:
                return  # the end of a file that is still being written, or was cut off
            raise InputError(str(item), "Mend this record or take it out.")
        frames = item.value.get("frames") if isinstance(item.value, dict) else None
        group = hashlib.blake2b(json.dumps(frames).encode(), digest_size=8).digest()
        chat = isinstance(item.value, dict) and "vqa" in item.value
        yield item.start, item.size, chat, int.from_bytes(group, "little", signed=True)
        if report is not None and number % 1000 == 0:
            report(number)
