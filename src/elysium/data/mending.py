"""Mending a record: what can be done without guessing, and nothing else.

In this order: frames whose images are not there or broken leave, with what goes with them; ``frame_size`` is that of
the first image; boxes in pixels, of the size that the record states, become 0..1; corners are put in order, what
sticks out of the frame is cut off; a box that is not one, or of which nothing is left, makes its frame one in which
the object is absent. What still has a defect then has none of these remedies: it is left out. A record without words
is kept.

Knows values of a record. Does not know files, other records, or what a record is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from elysium.data.records.checks import box_space, defects, is_track
from elysium.data.records.model import Record, Size, to_line

_BESIDE_FRAMES = ("frames", "box", "absent", "times_s")
SizeOf = Callable[[str], Size | None]


def mended(value: Any, needs_it: bool, size_of: SizeOf | None) -> str | None:
    """The record as a line, or None if it is to be left out. ``size_of``: the size of an image, None if it cannot be
    read; None where there are no images to look at."""
    try:
        if not needs_it:
            return to_line(value)
        if not isinstance(value, dict) or not isinstance(value.get("frames"), list):
            return None
        new, stated = dict(value), _size(value.get("frame_size"))
        if size_of is not None and not _keep_whole_images(new, size_of):
            return None
        if is_track(new) and not _mend_boxes(new, stated):
            return None
        return None if defects(new) else Record.model_validate(new).to_json()
    except ValueError:  # NaN in what is not looked at here
        return None


def _keep_whole_images(new: dict[str, Any], size_of: SizeOf) -> bool:
    """Take frames away whose images cannot be read; whether the record can go on."""
    sizes = [size_of(name) if isinstance(name, str) else None for name in new["frames"]]
    kept = [place for place, size in enumerate(sizes) if size is not None]
    if len(kept) < len(sizes):
        lists = [key for key in _BESIDE_FRAMES if isinstance(new.get(key), list)]
        if not kept or "vqa" in new or any(len(new[key]) != len(sizes) for key in lists):
            return False  # a question about frames that are gone has no answer
        new.update({key: [new[key][place] for place in kept] for key in lists})
    if kept:
        new["frame_size"] = list(sizes[kept[0]] or ())
    return True


def _mend_boxes(new: dict[str, Any], stated: Size | None) -> bool:
    """Put boxes right, in place; whether there is one for each frame. Pixels are those of a frame of the size that the
    record itself ``stated``, where it did."""
    given, count = new.get("box"), len(new["frames"])
    absent = new.get("absent") or [False] * count
    if not isinstance(given, list) or not isinstance(absent, list) or not len(given) == len(absent) == count:
        return False
    boxes = np.array([_numbers(box) for box in given], dtype=np.float64).reshape(-1, 4)
    boxes[[bool(gone) for gone in absent]] = np.nan
    size = stated or _size(new.get("frame_size"))
    space = box_space(boxes, size)
    if space == "pixels" and size:
        boxes /= np.tile(size, 2)
    elif space != "normalised":  # per cent, or pixels in a corner: nobody can tell
        return False
    corners = np.fmin(boxes[:, :2], boxes[:, 2:]), np.fmax(boxes[:, :2], boxes[:, 2:])
    boxes = np.concatenate(corners, axis=1).clip(0, 1)
    gone = np.logical_not((boxes[:, 2:] > boxes[:, :2]).all(axis=1)).tolist()
    new["box"] = [None if out else row for out, row in zip(gone, boxes.tolist(), strict=True)]
    new.pop("absent", None)
    if any(gone):
        new["absent"] = gone
    return not all(gone)


def _size(value: Any) -> Size | None:
    """Width and height, if that is what it is."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    return (value[0], value[1]) if all(type(side) is int and side > 0 for side in value) else None


def _numbers(box: Any) -> list[float]:
    """Four numbers; NaN for what is no box."""
    given = [v for v in box if isinstance(v, int | float)] if isinstance(box, list) else []
    try:
        numbers = [float(value) for value in given]
    except OverflowError:
        numbers = []
    return numbers if len(numbers) == 4 and np.isfinite(numbers).all() else [np.nan] * 4
