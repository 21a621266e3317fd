"""The gates of the T-Selector: one logit for every visual token of every frame.

Knows: tokens (F, N, C), and, for the prompt gate, the region or the words that the request is about.
Does not know: how many tokens are kept, prompts as text, the language model.

A gate says what it looks at (``looks_at``), because whatever a gate looks at must be part of the key under
which its choice is cached: ``frame`` alone can be shared by all questions on a frame, ``prompt`` by none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elysium.model.positions import box_coverage, grid_centres

Sight = Literal["frame", "clip", "prompt"]
_SAFE = 1e-4  # keeps logits of probabilities finite


@dataclass
class PromptContext:
    """What a batch of requests is about, in tensors. B requests (rows), F frames of all rows one after the other.

    Attributes:
        frame_rows: (F,) the row of each frame, ascending.
        region_boxes: (R, 4) boxes in 0..1 of the model frame.
        region_frames: (R,) the frame (0..F-1) each box lies in.
        query: (B, D) one vector for the words asked about, or ``None``; ``has_query`` (B,) says which rows have words.
    """

    frame_rows: Tensor
    region_boxes: Tensor | None = None
    region_frames: Tensor | None = None
    query: Tensor | None = None
    has_query: Tensor | None = None

    @property
    def frame_numbers(self) -> Tensor:
        """(F,) number of each frame within its row, from 1."""
        first = torch.searchsorted(self.frame_rows, self.frame_rows)
        return torch.arange(len(self.frame_rows), device=self.frame_rows.device) - first + 1


@dataclass
class GateResult:
    """``logits`` (F, N), higher is kept first, and the evidence that a prompt gate found on the way.

    ``probability`` (F, N): how surely a token belongs to what was asked. ``mark`` (F, N): how much of the token
    lies in the given region, zero in all other frames. ``votes`` (F, N, 4): the box, in 0..1, that the token
    would give to the object, and ``box`` (F, 4) the mean of the votes, weighted by how well the tokens match.
    ``informed`` (F,): whether the frame's request gave a region or words, without which the evidence means nothing.
    """

    logits: Tensor
    probability: Tensor | None = None
    mark: Tensor | None = None
    votes: Tensor | None = None
    box: Tensor | None = None
    informed: Tensor | None = None


def _mlp(num_channels: int, hidden_size: int, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_channels, hidden_size), nn.GELU(), nn.Linear(hidden_size, num_outputs))


class MlpGate(nn.Module):
    """The paper's gate: each token is scored by itself, ``MLP(token)``."""

    looks_at: ClassVar[frozenset[Sight]] = frozenset({"frame"})

    def __init__(self, num_channels: int, num_tokens: int, hidden_size: int, query_size: int) -> None:
        super().__init__()
        self.mlp = _mlp(num_channels, hidden_size, 1)

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        return GateResult(self.mlp(tokens).squeeze(-1))


class LegacyGate(nn.Module):
    """What the released checkpoint computes: ``pre_proj(tokens)^T @ trans_weight + trans_bias``."""

    looks_at: ClassVar[frozenset[Sight]] = frozenset({"frame"})

    def __init__(self, num_channels: int, num_tokens: int, hidden_size: int, query_size: int) -> None:
        super().__init__()
        self.pre_proj = nn.Linear(num_channels, 1)
        self.trans_weight = nn.Parameter(torch.eye(num_tokens))
        self.trans_bias = nn.Parameter(torch.zeros(num_tokens))

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        return GateResult(self.pre_proj(tokens).squeeze(-1) @ self.trans_weight + self.trans_bias)


