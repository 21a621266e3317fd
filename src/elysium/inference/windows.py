"""Looking at a part of a frame: cut a window out and know where its coordinates lie in the source.

Knows images and affines. Knows nothing of tracking: who wants which window is the tracker's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from elysium.boxes import Affine2d, clip_to_frame, quantize
from elysium.errors import InputError

GREY = 127  # what lies outside the frame
MAX_SIDE = 1024  # pixels of a cut-out, per side; models look at less


def window_around(box_xyxy: ArrayLike, ratio: float, resolution_wh: Sequence[int]) -> Affine2d:
    """`Affine2d.window` grown to whole pixels, so that cutting out moves nothing by a fraction of a pixel."""
    left, top, right, bottom = Affine2d.window(box_xyxy, ratio, resolution_wh).bounds_xyxy
    x, y = math.floor(left), math.floor(top)
    return Affine2d(float(math.ceil(right) - x), float(math.ceil(bottom) - y), float(x), float(y))


def cut_out(image: NDArray[np.uint8], window: Affine2d) -> NDArray[np.uint8]:
    """The part of `image` (H, W, 3) that `window` (whole pixels) covers, grey where it sticks out of the
    image.

    A window larger than 1024 pixels comes back smaller, at the same aspect ratio: coordinates in 0..1 of the
    result still mean the same. So one cut-out never takes more than 3 MB.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (round(value) for value in window.bounds_xyxy)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    shrink = min(1.0, MAX_SIDE / max(right - left, bottom - top))
    shape = (max(1, round((bottom - top) * shrink)), max(1, round((right - left) * shrink)))
    result = np.full((*shape, 3), GREY, dtype=np.uint8)
    if x2 <= x1 or y2 <= y1:
        return result
    part = image[y1:y2, x1:x2]
    if shrink < 1.0:
        size = (max(1, round((x2 - x1) * shrink)), max(1, round((y2 - y1) * shrink)))
        part = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    row, column = round((y1 - top) * shrink), round((x1 - left) * shrink)
    fits = part[: shape[0] - row, : shape[1] - column]
    result[row : row + fits.shape[0], column : column + fits.shape[1]] = fits
    return result


def check_window(ratio: object) -> None:
    """Raise InputError unless ``ratio`` is None or a number of at least 1."""
    if ratio is not None and not (isinstance(ratio, int | float) and ratio >= 1):
        raise InputError(f"A search window of {ratio!r} box sizes cannot hold the object", "Give 2 or more.")


def look_around(
    images: Sequence[NDArray[np.uint8]], box_xyxy: ArrayLike, ratio: float | None
) -> tuple[list[NDArray[np.uint8]], Affine2d]:
    """The same window of every image (H, W, 3), ``ratio`` box sizes wide, and where it lies in them.

    The images as they are where ``ratio`` is None, or the window would be as wide as their shorter side.
    """
    size = (images[0].shape[1], images[0].shape[0])
    window = None if ratio is None else window_around(box_xyxy, ratio, size)
    if window is None or window.scale_x >= min(size):  # it would only add grey
        return list(images), Affine2d.full_frame(size)
    return [cut_out(image, window) for image in images], window


def box_to_bins(box_xyxy: ArrayLike, frame: Affine2d, max_bin: int = 100) -> list[int]:
    """A box in source pixels as the four bins 0..max_bin of a model frame that a question names.

    A real box never becomes 0,0,0,0, which would mean "absent": it gets one bin.
    """
    normalized = frame.inverse(np.asarray(box_xyxy, dtype=np.float64)[None])
    scaled = quantize(normalized * (max_bin / 100), clamp=False).clip(0, max_bin)
    bins: list[int] = scaled[0].tolist()
    return bins if any(bins) else [0, 0, 1, 1]


def bins_to_region(bins: Sequence[int], max_bin: int = 100) -> tuple[float, float, float, float]:
    """Four bins as x1, y1, x2, y2 in 0..1: the region is the box as the question names it, as in training."""
    x1, y1, x2, y2 = (value / max_bin for value in bins)
    return x1, y1, x2, y2


def bins_to_box(
    bins: ArrayLike, frame: Affine2d, resolution_wh: Sequence[int], max_bin: int = 100
) -> NDArray[np.float64] | None:
    """Four bins 0..max_bin that the model wrote -> (4,) source pixels inside the frame; None if nothing of
    the box lies inside (a window may stick out of the frame)."""
    box = clip_to_frame(frame.apply(np.asarray(bins, dtype=np.float64) / max_bin), resolution_wh)
    return box if box[2] > box[0] and box[3] > box[1] else None
