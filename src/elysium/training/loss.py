"""The training loss: answer tokens, softened numbers, and the gate's question.

Knows: logits, labels, targets. Does not know: where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from elysium.config import LossSection
from elysium.model.processing import IGNORED
from elysium.training.collate import TEMPLATE, WORD, number_kernel

PARTS = ("numbers", "words", "template", "gate", "choice", "votes", "names")
"""What is taught: ``numbers`` (box coordinates), ``words`` (free text) and ``template`` (the rest of a box answer) of
answers; which tokens lie in the object (``gate``), rather than others of the frame (``choice``), which box they vote
for (``votes``); and ``names``, the words for things, read off their projected features."""


def part_counts(batch: Mapping[str, Any]) -> Tensor:
    """(7,) how many answer tokens, frames or things each of `PARTS` is a mean over in a batch of the collator."""
    kept, values = batch["labels"] != IGNORED, batch["number_values"]
    of_answers = [(kept & kind).sum() for kind in (values >= 0, values == WORD, values == TEMPLATE)]
    frames = there = things = torch.zeros_like(of_answers[0])
    if "gate_boxes" in batch:
        frames = labelled(batch["gate_targets"]).sum()
        there = (batch["gate_targets"].sum(dim=1) > 0).sum()
    if "name_labels" in batch:
        things = things + len(batch["name_labels"])
    return torch.stack([*of_answers, frames, there, there, things]).float()


def labelled(gate_targets: Tensor) -> Tensor:
    """(F,) whether it is known what lies where in a frame."""
    return ~gate_targets.isnan().any(dim=1)


def total(parts: Mapping[str, Tensor], weights: LossSection, shares: Tensor | None = None) -> Tensor:
    """The weighted sum of parts. ``shares`` (7,): what part of all that a step learns from, over the micro-batches of
    all processes, these means stand for; 1 without it."""
    by_name = {"numbers": 1.0, "words": 1.0, **{name: getattr(weights, name) for name in PARTS[2:]}}
    terms = [
        by_name[name] * parts[name] * (1 if shares is None else shares[number])
        for number, name in enumerate(PARTS)
        if name in parts and by_name[name]
    ]
    return torch.stack(terms).sum()


@dataclass(frozen=True)
class GateLoss:
    """What the gate is taught directly.

    ``logits`` (F, N), ``votes`` (F, N, 4) and their consensus ``voted_box`` (F, 4) or None; ``targets`` (F, N) the
    share of each token in the object, ``boxes`` (F, 4) in 0..1 with NaN where the object is absent.
    """

    logits: Tensor
    votes: Tensor | None
    voted_box: Tensor | None
    targets: Tensor
    boxes: Tensor

    def belonging(self) -> Tensor:
        """Binary cross-entropy of "this token lies in the object"."""
        return F.binary_cross_entropy_with_logits(self.logits, self.targets)

    def choice(self) -> Tensor:
        """Cross-entropy of the softmax over a frame's tokens, the object's tokens sharing the target."""
        there = self.targets.sum(dim=1) > 0
        if not bool(there.any()):
            return self.logits.new_zeros(())
        targets = self.targets[there] / self.targets[there].sum(dim=1, keepdim=True)
        return -(targets * self.logits[there].log_softmax(dim=1)).sum(dim=1).mean()

    def voting(self) -> Tensor:
        """How far the votes of the object's tokens are off: log(1 + d), d the distance of their edges from the box's in
        object sizes, plus half of 1 - GIoU (Rezatofighi et al. 2019), averaged over frames. Plus the first for the
        voted boxes that touch the object.

        The logarithm keeps far votes from ruling the mean; a cut-off would leave them without a gradient. A voted box
        on another thing is the gate's mistake, and moving that thing's votes would not mend it.
        """
        if self.votes is None or self.voted_box is None:
            return self.logits.new_zeros(())
        boxes = self.boxes.nan_to_num(0.0).unsqueeze(1)
        size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0.02).repeat(1, 1, 2)
        overlap = generalized_iou(self.votes, boxes.expand_as(self.votes))
        error = ((self.votes - boxes).abs() / size).log1p().mean(dim=-1) + 0.5 * (1 - overlap)
        shares = self.targets / self.targets.sum(dim=1, keepdim=True).clamp_min(1e-6)  # small things count as much
        there = ~self.boxes.isnan().any(dim=1)
        by_token = (error * shares).sum() / there.sum().clamp_min(1)
        touching = (generalized_iou(self.voted_box, boxes.squeeze(1)) > 0) & there
        found = ((self.voted_box.unsqueeze(1) - boxes).abs() / size).log1p().mean(dim=(1, 2))
        return by_token + (found * touching).sum() / touching.sum().clamp_min(1)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU, -1..1, of boxes (..., 4) pair by pair."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    inside = (high - low).clamp_min(0).prod(dim=-1)
    union = sum((box[..., 2:] - box[..., :2]).clamp_min(0).prod(dim=-1) for box in (first, second)) - inside
    around = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    hull = around.clamp_min(0).prod(dim=-1)
    return inside / union.clamp_min(1e-6) - (hull - union) / hull.clamp_min(1e-6)


class AnswerLoss:
    """Loss of answers, whose numbers may be single tokens ``number_ids`` with softened targets."""

    def __init__(self, number_ids: Sequence[int], sigma: float) -> None:
        self.number_ids = torch.tensor(list(number_ids), dtype=torch.long)
        self.kernel = number_kernel(sigma)

    def __call__(self, logits: Tensor, labels: Tensor, values: Tensor) -> dict[str, Tensor]:
        """The parts ``numbers`` (if there are number tokens), ``words`` and ``template``, each a mean over its own
        tokens, zero without any.

        ``logits`` (B, T, V) that predict the tokens ``labels`` (B, T) of kinds ``values`` (B, T), see the collator. A
        number's target is its Gaussian over the number tokens; every other token has one right token.
        """
        log_probs = logits.float().log_softmax(dim=-1)
        kept = labels != IGNORED
        hard = -log_probs.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        parts = {"words": _mean(hard, kept & (values == WORD)), "template": _mean(hard, kept & (values == TEMPLATE))}
        if len(self.number_ids):
            parts["numbers"] = self._numbers(log_probs, values, kept & (values >= 0))
        return parts

    def _numbers(self, log_probs: Tensor, values: Tensor, number: Tensor) -> Tensor:
        targets = self.kernel.to(log_probs.device)[values[number]]
        soft = -(targets * log_probs[number][:, self.number_ids.to(log_probs.device)]).sum(dim=-1)
        return soft.sum() / max(len(soft), 1)


def name_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of ``logits`` (M, V) with the words ``labels`` (M, W), padded with IGNORED, that share the target
    of each row."""
    known = labels != IGNORED
    log_probs = logits.float().log_softmax(dim=-1).gather(1, labels.clamp_min(0))
    return -((log_probs * known).sum(dim=1) / known.sum(dim=1)).mean()


def gate_parts(gate: GateLoss) -> dict[str, Tensor]:
    """What the gate is taught, by the names of `PARTS`."""
    return {"gate": gate.belonging(), "choice": gate.choice(), "votes": gate.voting()}


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def teacher_forced_boxes(logits: Tensor, values: Tensor, number_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(M, 4) arg-max boxes in bins at the number positions of ``logits`` (B, T, V), and the true ones, row by row."""
    number = values >= 0
    predicted = logits[number][:, number_ids.to(logits.device)].argmax(dim=-1)
    return predicted.view(-1, 4), values[number].view(-1, 4)
