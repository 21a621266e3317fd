"""Lists of videos and queries: a JSON-lines or CSV file, read and checked as a whole before any work starts.

Knows names and types of columns. Does not know: whether a video can be read, what a box means in its frame, models.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from elysium.errors import InputError, SourceError


class ManifestItem(BaseModel):
    """One video and what is to be followed in it.

    ``id`` names the folder of its results. ``expressions`` and ``boxes`` may be given in the singular. ``start_s``,
    ``end_s``, ``at_s``, ``stride``, ``max_frames`` and ``box_format`` mean what they mean for ``Elysium.track``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1)
    id: str = Field("", pattern=r"^[^/\\\x00]*$")
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
        stripped = tuple(text.strip() for text in expressions)
        if not all(stripped):
            raise ValueError("an expression is empty")
        return stripped

    @model_validator(mode="after")
    def _something(self) -> ManifestItem:
        if not self.expressions and not self.boxes:
            raise ValueError("there is nothing to follow: no expression and no box")
        if self.id in (".", ".."):
            raise ValueError(f"the id {self.id!r} is no name for a folder")
        return self


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
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"Cannot read the manifest {str(path)!r}: {error}", "Check the path.") from error
    if file.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"The manifest {str(path)!r} is neither .jsonl nor .csv", "Name it by what it is.")
    items, problems = [], []
    for line, values in _csv_rows(text) if file.suffix.lower() == ".csv" else _json_rows(text):
        try:
            items.append(ManifestItem.model_validate(values if isinstance(values, dict) else json.loads(values)))
        except ValidationError as error:
            problems += [f"line {line}: {_told(problem)}" for problem in error.errors()]
        except ValueError as error:
            problems.append(f"line {line}: not JSON ({error})")
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError(f"{path}: {'; '.join(problems[:10])}{more}", "Mend these lines.")
    if not items:
        raise InputError(f"The manifest {str(path)!r} lists nothing", "Give it a line for each video.")
    return _with_ids([_found(item, file.parent) for item in items], str(path))


def _told(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _json_rows(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), restkey="too many cells")
    return ((reader.line_num, {str(key).strip(): value for key, value in row.items()}) for row in reader)


def _found(item: ManifestItem, folder: Path) -> ManifestItem:
    """The item with its source beside the manifest, if that is where it is."""
    beside = folder / item.source
    if not Path(item.source).exists() and beside.exists():
        return item.model_copy(update={"source": str(beside)})
    return item


def _with_ids(items: list[ManifestItem], path: str) -> list[ManifestItem]:
    """Raises InputError for an id that two items were given."""
    taken: set[str] = set()
    for item in items:
        if item.id and item.id in taken:
            raise InputError(f"{path}: two items have the id {item.id!r}", "Give each an id of its own.")
        taken.add(item.id)
    named = []
    for item in items:
        name, number = item.id or Path(item.source).stem or "item", 1
        while not item.id and name in taken:
            number += 1
            name = f"{Path(item.source).stem}-{number}"
        taken.add(name)
        named.append(item.model_copy(update={"id": name}))
    return named
