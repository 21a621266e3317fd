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

from elysium.data.convert.base import Converter, Options, Unit
from elysium.data.convert.parts import image_files, image_size, track_record
from elysium.data.records import Record
from elysium.errors import InputError, SourceError

LABELS = "labels.csv"
COLUMNS = ("clip", "frame", "x1", "y1", "x2", "y2", "object")
_Boxes = dict[str, tuple[float, float, float, float]]


def _tracks(root: Path, options: Options) -> Iterator[Unit]:
    """The boxes of each object of each clip, in the order of the CSV. Raises InputError for a line that makes no sense,
    by its number."""
    tracks: dict[tuple[str, str, str], _Boxes] = {}
    for number, row in _rows(root / LABELS):
        key = (row["clip"], row["object"], row.get("track") or "")
        if not row["object"]:
            raise InputError(f"{root / LABELS}, line {number}: no words for the object", "Write what it is called")
        boxes = tracks.setdefault(key, {})
        if row["frame"] in boxes:
            raise InputError(
                f"{root / LABELS}, line {number}: {row['object']!r} is in frame {row['frame']!r} twice",
                "Tell two objects apart in a column track",
            )
        boxes[row["frame"]] = _box(root / LABELS, number, row)
    if not tracks:
        raise InputError(f"{root / LABELS} holds no line below its head", "Write one line for each object in a frame")
    for (clip, words, track), boxes in tracks.items():
        yield "/".join(part for part in (clip, words, track) if part), (clip, words, boxes)


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


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """The one record of an object. Raises SourceError for a clip that is not there or an image that cannot be read,
    InputError for boxes that do not fit."""
    (id, (clip, words, boxes)), folder = unit, root / unit[1][0]
    if not clip or Path(clip).is_absolute() or ".." in Path(clip).parts or not folder.is_dir():
        raise SourceError(f"{root / LABELS} names the clip {clip!r}, and {folder} is no folder", "Check the path.")
    files = image_files(folder)
    strangers = sorted(set(boxes) - {file.name for file in files})
    if strangers:
        raise InputError(f"{root / LABELS}: {folder} has no frame {strangers[0]!r}", "Write the file's name.")
    size = image_size(files[0])
    nothing = (math.nan,) * 4
    record = track_record(
        root, files, [boxes.get(file.name, nothing) for file in files], size,
        source=root.name, id=id, vid=clip, object_class=words,
    )  # fmt: skip
    there = zip(files, record.box or (), strict=True)
    outside = [file.name for file, box in there if box is None and file.name in boxes]
    if outside:
        raise InputError(
            f"{root / LABELS}: the box of {words!r} in {clip}/{outside[0]} lies outside of the frame",
            f"Frames are {size[0]} x {size[1]} pixels; take the line away if it is out of sight",
        )
    yield record


CSV = Converter("frames in folders and labels.csv", _tracks, _records)
