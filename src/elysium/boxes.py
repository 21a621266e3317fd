"""Boxes as numbers: formats, quantisation, overlap, and the affine from model frame to source pixels.

A set of boxes is a float64 array of shape (N, 4), `x1, y1, x2, y2`; NaN stands for "no box here". This file
knows nothing about text (elysium.language.dialects), images or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.errors import InputError

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoxFormat: TypeAlias = Literal["xyxy", "xywh", "xyxyn", "percent"]

BOX_FORMATS: tuple[str, ...] = get_args(BoxFormat)
_FORMAT_HELP = {
    "xyxy": "left, top, right, bottom in pixels",
    "xywh": "left, top, width, height in pixels",
    "xyxyn": "left, top, right, bottom in 0..1 of the frame",
    "percent": "left, top, right, bottom in 0..100 of the frame",
}


class ConvertedBoxes(NamedTuple):
    """What `to_xyxy` returns: the boxes in pixels, and for each a note when it was changed on the way in."""

    boxes: FloatArray  # (N, 4) xyxy pixels, inside the frame
    notes: tuple[str | None, ...]  # N entries; None where the box was taken as given


def _wh(resolution_wh: Sequence[int]) -> FloatArray:
    """(w, h) -> [w, h, w, h]."""
    width, height = resolution_wh
    return np.array([width, height, width, height], dtype=np.float64)


def as_boxes(boxes: ArrayLike) -> FloatArray:
    """A (4,) or (N, 4) array-like as float64 (N, 4). Raises InputError for any other shape or non-numbers."""
    remedy = "Give four numbers for each box, for example 10,20,110,220."
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"A box needs 4 numbers, got {boxes!r}", remedy) from None
    if array.shape == (0,):
        return np.empty((0, 4))
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"A box needs 4 numbers, got {boxes!r}", remedy)
    return array.copy()


def to_xyxy(
    boxes: ArrayLike, box_format: str = "xyxy", resolution_wh: Sequence[int] = (1, 1)
) -> ConvertedBoxes:
    """Check boxes given by a user and convert them to pixels.

    Args:
        boxes: (4,) or (N, 4) numbers in `box_format`.
        box_format: `xyxy` and `xywh` (left, top, width, height) in pixels, `xyxyn` in 0..1, `percent` in
            0..100.
        resolution_wh: width and height of the frame in pixels.

    Returns:
        (N, 4) xyxy pixels clipped to the frame, and a note for each box that had to be clipped.

    Raises:
        InputError: not 4 numbers, NaN or infinite, zero size, inverted, wholly outside the frame, or an
            unknown format.

    >>> to_xyxy([[0.5, 0.5, 1.0, 1.0]], "xyxyn", (200, 100)).boxes
    array([[100.,  50., 200., 100.]])
    """
    if box_format not in BOX_FORMATS:
        raise InputError(f"Unknown box format {box_format!r}", f"Use one of {', '.join(BOX_FORMATS)}.")
    given = as_boxes(boxes)
    pixels = given.copy()
    if box_format == "xywh":
        pixels[:, 2:] += pixels[:, :2]
    elif box_format == "xyxyn":
        pixels = denormalize(given, resolution_wh)
    elif box_format == "percent":
        pixels = denormalize(given / 100.0, resolution_wh)
    notes = tuple(
        _check_box(raw, box, box_format, resolution_wh) for raw, box in zip(given, pixels, strict=True)
    )
    return ConvertedBoxes(clip_to_frame(pixels, resolution_wh), notes)


def format_numbers(box: ArrayLike) -> str:
    """A box for messages: at most two decimals, no needless zeros. `[10, 20.5, 30, 40]`."""
    texts = (f"{value:.2f}".rstrip("0").rstrip(".") for value in np.asarray(box, dtype=np.float64))
    return "[" + ", ".join(texts) + "]"


def _check_box(raw: FloatArray, box: FloatArray, box_format: str, resolution_wh: Sequence[int]) -> str | None:
    """Raise InputError if the pixel `box` is no use, else a note if it sticks out of the frame."""
    shown = "[" + ", ".join(f"{value:g}" for value in raw) + "]"
    wanted = f"The format {box_format} is {_FORMAT_HELP[box_format]}."
    if not np.isfinite(raw).all():
        raise InputError(
            f"Box {shown} has a number that is not finite", f"Give four finite numbers. {wanted}"
        )
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        what = "a negative width or height" if box_format == "xywh" else "its corners the wrong way round"
        raise InputError(f"Box {shown} has {what}", f"{wanted} For left, top, width, height use xywh.")
    if x1 == x2 or y1 == y2:
        raise InputError(f"Box {shown} has no width or no height", wanted)
    width, height = resolution_wh
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise InputError(f"Box {shown} lies wholly outside the frame of {width}x{height} pixels", wanted)
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        clipped = format_numbers(clip_to_frame(box[None], resolution_wh)[0])
        return f"Box {shown} sticks out of the frame of {width}x{height} pixels and was clipped to {clipped}"
    return None


def normalize(boxes_xyxy: ArrayLike, resolution_wh: Sequence[int]) -> FloatArray:
    """(N, 4) pixels -> (N, 4) in 0..1 of the frame. NaN stays NaN; nothing is clipped."""
    result: FloatArray = np.asarray(boxes_xyxy, dtype=np.float64) / _wh(resolution_wh)
    return result


def denormalize(boxes_xyxyn: ArrayLike, resolution_wh: Sequence[int]) -> FloatArray:
    """(N, 4) in 0..1 of the frame -> (N, 4) pixels. NaN stays NaN; nothing is clipped."""
    result: FloatArray = np.asarray(boxes_xyxyn, dtype=np.float64) * _wh(resolution_wh)
    return result


def quantize(boxes_xyxyn: ArrayLike, *, clamp: bool = True) -> IntArray:
    """Normalised boxes (N, 4) in 0..1 -> whole per cents (N, 4), `int(round(100 * v))`, halves to even.

    With `clamp` the result lies in 0..100. A box with a NaN becomes 0,0,0,0, which reads as "absent"; a real
    box smaller than half a per cent in the top left corner does so too, because the text format cannot tell
    them apart.

    >>> quantize([[0.125, 0.345, 0.5, 1.02]])
    array([[ 12,  34,  50, 100]])
    """
    values = np.asarray(boxes_xyxyn, dtype=np.float64)
    missing = np.isnan(values).any(axis=-1, keepdims=True)
    bins = np.rint(np.where(missing, 0.0, values) * 100.0)
    if clamp:
        bins = bins.clip(0, 100)
    return bins.astype(np.int64)


def clip_to_frame(boxes_xyxy: ArrayLike, resolution_wh: Sequence[int]) -> FloatArray:
    """(N, 4) pixels clipped to 0..width, 0..height. NaN stays NaN; a box outside becomes one of zero size."""
    result: FloatArray = np.clip(np.asarray(boxes_xyxy, dtype=np.float64), 0.0, _wh(resolution_wh))
    return result


def box_area(boxes_xyxy: ArrayLike) -> FloatArray:
    """(..., 4) -> (...) areas; inverted boxes count as 0, NaN stays NaN."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    area: FloatArray = np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(
        boxes[..., 3] - boxes[..., 1], 0
    )
    return area


def iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Intersection over union, pair by pair.

    Args:
        a, b: (N, 4) xyxy in the same unit (broadcast like NumPy arithmetic).

    Returns:
        (N,) in 0..1; 0 where either box is NaN or both are empty.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    corner_1 = np.maximum(first[..., :2], second[..., :2])
    corner_2 = np.minimum(first[..., 2:], second[..., 2:])
    overlap = np.maximum(corner_2 - corner_1, 0).prod(axis=-1)
    union = box_area(first) + box_area(second) - overlap
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(union > 0, overlap / union, 0.0)
    return np.asarray(ratio, dtype=np.float64)


def iou_matrix(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """All pairs: (N, 4) and (M, 4) -> (N, M) in 0..1."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return iou(first.reshape(-1, 1, 4), second.reshape(1, -1, 4))


@dataclass(frozen=True)
class Affine2d:
    """Where a model frame lies in the source frame: source pixel = offset + scale * coordinate in 0..1.

    Scales and offsets are in source pixels, so a crop keeps no trace of the model's own resolution.
    """

    scale_x: float
    scale_y: float
    offset_x: float = 0.0
    offset_y: float = 0.0

    def __post_init__(self) -> None:
        if not (self.scale_x > 0 and self.scale_y > 0):
            raise InputError(f"A window of {self.scale_x} x {self.scale_y} pixels has no area")

    @classmethod
    def full_frame(cls, resolution_wh: Sequence[int]) -> Affine2d:
        """The model frame is the whole source frame."""
        width, height = resolution_wh
        return cls(float(width), float(height))

    @classmethod
    def window(cls, box_xyxy: ArrayLike, ratio: float, resolution_wh: Sequence[int]) -> Affine2d:
        """A square window centred on a box, its side `ratio * sqrt(width * height)` of the box.

        Args:
            box_xyxy: (4,) pixels.
            ratio: side of the window as a multiple of the box's geometric mean side.
            resolution_wh: the frame, in pixels. The window may stick out of it, but its side stays within
                twice the longer side of the frame: from any centre in the frame that already covers all of
                it.

        A box of no area counts as one pixel large. Raises InputError if the box has a NaN.
        """
        x1, y1, x2, y2 = (float(value) for value in np.asarray(box_xyxy, dtype=np.float64))
        side = ratio * max(float(np.sqrt(max(x2 - x1, 0) * max(y2 - y1, 0))), 1.0)
        side = min(side, 2.0 * max(resolution_wh))
        return cls(side, side, (x1 + x2 - side) / 2, (y1 + y2 - side) / 2)

    @property
    def bounds_xyxy(self) -> tuple[float, float, float, float]:
        """The model frame's rectangle in source pixels."""
        return (self.offset_x, self.offset_y, self.offset_x + self.scale_x, self.offset_y + self.scale_y)

    def apply(self, boxes: ArrayLike) -> FloatArray:
        """(N, 4) in 0..1 of the model frame -> (N, 4) source pixels."""
        result: FloatArray = np.asarray(boxes, dtype=np.float64) * self._scale + self._offset
        return result

    def inverse(self, boxes: ArrayLike) -> FloatArray:
        """(N, 4) source pixels -> (N, 4) in 0..1 of the model frame (outside 0..1 where it sticks out)."""
        result: FloatArray = (np.asarray(boxes, dtype=np.float64) - self._offset) / self._scale
        return result

    @property
    def _scale(self) -> FloatArray:
        return np.array([self.scale_x, self.scale_y] * 2)

    @property
    def _offset(self) -> FloatArray:
        return np.array([self.offset_x, self.offset_y] * 2)
