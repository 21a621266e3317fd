"""Everything that is wrong with a file of records and the images it names, and what can be mended of it.

Knows: records, image files, processes. Does not know: what the records are used for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from elysium.data.mending import mended
from elysium.data.records import Problem
from elysium.data.records.checks import defects, is_track
from elysium.data.records.images import ImageFolder
from elysium.data.records.model import Size
from elysium.data.records.streaming import Item, stream
from elysium.errors import InputError
from elysium.files import atomic_path
from elysium.processes import in_order
from elysium.readers.images import displayed_size

_CHUNK = 64  # records handed to a process at once
_REDUCED = 8  # JPEGs are decoded at an eighth of their size: all of the file is read, few pixels are made


@dataclass
class Summary:
    """How many records there are, how many of them have defects, what kinds of defects by field, and, where the file
    was mended, how many records were changed and how many left out."""

    records: int = 0
    defective: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    changed: int = 0
    left_out: int = 0


def validate(
    path: Path, images: Path | None = None, *, fix: Path | None = None, workers: int = 1,
    on_problem: Callable[[Problem], None] = lambda problem: None, report: Callable[[int], None] | None = None,
) -> Summary:  # fmt: skip
    """Check a file, in its order, in memory that does not grow but for 150 bytes a record (the ids).

    Args:
        images: the folder that paths are relative to; every image is read if it is given.
        fix: where what can be mended is written, JSON lines; see :mod:`elysium.data.mending` for what is done. Records
            that stay defective, and later ones with an id that was there, are left out.
        on_problem: told of every defect.

    Raises:
        SourceError: the file cannot be read. InputError: it is empty, or ``images`` is no folder.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"There is no folder of images {str(images)!r}", "Check the path.")
    if fix is not None and fix.resolve() == path.resolve():
        raise InputError(f"{fix} would be written over while it is read", "Choose another name.")
    if fix is None:
        return _validated(path, images, None, workers, on_problem, report)
    with atomic_path(fix) as temporary, temporary.open("w", encoding="utf-8") as file:
        return _validated(path, images, lambda line: file.write(line + "\n"), workers, on_problem, report)


def _validated(
    path: Path, images: Path | None, keep: Callable[[str], object] | None, workers: int,
    on_problem: Callable[[Problem], None], report: Callable[[int], None] | None,
) -> Summary:  # fmt: skip
    summary, ids = Summary(), {}  # type: Summary, dict[int, int]
    work = partial(_checked, file=str(path), images=images, mends=keep is not None)
    for _, answers in in_order(work, _chunks(path), workers):
        for answer in answers:
            summary.records += 1
            kept = keep is None or answer.mended is not None  # a record that is left out takes no id from others
            known = answer.id is not None and kept
            first = ids.setdefault(hash(str(answer.id)), answer.record) if known else answer.record
            if first != answer.record:
                told = f"{answer.id!r} is the id of record {first} already"
                answer.problems.append(Problem(str(path), answer.record, answer.line, "id", told))
                answer.mended = None
            summary.defective += bool(answer.problems)
            for problem in answer.problems:
                summary.kinds[_kind(problem)] += 1
                on_problem(problem)
            if keep is not None:
                _keep(answer, keep, summary)
        if report is not None:
            report(summary.records)
    if not summary.records:
        raise InputError(f"{str(path)!r} holds no record", "Give a file with at least one.")
    if keep is not None and summary.left_out == summary.records:
        raise InputError(f"{path} has no record that can be mended", "Nothing was written.")
    return summary


@dataclass
class _Answer:
    """Of one record: its number, line and id, its defects, and the line to be kept of it, if any."""

    record: int
    line: int
    id: str | int | None
    problems: list[Problem]
    mended: str | None
    changed: bool = False


def _keep(answer: _Answer, keep: Callable[[str], object], summary: Summary) -> None:
    if answer.mended is None:
        summary.left_out += 1
        return
    keep(answer.mended)
    summary.changed += answer.changed


def _kind(problem: Problem) -> str:
    """The field without its index, for counting."""
    return problem.field.partition("[")[0].partition(",")[0] or "record"


def _chunks(path: Path) -> Iterator[list[Item | Problem]]:
    items = stream(path)
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def _checked(chunk: list[Item | Problem], file: str, images: Path | None, mends: bool) -> list[_Answer]:
    """What is to be said of each record of a chunk."""
    answers: list[_Answer] = []
    for item in chunk:
        if isinstance(item, Problem):
            answers.append(_Answer(item.record, item.line, None, [item], None))
            continue
        told = [*defects(item.value, _size_in(images)), *_further(item.value, images)]
        found = [Problem(file, item.record, item.line, *defect) for defect in told]
        line = mended(item.value, bool(found), _size_in(images)) if mends else None
        own = item.value.get("id") if isinstance(item.value, dict) else None
        id = own if isinstance(own, str | int) else None
        changed = line is not None and bool(found) and line != mended(item.value, False, None)
        answers.append(_Answer(item.record, item.line, id, found, line, changed))
    return answers


def _further(value: Any, images: Path | None) -> Iterator[tuple[str, str, bool]]:
    """What reading puts up with: no words, and images that are not there or broken."""
    if not isinstance(value, dict) or not isinstance(frames := value.get("frames"), list):
        return
    words = (value.get("object_description"), value.get("object_class"))
    if is_track(value) and not any(isinstance(text, str) and text.strip() for text in words):
        yield "object_description", "is empty, and so is object_class", False
    for place, name in enumerate(frames if images is not None else ()):
        if isinstance(name, str) and image_size(str(images), name) is None:
            there = images is not None and name in _folder(str(images))
            yield f"frames[{place}]", f"{name!r} {'is broken' if there else 'is not there'}", False


def _size_in(images: Path | None) -> Callable[[str], Size | None] | None:
    return None if images is None else partial(image_size, str(images))


@lru_cache(maxsize=4)
def _folder(images: str) -> ImageFolder:
    return ImageFolder(images)


@lru_cache(maxsize=65536)  # tracks of one video, which are neighbours, share their frames
def image_size(images: str, name: str) -> Size | None:
    """Width and height of an image that can be decoded to its end, else None."""
    try:
        found = _folder(images).find(name)
        if found is None:
            return None
        with Image.open(found) as image:
            size = displayed_size(image)
            image.draft(None, (image.width // _REDUCED, image.height // _REDUCED))
            image.load()
            return size
    except Exception:  # decoders raise what they like on broken files
        return None
