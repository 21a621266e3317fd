"""What users ask for, checked and in the form that the tracker takes: words, boxes, times, sources.

Knows formats that users may write. Knows nothing of models or of what is made of an answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import to_xyxy
from elysium.errors import InputError
from elysium.inference.clips import TrackedObject
from elysium.video import FrameSource, open_source


def without(text: str, phrases: Sequence[str]) -> str:
    """A text without these phrases where each stands behind other words, whole.

    >>> without("a red car on the left.", ["on the left"])
    'a red car.'
    """
    for phrase in sorted(phrases, key=len, reverse=True):
        text = re.sub(rf"(?<=\w) {re.escape(phrase)}\b", "", text)
    return text


def words_of(expression: str) -> list[str]:
    """Lower-case words of letters (any script), inner apostrophes and hyphens split off."""
    return re.findall(r"[^\W\d_]+", expression.casefold())


def expressions_of(expression: str | Sequence[str] | None) -> list[str]:
    """A list of non-empty expressions. Raises InputError for an empty one."""
    given = [] if expression is None else [expression] if isinstance(expression, str) else list(expression)
    words = [text.strip() for text in given]
    if not all(words):
        raise InputError("An expression is empty", "Say in words what to follow, for example 'the red car'.")
    return words


def opened(source: Any, **options: Any) -> FrameSource:
    """A source that is open already, as it is; any other opened with these options."""
    return source if isinstance(source, FrameSource) else open_source(source, **options)


def objects_of(
    boxes: ArrayLike | None, box_format: str, words: Sequence[str], resolution_wh: Sequence[int]
) -> list[TrackedObject]:
    """Boxes first, then expressions, with ids from 1."""
    objects: list[TrackedObject] = []
    if boxes is not None:
        converted = to_xyxy(boxes, box_format, resolution_wh)
        for box, note in zip(converted.boxes, converted.notes, strict=True):
            objects.append(TrackedObject(len(objects) + 1, box=box, notes=() if note is None else (note,)))
    objects += [TrackedObject(len(objects) + 1 + i, expression=text) for i, text in enumerate(words)]
    if not objects:
        raise InputError(
            "There is nothing to follow: no box and no expression", "Give a box, words, or both."
        )
    return objects


def starting(objects: list[TrackedObject], at_s: float | Sequence[float] | None) -> list[TrackedObject]:
    """The objects with their times. Raises InputError for times that do not fit."""
    if at_s is None:
        return objects
    times = [float(at_s)] if isinstance(at_s, int | float) else [float(time) for time in at_s]
    if len(times) not in (1, len(objects)):
        raise InputError(
            f"{len(times)} times were given for {len(objects)} objects", "Give one time, or one for each object."
        )
    for time in times:
        if not (math.isfinite(time) and time >= 0):
            raise InputError(f"An object cannot start at {time} s", "Give seconds after the first frame, 0 or more.")
    times = times * len(objects) if len(times) == 1 else times
    return [replace(item, start_s=time) for item, time in zip(objects, times, strict=True)]


def one_box(box: ArrayLike, box_format: str, resolution_wh: Sequence[int]) -> NDArray[np.float64]:
    """(4,) xyxy pixels of the only box. Raises InputError for several."""
    boxes = to_xyxy(box, box_format, resolution_wh).boxes
    if len(boxes) != 1:
        raise InputError(f"{len(boxes)} boxes were given, one can be described at a time", "Give one box.")
    return boxes[0]
