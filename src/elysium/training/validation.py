"""A quick look at how training goes: boxes read with every earlier token given.

Cheap, because it needs one forward a batch, and flattering, because a wrong box is never carried on: it says whether
training goes forward, not how well the model tracks. ``benchmarks/`` does that.

Knows: logits, values, frames. Does not know: models, decoding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elysium.boxes import iou
from elysium.training.loss import teacher_forced_boxes


class IouTally:
    """Mean IoU over frames in which the object is there: frames 2..n for SOT (frame 1 was given), all frames else."""

    def __init__(self, task: str, number_ids: Tensor) -> None:
        self.task = task
        self.number_ids = number_ids
        self.first = 1 if task == "SOT" else 0
        self.model_ious: list[float] = []
        self.held_ious: list[float] = []

    def add(self, logits: Tensor, number_values: Tensor, num_frames: int) -> None:
        """Count a batch: ``logits`` (B, T+1, V) of the last T tokens, ``number_values`` (B, L) of all."""
        predicted, true = teacher_forced_boxes(logits, number_values[:, 1 - logits.shape[1] :], self.number_ids)
        guess, truth = (_as_frames(boxes, num_frames)[:, self.first :] for boxes in (predicted, true))
        held = _as_frames(true, num_frames)[:, :1].repeat(truth.shape[1], axis=1)
        there = truth.sum(axis=2).ravel() > 0
        self.model_ious += iou(guess.reshape(-1, 4), truth.reshape(-1, 4))[there].tolist()
        self.held_ious += iou(held.reshape(-1, 4), truth.reshape(-1, 4))[there].tolist()

    def scores(self) -> dict[str, float]:
        """``{task: mean IoU}``, 0..1, and for SOT ``SOT_hold``, that of holding the given box."""
        scores = {self.task: float(np.mean(self.model_ious))}
        if self.task == "SOT":
            scores["SOT_hold"] = float(np.mean(self.held_ious))
        return scores


def _as_frames(boxes: Tensor, num_frames: int) -> NDArray[np.float64]:
    array: NDArray[np.float64] = boxes.reshape(-1, num_frames, 4).double().numpy()
    return array
