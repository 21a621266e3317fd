"""What the toolkits do with the frames that are not plain: no object, no box, too few boxes, the first frame.

Turns the boxes of one sequence and its truth into errors per frame under a named `Convention`. Knows nothing about
thresholds, scores, models or files.

| case | plain | LaSOT toolkit | pytracking | pytracking on UAV123 |
|---|---|---|---|---|
| object absent: truth NaN, empty or marked | not counted | counted, missed | not counted | missed, but near |
| predicted box NaN, empty or inverted | missed | the box before it | the box before it | the box before it |
| fewer boxes than truth | ValueError | ValueError | zero boxes | zero boxes |
| more boxes than truth | ValueError | cut | cut | cut |
| first frame | as predicted | the truth | the truth | the truth |

`PLAIN_SOT` is plain with the truth in the first frame. A box that is infinite counts as NaN.

Sources: `calc_seq_err_robust.m` and `eval_tracker.m` of github.com/HengLan/LaSOT_Evaluation_Toolkit (absent frames are
taken out before counting, but the divisor is the length of the whole sequence, so each is a miss, and a perfect tracker
stays below 95.24 there); `calc_seq_err_robust` and `extract_results` in `pytracking/analysis/extract_results.py` of
github.com/visionml/pytracking (the divisor is the number of frames with the object, but for LaSOT and UAV123 the whole
sequence; in UAV123 the centre error of an absent frame is set to -1, which every threshold admits). On LaSOT pytracking
does what its toolkit does. GOT-10k has a file of its own, `got10k.py`.

Not copied, because they are accidents: LaSOT's toolkit takes a visible truth that begins at x <= 0 for invalid;
pytracking counts an empty truth as a hit of normalised precision outside of LaSOT; pytracking stops at a NaN or a
negative size, where we do what it does with an empty box (and what LaSOT's toolkit does with all three);
pytracking's overlap of a box of fractions with itself may come out a hair above 1 and so pass the last threshold, which
adds 1 / (21 T) to the AUC of a sequence whose first frame is the truth (whole pixels: equal to the last digit);
`plot_draw_save.m` of LaSOT leaves sequences out whose whole curve is 0, which the first frame prevents anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray, iou

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Convention:
    """How a toolkit treats odd frames; see the table above.

    Attributes:
        absent: frames without the object are not counted ("skip"), counted as missed ("miss"), or counted as missed
            in overlap and hit in distance ("miss_overlap").
        broken: a predicted box that is NaN, empty or inverted is a "miss", or "repeat"s the box before it.
        lengths: must be "equal"; longer ones are "cut"; longer ones are cut and shorter ones "pad"ded with zeros.
        first_is_truth: the first frame's prediction is replaced by the truth. For SOT, where the tracker was given it;
            never for trackers that start from words.
    """

    name: str
    absent: Literal["skip", "miss", "miss_overlap"] = "skip"
    broken: Literal["miss", "repeat"] = "miss"
    lengths: Literal["equal", "cut", "pad"] = "equal"
    first_is_truth: bool = False


PLAIN = Convention("plain")
PLAIN_SOT = replace(PLAIN, name="plain-sot", first_is_truth=True)
LASOT = Convention("lasot", "miss", "repeat", "cut", True)
PYTRACKING = Convention("pytracking", "skip", "repeat", "pad", True)
PYTRACKING_UAV = replace(PYTRACKING, name="pytracking-uav", absent="miss_overlap")
CONVENTIONS = {c.name: c for c in (PLAIN, PLAIN_SOT, LASOT, PYTRACKING, PYTRACKING_UAV)}


@dataclass(frozen=True, eq=False)
class FrameErrors:
    """Errors in the N frames of a sequence that count.

    Attributes:
        overlaps: (N,) IoU, 0..1; -1 where the frame counts as missed because the object is absent.
        pixels: (N,) distance of the centres in pixels; inf for a miss.
        units: (N,) the same in units of the true width and height.
        present: (N,) whether the object is there.
    """

    overlaps: FloatArray
    pixels: FloatArray
    units: FloatArray
    present: BoolArray


def has_area(boxes_xyxy: FloatArray) -> BoolArray:
    """(T, 4) -> (T,) whether a row is a box: four finite numbers, a width and a height above zero."""
    x1, y1, x2, y2 = boxes_xyxy.T
    result: BoolArray = np.isfinite(boxes_xyxy).all(axis=1) & (x2 > x1) & (y2 > y1)
    return result


def frame_errors(
    pred_xyxy: ArrayLike,
    gt_xyxy: ArrayLike,
    *,
    convention: Convention = PLAIN,
    visible: ArrayLike | None = None,
    count_first: bool = True,
) -> FrameErrors:
    """Errors of one sequence.

    Args:
        pred_xyxy: (P, 4) pixels; a row that is not a box (NaN, infinite, empty, inverted) says "no box".
        gt_xyxy: (T, 4) pixels, unrounded; a row that is not a box says that the object is absent.
        convention: what to do with odd frames.
        visible: (T,) false where the data set marks the object as absent though it gives a box (LaSOT's
            `full_occlusion` and `out_of_view`, GOT-10k's `absence`).
        count_first: whether frame 0 counts at all.

    Raises ValueError for shapes that do not fit together.
    """
    truth = _four_columns(gt_xyxy, "ground truth")
    pred = _same_length(_four_columns(pred_xyxy, "predictions"), truth, convention)
    there: BoolArray = np.asarray(has_area(truth) & _flags(visible, len(truth)))
    if convention.broken == "repeat":
        pred = _repeat_over_gaps(pred, truth, given=len(np.asarray(pred_xyxy)))
    if convention.first_is_truth:
        pred = np.concatenate([truth[:1], pred[1:]])
    counts = there.copy() if convention.absent == "skip" else np.ones(len(truth), dtype=np.bool_)
    if not count_first:
        counts[:1] = False
    # What no earlier box could mend is an empty box to the toolkits that repeat, and has a centre all the same; so do
    # the zero boxes that pytracking pads with.
    given = np.isfinite(pred).all(axis=1) if convention.broken == "repeat" else has_area(pred)
    errors = _errors(pred[counts], truth[counts], np.asarray(given)[counts], there[counts])
    if convention.absent == "miss_overlap":
        errors.pixels[~errors.present] = errors.units[~errors.present] = -1
    return errors


def center_errors(pred_xyxy: FloatArray, gt_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances of centres, (T, 4) and (T, 4) -> (T,) in pixels and (T,) in units of the true box's sides.

    NaN where either box is NaN. Computed in the order of the toolkits: corner plus half of (size - 1), for the second
    figure divided by the true size, and only then subtracted. Whether a distance of exactly 0.2 counts depends on it.
    """
    size = gt_xyxy[:, 2:] - gt_xyxy[:, :2]
    center = pred_xyxy[:, :2] + 0.5 * (pred_xyxy[:, 2:] - pred_xyxy[:, :2] - 1.0)
    true_center = gt_xyxy[:, :2] + 0.5 * (size - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _length(center - true_center), _length(center / size - true_center / size)


def _length(vectors: FloatArray) -> FloatArray:
    # Column by column: NumPy is slow at sums over an axis of two.
    result: FloatArray = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2)
    return result


def _errors(pred: FloatArray, truth: FloatArray, given: BoolArray, there: BoolArray) -> FrameErrors:
    """Errors of frames that all count; those without a box or without the object are missed in everything."""
    known = there & given
    overlaps = np.where(there, np.where(given, iou(pred, truth), 0.0), -1.0)
    pixels, units = center_errors(pred, truth)
    return FrameErrors(overlaps, np.where(known, pixels, np.inf), np.where(known, units, np.inf), there)


def _repeat_over_gaps(pred: FloatArray, truth: FloatArray, *, given: int) -> FloatArray:
    """Each broken box becomes the one before it, as written in the toolkits: not in frame 0, not where the truth is
    NaN (such a row is handed on as it is), and not over the frames that were padded on, after ``given``."""
    keep = has_area(pred) | np.isnan(truth).any(axis=1)
    keep[:1] = True
    keep[given:] = True
    source = np.maximum.accumulate(np.where(keep, np.arange(len(pred)), 0)) if len(pred) else np.arange(0)
    repeated: FloatArray = pred[source]
    return repeated


def _same_length(pred: FloatArray, truth: FloatArray, convention: Convention) -> FloatArray:
    surplus = len(pred) - len(truth)
    if surplus == 0:
        return pred
    if surplus > 0 and convention.lengths != "equal":
        return pred[: len(truth)]
    if surplus < 0 and convention.lengths == "pad":
        return np.concatenate([pred, np.zeros((-surplus, 4))])
    raise ValueError(f"predictions have shape {pred.shape}, ground truth {truth.shape}; both must be (T, 4)")


def _four_columns(boxes: ArrayLike, what: str) -> FloatArray:
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{what} have shape {array.shape}; it must be (T, 4)")
    return array


def _flags(visible: ArrayLike | None, length: int) -> BoolArray:
    flags: BoolArray = np.ones(length, dtype=np.bool_) if visible is None else np.asarray(visible).astype(np.bool_)
    if flags.shape != (length,):
        raise ValueError(f"visibility of shape {flags.shape} for {length} frames")
    return flags
