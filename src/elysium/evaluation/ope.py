"""One-pass evaluation of single-object trackers, as the OTB, LaSOT and pytracking toolkits do it. NumPy only.

Works on the boxes of one sequence at a time and knows nothing about models, files or data sets; what becomes of frames
without an object or without a box is decided in `conventions.py`. Scores are in per cent, curves are shares in 0..1.

Definitions, with T frames that count (Wu, Lim, Yang, "Online object tracking: a benchmark", CVPR 2013; Müller et al.,
"TrackingNet", ECCV 2018, for the normalised one; thresholds as in `eval_tracker.m` of the LaSOT toolkit):

- success curve: share of frames with IoU > t, t = 0, 0.05, ..., 1; AUC is its mean, SR0.5 and SR0.75 are points of it.
- precision curve: share of frames whose centre is at most t = 0, 1, ..., 50 pixels off; the score is at 20.
- normalised precision curve: the same with the offset divided by the true width and height, t = 0, 0.01, ..., 0.5;
  the score is at 0.2, its AUC the mean of the curve, as LaSOT's toolkit computes it when asked to rank by AUC.
  TrackingNet's devkit has another AUC: trapezoids over 21 thresholds, of boxes rounded to pixels. We never round.

A perfect tracker gets a success AUC of 95.24 = 20/21: the overlap must exceed the threshold, the last threshold is 1,
and no overlap exceeds 1. That is what the toolkits compute and everybody publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from elysium.boxes import FloatArray
from elysium.evaluation.conventions import PLAIN, Convention, center_errors, frame_errors

__all__ = [
    "Curves", "Scores", "center_errors", "hold_first_box", "mean_curves", "mean_scores", "sequence_curves",
    "sequence_scores", "success_curve",
]  # fmt: skip

IOU_THRESHOLDS: FloatArray = np.arange(21) / 20  # 0, 0.05, ..., 1
PIXEL_THRESHOLDS: FloatArray = np.arange(51, dtype=np.float64)  # 0, 1, ..., 50
UNIT_THRESHOLDS: FloatArray = np.arange(51) / 100  # 0, 0.01, ..., 0.5
PRECISION_PX = 20.0
NORM_PRECISION = 0.2
NAN = float("nan")


@dataclass(frozen=True)
class Scores:
    """Scores of a sequence, or means over sequences, in per cent; NaN if no frame counted."""

    auc: float  # mean over the thresholds of the share of frames whose IoU exceeds them
    precision: float  # share of frames whose centre is within 20 px of the true one
    norm_precision: float  # the same with distances in units of the true width and height, within 0.2
    norm_precision_auc: float  # its mean over the thresholds up to 0.5
    sr50: float  # share of frames whose IoU exceeds 0.5
    sr75: float  # ... 0.75
    mean_iou: float  # over the frames in which the object is there
    num_frames: int  # frames that counted (summed up in a mean)


@dataclass(frozen=True, eq=False)
class Curves:
    """What plots show, of a sequence or averaged over sequences: shares in 0..1, NaN if no frame counted.

    Attributes:
        success: (21,) over `IOU_THRESHOLDS`.
        precision: (51,) over `PIXEL_THRESHOLDS`.
        norm_precision: (51,) over `UNIT_THRESHOLDS`.
        mean_iou: over the frames in which the object is there.
        num_frames: frames that counted.
    """

    success: FloatArray
    precision: FloatArray
    norm_precision: FloatArray
    mean_iou: float
    num_frames: int

    def scores(self) -> Scores:
        """The figures that are read off the curves."""
        return Scores(
            auc=_percent(self.success.mean()),
            precision=_percent(self.precision[PIXEL_THRESHOLDS == PRECISION_PX][0]),
            norm_precision=_percent(self.norm_precision[UNIT_THRESHOLDS == NORM_PRECISION][0]),
            norm_precision_auc=_percent(self.norm_precision.mean()),
            sr50=_percent(self.success[10]),
            sr75=_percent(self.success[15]),
            mean_iou=_percent(self.mean_iou),
            num_frames=self.num_frames,
        )


def sequence_curves(
    pred_xyxy: ArrayLike,
    gt_xyxy: ArrayLike,
    *,
    count_first: bool = True,
    convention: Convention = PLAIN,
    visible: ArrayLike | None = None,
) -> Curves:
    """The curves of one sequence; arguments as in `sequence_scores`."""
    errors = frame_errors(
        pred_xyxy, gt_xyxy, convention=convention, visible=visible, count_first=count_first
    )
    if not errors.present.any():
        return Curves(IOU_THRESHOLDS * NAN, PIXEL_THRESHOLDS * NAN, UNIT_THRESHOLDS * NAN, NAN, 0)
    return Curves(
        success=success_curve(errors.overlaps),
        precision=_share_within(errors.pixels, PIXEL_THRESHOLDS),
        norm_precision=_share_within(errors.units, UNIT_THRESHOLDS),
        mean_iou=float(errors.overlaps[errors.present].mean()),
        num_frames=len(errors.overlaps),
    )


def sequence_scores(
    pred_xyxy: ArrayLike,
    gt_xyxy: ArrayLike,
    *,
    count_first: bool = True,
    convention: Convention = PLAIN,
    visible: ArrayLike | None = None,
) -> Scores:
    """Score the boxes of one sequence.

    Args:
        pred_xyxy: (T, 4) pixels; a row that is no box (NaN, infinite, without area, inverted) is missed: IoU 0 and
            infinitely far away (other conventions repeat the box before it).
        gt_xyxy: (T, 4) pixels, used unrounded; frames whose truth is no box do not count (in other conventions they
            are misses). A sequence without any frame that shows the object has NaN for scores and 0 frames.
        count_first: whether frame 0 counts. The toolkits count it, with the truth in place of the prediction:
            `PLAIN_SOT`, `LASOT`, `PYTRACKING`.
        convention: see `conventions.py`; the default, `PLAIN`, changes no box.
        visible: (T,) false where the data set marks the object as absent though it gives a box.

    Returns:
        Scores in per cent. Raises ValueError if the shapes do not fit together.
    """
    return sequence_curves(
        pred_xyxy, gt_xyxy, count_first=count_first, convention=convention, visible=visible
    ).scores()


def success_curve(overlaps: FloatArray) -> FloatArray:
    """(T,) IoUs -> (21,) the share of frames above each of `IOU_THRESHOLDS`, 0..1."""
    values = np.nan_to_num(np.asarray(overlaps, dtype=np.float64), nan=-1.0)  # a NaN exceeds nothing
    return (len(values) - _num_within(values, IOU_THRESHOLDS)) / len(values)


def _share_within(errors: FloatArray, thresholds: FloatArray) -> FloatArray:
    """(T,) distances -> (K,) the share of frames at or below each threshold."""
    return _num_within(errors, thresholds) / len(errors)


def _num_within(values: FloatArray, thresholds: FloatArray) -> FloatArray:
    """(T,) -> (K,) how many are at or below each threshold; one sort is far faster than T x K comparisons."""
    return np.searchsorted(np.sort(values), thresholds, side="right").astype(np.float64)


def mean_curves(sequences: Iterable[Curves]) -> Curves:
    """The mean over sequences, each of the same weight; those without a frame that counts are left out."""
    scored = [curves for curves in sequences if curves.num_frames]
    if not scored:
        return Curves(IOU_THRESHOLDS * NAN, PIXEL_THRESHOLDS * NAN, UNIT_THRESHOLDS * NAN, NAN, 0)
    return Curves(
        np.mean([curves.success for curves in scored], axis=0),
        np.mean([curves.precision for curves in scored], axis=0),
        np.mean([curves.norm_precision for curves in scored], axis=0),
        float(np.mean([curves.mean_iou for curves in scored])),
        sum(curves.num_frames for curves in scored),
    )


def mean_scores(sequences: Iterable[Scores]) -> Scores:
    """The mean over sequences, each of the same weight; those without a frame that counts are left out."""
    scored = [scores for scores in sequences if scores.num_frames]
    names = [f.name for f in fields(Scores) if f.name != "num_frames"]
    means = {n: float(np.mean([getattr(s, n) for s in scored])) if scored else NAN for n in names}
    return Scores(**means, num_frames=sum(scores.num_frames for scores in scored))


def hold_first_box(gt_xyxy: ArrayLike) -> FloatArray:
    """The floor of every table: (T, 4) -> (T, 4), the first box throughout, as if nothing ever moved."""
    truth = np.asarray(gt_xyxy, dtype=np.float64)
    return np.repeat(truth[:1], len(truth), axis=0)


def _percent(share: float) -> float:
    return 100.0 * float(share)
