"""A clip seen through a window around one of its things, as a model looks when it is asked what a thing is.

Knows pixels and boxes of composed frames. Does not know: what the things are, models.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.boxes import Affine2d
from elysium.data.synth.render import Composed

NARROWEST, WIDEST = 1.4, 4.0  # sides of the window in box sizes, see Affine2d.window
OUTSIDE = (127, 127, 127)  # what lies outside the frame, as in windows at inference


def close_up(rng: np.random.Generator, composed: Composed, count: int) -> Composed:
    """``composed`` through one window in all frames, scaled up to their size; as it is if no window is narrower.

    The window is around where one of the first ``count`` layers is in frame 0. What lies outside counts as not seen.
    """
    size = composed.frames.shape[1]
    there = np.flatnonzero(np.isfinite(composed.boxes[:count, 0, 0]))
    if not len(there):
        return composed
    box = composed.boxes[rng.choice(there), 0]
    ratio = float(np.exp(rng.uniform(np.log(NARROWEST), np.log(WIDEST))))
    window = Affine2d.window(box, ratio, (size, size))
    if window.scale_x >= size:
        return composed
    zoom = size / window.scale_x
    # OpenCV's coordinates are those of middles of pixels, ours (and the boxes') those of their edges.
    shift = (np.array([window.offset_x, window.offset_y]) - 0.5) * -zoom - 0.5
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    frames = [
        cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=OUTSIDE)
        for frame in composed.frames
    ]
    whole = (composed.boxes - np.tile([window.offset_x, window.offset_y], 2)) * zoom
    inside = whole.clip(0, size)
    share = _area(inside) / np.maximum(_area(whole), 1e-6)
    inside[share == 0] = np.nan
    return Composed(np.stack(frames).astype(np.uint8), inside.astype(np.float32), composed.seen * np.nan_to_num(share))


def _area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
