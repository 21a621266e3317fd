"""One-pass evaluation of single-object trackers, as the OTB, LaSOT and pytracking toolkits do it. NumPy only.

Works on the boxes of one sequence at a time and knows nothing about models, files or data sets. All figures
are in per cent. A perfect tracker gets a success AUC of 95.24 = 20/21: the overlap must exceed the threshold,
the last threshold is 1, and no overlap exceeds 1. That is what the toolkits compute and everybody publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray, iou

IOU_THRESHOLDS: FloatArray = np.arange(21) / 20  # 0, 0.05, ..., 1
PRECISION_PX = 20.0
NORM_PRECISION = 0.2


@dataclass(frozen=True)
class Scores:
    """Scores of a sequence, or means over sequences, in per cent; NaN if no frame counted."""

    auc: float  # mean over the thresholds of the share of frames whose IoU exceeds them
    precision: float  # share of frames whose centre is within 20 px of the true one
    norm_precision: float  # the same with distances in units of the true width and height, within 0.2
    sr50: float  # share of frames whose IoU exceeds 0.5
    sr75: float  # ... 0.75
    mean_iou: float
    num_frames: int  # frames that counted (summed up in a mean)


def center_errors(pred_xyxy: FloatArray, gt_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances of centres, (T, 4) and (T, 4) -> (T,) in pixels and (T,) in units of the true box's sides.

    NaN where either box is NaN.
    """
    offset = (pred_xyxy[:, :2] + pred_xyxy[:, 2:] - gt_xyxy[:, :2] - gt_xyxy[:, 2:]) / 2
    size = gt_xyxy[:, 2:] - gt_xyxy[:, :2]
    return np.linalg.norm(offset, axis=1), np.linalg.norm(offset / size, axis=1)


def sequence_scores(pred_xyxy: ArrayLike, gt_xyxy: ArrayLike, *, count_first: bool = True) -> Scores:
    """Score the boxes of one sequence.

    Args:
        pred_xyxy: (T, 4) pixels; a row with NaN is "no box", counted as IoU 0 and infinitely far away.
        gt_xyxy: (T, 4) pixels; frames whose truth is NaN, of zero size or inverted do not count.
        count_first: whether frame 0, where a tracker is usually given the truth, counts. The toolkits count
        it.

    Returns:
        Scores in per cent. Raises ValueError if the shapes differ.
    """
    pred, truth = np.asarray(pred_xyxy, dtype=np.float64), np.asarray(gt_xyxy, dtype=np.float64)
    if pred.shape != truth.shape or pred.ndim != 2 or pred.shape[1] != 4:
        raise ValueError(
            f"predictions have shape {pred.shape}, ground truth {truth.shape}; both must be (T, 4)"
        )
    counts: NDArray[np.bool_] = np.asarray(np.isfinite(truth).all(axis=1))
    counts &= (truth[:, 2:] > truth[:, :2]).all(axis=1)
    if not count_first:
        counts[:1] = False
    pred, truth = pred[counts], truth[counts]
    if not len(truth):
        nan = float("nan")
        return Scores(nan, nan, nan, nan, nan, nan, 0)
    overlaps = iou(pred, truth)
    pixels, units = center_errors(pred, truth)  # comparisons with NaN are False: such frames are misses
    return Scores(
        auc=_percent(success_curve(overlaps)),
        precision=_percent(pixels <= PRECISION_PX),
        norm_precision=_percent(units <= NORM_PRECISION),
        sr50=_percent(overlaps > 0.5),
        sr75=_percent(overlaps > 0.75),
        mean_iou=_percent(overlaps),
        num_frames=len(truth),
    )


def success_curve(overlaps: FloatArray) -> FloatArray:
    """(T,) IoUs -> (21,) the share of frames above each of `IOU_THRESHOLDS`, 0..1."""
    above: FloatArray = (np.asarray(overlaps)[None, :] > IOU_THRESHOLDS[:, None]).mean(axis=1)
    return above


def mean_scores(sequences: Iterable[Scores]) -> Scores:
    """The mean over sequences, each of the same weight; those without a frame that counts are left out."""
    scored = [scores for scores in sequences if scores.num_frames]
    if not scored:
        nan = float("nan")
        return Scores(nan, nan, nan, nan, nan, nan, 0)
    names = [f.name for f in fields(Scores) if f.name != "num_frames"]
    means = {name: float(np.mean([getattr(scores, name) for scores in scored])) for name in names}
    return Scores(**means, num_frames=sum(scores.num_frames for scores in scored))


def hold_first_box(gt_xyxy: ArrayLike) -> FloatArray:
    """The floor of every table: (T, 4) -> (T, 4), the first box throughout, as if nothing ever moved."""
    truth = np.asarray(gt_xyxy, dtype=np.float64)
    return np.repeat(truth[:1], len(truth), axis=0)


def _percent(values: ArrayLike) -> float:
    return 100.0 * float(np.mean(np.asarray(values, dtype=np.float64)))
