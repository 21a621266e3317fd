"""Tracking results as other toolkits keep them, written and read: LaSOT, GOT-10k, TrackingNet, OTB and MOT.

A sequence is a (T, 4) array of `left, top, width, height` in pixels, one row a frame; a row with NaN is an absent
object. What becomes of absence:

| format      | file below the folder              | between numbers         | an absent object            |
|-------------|------------------------------------|-------------------------|-----------------------------|
| LaSOT       | `<name>.txt`                       | comma                   | `0,0,0,0`                   |
| TrackingNet | `<name>.txt`                       | comma                   | `0,0,0,0`                   |
| OTB         | `<name>.txt`                       | comma, tab or space     | zeros, as above             |
| GOT-10k     | `<name>/<name>_001.txt` and        | comma                   | `0,0,0,0`                   |
|             | `<name>/<name>_time.txt`, seconds  | comma, a column a run   | (a time not known is `nan`) |
| MOT         | one file, `frame,id,l,t,w,h,score` | comma                   | no line                     |

Zeros and not NaN, because pytracking refuses NaN, the GOT-10k toolkit would give a mean of NaN, and TrackingNet's
server counts such rows in its "sanity check". (pytracking puts the box before in the place of one without a size:
`hold_absent` does that.) Readers take `0,0,0,0` and NaN alike for absent; any other box without an area stays what it
is. Numbers have as many digits as they need, so that what is read is what was written; `decimals` shortens them.

Nothing is shifted: OTB and MOT count pixels from 1, and boxes stay as they are unless `origin=1` says that those in
the file start there. Knows these files only: neither data sets nor models nor metrics.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray
from elysium.errors import InputError, SourceError
from elysium.files import atomic_path, atomic_write_text

AnyPath: TypeAlias = str | os.PathLike[str]

SEPARATORS = (",", "\t", " ")
_BETWEEN = re.compile(r"\s*[,;]\s*|\s+")  # mixed too: "1,\t2"
_NO_SCORE = -1.0  # what MOT writes where there is none


@dataclass(frozen=True)
class MotTrack:
    """One object of a MOT file, over all frames."""

    boxes_xywh: FloatArray  # (T, 4) pixels, NaN where it has no line
    scores: FloatArray  # (T,), NaN where it has no line or no score


def hold_absent(boxes_xywh: ArrayLike) -> FloatArray:
    """Each absent box replaced by the last one before it; those before the first stay absent.

    For toolkits and servers that want a box in every frame. What was absent cannot be told afterwards.
    """
    boxes = _checked(boxes_xywh).copy()
    for i in range(1, len(boxes)):
        if np.isnan(boxes[i, 0]):
            boxes[i] = boxes[i - 1]
    return boxes


def write_boxes(
    path: AnyPath, boxes_xywh: ArrayLike, *, separator: str = ",", decimals: int | None = None, origin: int = 0
) -> Path:
    """One box a line, absent ones as four zeros. The parent folder is made, an earlier file replaced.

    Args:
        separator: one of `SEPARATORS`.
        decimals: digits after the point at most; None for as many as the number needs.
        origin: the number of the leftmost and of the topmost pixel in the file; added to left and top.

    Raises InputError for boxes that are not (T, 4) or infinite, OutputError if the file cannot be written.
    """
    if separator not in SEPARATORS:
        raise InputError(f"{separator!r} cannot stand between numbers", "Use a comma, a tab or a space.")
    boxes = _checked(boxes_xywh)
    shifted = np.nan_to_num(_shifted(boxes, origin), nan=0.0)
    return atomic_write_text(path, "".join(_line(row, separator, decimals) for row in shifted.tolist()))


def read_boxes(path: AnyPath, *, origin: int = 0) -> FloatArray:
    """(T, 4) from a file with one box a line, whatever stands between the numbers; see `write_boxes` for `origin`.

    Raises:
        SourceError: the file cannot be read. InputError: it is empty, or a line is not four numbers.
    """
    rows = [_numbers(path, line, text, (4,)) for line, text in _lines(path)]
    boxes = np.array(rows, dtype=np.float64)
    boxes[(boxes == 0).all(axis=1) | np.isnan(boxes).any(axis=1)] = np.nan
    return _shifted(boxes, -origin)


def write_lasot(folder: AnyPath, name: str, boxes_xywh: ArrayLike, *, decimals: int | None = None) -> Path:
    """`<folder>/<name>.txt`, as the LaSOT toolkit wants it."""
    return write_boxes(result_file(folder, name), boxes_xywh, decimals=decimals)


def read_lasot(folder: AnyPath, name: str) -> FloatArray:
    """(T, 4), of results and of `groundtruth.txt` (name it "groundtruth")."""
    return read_boxes(result_file(folder, name))


def write_trackingnet(folder: AnyPath, name: str, boxes_xywh: ArrayLike, *, decimals: int | None = None) -> Path:
    """`<folder>/<name>.txt`; the server takes a zip of all of them (`pack`), and rounds to whole pixels itself."""
    return write_boxes(result_file(folder, name), boxes_xywh, decimals=decimals)


def read_trackingnet(folder: AnyPath, name: str) -> FloatArray:
    """(T, 4)"""
    return read_boxes(result_file(folder, name))


def write_otb(
    folder: AnyPath,
    name: str,
    boxes_xywh: ArrayLike,
    *,
    separator: str = ",",
    decimals: int | None = None,
    origin: int = 0,
) -> Path:
    """`<folder>/<name>.txt`. OTB's own boxes count pixels from 1: keep such as they are, or say `origin=1` and give
    boxes that count from 0. pytracking writes tabs and reads tabs and commas."""
    return write_boxes(result_file(folder, name), boxes_xywh, separator=separator, decimals=decimals, origin=origin)


def read_otb(folder: AnyPath, name: str, *, origin: int = 0) -> FloatArray:
    """(T, 4) of results, and of `groundtruth_rect.txt` (name it "groundtruth_rect")."""
    return read_boxes(result_file(folder, name), origin=origin)


def write_got10k(
    folder: AnyPath,
    name: str,
    boxes_xywh: ArrayLike,
    times_s: ArrayLike | None = None,
    *,
    repetition: int = 1,
    decimals: int | None = None,
) -> Path:
    """`<folder>/<name>/<name>_00<repetition>.txt`, and the seconds each frame took as a column of `<name>_time.txt`.

    Columns of other repetitions are kept; a time that is not known is NaN, which the toolkit leaves out. Returns the
    path of the boxes. Raises InputError if there is not a time for each box.
    """
    boxes, column = _checked(boxes_xywh), _column(repetition)
    times = np.full(len(boxes), np.nan) if times_s is None else np.asarray(times_s, dtype=np.float64)
    if times.shape != (len(boxes),):
        raise InputError(f"{name}: {times.size} times for {len(boxes)} boxes", "Give a time for each frame.")
    time_file = _got10k_file(folder, name, "time")
    table = _time_table(time_file, len(boxes)) if time_file.exists() else np.empty((len(boxes), 0))
    missing = max(column + 1 - table.shape[1], 0)
    table = np.hstack([table, np.full((len(boxes), missing), np.nan)])
    table[:, column] = times
    atomic_write_text(time_file, "".join(_line(row, ",", None) for row in table.tolist()))
    return write_boxes(_got10k_file(folder, name, f"{repetition:03d}"), boxes, decimals=decimals)


def read_got10k(folder: AnyPath, name: str, *, repetition: int = 1) -> tuple[FloatArray, FloatArray]:
    """(T, 4) boxes and (T,) seconds a frame, NaN where they are not known (also if there is no file of times)."""
    boxes, column = read_boxes(_got10k_file(folder, name, f"{repetition:03d}")), _column(repetition)
    time_file = _got10k_file(folder, name, "time")
    table = _time_table(time_file, len(boxes)) if time_file.exists() else np.empty((len(boxes), 0))
    return boxes, table[:, column] if column < table.shape[1] else np.full(len(boxes), np.nan)


def _column(repetition: int) -> int:
    if repetition < 1:
        raise InputError(f"There is no repetition {repetition}", "They count from 1.")
    return repetition - 1


def _got10k_file(folder: AnyPath, name: str, what: str) -> Path:
    return result_file(folder, name).with_suffix("") / f"{name}_{what}.txt"


def _time_table(path: Path, length: int) -> FloatArray:
    """(T, repetitions) seconds."""
    rows = [_numbers(path, line, text, None) for line, text in _lines(path)]
    if len({len(row) for row in rows}) != 1 or len(rows) != length:
        raise InputError(f"{str(path)!r} does not have the same number of times for each of {length} frames", _REPAIR)
    return np.array(rows, dtype=np.float64)


def write_mot(path: AnyPath, tracks: Mapping[int, MotTrack], *, decimals: int | None = None, origin: int = 0) -> Path:
    """`frame,id,left,top,width,height,score,-1,-1,-1`, by frames (from 1) and then ids; a score of NaN is -1.

    Of an object that is never there nothing stays.
    """
    lines: list[tuple[int, int, str]] = []
    for number, track in tracks.items():
        boxes, scores = _checked(track.boxes_xywh), np.asarray(track.scores, dtype=np.float64)
        if scores.shape != (len(boxes),):
            raise InputError(f"Track {number}: {scores.size} scores for {len(boxes)} boxes", "Give one for each frame.")
        shifted = _shifted(boxes, origin).tolist()
        for i in np.flatnonzero(~np.isnan(boxes[:, 0])).tolist():
            score = _NO_SCORE if np.isnan(scores[i]) else float(scores[i])
            row = [i + 1, number, *(_rounded(value, decimals) for value in shifted[i]), score, -1, -1, -1]
            lines.append((i + 1, number, _line(row, ",", None)))
    return atomic_write_text(path, "".join(text for _, _, text in sorted(lines)))


def read_mot(path: AnyPath, *, num_frames: int | None = None, origin: int = 0) -> dict[int, MotTrack]:
    """The objects of a results, detections or ground-truth file by their ids, in ascending order.

    Args:
        num_frames: how long the sequence is, for the file does not say; None ends it with the last line.

    The seventh number is the score, in ground truth the flag "considered": lines with 0 there are kept. Whatever
    follows is left out. Raises InputError for an empty file (unless `num_frames` is given: nothing was found), a
    frame outside of the sequence, or two lines for one object in one frame.
    """
    rows: dict[int, dict[int, list[float]]] = {}
    for line, text in _lines(path, may_be_empty=num_frames is not None):
        numbers = _numbers(path, line, text, (6, 7, 8, 9, 10))
        frame, track, told = numbers[0], int(np.nan_to_num(numbers[1])), ""
        if np.isnan(numbers).any() or track != numbers[1]:
            told = "needs a whole number for the object, and no NaN"
        elif frame != int(frame) or not 1 <= frame <= (num_frames or math.inf):
            told = f"there is no frame {frame:g}: they count from 1" + (f" to {num_frames}" if num_frames else "")
        elif int(frame) in rows.setdefault(track, {}):
            told = f"object {track} has two boxes in frame {frame:g}"
        if told:
            raise InputError(f"{os.fspath(path)}, line {line}: {told}", _REPAIR)
        rows[track][int(frame)] = [*numbers[2:7], _NO_SCORE][:5]
    length = num_frames or max((max(frames) for frames in rows.values()), default=0)
    return {track: _mot_track(rows[track], length, origin) for track in sorted(rows)}


def _mot_track(rows: Mapping[int, list[float]], length: int, origin: int) -> MotTrack:
    table = np.full((length, 5), np.nan)
    for frame, numbers in rows.items():
        table[frame - 1] = numbers
    table[table[:, 4] == _NO_SCORE, 4] = np.nan
    return MotTrack(_shifted(table[:, :4], -origin), table[:, 4])


def pack(folder: AnyPath, path: AnyPath) -> Path:
    """All `.txt` files below `folder` in one zip, as the servers of GOT-10k and TrackingNet take them.

    The same files give the same bytes. Raises InputError if there are none, OutputError.
    """
    files = sorted(Path(folder).rglob("*.txt"))
    if not files:
        raise InputError(f"There are no results below {os.fspath(folder)!r}", "Write them first.")
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())  # dated 1980: no clock in the bytes
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return Path(path)


_REPAIR = "Mend the file or write it again."


def result_file(folder: AnyPath, name: str) -> Path:
    """``<folder>/<name>.txt``. Raises InputError for a name that would lead elsewhere."""
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise InputError(f"{name!r} is no name for a file of results", "Name the sequence without slashes.")
    return Path(folder) / f"{name}.txt"


def _checked(boxes_xywh: ArrayLike) -> FloatArray:
    """(T, 4) with whole rows of NaN where a row has one."""
    boxes: NDArray[np.float64] = np.array(boxes_xywh, dtype=np.float64)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"Boxes have the shape {boxes.shape}", "Give one row of left, top, width, height a frame.")
    boxes[np.isnan(boxes).any(axis=1)] = np.nan
    if np.isinf(boxes).any():
        first = int(np.flatnonzero(np.isinf(boxes).any(axis=1))[0])
        raise InputError(f"The box of frame {first + 1} is infinite", "Give NaN where there is no box.")
    return boxes


def _shifted(boxes_xywh: FloatArray, by: int) -> FloatArray:
    """The boxes `by` pixels to the right and down; the same numbers if that is 0."""
    return np.add(boxes_xywh, [by, by, 0, 0]) if by else boxes_xywh


def _rounded(value: float, decimals: int | None) -> float:
    return value if decimals is None else round(value, decimals)


def _line(row: list[float], separator: str, decimals: int | None) -> str:
    return separator.join(_text(_rounded(value, decimals)) for value in row) + "\n"


def _text(value: float) -> str:
    """The shortest text that is read as the same number, without exponents, which not every reader takes."""
    if math.isnan(value):
        return "nan"
    if value == int(value):
        return str(int(value))
    text = repr(value)
    return np.format_float_positional(value, trim="-") if "e" in text else text


def _lines(path: AnyPath, *, may_be_empty: bool = False) -> Iterator[tuple[int, str]]:
    """The number (from 1) and the text of each line that is not blank."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SourceError(f"Cannot read the boxes {os.fspath(path)!r}: {reason}", "Check the path.") from error
    found = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not found and not may_be_empty:
        raise InputError(f"{os.fspath(path)!r} is empty", "It needs a line for each frame.")
    yield from found


def _numbers(path: AnyPath, line: int, text: str, counts: tuple[int, ...] | None) -> list[float]:
    """The numbers of a line. `counts` is how many there may be, None for any."""
    try:
        numbers = [float(part) for part in _BETWEEN.split(text)]
    except ValueError:
        raise InputError(f"{os.fspath(path)}, line {line}: {text[:60]!r} is not numbers", _REPAIR) from None
    if counts is not None and len(numbers) not in counts:
        wanted = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        raise InputError(f"{os.fspath(path)}, line {line}: {len(numbers)} numbers, not {wanted}", _REPAIR)
    if any(math.isinf(value) for value in numbers):
        raise InputError(f"{os.fspath(path)}, line {line}: a number is infinite", _REPAIR)
    return numbers


# The formats of one object whose results are a file of boxes a sequence, by the names that commands take.
WRITERS: Mapping[str, Callable[..., Path]] = MappingProxyType(
    {"lasot": write_lasot, "got10k": write_got10k, "trackingnet": write_trackingnet, "otb": write_otb}
)
