"""Annotation records: the form of ElysiumTrack-1M, read one at a time from a file of any size, and checked.

A file is a JSON array or JSON lines, in UTF-8, gzipped or not. A record is one object of one video (`frames` and as
many `box`es in 0..1 of the frame) or a chat (`vqa`). Ours, and optional: `absent`, `expressions`, `times_s`; a box may
be null only where `absent` says so. Knows text and numbers; opens no image, and knows nothing of models or benchmarks.

`model` has the types, `checks` what can be wrong with one record, `streaming` the file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence

from elysium.data.records.checks import ImageSize, box_space, defects
from elysium.data.records.model import Box, Record, Size, Turn
from elysium.data.records.streaming import AnyPath, Item, Problem, stream
from elysium.errors import InputError

__all__ = ["Box", "Problem", "Record", "Size", "Turn", "box_space", "read_records", "validate_records"]


def read_records(path: AnyPath, *, on_problem: Callable[[Problem], None] | None = None) -> Iterator[Record]:
    """The records of a file, one at a time. A record cut off by the end of the file is left out with a warning.

    Args:
        on_problem: if given, it is told of every problem, and reading goes on: records that nothing can be made of
            are left out, those with lesser defects (a box that sticks out, say) are among the results.

    Raises:
        SourceError: the file cannot be read. InputError: it holds no record; or, without `on_problem`, the first
        record that has a problem.
    """
    count = 0
    for item in stream(path):
        found = [item] if isinstance(item, Problem) else _problems(os.fspath(path), item)
        if on_problem is None:
            _raise_or_warn(found)
        else:
            for problem in found:
                on_problem(problem)
        if isinstance(item, Item) and not any(problem.fatal for problem in found):
            count += 1
            yield Record.model_validate(item.value)
    if not count:
        raise InputError(f"{os.fspath(path)!r} holds no record", "Give a file with at least one.")


def _raise_or_warn(found: Sequence[Problem]) -> None:
    if not found:
        return
    if found[0].torn:
        warnings.warn(f"{found[0]}; what comes before it was read", stacklevel=3)
        return
    more = f" (and {len(found) - 1} more in this record)" if len(found) > 1 else ""
    raise InputError(f"{found[0]}{more}", "Mend this record or take it out.")


def validate_records(path: AnyPath, *, image_size: ImageSize | None = None) -> Iterator[Problem]:
    """Every problem of a file, in its order; ids that occur twice too (which costs about 150 bytes a record).

    Args:
        image_size: gives the width and height of a frame by its path in the record, or None where it is not known;
            asked for the first frame of each record.

    Raises:
        SourceError: the file cannot be read. InputError: it is empty.
    """
    ids: dict[int, int] = {}
    file, item = os.fspath(path), None
    for item in stream(path):
        if isinstance(item, Problem):
            yield item
            continue
        yield from _problems(file, item, image_size)
        own = item.value.get("id") if isinstance(item.value, dict) else None
        if isinstance(own, str | int):
            first = ids.setdefault(hash(str(own)), item.record)
            if first != item.record:
                yield Problem(file, item.record, item.line, "id", f"{own!r} is the id of record {first} already")
    if item is None:
        raise InputError(f"{file!r} holds no record", "Give a file with at least one.")


def _problems(file: str, item: Item, image_size: ImageSize | None = None) -> list[Problem]:
    """What is wrong with one value, seen by itself."""
    return [Problem(file, item.record, item.line, *defect) for defect in defects(item.value, image_size)]