class UniformGate(nn.Module):
    """A fixed choice spread evenly over the raster: the floor that a learned gate has to beat.

    The logit of a token is the bit-reversal (van der Corput) value of its place, so any k gives an even spread.
    """

    looks_at: ClassVar[frozenset[Sight]] = frozenset()

    def __init__(self, num_channels: int, num_tokens: int, hidden_size: int, query_size: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        num_tokens = tokens.shape[1]
        return GateResult(-_van_der_corput(num_tokens, tokens.device).expand(len(tokens), num_tokens))


def _van_der_corput(count: int, device: torch.device) -> Tensor:
    """Rank (count,) of each place in an order whose every prefix is spread evenly over 0..count-1."""
    bits = max(1, (count - 1).bit_length())
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    rank = {place: i for i, place in enumerate(p for p in order if p < count)}
    return torch.tensor([float(rank[i]) for i in range(count)], device=device)


class PromptGate(nn.Module):
    """Scores tokens against what is asked about: the region given in one frame, or words.

    Every row has an anchor frame: the one that holds its region, else its first. With a region, the anchor's
    tokens are marked by the share of them inside the box; with words, by how well they fit the words. A token of
    any frame then attends to the anchor's tokens (cosine attention in a learned space, the read-out of label
    propagation: Wang et al. 2018, Oh et al. 2019) and inherits the mark. It also votes for the object's box: with
    a region, the region moved by the token's displacement from its match; with words, its distances to the four
    edges as its own features tell them. Rows without region and words are scored by a plain MLP gate.
    """

    looks_at: ClassVar[frozenset[Sight]] = frozenset({"clip", "prompt"})

    def __init__(self, num_channels: int, num_tokens: int, hidden_size: int, query_size: int) -> None:
        super().__init__()
        self.grid = round(num_tokens**0.5)
        self.fallback = MlpGate(num_channels, num_tokens, hidden_size, query_size)
        self.match = nn.Linear(num_channels, hidden_size, bias=False)
        self.word_key = _mlp(num_channels, hidden_size, hidden_size)
        self.word_reach = _mlp(num_channels, hidden_size, 4)  # -> distances to left, top, right, bottom edge
        self.word_query = nn.Linear(query_size, hidden_size)
        self.match_scale = nn.Parameter(torch.tensor(3.0))  # log of the attention's sharpness, e^3 = 20
        self.match_gain = nn.Parameter(torch.tensor([1.0, 0.0]))  # read-out probability -> logit
        self.word_gain = nn.Parameter(torch.tensor([10.0, -3.0]))  # cosine -> logit
        self.vote_gain = nn.Parameter(torch.tensor(1.0))  # how much better matches outweigh worse ones
        last = self.word_reach[-1]
        if isinstance(last, nn.Linear):
            nn.init.constant_(last.bias, -2.0)  # start with boxes of a quarter of the frame

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        if context is None or (context.region_boxes is None and context.query is None):
            return self.fallback(tokens, context)
        marks, boxes, given = self._regions(tokens, context)
        word_logits, word_votes = self._words(tokens, context)
        anchors, has_region = _anchors(context)
        attention = self._attention(tokens, anchors)
        inherited, moved = self._read(
            attention, torch.where(given.unsqueeze(-1), marks, word_logits.sigmoid())[anchors]
        )
        logits = self.match_gain[0] * inherited.clamp(_SAFE, 1 - _SAFE).logit() + self.match_gain[1]
        logits = torch.where(has_region.unsqueeze(-1), logits, word_logits + 0.5 * logits)
        votes = (boxes[anchors].unsqueeze(1) + moved.repeat(1, 1, 2)).clamp(0, 1)
        votes = torch.where(has_region[:, None, None], votes, word_votes)
        informed = has_region
        if context.has_query is not None:
            informed = informed | context.has_query[context.frame_rows]
        if not bool(informed.all()):
            logits = torch.where(informed.unsqueeze(-1), logits, self.fallback(tokens, context).logits)
        box = torch.einsum("fn,fnc->fc", (self.vote_gain * logits).softmax(dim=-1), votes)
        return GateResult(logits, logits.sigmoid(), marks, votes, box, informed)

    def _regions(self, tokens: Tensor, context: PromptContext) -> tuple[Tensor, Tensor, Tensor]:
        """Of each frame: (F, N) coverage of its tokens by its region, relative to the best covered; (F, 4) the region;
        (F,) whether it has one."""
        marks = tokens.new_zeros(tokens.shape[:2], dtype=torch.float32)
        boxes = tokens.new_zeros(len(tokens), 4, dtype=torch.float32)
        given = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        if context.region_boxes is None or context.region_frames is None or not len(context.region_boxes):
            return marks, boxes, given
        coverage = box_coverage(context.region_boxes, self.grid)
        best = coverage.amax(dim=1, keepdim=True).clamp_min(1e-6)
        marks = marks.index_copy(0, context.region_frames, coverage / best)
        boxes = boxes.index_copy(0, context.region_frames, context.region_boxes.float())
        return marks, boxes, given.index_fill(0, context.region_frames, True)

    def _words(self, tokens: Tensor, context: PromptContext) -> tuple[Tensor, Tensor]:
        """How well each token fits its row's words, (F, N), and the box it votes for, (F, N, 4); zero without words."""
        logits, votes = tokens.new_zeros(tokens.shape[:2]), tokens.new_zeros(*tokens.shape[:2], 4)
        if context.query is None:
            return logits, votes
        rows = context.frame_rows
        asked = torch.ones_like(rows, dtype=torch.bool) if context.has_query is None else context.has_query[rows]
        frames = asked.nonzero().squeeze(-1)  # only rows that have words are scored
        keys = F.normalize(self.word_key(tokens[frames]), dim=-1)
        query = F.normalize(self.word_query(context.query.to(tokens.dtype)), dim=-1)[rows[frames]]
        scores = self.word_gain[0] * torch.einsum("fnh,fh->fn", keys, query) + self.word_gain[1]
        reach = self.word_reach(tokens[frames]).sigmoid()
        centres = grid_centres(self.grid, tokens.device).to(tokens.dtype)
        boxes = torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], dim=-1).clamp(0, 1)
        return logits.index_copy(0, frames, scores), votes.index_copy(0, frames, boxes)

    def _attention(self, tokens: Tensor, anchors: Tensor) -> Tensor:
        """(F, N, N) where each token's match lies in its anchor frame."""
        matched = F.normalize(self.match(tokens), dim=-1)
        return (self.match_scale.exp() * matched @ matched[anchors].transpose(1, 2)).softmax(dim=-1)

    def _read(self, attention: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """The mark that each token inherits, (F, N), and how far it stands from its marked matches, (F, N, 2)."""
        centres = grid_centres(self.grid, attention.device)
        marked_places = torch.cat([marks.unsqueeze(-1), marks.unsqueeze(-1) * centres], dim=-1)
        read = attention @ marked_places.to(attention.dtype)
        return read[..., 0], centres - read[..., 1:] / (read[..., :1] + 1e-6)


def _anchors(context: PromptContext) -> tuple[Tensor, Tensor]:
    """(F,) anchor frame of each frame, and whether its row has a region. A row's last region wins."""
    rows = context.frame_rows
    first = torch.searchsorted(rows, rows)
    if context.region_frames is None or not len(context.region_frames):
        return first, torch.zeros_like(rows, dtype=torch.bool)
    num_rows = int(rows[-1]) + 1
    by_row = rows.new_full((num_rows,), -1).index_copy(0, rows[context.region_frames], context.region_frames)
    chosen = by_row[rows]
    return torch.where(chosen >= 0, chosen, first), chosen >= 0


GATES: dict[str, type[nn.Module]] = {
    "mlp": MlpGate, "legacy": LegacyGate, "uniform": UniformGate, "prompt": PromptGate,
}  # fmt: skip
