"""A quick look at how training goes: boxes read with every earlier token given, boxes voted by the gate, names.

Cheap, because it needs one forward a batch, and flattering, because a wrong box is never carried on: it says whether
training goes forward, not how well the model tracks. ``benchmarks/`` does that.

Knows: boxes, frames, the model's output. Does not know: models, decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elysium.boxes import iou
from elysium.language.dialects import ELYSIUM
from elysium.model import ElysiumProcessor
from elysium.model.modeling import ElysiumOutput
from elysium.model.processing import IGNORED
from elysium.training.loss import AnswerLoss, teacher_forced_boxes


class Validation:
    """Scores of one task over batches whose samples all have the same number of frames."""

    def __init__(self, task: str, answer_loss: AnswerLoss, processor: ElysiumProcessor) -> None:
        self.number_ids, self.processor = answer_loss.number_ids, processor
        self.written, self.voted = IouTally(task, task == "SOT"), IouTally(f"{task}_voted", task == "SOT")
        self.named = NameTally(f"{task}_named")

    def add(self, batch: Mapping[str, Any], output: ElysiumOutput, places: Tensor) -> None:
        """Count a batch of the collator, of which ``output`` has logits (B, T, V) for the labels at ``places`` (T,)."""
        num_frames = int(batch["frame_counts"][0])
        if output.name_logits is not None:
            self.named.add(output.name_logits, batch["name_labels"])
        if output.voted_box is not None:
            self.voted.add(output.voted_box, batch["gate_boxes"], num_frames)
        if output.logits is None:
            return
        if len(self.number_ids):
            values = batch["number_values"][:, places]
            self.written.add(*teacher_forced_boxes(output.logits, values, self.number_ids), num_frames)
        else:
            labels = batch["labels"][:, places]
            said = self._read(output.logits.argmax(dim=-1), labels, num_frames)
            self.written.add(said, self._read(labels, labels, num_frames), num_frames)

    def _read(self, ids: Tensor, labels: Tensor, num_frames: int) -> Tensor:
        """(B * n, 4) the boxes in the text of ``ids`` (B, T) where ``labels`` has an answer; zero where none is
        read."""
        texts = [self.processor.tokenizer.decode(row[told != IGNORED]) for row, told in zip(ids, labels, strict=True)]
        return torch.from_numpy(np.concatenate([_boxes_in(text, num_frames) for text in texts]))

    def scores(self) -> dict[str, float]:
        """All scores, by name, 0..1."""
        return {**self.written.scores(), **self.voted.scores(), **self.named.scores()}


def _boxes_in(text: str, num_frames: int) -> NDArray[np.float64]:
    return np.nan_to_num(ELYSIUM.parse(text, num_frames).boxes)


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
    array: NDArray[np.float64] = boxes.reshape(-1, num_frames, 4).nan_to_num(0.0).double().cpu().numpy()
    return array
