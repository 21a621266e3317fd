"""How a tracker deals with objects that vanish and come back.

Knows boxes and truth, NaN where there is nothing. Does not know: models, states, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import iou

BoolArray = NDArray[np.bool_]
FOUND_IOU = 0.5


@dataclass(frozen=True)
class AbsenceScores:
    """Counts over frames of one or several tracks.

    Attributes:
        absent_frames: frames in which the object is not there.
        recalled: of those, the ones for which the tracker gave no box of its own.
        present_frames, found: frames in which it is there, and those with IoU > 0.5.
        returns: how often it came back, ``refound``: how often it was then found again (IoU > 0.5) before it left
            again or the video ended.
        refind_frames: for each time it was found again, how many frames after its return (0: at once).
    """

    absent_frames: int
    recalled: int
    present_frames: int
    found: int
    returns: int
    refound: int
    refind_frames: tuple[int, ...]

    @property
    def recall(self) -> float:
        """Share of the absent frames without a box; NaN if there are none."""
        return self.recalled / self.absent_frames if self.absent_frames else float("nan")

    @property
    def false_boxes_per_absent_frame(self) -> float:
        """The rest: boxes where nothing is."""
        return 1 - self.recall

    @property
    def median_refind_frames(self) -> float:
        """Of the times that it was found again; NaN if it never was."""
        return float(np.median(self.refind_frames)) if self.refind_frames else float("nan")


def absence_scores(boxes_xyxy: ArrayLike, truth_xyxy: ArrayLike) -> AbsenceScores:
    """Scores of one track: its boxes (T, 4), NaN where it says absent (give NaN for carried boxes too, which claim
    nothing), and the true ones (T, 4), NaN where the object is not there."""
    boxes, truth = np.asarray(boxes_xyxy, dtype=np.float64), np.asarray(truth_xyxy, dtype=np.float64)
    if boxes.shape != truth.shape:
        raise ValueError(f"boxes of shape {boxes.shape} for a truth of shape {truth.shape}")
    there: BoolArray = np.asarray(np.isfinite(truth).all(axis=1), dtype=np.bool_)
    given: BoolArray = np.asarray(np.isfinite(boxes).all(axis=1), dtype=np.bool_)
    hit: BoolArray = np.nan_to_num(iou(boxes, truth)) > FOUND_IOU
    starts = np.flatnonzero(there[1:] & ~there[:-1]) + 1
    refind = [delay for start in starts.tolist() if (delay := _delay(hit, there, start)) is not None]
    return AbsenceScores(
        int((~there).sum()), int((~there & ~given).sum()), int(there.sum()), int((there & hit).sum()), len(starts),
        len(refind), tuple(refind),
    )  # fmt: skip


def _delay(hit: BoolArray, there: BoolArray, start: int) -> int | None:
    """Frames from its return at ``start`` until the object is found; None if it leaves, or the video ends, before."""
    gone = np.flatnonzero(~there[start:])
    stay = hit[start : start + int(gone[0]) if len(gone) else None]
    return int(stay.argmax()) if stay.any() else None


def total_absence(scores: Sequence[AbsenceScores]) -> AbsenceScores:
    """All counts added up."""
    counts = ("absent_frames", "recalled", "present_frames", "found", "returns", "refound")
    sums = {name: sum(getattr(score, name) for score in scores) for name in counts}
    return AbsenceScores(**sums, refind_frames=tuple(delay for score in scores for delay in score.refind_frames))
