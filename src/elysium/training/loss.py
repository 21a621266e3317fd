"""The training loss: answer tokens, softened numbers, and the gate's question.

Knows: logits, labels, targets. Does not know: where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from elysium.config import LossSection
from elysium.training.collate import IGNORED, number_kernel


@dataclass(frozen=True)
class LossParts:
    """Means over their own tokens: ``numbers`` (box coordinates), ``words`` (free text), ``template``; and what the
    gate is taught, ``gate`` and ``votes``."""

    numbers: Tensor
    words: Tensor
    template: Tensor
    gate: Tensor
    votes: Tensor

    def total(self, weights: LossSection) -> Tensor:
        return (
            self.numbers
            + self.words
            + weights.template * self.template
            + weights.gate * self.gate
            + weights.votes * self.votes
        )


@dataclass(frozen=True)
class GateLoss:
    """What the gate is taught directly.

    ``logits`` (F, N), ``votes`` (F, N, 4) and their mean ``voted_box`` (F, 4) or None; ``targets`` (F, N) the share of
    each token in the object, ``boxes`` (F, 4) in 0..1 with NaN where the object is absent.
    """

    logits: Tensor
    votes: Tensor | None
    voted_box: Tensor | None
    targets: Tensor
    boxes: Tensor

    def belonging(self) -> Tensor:
        """Binary cross-entropy of "this token lies in the object"."""
        return F.binary_cross_entropy_with_logits(self.logits, self.targets)

    def voting(self) -> Tensor:
        """Mean of log(1 + d), d the distance in object sizes of the votes of the object's tokens from its box's edges,
        plus the same of the voted box.

        The logarithm keeps far votes from ruling the mean; a cut-off would leave them without a gradient.
        """
        if self.votes is None or self.voted_box is None:
            return self.logits.new_zeros(())
        boxes = self.boxes.nan_to_num(0.0).unsqueeze(1)
        size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0.02).repeat(1, 1, 2)
        error = ((self.votes - boxes).abs() / size).log1p().mean(dim=-1)
        there = (~self.boxes.isnan().any(dim=1)).float()
        found = ((self.voted_box.unsqueeze(1) - boxes).abs() / size).log1p().mean(dim=(1, 2))
        by_token = (error * self.targets).sum() / self.targets.sum().clamp_min(1)
        return by_token + (found * there).sum() / there.sum().clamp_min(1)


class AnswerLoss:
    """Loss of answers whose numbers are single tokens ``number_ids``."""

    def __init__(self, number_ids: list[int], sigma: float) -> None:
        self.number_ids = torch.tensor(number_ids)
        self.kernel = number_kernel(sigma)

    def __call__(self, logits: Tensor, labels: Tensor, values: Tensor, gate: GateLoss) -> LossParts:
        """``logits`` (B, T+1, V) of the last T+1 positions; ``labels`` and ``values`` (B, T) of the last T tokens.

        A number's target is its Gaussian over the number tokens; every other answer token has one right token.
        A row without numbers is free text; in a row with numbers the rest is template.
        """
        log_probs = logits[:, :-1].float().log_softmax(dim=-1)
        kept = labels != IGNORED
        number = values >= 0
        has_box = number.any(dim=1, keepdim=True)
        hard = -log_probs.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        soft_targets = self.kernel[values.clamp_min(0)[number]]
        soft = -(soft_targets * log_probs[number][:, self.number_ids]).sum(dim=-1)
        return LossParts(
            numbers=soft.sum() / max(len(soft), 1),
            words=_mean(hard, kept & ~has_box),
            template=_mean(hard, kept & has_box & ~number),
            gate=gate.belonging(),
            votes=gate.voting(),
        )


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def teacher_forced_boxes(logits: Tensor, values: Tensor, number_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(M, 4) arg-max boxes in bins at the number positions, and the true ones, row by row in order."""
    number = values >= 0
    predicted = logits[:, :-1][number][:, number_ids].argmax(dim=-1)
    return predicted.view(-1, 4), values[number].view(-1, 4)
