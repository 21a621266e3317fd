"""A quick look at how training goes: boxes read with every earlier token given, boxes voted by the gate, names.

Cheap, because it needs one forward a batch, and flattering, because a wrong box is never carried on: it says whether
training goes forward, not how well the model tracks. ``benchmarks/`` does that.

Knows: boxes, frames. Does not know: models, decoding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elysium.boxes import iou


class IouTally:
    """Mean IoU over frames in which the object is there, without frame 1 if that was ``given``."""

    def __init__(self, name: str, given: bool) -> None:
        self.name = name
        self.first = 1 if given else 0
        self.model_ious: list[float] = []
        self.held_ious: list[float] = []

    def add(self, predicted: Tensor, true: Tensor, num_frames: int) -> None:
        """Count boxes (M, 4) of any unit, ``num_frames`` of each request in turn; absent ones are NaN or zero."""
        guess, truth = (_as_frames(boxes, num_frames) for boxes in (predicted, true))
        held = truth[:, :1].repeat(num_frames, axis=1)[:, self.first :].reshape(-1, 4)
        guess, truth = (boxes[:, self.first :].reshape(-1, 4) for boxes in (guess, truth))
        there = truth.sum(axis=1) > 0
        self.model_ious += iou(guess, truth)[there].tolist()
        self.held_ious += iou(held, truth)[there].tolist()

    def scores(self) -> dict[str, float]:
        """``{name: mean IoU}``, 0..1; with a given frame also ``{name}_hold``, that of holding its box."""
        if not self.model_ious:
            return {}
        scores = {self.name: float(np.mean(self.model_ious))}
        if self.first:
            scores[f"{self.name}_hold"] = float(np.mean(self.held_ious))
        return scores


class NameTally:
    """How often the likeliest word for a thing is one of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hits: list[bool] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count things: ``logits`` (M, V) of all words, ``labels`` (M, W) their own, padded with negative numbers."""
        self.hits += (logits.argmax(dim=1, keepdim=True) == labels).any(dim=1).tolist()

    def scores(self) -> dict[str, float]:
        """``{name: share}``, 0..1."""
        return {self.name: float(np.mean(self.hits))} if self.hits else {}


def _as_frames(boxes: Tensor, num_frames: int) -> NDArray[np.float64]:
    array: NDArray[np.float64] = boxes.reshape(-1, num_frames, 4).nan_to_num(0.0).double().numpy()
    return array
