"""The trackers that a model is measured against: no motion at all, and those that OpenCV brings along.

Knows their names and how one-pass evaluation asks them; `elysium.opencv` knows OpenCV. Does not know: data sets,
scores, models of Elysium. OpenCV is imported when the first of its trackers is built.

OpenCV says of some frames that the object is lost, KCF of two in three; the box before then stands, as LaSOT's toolkit
and pytracking have it. Success AUC of 21 short sequences of OTB, DAVIS, UAV123 and VOT, first frame counted, OpenCV 5.0
on one thread or two:

| | hold | kcf | csrt | mil | nanotrack v2 |
|---|---|---|---|---|---|
| measured here | 27.3 | 33.8 | 57.2 | 46.7 | 70.9 |
| lost frames as misses | 27.3 | 24.3 | 57.2 | 46.7 | 70.9 |
| OTB's boxes as distributed, counted from 1 and so a pixel off | 27.3 | 33.7 | 59.4 | | 70.7 |
| measured by others, OpenCV 5.0 | 27.3 | 33.7 | 59.3 | | 70.7 |

So the others seem to have left out that shift; and CSRT is unsteady: a pixel at the start moves single sequences by up
to 56 points. OpenCV 4.10: csrt and nanotrack the same, kcf 34.1. MIL draws with C's `rand`, which OpenCV cannot seed:
what ran before it in the same process changes its boxes (46.7 to 48.0 in three runs).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from elysium.boxes import FloatArray, as_boxes
from elysium.errors import InputError
from elysium.opencv import OPENCV_TRACKERS, BoxTracker, ImageArray, build_tracker

BASELINES = ("hold", "kcf", "csrt", "mil", "nanotrack:PATH")  # as help texts show them
_NAN = float("nan")


def is_baseline(name: str) -> bool:
    """Whether `name` asks for a baseline, not for a model. `nanotrack` counts without its path, too, so that
    `build_baseline` can say what is missing."""
    return name in ("hold", "nanotrack", *OPENCV_TRACKERS) or name.startswith("nanotrack:")


def build_baseline(name: str) -> BoxTracker:
    """A fresh tracker.

    Args:
        name: one of `BASELINES`; PATH is a folder with the two ONNX files of NanoTrack v2, one with "backbone" in its
            name and one with "head".

    Raises:
        InputError: no baseline has this name, or the folder is not as it should be.
        ModelError: the installed OpenCV is without this tracker, there is none, or it cannot read the ONNX files.
    """
    if not is_baseline(name):
        raise InputError(f"There is no baseline {name!r}", f"Use one of {', '.join(BASELINES)}.")
    return _Hold() if name == "hold" else build_tracker(name)


def track_boxes(
    tracker: BoxTracker, frames: Iterable[ImageArray], box_xyxy: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Follow one box through T frames, as one-pass evaluation asks for it: with a box in every frame.

    A frame in which the object is lost repeats the box before it and has score 0, so whoever wants to count it as "no
    box" can.

    Args:
        tracker: a fresh one.
        frames: (H, W, 3) RGB each, all of one size; read once, one at a time.
        box_xyxy: (4,) pixels, the box in the first frame.

    Returns:
        (T, 4) boxes in pixels, the first of them as given, and (T,) scores, NaN where there is none and in frame 0.

    Raises InputError if the box is not four numbers, or is one that the tracker cannot start from.
    """
    (first,) = _one_box(box_xyxy)
    boxes: list[FloatArray] = []
    scores: list[float] = []
    for image in frames:
        if not boxes:
            tracker.init(image, first)
            box, score = first, _NAN
        else:
            box, score = tracker.update(image)
        boxes.append(box if np.isfinite(box).all() else boxes[-1])
        scores.append(score)
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(scores, dtype=np.float64)


def _one_box(box_xyxy: ArrayLike) -> FloatArray:
    """(1, 4); raises InputError unless it is exactly one."""
    boxes = as_boxes(box_xyxy)
    if len(boxes) != 1:
        raise InputError(f"A baseline follows one box, got {len(boxes)}", "Give left, top, right, bottom in pixels.")
    return boxes


class _Hold:
    """Says that nothing ever moves."""

    def init(self, image: ImageArray, box_xyxy: FloatArray) -> None:
        self._box = box_xyxy.copy()

    def update(self, image: ImageArray) -> tuple[FloatArray, float]:
        return self._box.copy(), _NAN
