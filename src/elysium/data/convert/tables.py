"""Folders of frames and one CSV file, as annotation records.

    <root>/labels.csv         clip,frame,x1,y1,x2,y2,object[,track]
    <root>/<clip>/*.jpg ...   the frames of each clip, in the order of their names' numbers

A line of the CSV is one object in one frame: the folder of the clip, the file name of the frame, the box in pixels
(left, top, right, bottom; pixels count from 0), words for the object, and, where two objects of a clip share their
words, a name or number that tells them apart. A frame without a line for an object is one in which it is absent.
Knows nothing about models, and does not look at pixels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from elysium.data.convert.sequences import image_files
from elysium.data.records import Box, Record
from elysium.errors import InputError, SourceError

LABELS = "labels.csv"
COLUMNS = ("clip", "frame", "x1", "y1", "x2", "y2", "object")
_Boxes = dict[str, tuple[float, float, float, float]]


def read_table(root: Path, labels: str = LABELS) -> Iterator[Record]:
    """A record for each object of each clip, in the order of the CSV; frames are relative to ``root``.

    Raises:
        SourceError: no such file or folder, or an unreadable image. InputError: a line that makes no sense, by its
        number.
    """
    tracks: dict[tuple[str, str, str], _Boxes] = {}
    for number, row in _rows(root / labels):
        key = (row["clip"], row["object"], row.get("track") or "")
        if not row["object"]:
            raise InputError(f"{root / labels}, line {number}: no words for the object", "Write what it is called")
        boxes = tracks.setdefault(key, {})
        if row["frame"] in boxes:
            raise InputError(
                f"{root / labels}, line {number}: {row['object']!r} is in frame {row['frame']!r} twice",
                "Tell two objects apart in a column track",
            )
        boxes[row["frame"]] = _box(root / labels, number, row)
    if not tracks:
        raise InputError(f"{root / labels} holds no line below its head", "Write one line for each object in a frame")
    for (clip, words, track), boxes in tracks.items():
        yield _record(root, clip, words, track, boxes)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines below the head by their numbers, without blanks around values."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} has no column {', '.join(missing)}", f"Its head is {','.join(COLUMNS)}[,track]"
                )
            for row in reader:
                yield (
                    reader.line_num,
                    {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)},
                )
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror or error}", "Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not CSV in UTF-8: {error}", "Save it as that.") from error


def _box(path: Path, number: int, row: dict[str, str]) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
    except ValueError as error:
        raise InputError(f"{path}, line {number}: a coordinate is no number", "Write pixels.") from error
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        raise InputError(
            f"{path}, line {number}: the box {x1:g},{y1:g},{x2:g},{y2:g} is empty", "Write left, top, right, bottom."
        )
    return x1, y1, x2, y2


def _record(root: Path, clip: str, words: str, track: str, boxes: _Boxes) -> Record:
    folder = root / clip
    if not clip or Path(clip).is_absolute() or ".." in Path(clip).parts or not folder.is_dir():
        raise SourceError(f"{root / LABELS} names the clip {clip!r}, and {folder} is no folder", "Check the path.")
    files = image_files(folder)
    strangers = sorted(set(boxes) - {file.name for file in files})
    if strangers:
        raise InputError(f"{root / LABELS}: {folder} has no frame {strangers[0]!r}", "Write the file's name.")
    size = _size(files[0])
    normalised = [_within(boxes[file.name], size) if file.name in boxes else None for file in files]
    outside = [
        file.name for file, box in zip(files, normalised, strict=True) if box and (box[0] >= box[2] or box[1] >= box[3])
    ]
    if outside:
        raise InputError(
            f"{root / LABELS}: the box of {words!r} in {clip}/{outside[0]} lies outside of the frame",
            f"Frames are {size[0]} x {size[1]} pixels; take the line away if it is out of sight",
        )
    absent = [box is None for box in normalised]
    return Record(
        source=root.name, id="/".join(part for part in (clip, words, track) if part), vid=clip, metadata={},
        frames=[file.relative_to(root).as_posix() for file in files], object_class=words, box=normalised,
        object_description=words, frame_size=size, absent=absent if any(absent) else None,
    )  # fmt: skip


def _within(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    """0..1 of the frame, what sticks out of it cut off."""
    x1, y1, x2, y2 = (round(min(max(value / size[i % 2], 0.0), 1.0), 6) for i, value in enumerate(box))
    return x1, y1, x2, y2


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise SourceError(f"Cannot read the image {path}", "Mend it or take it away.") from error
