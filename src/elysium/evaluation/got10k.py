"""GOT-10k's metrics: average overlap (AO) and success rates, as the toolkit of that benchmark computes them.

Works on the boxes of one sequence at a time, then on all frames of all sequences together. Knows nothing about files or
models. Figures are in per cent.

Source: `ExperimentGOT10k.report` and `rect_iou` of the PyPI package got10k 0.1.3 (github.com/got-10k/toolkit); Huang,
Zhao, Huang, "GOT-10k", TPAMI 2019, section 5. What differs from `ope.py`:

- The first frame never counts.
- Frames count where the object's visible share (`cover`, from `cover.label`) is above 0, whatever `absence.label` says;
  all others are left out.
- Both boxes are clipped to the image before the overlap. The corner is clipped first and the size then to what is left
  of the image, so a box that sticks out at the left or top keeps its size and moves in. We do the same.
- The overall figures weigh frames, not sequences: the overlaps of all sequences are put into one list. (The paper's
  mAO, a mean over classes, is not what the toolkit reports; `groups.py` can average by class.)

What the toolkit leaves undefined: a NaN in a predicted box (there, a NaN result) is a miss here; a frame with a truth
that is not finite is left out; shapes that differ raise ValueError, where the toolkit asserts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from elysium.boxes import FloatArray, iou
from elysium.evaluation.conventions import BoolArray

CURVE_THRESHOLDS: FloatArray = np.linspace(0, 1, 101, dtype=np.float64)


@dataclass(frozen=True)
class Got10kScores:
    """Per cent over the frames that count; NaN if there are none."""

    ao: float  # mean overlap
    sr50: float  # share of frames with an overlap above 0.5
    sr75: float  # ... 0.75
    num_frames: int


def got10k_overlaps(
    pred_xyxy: ArrayLike,
    gt_xyxy: ArrayLike,
    *,
    resolution_wh: Sequence[float] | None = None,
    cover: ArrayLike | None = None,
) -> FloatArray:
    """Overlaps of a sequence in the frames that count.

    Args:
        pred_xyxy, gt_xyxy: (T, 4) pixels.
        resolution_wh: size of the image; None clips nothing.
        cover: (T,) visible share of the object (0..8 in the data set's files). None: the object counts as visible where
            its truth is finite and has an area.

    Returns:
        (N,) in 0..1, N <= T - 1. Raises ValueError if shapes differ.
    """
    pred, truth = np.asarray(pred_xyxy, dtype=np.float64), np.asarray(gt_xyxy, dtype=np.float64)
    if pred.shape != truth.shape or pred.ndim != 2 or pred.shape[1] != 4:
        raise ValueError(f"predictions have shape {pred.shape}, ground truth {truth.shape}; both must be (T, 4)")
    counts: BoolArray = np.asarray(np.isfinite(truth).all(axis=1))
    if cover is None:
        counts &= (truth[:, 2:] > truth[:, :2]).all(axis=1)
    else:
        shares = np.asarray(cover, dtype=np.float64)
        if shares.shape != counts.shape:
            raise ValueError(f"cover of shape {shares.shape} for {len(counts)} frames")
        counts &= shares > 0
    counts[:1] = False
    if resolution_wh is not None:
        pred, truth = _into_bounds(pred, resolution_wh), _into_bounds(truth, resolution_wh)
    return iou(pred[counts], truth[counts])


def _into_bounds(boxes: FloatArray, resolution_wh: Sequence[float]) -> FloatArray:
    """The toolkit's clipping of (T, 4): corner into the image, then the unchanged size into what remains."""
    bound = np.asarray(resolution_wh, dtype=np.float64)
    corner = np.clip(boxes[:, :2], 0, bound)
    size = np.clip(boxes[:, 2:] - boxes[:, :2], 0, bound - corner)
    return np.concatenate([corner, corner + size], axis=1)


def got10k_scores(overlaps: FloatArray | Iterable[FloatArray]) -> Got10kScores:
    """Scores of one sequence's overlaps, or of those of several, pooled."""
    pooled = overlaps if isinstance(overlaps, np.ndarray) else np.concatenate([np.zeros(0), *overlaps])
    if not len(pooled):
        nan = float("nan")
        return Got10kScores(nan, nan, nan, 0)
    shares = (pooled.mean(), (pooled > 0.5).mean(), (pooled > 0.75).mean())
    ao, sr50, sr75 = (100.0 * float(share) for share in shares)
    return Got10kScores(ao, sr50, sr75, len(pooled))


def got10k_curve(overlaps: FloatArray) -> FloatArray:
    """(N,) overlaps -> (101,) the share above each of 0, 0.01, ..., 1, in 0..1, for plots."""
    ordered = np.sort(overlaps)
    below = np.searchsorted(ordered, CURVE_THRESHOLDS, side="right")  # overlaps at the threshold do not exceed it
    curve: FloatArray = (len(ordered) - below) / max(len(ordered), 1)
    return curve if len(ordered) else CURVE_THRESHOLDS * float("nan")
