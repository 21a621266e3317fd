"""A second, closer look at small objects: at which, through what window, and when its answer is taken.

A model writes whole per cents of what it looks at, its bins. Rounding moves an edge by a quarter of a bin on average,
and there are four, so a square of s bins loses about 1/s of its overlap with the truth to rounding alone: nearly half
if it is 14 pixels large in a frame of 1280x720. Through a window of a few box sizes it is many bins large.

Knows boxes and the frames of reference that they were written in. Knows nothing of clips or questions: who is asked
what is decided in elysium.inference.clips and elysium.inference.pipelines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from elysium.boxes import Affine2d
from elysium.inference.windows import window_around

SMALL_BINS = 10.0  # sides of boxes under this; rounding costs a square of this side a tenth of its overlap
ZOOM_WINDOW = 4.0  # box sizes; the object is 25 bins large in it, and nano is trained to look through such
NARROWER = 2.0  # times as narrow as what was seen at first: less is not worth a question
WOBBLE_BINS = 1.0  # that the second look may move an edge: half is rounding, the rest the model's own
WOBBLE_SHARE = 0.25  # the same as a share of the box's side, where that is more


def zoom_window(
    boxes_xyxy: ArrayLike, view: Affine2d, resolution_wh: Sequence[int], max_bin: int = 100
) -> Affine2d | None:
    """The window for a second look at one object in some frames, the same for all of them, as clips are filmed.

    Args:
        boxes_xyxy: (N, 4) where it was found, in pixels.
        view: what the model looked at when it found it.
        resolution_wh: the frames, in pixels.
        max_bin: bins of the dialect.

    Returns:
        A square of `ZOOM_WINDOW` median sizes, more where the object moves further, in whole pixels. None if the object
        is not small in ``view``, or moves so far that a window around all of it would show little more.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    size = float(np.median(np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))))
    if max_bin * size / np.sqrt(view.scale_x * view.scale_y) >= SMALL_BINS:
        return None
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(ZOOM_WINDOW * size, float((high - low).max()) + size)  # with half a size around it
    middle = (low + high) / 2
    window = window_around([*(middle - side / 2), *(middle + side / 2)], 1.0, resolution_wh)
    return window if NARROWER * window.scale_x <= min(view.scale_x, view.scale_y) else None


def agrees(finer_xyxy: ArrayLike, coarse_xyxy: ArrayLike, view: Affine2d, max_bin: int = 100) -> bool:
    """Whether a finer box (4,) may be what a coarse one, written in bins of ``view``, meant: its middle lies inside,
    and no edge is further away than `WOBBLE_BINS` bins or `WOBBLE_SHARE` of the side."""
    finer, coarse = view.inverse(np.array([finer_xyxy, coarse_xyxy], dtype=np.float64)) * max_bin
    middle = (finer[:2] + finer[2:]) / 2
    inside = bool((coarse[:2] <= middle).all() and (middle <= coarse[2:]).all())
    most = np.tile(np.maximum(WOBBLE_BINS, WOBBLE_SHARE * (coarse[2:] - coarse[:2])), 2)
    return inside and bool((np.abs(finer - coarse) <= most).all())
