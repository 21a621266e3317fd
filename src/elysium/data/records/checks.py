"""What can be wrong with one record, in sentences. Knows the record alone: no file, no other record, no image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ValidationError

from elysium.data.records.model import Record, Size

Defect: TypeAlias = tuple[str, str, bool]  # the field, what is wrong with it, whether no record can be made
ImageSize: TypeAlias = Callable[[str], Size | None]

BOX_MARK = "<box>"
_ALWAYS = ("id", "vid", "frames")
_OF_A_TRACK = ("object_class", "box", "object_description", "frame_size")
_KINDS: Mapping[str, tuple[type, ...]] = {
    "source": (str,),
    "object_class": (str,),
    "object_description": (str,),
    "id": (str, int),
    "vid": (str, int),
}


def defects(value: Any, image_size: ImageSize | None = None) -> list[Defect]:
    """What is wrong with a value that should be a record; `image_size` is asked for its first frame."""
    found = list(_by_hand(value, image_size))
    return found if any(fatal for _, _, fatal in found) else found + _by_type(value)


def _by_type(value: Any) -> list[Defect]:
    """What the checks by hand do not look at: the types of optional keys."""
    try:
        Record.model_validate(value)
    except ValidationError as error:
        return [(_place(told["loc"]), told["msg"], True) for told in error.errors()]
    return []


def _place(loc: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _by_hand(value: Any, image_size: ImageSize | None) -> Iterator[Defect]:
    if not isinstance(value, dict):
        yield "", f"is {_kind(value)}, not an object", True
        return
    chat = "vqa" in value
    track = is_track(value)
    for key in (*_ALWAYS, *(_OF_A_TRACK if track else ())):
        if key not in value:
            yield key, "the key is missing", key in ("id", "frames", "box")
    for key, kinds in _KINDS.items():
        if key in value and (not isinstance(value[key], kinds) or isinstance(value[key], bool)):
            yield key, f"is {_kind(value[key])}, not text", True
    size, of_size = _size(value)
    yield from of_size
    yield from _frame_defects(value, size, chat, image_size)
    yield from (_chat_defects(value, size) if chat else _track_defects(value, size))
    if not (track or chat) and not (isinstance(value["caption"], str) and value["caption"].strip()):
        yield "caption", "is empty, or no text", True


def is_track(value: Mapping[str, Any]) -> bool:
    """Whether a record is neither a chat nor a caption alone, so that it needs a box for each frame."""
    return "vqa" not in value and ("box" in value or "caption" not in value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _size(value: dict[str, Any]) -> tuple[Size | None, list[Defect]]:
    """The frame's width and height if they make sense."""
    size = value.get("frame_size")
    if "frame_size" not in value or (size is None and "vqa" in value):
        return None, []
    if isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
        return (size[0], size[1]), []
    return None, [("frame_size", f"must be two whole numbers over 0, width and height, not {_short(size)}", True)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _frame_defects(
    value: dict[str, Any], size: Size | None, chat: bool, image_size: ImageSize | None
) -> Iterator[Defect]:
    frames = value.get("frames", [""])
    if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
        yield "frames", "must be a list of image paths", True
        return
    if not frames and not chat:
        yield "frames", "is empty", True
    seen: dict[str, int] = {}
    for i, name in enumerate(frames):
        if seen.setdefault(name, i) != i:
            yield f"frames[{i}]", f"{name!r} is frames[{seen[name]}] too", False
        if name.startswith(("/", "\\")) or (".." in name and ".." in name.replace("\\", "/").split("/")):
            yield f"frames[{i}]", f"{name!r} leaves the image folder", False
    real = image_size(frames[0]) if image_size and frames and "frames" in value else None
    if real and size and tuple(real) != size:
        yield "frame_size", f"says {size[0]}x{size[1]}, but {frames[0]!r} is {real[0]}x{real[1]}", False


def _track_defects(value: dict[str, Any], size: Size | None) -> Iterator[Defect]:
    """`box` and the lists beside it, each with an entry a frame."""
    if not isinstance(value.get("frames"), list) or "box" not in value:
        return  # told already
    count, aligned = len(value["frames"]), True
    for key, noun in (("box", "boxes"), ("absent", "entries"), ("times_s", "entries")):
        entries = value.get(key, [None] * count)
        if not isinstance(entries, list):
            yield key, f"is {_kind(entries)}, not a list", True
            aligned = False
        elif len(entries) != count:
            yield key, f"{len(entries)} {noun} for {count} frames", True
            aligned = False
    if aligned:
        yield from _box_defects("box", value["box"], size, value.get("absent") or [False] * count)


def _chat_defects(value: dict[str, Any], size: Size | None) -> Iterator[Defect]:
    turns = value["vqa"]
    if not isinstance(turns, list) or not turns:
        yield "vqa", "must be a list of turns with at least one", True
        return
    marks = 0
    for i, turn in enumerate(turns):
        said = turn.get("value") if isinstance(turn, dict) else None
        if not isinstance(said, str) or not isinstance(turn.get("from"), str):
            yield f"vqa[{i}]", 'must be an object with the texts "from" and "value"', True
        elif turn.get("box") is not None:
            yield from _mark_defects(f"vqa[{i}].box", turn["box"], said.count(BOX_MARK), size)
        else:
            marks += said.count(BOX_MARK)
    if marks or value.get("box") is not None:
        yield from _mark_defects("box", value.get("box") or [], marks, size)


def _mark_defects(field: str, boxes: Any, marks: int, size: Size | None) -> Iterator[Defect]:
    if not isinstance(boxes, list) or len(boxes) != marks:
        count = f"{len(boxes)} boxes" if isinstance(boxes, list) else _kind(boxes)
        yield field, f"{count} for {marks} {BOX_MARK} marks", True
        return
    yield from _box_defects(field, boxes, size, [False] * marks)


def _box_defects(field: str, boxes: list[Any], size: Size | None, absent: Sequence[bool]) -> Iterator[Defect]:
    shown = [i for i, gone in enumerate(absent) if not gone]
    ill = [i for i, box in enumerate(boxes) if not _is_box(box) and not (box is None and absent[i])]
    if ill:
        yield _at(field, ill), "must be four finite numbers (or null where the object is absent)", True
        return
    array = np.array([boxes[i] for i in shown], dtype=np.float64).reshape(-1, 4)
    space = box_space(array, size)
    if space != "normalised":
        told = f"the boxes look like {space}, not 0..1 of the frame (the largest number is {array.max():g})"
        yield field, told, True
        return
    width, height = array[:, 2] - array[:, 0], array[:, 3] - array[:, 1]
    flaws = (
        ("is out of range 0..1", ((array < -1e-6) | (array > 1 + 1e-6)).any(axis=1)),
        ("is inverted: x2 < x1 or y2 < y1", (width < 0) | (height < 0)),
        ("has no width or no height", np.minimum(width, height) == 0),
    )
    for told, mask in flaws:
        if mask.any():
            yield _at(field, [shown[i] for i in np.flatnonzero(mask).tolist()]), told, False


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9 for v in box)
    )


