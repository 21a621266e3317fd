"""MOTChallenge (MOT15, MOT16, MOT17, MOT20, and others in its form), as annotation records: one for each track.

    <SRC>/train/<seq>/img1/000001.jpg ...   (or the sequences in SRC, or SRC is one)
    <SRC>/train/<seq>/gt/gt.txt             a line a box: frame, id, left, top, width, height, flag, class, visibility
    <SRC>/train/<seq>/seqinfo.ini           (optional) imDir, frameRate, seqLength
    <SRC>/train/<seq>/gt/labels.txt         (optional) the names of the classes from 1, a line each, as CVAT exports it

From the end, columns may be missing, up to the height. A line of ten columns has x, y, z after the flag (MOT15, and
what trackers write) and so neither class nor visibility. Without labels.txt, classes are those of MOT16, MOT17 and
MOT20; of ten or seven columns there is no class, unless labels.txt has a single one.

Frames, ids and pixels count from 1 (the challenge's instructions say so), so 1 is taken off left and top; the frame n
is the image n of the folder, in the order of the numbers in their names. Only lines with a flag other than 0 are
taken: the challenge marks by 0 what it does not score, which in MOT16 and later is everything but pedestrians. The
frames of a record run from the first to the last frame of its track; where there is no line between, or one with a
visibility of 0, the object is absent. Its times are those in the sequence, by frameRate. MOT17 has each sequence three
times, for three detectors, with the same images and truth: the first is taken.

Splits: train, and test where there is truth. Dropped: what flag 0 marks, visibilities but 0, detections. Knows nothing
about models.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from configparser import ConfigParser, Error
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elysium.boxes import FloatArray
from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import image_size, images_in, read_text, track_record, xywh_to_xyxy
from elysium.data.records import Record
from elysium.errors import InputError, SourceError
from elysium.video import natural_key

_TRUTH = "gt/gt.txt"
_CLASSES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person",
    "distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd",
)  # fmt: skip
_FRAME, _ID, _FLAG, _CLASS, _VISIBILITY = 0, 1, 6, 7, 8
_OF_DETECTOR = re.compile(r"(.+)-(DPM|FRCNN|SDP)")


@dataclass(frozen=True)
class _Info:
    """What seqinfo.ini says."""

    images: str = "img1"
    fps: float | None = None
    length: int | None = None


def _units(source: Path, options: Options) -> Iterator[Unit]:
    """The sequences; what they need is their path from SRC."""
    if not source.is_dir():
        raise SourceError(f"There is no folder {str(source)!r}", "Check the path.")
    if (source / _TRUTH).is_file() and options.split == "train":
        yield source.resolve().name, "."
        return
    place = source / (options.split or "train")
    if not place.is_dir() and options.split == "train":
        place = source
    folders = sorted(sorted(path.parent.parent for path in place.glob(f"*/{_TRUTH}")), key=natural_key)
    if not folders:
        remedy = "Check the path." if options.split == "train" else "MOTChallenge publishes none of its test parts."
        raise InputError(f"{place} holds no sequence with {_TRUTH}", remedy)
    yield from ((folder.name, folder.relative_to(source).as_posix()) for folder in _once(folders))


def _once(folders: list[Path]) -> list[Path]:
    """One of those that differ in nothing but the detector."""
    found: dict[str, Path] = {}
    for folder in folders:
        twin = _OF_DETECTOR.fullmatch(folder.name)
        found.setdefault(twin[1] if twin else folder.name, folder)
    return list(found.values())


def _records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """The tracks of one sequence by their ids; without those that are never seen."""
    name, folder = unit[0], source / unit[1]
    info, path, labels = _info(folder / "seqinfo.ini"), folder / _TRUTH, _labels(folder / "gt/labels.txt")
    frames = images_in(folder / info.images)
    if not frames or len(frames) != (info.length or len(frames)):
        told = f"{folder / info.images} has {len(frames)} images"
        raise InputError(told, f"seqinfo.ini says {info.length}." if info.length else "Put them there.")
    size = image_size(frames[0])
    for rows in _tracks(_table(path), path, len(frames)):
        first, last, thing = int(rows[0, _FRAME]), int(rows[-1, _FRAME]), int(rows[0, _ID])
        boxes = np.full((last - first + 1, 4), np.nan)
        boxes[rows[:, _FRAME].astype(int) - first] = _boxes(rows)
        record = track_record(
            image_root(source, options), frames[first - 1 : last], boxes, size, source="MOTChallenge",
            id=f"{name}/{thing}", vid=name, object_class=_class(rows, labels, path),
            times_s=[number / info.fps for number in range(first - 1, last)] if info.fps else None,
        )  # fmt: skip
        if not all(record.absent or [False]):
            yield record


def _info(path: Path) -> _Info:
    if not path.is_file():
        return _Info()
    try:
        parser = ConfigParser(interpolation=None)
        parser.read_string(read_text(path))
        given = parser["Sequence"]
        info = _Info(given.get("imDir", "img1"), given.getfloat("frameRate"), given.getint("seqLength"))
    except (Error, KeyError, ValueError) as error:
        raise InputError(f"{path} is not what MOTChallenge writes ({error})", "Mend it or take it away.") from error
    if Path(info.images).is_absolute() or ".." in Path(info.images).parts or not (info.fps is None or info.fps > 0):
        raise InputError(f"{path}: imDir {info.images!r} or frameRate {info.fps} cannot be", "Mend it.")
    return info


def _labels(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def _table(path: Path) -> FloatArray:
    """(N, columns) the lines. Raises InputError for one that is something else, by its number."""
    values, columns = array("d"), 0  # lists of floats would take several times the memory: there are a million lines
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(value) for value in line.split(",")]
        except ValueError as error:
            raise InputError(f"{path}, line {number} holds something else than numbers", "Mend the line.") from error
        columns = columns or len(row)
        if len(row) != columns or not 6 <= columns <= 10:
            raise InputError(f"{path}, line {number} has {len(row)} columns", "Each line has the same 6 to 10.")
        values.extend(row)
    return np.array(values, dtype=np.float64).reshape(-1, columns or 6)


def _tracks(table: FloatArray, path: Path, num_frames: int) -> Iterator[FloatArray]:
    """The lines of each id that count, by their frames. Raises InputError."""
    if table.shape[1] > _FLAG:
        table = table[table[:, _FLAG] != 0]
    whole = table[:, :2] % 1 == 0
    wrong = np.flatnonzero(~whole.all(axis=1) | (table[:, _FRAME] < 1) | (table[:, _FRAME] > num_frames))
    if len(wrong):
        frame, thing = table[wrong[0], :2]
        told = f"{path}: there is no frame {frame:g} or id {thing:g}"
        raise InputError(told, f"Frames are whole numbers from 1 to {num_frames}, ids whole numbers.")
    table = table[np.lexsort((table[:, _FRAME], table[:, _ID]))]
    twice = np.flatnonzero((np.diff(table[:, :2], axis=0) == 0).all(axis=1))
    if len(twice):
        frame, thing = table[twice[0], :2]
        raise InputError(f"{path}: the id {thing:g} is in frame {frame:g} twice", "Take one line away.")
    parts = np.split(table, np.flatnonzero(np.diff(table[:, _ID])) + 1)
    yield from (rows for rows in parts if len(rows))


def _boxes(rows: FloatArray) -> FloatArray:
    """(N, 4) xyxy, NaN where nothing is visible."""
    boxes = xywh_to_xyxy(rows[:, 2:6], origin=1)
    if rows.shape[1] == 9:
        boxes[rows[:, _VISIBILITY] == 0] = np.nan
    return boxes


def _class(rows: FloatArray, labels: tuple[str, ...], path: Path) -> str:
    """What a track is, by its first line. Raises InputError for a class without a name."""
    if rows.shape[1] not in (8, 9):
        return labels[0] if len(labels) == 1 else ""
    names, number = labels or _CLASSES, rows[0, _CLASS]
    if number not in range(1, len(names) + 1):
        raise InputError(
            f"{path}: the id {rows[0, _ID]:g} is of the class {number:g}, which has no name",
            "Write the names of the classes from 1, a line each, into gt/labels.txt.",
        )
    return names[int(number) - 1]


MOT = Converter(
    "sequences with img1/ and gt/gt.txt of MOTChallenge, or one of them", _units, _records, splits=("train", "test")
)
