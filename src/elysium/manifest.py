"""Lists of videos and queries: a JSON-lines or CSV file, read and checked as a whole before any work starts.

Knows names and types of columns. Does not know: whether a video can be read, what a box means in its frame, models.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from elysium.errors import InputError, SourceError


class Item(BaseModel):
    """A line of a list; ``id`` names a folder, and is "" where none was given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field("", pattern=r"^[^/\\\x00]*$")

    @field_validator("id")
    @classmethod
    def _a_folder(cls, id: str) -> str:
        if id in (".", ".."):
            raise ValueError(f"{id!r} is no name for a folder")
        return id


ItemT = TypeVar("ItemT", bound=Item)


class ManifestItem(Item):
    """One video and what is to be followed in it.

    ``id`` names the folder of its results. ``expressions`` and ``boxes`` may be given in the singular. ``start_s``,
    ``end_s``, ``at_s``, ``stride``, ``max_frames`` and ``box_format`` mean what they mean for ``Elysium.track``.
    """

    source: str = Field(min_length=1)
    expressions: tuple[str, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    box_format: str = "xyxy"
    at_s: tuple[float, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    stride: int = Field(1, ge=1)
    max_frames: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _singular(cls, values: Any) -> Any:
        """``expression`` and ``box`` for one object; text (CSV) as numbers; empty cells as absent."""
        if not isinstance(values, dict):
            return values
        given = {key: value for key, value in values.items() if value not in (None, "")}
        for one, many in (("expression", "expressions"), ("box", "boxes")):
            if one in given:
                given[many] = [given.pop(one)]
        if isinstance(given.get("boxes"), list):
            given["boxes"] = [_numbers(box) for box in given["boxes"]]
        if "at_s" in given and not isinstance(given["at_s"], list):
            given["at_s"] = _numbers(given["at_s"])
        return given

    @field_validator("expressions")
    @classmethod
    def _said(cls, expressions: tuple[str, ...]) -> tuple[str, ...]:
        return stripped(expressions)

    @model_validator(mode="after")
    def _something(self) -> ManifestItem:
        if not self.expressions and not self.boxes:
            raise ValueError("there is nothing to follow: no expression and no box")
        return self


def stripped(expressions: tuple[str, ...]) -> tuple[str, ...]:
    """Expressions without blanks around them. Raises ValueError for an empty one."""
    texts = tuple(text.strip() for text in expressions)
    if not all(texts):
        raise ValueError("an expression is empty")
    return texts


def _numbers(value: Any) -> Any:
    """``"1,2 3;4"`` -> its numbers as text, for pydantic to read; all else as it is."""
    if isinstance(value, int | float):
        return [value]
    return re.split(r"[\s,;]+", value.strip().strip("[]()")) if isinstance(value, str) else value


def read_manifest(path: str | Path) -> list[ManifestItem]:
    """All items of a ``.jsonl`` or ``.csv`` file, each with an id of its own.

    An item without an id gets the stem of its source, numbered where several have it. Sources that do not exist as
    they stand are looked for beside the manifest.

    Raises:
        SourceError: the file cannot be read. InputError: what is wrong with it, naming the lines (the first ten).
    """
    file = Path(path)
    items = checked(file, text_rows(file, "manifest"), ManifestItem, "manifest")
    return with_ids([_found(item, file.parent) for item in items], str(path), lambda item: Path(item.source).stem)


def text_rows(file: Path, what: str) -> Iterable[tuple[int, Any]]:
    """Lines of a ``.jsonl`` or ``.csv`` file with their numbers: JSON as text, rows of a table as dictionaries.

    ``what`` the file is called in messages. Raises SourceError or InputError for a file that is neither.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"Cannot read the {what} {str(file)!r}: {error}", "Check the path.") from error
    if file.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"The {what} {str(file)!r} is neither .jsonl nor .csv", "Name it by what it is.")
    return _csv_rows(text, file) if file.suffix.lower() == ".csv" else _json_rows(text)


def checked(file: Path, rows: Iterable[tuple[int, Any]], kind: type[ItemT], what: str) -> list[ItemT]:
    """The rows as items. Raises InputError that names the lines with something wrong (the first ten), or for none."""
    items, problems = [], []
    for line, values in rows:
        try:
            items.append(kind.model_validate(values if isinstance(values, dict) else json.loads(values)))
        except ValidationError as error:
            problems += [f"line {line}: {_told(problem)}" for problem in error.errors()]
        except (ValueError, RecursionError) as error:
            problems.append(f"line {line}: not JSON ({error})")
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError(f"{file}: {'; '.join(problems[:10])}{more}", "Mend these lines.")
    if not items:
        raise InputError(f"The {what} {str(file)!r} lists nothing", "Give it a line for each video.")
    return items


def _told(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _json_rows(text: str) -> Iterator[tuple[int, str]]:
    """Lines end with a newline alone: a JSON string may hold what ``str.splitlines`` takes for ends, too (U+2028)."""
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _csv_rows(text: str, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Raises InputError for what is no table: a cell of more than 131072 characters, as where a quote is left open."""
    reader = csv.DictReader(io.StringIO(text), restkey="too many cells")
    try:
        for row in reader:
            yield reader.line_num, {str(key).strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise InputError(
            f"{file}, after line {reader.line_num}: {error}", "Look for a quote that is left open."
        ) from error


def _found(item: ManifestItem, folder: Path) -> ManifestItem:
    """The item with its source beside the manifest, if that is where it is."""
    beside = folder / item.source
    with suppress(OSError):  # a source too long to be a path, which is told when it is opened
        if not Path(item.source).exists() and beside.exists():
            return item.model_copy(update={"source": str(beside)})
    return item


def with_ids(items: list[ItemT], path: str, stem: Callable[[ItemT], str]) -> list[ItemT]:
    """The items, those without an ``id`` named by their ``stem``, numbered where several have it, whatever their case:
    some file systems do not tell "A" from "a".

    Raises InputError for an id that two items were given.
    """
    taken: set[str] = set()
    for item in items:
        if item.id and item.id in taken:
            raise InputError(f"{path}: two items have the id {item.id!r}", "Give each an id of its own.")
        taken.add(item.id)
    named, counts = [], Counter[str]()
    folders = {_folded(id) for id in taken}
    for item in items:
        base = stem(item) or "item"
        name = item.id or base
        while not item.id and _folded(name) in folders:
            counts[_folded(base)] += 1
            name = f"{base}-{counts[_folded(base)] + 1}"
        folders.add(_folded(name))
        named.append(item if item.id else item.model_copy(update={"id": name}))
    return named


def _folded(name: str) -> str:
    """What names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()
