"""What data sets are built from: a list of videos, each with a caption or with expressions.

A `.jsonl`, `.csv` or `.parquet` file is read and checked as a whole before any work starts. Knows names and types of
columns, and which paths stay inside the folder of videos. Does not know: whether a video can be read, what captions
say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from elysium.errors import InputError, SourceError
from elysium.manifest import Item, checked, stripped, text_rows, with_ids

WHAT = "list of captions"
MOST_ID = 100  # bytes: it names folders and files
_MOST_STEM = MOST_ID - 10  # so that there is room for a number


class CaptionedVideo(Item):
    """One line: a video and what is said of it.

    Args:
        video: its path below the folder of videos.
        caption: a sentence that noun phrases are taken from.
        expressions: instead of a caption, each names one object. In a table one cell, parted by semicolons; or the
            column ``expression``, for a single one.
        start_s, end_s: the part of the video that is meant, seconds after its first frame: start <= time < end.
        url: where it comes from; it is passed on.
        id: names its frames and its records; "" where none was given.
    """

    video: str = Field(min_length=1)
    caption: str = ""
    expressions: tuple[str, ...] = ()
    start_s: float | None = Field(None, ge=0, allow_inf_nan=False)
    end_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    url: str = ""

    @model_validator(mode="before")
    @classmethod
    def _cells(cls, values: Any) -> Any:
        """Empty cells as absent, one cell of expressions as several."""
        if not isinstance(values, dict):
            return values
        given = {key: value for key, value in values.items() if not _is_empty(value)}
        if "expression" in given:
            given["expressions"] = [given.pop("expression")]
        if isinstance(given.get("expressions"), str):
            given["expressions"] = [text for text in given["expressions"].split(";") if text.strip()]
        return given

    @field_validator("expressions")
    @classmethod
    def _said(cls, expressions: tuple[str, ...]) -> tuple[str, ...]:
        return stripped(expressions)

    @model_validator(mode="after")
    def _something(self) -> CaptionedVideo:
        if bool(self.caption.strip()) == bool(self.expressions):
            raise ValueError("there must be a caption or expressions, and not both")
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise ValueError(f"end_s ({self.end_s:g}) is not after start_s ({self.start_s or 0:g})")
        if not all(map(_is_text, (self.caption, *self.expressions, self.url))):
            raise ValueError("there is half of a surrogate pair in it, which no file can hold")
        if self.id.startswith(".") or len(self.id.encode()) > MOST_ID:
            raise ValueError(f"the id {self.id!r} begins with a dot, or is longer than {MOST_ID} bytes")
        return self


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8; JSON may say halves of characters, such as "\\ud83d"."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def read_captions(path: str | Path) -> list[CaptionedVideo]:
    """All lines of a `.jsonl`, `.csv` or `.parquet` file, each with an id of its own.

    A line without an id gets the stem of its video's name, numbered where several have it.

    Raises:
        SourceError: the file cannot be read. InputError: what is wrong with it, naming the lines (the first ten; of
        Parquet the rows, from 1), or pyarrow is missing.
    """
    file = Path(path)
    rows = _parquet_rows(file) if file.suffix.lower() == ".parquet" else text_rows(file, WHAT)
    return with_ids(checked(file, rows, CaptionedVideo, WHAT), str(path), _stem)


def _stem(item: CaptionedVideo) -> str:
    """A name for a folder: of all that a path may hold, what is no dot at its beginning."""
    stem = Path(item.video.replace("\\", "/").replace("\0", "")).stem.lstrip(".")
    return stem.encode()[:_MOST_STEM].decode(errors="ignore")


def _parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(
            f"Reading {str(file)!r} needs the package pyarrow",
            'pip install "elysium-video[build]", or write a .jsonl or .csv.'
        ) from error
    try:
        with parquet.ParquetFile(file) as table:
            rows = (row for batch in table.iter_batches(4096) for row in batch.to_pylist())
            yield from enumerate(rows, start=1)
    except (OSError, ArrowException) as error:
        raise SourceError(f"Cannot read the {WHAT} {str(file)!r}: {error}", "Check the path.") from error


def find_video(folder: Path, name: str) -> Path:
    """The path of a video below ``folder``.

    Raises SourceError for one that is not there, or leads out of the folder: absolute, with "..", or by a link; and for
    what cannot be a path.
    """
    path = folder / name
    try:
        inside = not Path(name).is_absolute() and path.resolve().is_relative_to(folder.resolve())
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, links in a circle
        raise SourceError(f"The video {name[:200]!r} has no path that can be: {error}", "Mend its line.") from error
    if not inside:
        raise SourceError(f"The video {name!r} is not inside {str(folder)!r}", "Paths must stay below --videos.")
    if not there:
        raise SourceError(f"No such video: {str(path)!r}", "Check the path, and --videos.")
    return path
