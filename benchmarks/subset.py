"""Real sequences, their first frames, followed with this and that option: what benchmarks of options share.

Knows how the sequences are read and scored. Knows nothing of what is compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elysium.boxes import FloatArray, denormalize, iou
from elysium.evaluation.items import Item
from elysium.evaluation.ope import mean_scores, sequence_scores
from elysium.evaluation.predictors import Tracking
from elysium.inference.pipelines import Elysium

FRAMES = 24


@dataclass(frozen=True)
class Followed:
    """All sequences: boxes (frames of all, 4) in pixels, ``seconds`` of the processor, the mean ``auc``."""

    boxes: FloatArray
    seconds: float
    auc: float

    def equal(self, other: Followed) -> float:
        """The share of frames in which both wrote the same box, or none."""
        return float((np.isclose(self.boxes, other.boxes, equal_nan=True)).all(axis=1).mean())

    def overlap(self, other: Followed) -> float:
        """The mean IoU of their boxes, over the frames in which either has one."""
        some = np.isfinite(self.boxes).all(axis=1) | np.isfinite(other.boxes).all(axis=1)
        return float(np.nan_to_num(iou(self.boxes, other.boxes))[some].mean())


def truth(item: Item) -> FloatArray:
    """(T, 4) pixels, NaN where the object is absent."""
    assert item.record.frame_size is not None
    return denormalize(item.record.boxes_xyxyn, item.record.frame_size)


def follow(model: Elysium, items: Sequence[Item], folder: Path, task: str, **options: Any) -> Followed:
    """All of them, one after the other, with ``options`` of `Elysium.track`."""
    predictor = Tracking(model, folder, task, options)
    began, found = time.process_time(), [predictor(item).boxes_xyxy for item in items]
    seconds = time.process_time() - began
    boxes = [np.asarray(one) for one in found]
    scores = [sequence_scores(one, truth(item)) for one, item in zip(boxes, items, strict=True)]
    return Followed(np.concatenate(boxes), seconds, mean_scores(scores).auc)
