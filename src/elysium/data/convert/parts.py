"""What several converters need: images of a folder, numbers in text files, and a track of boxes as a record.

Knows image files and text files; does not know any benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from elysium.boxes import FloatArray
from elysium.data.records import Record, Size
from elysium.data.records.images import ImageFolder
from elysium.errors import InputError, SourceError
from elysium.video import image_size as image_size  # converters take it from here
from elysium.video import natural_key

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_DECIMALS = 6  # of boxes in 0..1: a thousandth of a pixel of an 8K frame


def image_files(folder: Path) -> list[Path]:
    """The images of a clip, in ``frames/``, ``img/`` or the folder itself, in natural order. Raises SourceError."""
    for place in (folder / "frames", folder / "img", folder):
        if place.is_dir() and (found := images_in(place)):
            return found
    raise SourceError(f"{folder} holds no images", "They belong into frames/ or img/.")


def images_in(folder: Path) -> list[Path]:
    """The images of one folder, in natural order; none if there are none. Raises SourceError if it is no folder."""
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}", "Check the path.")
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    found = (path for path in shown if path.suffix.lower() in _IMAGES)
    return sorted(found, key=lambda path: (natural_key(path), path.name))  # a1 and a01 tie


def has_image(root: Path, name: str) -> bool:
    """Whether the folder ``root`` has an image of that path, as a file or in a tar file. Raises SourceError, InputError
    if there is no such folder, or it has a tar file that cannot be read."""
    return name in _folder(root)


@lru_cache(maxsize=4)
def _folder(root: Path) -> ImageFolder:
    return ImageFolder(root)


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises SourceError if it cannot be read, InputError if it is something else."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror or error}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8", "Save it as that.") from error


def number_lines(path: Path) -> list[list[float]]:
    """The numbers of each line that is not blank, between commas or white space. Raises InputError, SourceError."""
    try:
        lines = read_text(path).splitlines()
        return [[float(number) for number in line.replace(",", " ").split()] for line in lines if line.strip()]
    except ValueError as error:
        raise InputError(f"{path} holds something else than numbers", "Mend it or take it away.") from error


def number_table(path: Path, columns: int) -> FloatArray:
    """(T, ``columns``) the numbers of a file, as many in each line. Raises InputError, SourceError."""
    lines = number_lines(path)
    wrong = next((number for number, line in enumerate(lines, 1) if len(line) != columns), None)
    if wrong is not None:
        raise InputError(f"{path}: line {wrong} has {len(lines[wrong - 1])} numbers, not {columns}", "Mend it.")
    return np.array(lines, dtype=np.float64).reshape(-1, columns)


def xywh_to_xyxy(boxes_xywh: ArrayLike, origin: int = 0) -> FloatArray:
    """(T, 4) left, top, width, height -> left, top, right, bottom, continuous coordinates that start at 0.

    ``origin``: the number that the source gives the leftmost, topmost pixel (1 for what comes from MATLAB). NaN where a
    number is not finite or a width or height not positive: that is how benchmarks write "absent".
    """
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    boxes[~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)] = np.nan
    corner = boxes[:, :2] - origin
    return np.concatenate([corner, corner + boxes[:, 2:]], axis=1)


def check_count(file: Path, found: int, frames: int) -> None:
    """Raises InputError unless a file has an entry a frame."""
    if found != frames:
        raise InputError(f"{file} has {found} entries for {frames} images", "They must be as many.")


def track_record(
    root: Path, frames: Sequence[Path], boxes_xyxy: ArrayLike, size_wh: Size, *, source: str, id: str, vid: str,
    object_class: str = "", description: str = "", expressions: Sequence[str] = (),
    times_s: Sequence[float] | None = None, metadata: Any = None,
) -> Record:  # fmt: skip
    """One object of one video.

    Args:
        root: what the paths of ``frames`` become relative to.
        boxes_xyxy: (T, 4) pixels from 0; a row with NaN is a frame in which the object is absent. What sticks out of
            the frame is cut off, and a box that lies outside of it altogether is absent.
        description: words for the object, ``object_class`` if empty.
        expressions: more words, each of which means this object alone.

    Raises:
        InputError: not as many boxes as frames.
    """
    boxes = np.array(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    if len(boxes) != len(frames):
        raise InputError(f"{id}: {len(boxes)} boxes for {len(frames)} frames", "They must be as many.")
    given = in_frame(boxes / np.tile(size_wh, 2))
    if expressions:
        given["expressions"] = list(expressions)
    if times_s is not None:
        given["times_s"] = [float(time) for time in times_s]
    return Record(
        source=source, id=id, vid=vid, metadata={} if metadata is None else metadata,
        frames=[frame.relative_to(root).as_posix() for frame in frames], object_class=object_class,
        object_description=description or object_class, frame_size=size_wh, **given,
    )  # fmt: skip


def in_frame(boxes_xyxyn: FloatArray) -> dict[str, Any]:
    """``box`` of a record, and ``absent`` if it is that anywhere, of (T, 4) boxes in units of the frame.

    What sticks out is cut off; a row with NaN, or of which nothing is left, is an absence.
    """
    boxes = boxes_xyxyn.clip(0, 1).round(_DECIMALS)
    absent: list[bool] = np.logical_not((boxes[:, 2:] > boxes[:, :2]).all(axis=1)).tolist()
    kept = [None if gone else tuple(row) for gone, row in zip(absent, boxes.tolist(), strict=True)]
    return {"box": kept, "absent": absent} if any(absent) else {"box": kept}
