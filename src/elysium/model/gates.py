"""The gates of the T-Selector: one logit for every visual token of every frame.

Knows: tokens (U, N, C) of the frames given, and which of them the frames of each request are. The gate that looks
at regions and words has a file of its own, ``prompt_gate``.
Does not know: how many tokens are kept, prompts as text, the language model.

A gate says what it looks at (``looks_at``), because whatever a gate looks at must be part of the key under
which its choice is cached: ``frame`` alone can be shared by all questions on a frame, ``prompt`` by none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from elysium.model.configuration import SelectorConfig

Sight = Literal["frame", "clip", "prompt"]


@dataclass
class PromptContext:
    """What a batch of requests is about, in tensors. B requests (rows), F frames of all rows one after the other.

    Attributes:
        frame_rows: (F,) the row of each frame, ascending.
        frame_ids: (F,) which of the U frames given each of them is, so that requests about the same pictures share
            them; ``None``: F = U, in order.
        region_boxes: (R, 4) boxes in 0..1 of the model frame.
        region_frames: (R,) the frame (0..F-1) each box lies in.
        words: (B, L, D) embeddings of the words asked about, or ``None``; ``words_mask`` (B, L) bool, all false in rows
            without words.
    """

    frame_rows: Tensor
    frame_ids: Tensor | None = None
    region_boxes: Tensor | None = None
    region_frames: Tensor | None = None
    words: Tensor | None = None
    words_mask: Tensor | None = None

    @property
    def frame_numbers(self) -> Tensor:
        """(F,) number of each frame within its row, from 1."""
        first = torch.searchsorted(self.frame_rows, self.frame_rows)
        return torch.arange(len(self.frame_rows), device=self.frame_rows.device) - first + 1

    @property
    def has_words(self) -> Tensor:
        """(F,) bool: whether the frame's request has words."""
        if self.words_mask is None:
            return torch.zeros_like(self.frame_rows, dtype=torch.bool)
        return self.words_mask.any(dim=1)[self.frame_rows]

    def of_requests(self, values: Tensor) -> Tensor:
        """Values (U, ...) of the frames given -> (F, ...) of the requests' frames."""
        return values if self.frame_ids is None else values[self.frame_ids]


@dataclass
class GateResult:
    """``logits`` (F, N), higher is kept first, and the evidence that a prompt gate found on the way.

    ``probability`` (F, N): how surely a token belongs to what was asked. ``mark`` (F, N): how much of the token
    lies in the given region, zero in all other frames. ``votes`` (F, N, 4): the box, in 0..1, that the token
    would give to the object, and ``box`` (F, 4) what most of them agree on.
    ``informed`` (F,): whether the frame's request gave a region or words, without which the evidence means nothing.
    """

    logits: Tensor
    probability: Tensor | None = None
    mark: Tensor | None = None
    votes: Tensor | None = None
    box: Tensor | None = None
    informed: Tensor | None = None


def full_precision(tokens: Tensor) -> torch.autocast:
    """A context in which autocast is off, for decisions that half precision would blur."""
    return torch.autocast(tokens.device.type, enabled=False)


def _of_requests(values: Tensor, context: PromptContext | None) -> Tensor:
    return values if context is None else context.of_requests(values)


class MlpGate(nn.Module):
    """The paper's gate: each token is scored by itself, ``MLP(token)``."""

    looks_at: ClassVar[frozenset[Sight]] = frozenset({"frame"})

    def __init__(self, config: SelectorConfig, num_channels: int, num_tokens: int, query_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(num_channels, config.hidden_size), nn.GELU(), nn.Linear(config.hidden_size, 1)
        )

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        with full_precision(tokens):
            return GateResult(_of_requests(self.mlp(tokens).squeeze(-1), context))


class LegacyGate(nn.Module):
    """What the released checkpoint computes: ``pre_proj(tokens)^T @ trans_weight + trans_bias``."""

    looks_at: ClassVar[frozenset[Sight]] = frozenset({"frame"})

    def __init__(self, config: SelectorConfig, num_channels: int, num_tokens: int, query_size: int) -> None:
        super().__init__()
        self.pre_proj = nn.Linear(num_channels, 1)
        self.trans_weight = nn.Parameter(torch.eye(num_tokens))
        self.trans_bias = nn.Parameter(torch.zeros(num_tokens))

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        with full_precision(tokens):
            logits = self.pre_proj(tokens).squeeze(-1) @ self.trans_weight + self.trans_bias
        return GateResult(_of_requests(logits, context))


class FixedGate(nn.Module):
    """One learned order of the places for every frame: what a legacy gate whose ``trans_weight`` is zero comes to."""

    looks_at: ClassVar[frozenset[Sight]] = frozenset()

    def __init__(self, config: SelectorConfig, num_channels: int, num_tokens: int, query_size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(-_van_der_corput(num_tokens, None) / num_tokens)  # starts out as an even spread

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        return GateResult(_of_requests(self.logits.expand(len(tokens), -1), context))


class UniformGate(nn.Module):
    """A fixed choice spread evenly over the raster: the floor that a learned gate has to beat.

    The logit of a token is the bit-reversal (van der Corput) value of its place, so any k gives an even spread.
    """

    looks_at: ClassVar[frozenset[Sight]] = frozenset()

    def __init__(self, config: SelectorConfig, num_channels: int, num_tokens: int, query_size: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        num_tokens = tokens.shape[1]
        logits = -_van_der_corput(num_tokens, tokens.device).expand(len(tokens), num_tokens)
        return GateResult(_of_requests(logits, context))


class AverageGate(UniformGate):
    """For average pooling, which merges and chooses nothing: all tokens count alike. The selector does the rest."""

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        return GateResult(_of_requests(tokens.new_zeros(tokens.shape[:2]), context))


def _van_der_corput(count: int, device: torch.device | None) -> Tensor:
    """Rank (count,) of each place in an order whose every prefix is spread evenly over 0..count-1."""
    bits = max(1, (count - 1).bit_length())
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    rank = {place: i for i, place in enumerate(p for p in order if p < count)}
    return torch.tensor([float(rank[i]) for i in range(count)], device=device)
