"""Accuracy of referring expression comprehension (RefCOCO and its kin): one box a phrase, right or wrong. NumPy only.

Knows boxes. Knows nothing about phrases, images, models or files.

A box is right if its IoU with the true one is at least 0.5, as in the code of RefCOCO's first author (MAttNet; Yu et
al., CVPR 2018), of Qwen-VL and of Ferret. Shikra and MiniGPT-v2 want more than 0.5, TransVG does so in validation but
not in its test: `strict` is that, and differs only for a box at exactly 0.5. MDETR wants a generalised IoU of 0.5,
which is harder to reach; that is not offered here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray, as_boxes, iou

REC_IOU = 0.5


@dataclass(frozen=True, eq=False)
class RecScores:
    """Of N phrases; NaN if there are none.

    Attributes:
        accuracy: per cent of the phrases whose box is right.
        mean_iou: per cent, over all phrases, those without a box as 0.
        num_items: N.
        num_missing: phrases without a box.
        ious: (N,) in 0..1, 0 without a box.
    """

    accuracy: float
    mean_iou: float
    num_items: int
    num_missing: int
    ious: FloatArray


def rec_accuracy(
    pred_xyxy: ArrayLike, gt_xyxy: ArrayLike, *, threshold: float = REC_IOU, strict: bool = False
) -> RecScores:
    """Score one box for each phrase.

    Args:
        pred_xyxy: (N, 4) in any unit; a row that is no box (NaN, infinite, without area, inverted) is a miss.
        gt_xyxy: (N, 4) in the same unit.
        threshold: IoU that makes a box right, 0..1. At 0 everything would be right that is not `strict`.
        strict: whether it must exceed the threshold; if not, reaching it is enough.

    Raises:
        InputError: something that is not rows of four numbers.
        ValueError: not as many boxes as true ones, a true box that is none, or a threshold outside of 0..1.
    """
    boxes, truth = as_boxes(pred_xyxy), as_boxes(gt_xyxy)
    if boxes.shape != truth.shape:
        raise ValueError(f"{len(boxes)} boxes for {len(truth)} true ones")
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold must lie in 0..1, not {threshold}")
    if not _is_box(truth).all():
        raise ValueError(f"the true box in row {int(np.argmin(_is_box(truth)))} is no box")
    given = _is_box(boxes)
    ious = np.where(given, iou(np.where(given[:, None], boxes, np.nan), truth), 0.0)
    right = (ious > threshold if strict else ious >= threshold) & given
    accuracy, mean = (float(100 * values.mean()) if len(values) else float("nan") for values in (right, ious))
    return RecScores(accuracy, mean, len(boxes), int((~given).sum()), ious)


def _is_box(boxes: FloatArray) -> NDArray[np.bool_]:
    """(N, 4) -> (N,) whether a row is finite and has an area."""
    finite = np.isfinite(boxes).all(axis=1)
    return np.asarray(finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]), dtype=np.bool_)