def _at(field: str, indices: Sequence[int]) -> str:
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    return ", ".join(f"{field}[{i}]" for i in indices[:5]) + more


def box_space(boxes: ArrayLike, size_wh: Sequence[int] | None = None) -> str:
    """The unit that boxes seem to be in: "normalised", "per cent", "pixels" or "per cent or pixels".

    Args:
        boxes: (N, 4) xyxy; rows with NaN do not count.
        size_wh: the frame in pixels, if known. Boxes that all lie in the corner of 100 x 100 of a larger frame are
            taken for per cent; without the size that cannot be told.

    A few boxes that stick far out of the frame do not make normalised boxes anything else: half of them must.

    >>> box_space([[34, 40, 51, 67]], (640, 480)), box_space([[34, 40, 510, 67]]), box_space([[34, 40, 51, 67]])
    ('per cent', 'pixels', 'per cent or pixels')
    """
    array = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    peaks = array.max(axis=1)
    peaks = peaks[np.isfinite(peaks)]
    if not len(peaks) or np.median(peaks) <= 1.5:
        return "normalised"
    if peaks.max() > 110:  # the published rounding does not clamp: per cent may exceed 100 a little
        return "pixels"
    return "per cent" if size_wh is not None and max(size_wh) > 110 else "per cent or pixels"
