"""Whether a tracker's own scores can be trusted: AUROC against IoU > 0.5, and data for a reliability plot.

Knows scores and right or wrong per frame. Knows nothing about thresholds of a tracker, drawing, models or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray, iou

FOUND_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability plot shows, over B bins of the score; NaN means in empty bins.

    Attributes:
        edges: (B + 1,) of the bins; a score on an edge belongs to the bin above it, 1 to the last.
        counts: (B,) frames.
        confidence: (B,) mean score.
        accuracy: (B,) share of frames that are right.
        expected_error: expected calibration error, the mean of |accuracy - confidence| over frames.
    """

    edges: FloatArray
    counts: NDArray[np.int64]
    confidence: FloatArray
    accuracy: FloatArray
    expected_error: float


def scored_frames(
    scores: ArrayLike, boxes_xyxy: ArrayLike, truth_xyxy: ArrayLike
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The frames of a sequence that have a score, and which of them are right.

    Args:
        scores: (T,) NaN where the tracker gave none; such frames are left out.
        boxes_xyxy, truth_xyxy: (T, 4). A box where the object is absent (truth NaN) is wrong, whatever its score, and
            so is no box (NaN).

    Returns:
        (N,) scores and (N,) whether IoU > 0.5. Sequences are pooled with `np.concatenate`.
    """
    values = np.asarray(scores, dtype=np.float64)
    boxes, truth = np.asarray(boxes_xyxy, dtype=np.float64), np.asarray(truth_xyxy, dtype=np.float64)
    if boxes.shape != (len(values), 4) or truth.shape != boxes.shape:
        raise ValueError(f"{values.shape} scores, boxes of shape {boxes.shape}, truth of shape {truth.shape}")
    known = ~np.isnan(values)
    return values[known], np.asarray(iou(boxes[known], truth[known]) > FOUND_IOU)


def auroc(scores: ArrayLike, right: ArrayLike) -> float:
    """Area under the ROC curve: how often a right frame scores above a wrong one, ties counted as one half.

    Computed from ranks (Mann and Whitney 1947; Hanley and McNeil, "The meaning and use of the area under a ROC curve",
    Radiology 1982). NaN if all frames are right or none is.

    >>> auroc([0.9, 0.6, 0.6, 0.1], [True, True, False, False])
    0.875
    """
    values, flags = _checked(scores, right)
    positives = int(flags.sum())
    negatives = len(flags) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores, from 1
    above = ranks[place][flags].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def reliability(scores: ArrayLike, right: ArrayLike, *, bins: int = 10) -> Reliability:
    """Binned scores against the share that is right (Guo et al., "On calibration of modern neural networks", 2017).

    Args:
        scores: (N,) in 0..1; ValueError otherwise.
        right: (N,) bool.
        bins: number of bins of equal width.
    """
    values, flags = _checked(scores, right)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"scores must lie in 0..1, these in {values.min():g}..{values.max():g}")
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, weights=values, minlength=bins) / counts
        accuracy = np.bincount(place, weights=flags, minlength=bins) / counts
    gaps = np.nan_to_num(np.abs(accuracy - confidence))
    error = float((gaps * counts).sum() / len(values)) if len(values) else float("nan")
    return Reliability(edges, counts.astype(np.int64), confidence, accuracy, error)


def _checked(scores: ArrayLike, right: ArrayLike) -> tuple[FloatArray, NDArray[np.bool_]]:
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.bool_)
    if values.ndim != 1 or values.shape != flags.shape:
        raise ValueError(f"scores of shape {values.shape} for labels of shape {flags.shape}; both must be (N,)")
    if np.isnan(values).any():
        raise ValueError("a score is NaN; leave such frames out (scored_frames does)")
    return values, flags
