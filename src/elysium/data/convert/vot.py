"""Sequences of the VOT challenges (short-term, long-term, masks), as annotation records.

    <SRC>/list.txt                       the names of the sequences, a line each; without it, every folder below
    <SRC>/<seq>/color/00000001.jpg ...   (or the images in the folder of the sequence itself)
    <SRC>/<seq>/groundtruth.txt          a region a frame; or, of several objects, groundtruth_<object>.txt for each
    <SRC>/<seq>/<name>.tag, .label       (optional) 0 or 1 a frame

A region is a rectangle (left, top, width, height), a polygon (x1, y1, x2, y2, ...; four corners in VOT2014 to 2019), a
mask ("m" left, top, width, height, then the lengths of runs in turn of background and object, row after row: VOT2020
and later), or one number, a code for a frame that has none. Forms and codes are those of the VOT toolkit's reader.

Pixels count from 0: the toolkit puts coordinates straight into arrays that count from 0, and trackers in MATLAB have
to add 1. So a rectangle is taken as it is. The box of a polygon is the least and the greatest of its corners (the
toolkit has this conversion too, and trackers often a box of equal area); its rasteriser counts the pixel of a border
as inside, so that this box may be up to a pixel narrower than the region's pixels. The box of a mask reaches from its
first pixel to the far edge of its last. Absent: a code, a NaN, a rectangle or mask without area.

Kept of a tag: in how many frames it is set. Dropped: the shape within the box, depth and infrared images, values and
the file ``sequence``. The sequences come without words. Knows nothing about models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import check_count, image_size, images_in, read_text, track_record
from elysium.data.records import Record
from elysium.errors import InputError, SourceError
from elysium.video import natural_key

_Box: TypeAlias = tuple[float, float, float, float]
_NOTHING: _Box = (math.nan,) * 4
_TRUTH = "groundtruth"


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """The sequences, in the order of the list."""
    if not root.is_dir():
        raise SourceError(f"There is no folder {str(root)!r}", "Check the path.")
    names = _listed(root / "list.txt") if (root / "list.txt").is_file() else _found(root)
    if not names:
        raise InputError(f"{root} holds no sequence", f"Each is a folder with images and a {_TRUTH}.txt.")
    yield from ((name, None) for name in names)


def _listed(path: Path) -> list[str]:
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    for name in names:
        if name == ".." or Path(name).name != name or not (path.parent / name).is_dir():
            raise SourceError(f"{path} names {name!r}, and {path.parent} has no such folder", "Take the line away.")
    return names


def _found(root: Path) -> list[str]:
    return [folder.name for folder in sorted(sorted(root.iterdir()), key=natural_key) if _truths(folder)]


def _truths(folder: Path) -> list[Path]:
    """The files with the regions, one for each object."""
    several = sorted(sorted(folder.glob(f"{_TRUTH}_*.txt")), key=natural_key)
    return several or [file for file in (folder / f"{_TRUTH}.txt",) if file.is_file()]


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """The objects of one sequence."""
    name, folder = unit[0], root / unit[0]
    truths = _truths(folder)
    if not truths:
        raise SourceError(f"{folder} has no {_TRUTH}.txt", "Put it there, or take the sequence off list.txt.")
    frames = images_in(folder / "color" if (folder / "color").is_dir() else folder)
    if not frames:
        raise SourceError(f"{folder} holds no images", "They belong into color/ or the folder itself.")
    size, tags = image_size(frames[0]), _tags(folder)
    for file in truths:
        boxes = _boxes(file)
        check_count(file, len(boxes), len(frames))
        thing = file.stem[len(_TRUTH) + 1 :]
        yield track_record(
            image_root(root, options), frames, boxes, size, source="VOT", id=f"{name}/{thing}" if thing else name,
            vid=name, metadata={"tags": tags} if tags else {},
        )  # fmt: skip


def _tags(folder: Path) -> dict[str, int]:
    """In how many frames each tag is set."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".tag", ".label"))
    return {file.stem: sum(line.strip() == "1" for line in read_text(file).splitlines()) for file in files}


def _boxes(path: Path) -> list[_Box]:
    """One a line that is not blank; NaN where the object is absent."""
    boxes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if text := line.strip():
            try:
                boxes.append(_mask_box(text[1:]) if text.startswith("m") else _shape_box(text))
            except (ValueError, OverflowError) as error:
                raise InputError(
                    f"{path}, line {number}: {text[:40]!r} is no region", "Write a rectangle, polygon, mask or code."
                ) from error
    return boxes


def _shape_box(text: str) -> _Box:
    """Around a rectangle or polygon. Raises ValueError for anything but that or a code."""
    numbers = [float(number) for number in text.split(",")]
    if len(numbers) == 1 or not all(map(math.isfinite, numbers)):
        return _NOTHING
    if len(numbers) == 4:
        left, top, width, height = numbers
        return left, top, left + width, top + height
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers")
    x, y = numbers[::2], numbers[1::2]
    return min(x), min(y), max(x), max(y)


def _mask_box(text: str) -> _Box:
    """Around the pixels of a run-length encoded mask, without unfolding it. Raises ValueError, OverflowError."""
    left, top, width, height, *runs = (int(number) for number in text.split(","))
    if min(width, height, *runs, 0) < 0 or sum(runs) > width * height:
        raise ValueError("runs that do not fit the mask")
    ends = np.cumsum(np.array(runs, dtype=np.int64))
    last = ends[1::2] - 1  # the places of the first and the last pixel of each run of the object, in reading order
    first = ends[::2][: len(last)]
    first, last = first[first <= last], last[first <= last]
    if not len(first):
        return _NOTHING
    in_one_row = first // width == last // width  # a run that goes on in the next row touches both sides
    x1 = np.where(in_one_row, first % width, 0).min()
    x2 = np.where(in_one_row, last % width, width - 1).max() + 1
    return left + int(x1), top + int(first[0] // width), left + int(x2), top + int(last[-1] // width) + 1


VOT = Converter("list.txt and sequences with color/ and groundtruth.txt of a VOT challenge", _units, _records)
