"""The gate that looks at what is asked about: a region given in one frame, or words.

Knows: tokens of frames, regions, embedded words. How it decides, in this order:

1. Tokens of a frame see each other (self-attention), so that each knows how far the thing that it lies on reaches,
   and votes for a box.
2. Words see each other and the frame (cross-attention) and become one query, with which tokens are compared.
3. Every request has an anchor frame: the one that holds its region, else its first, whose region is the box that the
   tokens fitting the words agree on. A token of any frame attends to the anchor's tokens (cosine attention in a
   learned space, the read-out of label propagation: Wang et al. 2018, Oh et al. 2019), inherits "lies in the region",
   and corrects its vote by the errors that its matches' votes make in the anchor, where the box is known.
4. The votes' consensus is the frame's voted box.

Does not know: how many tokens are kept, prompts as text, the language model.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elysium.model.configuration import SelectorConfig
from elysium.model.gates import GateResult, MlpGate, PromptContext, Sight, full_precision
from elysium.model.positions import box_coverage, code_1d, grid_centres

_SAFE = 1e-4  # keeps logits of probabilities finite
_HEAD_SIZE = 32
_MOST_WORDS = 32  # places of words are coded as a share of it
_VOTERS = 24  # the best matches of a frame decide on its box
_AGREE = 0.4  # IoU above which two votes mean the same box


class PromptGate(nn.Module):
    """Scores tokens against the region or the words of their request; a plain MLP gate where there are neither."""

    looks_at: ClassVar[frozenset[Sight]] = frozenset({"clip", "prompt"})

    def __init__(self, config: SelectorConfig, num_channels: int, num_tokens: int, query_size: int) -> None:
        super().__init__()
        hidden_size, num_layers = config.hidden_size, config.num_layers
        self.grid = round(num_tokens**0.5)
        self.fallback = MlpGate(config, num_channels, num_tokens, query_size)
        self.look = FrameReader(num_channels, hidden_size, num_layers)
        self.read = WordReader(query_size, hidden_size, num_layers)
        self.reach = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, 4))
        nn.init.constant_(self.reach[-1].bias, -2.0)  # type: ignore[arg-type]  # start with a quarter of the frame
        self.match = nn.Linear(num_channels, hidden_size, bias=False)
        self.match_seen = nn.Linear(hidden_size, hidden_size, bias=False)
        self.match_scale = nn.Parameter(torch.tensor(3.0))  # log of the attention's sharpness, e^3 = 20
        self.match_gain = nn.Parameter(torch.tensor([1.0, 0.0]))  # read-out probability -> logit
        self.word_gain = nn.Parameter(torch.tensor([10.0, -3.0]))  # cosine -> logit
        self.share = nn.Parameter(torch.tensor(0.5))  # of the inherited evidence where there are words

    def forward(self, tokens: Tensor, context: PromptContext | None) -> GateResult:
        if context is None or (context.region_boxes is None and context.words is None):
            return self.fallback(tokens, context)
        seen = self.look(tokens)  # in half precision under autocast, as the words are read
        word_logits = self._word_logits(seen, context)
        with full_precision(tokens):
            return self._judge(tokens, seen.to(tokens.dtype), word_logits, context)

    def _judge(self, tokens: Tensor, seen: Tensor, word_logits: Tensor, context: PromptContext) -> GateResult:
        """Steps 3 and 4 of the head of this file."""
        own_votes = context.of_requests(self.votes(seen))
        marks, boxes = self._regions(own_votes, context)
        anchors, has_region = _anchors(context)
        by_words = context.has_words & ~has_region
        agreed = consensus(word_logits[anchors], own_votes[anchors]).detach()
        region = torch.where(by_words.unsqueeze(-1), agreed, boxes[anchors])
        covered = torch.where(by_words.unsqueeze(-1), _relative_coverage(agreed, self.grid), marks[anchors])
        inherited, correction = self._inherit(tokens, seen, context, anchors, covered, region, own_votes)
        matched = self.match_gain[0] * inherited.clamp(_SAFE, 1 - _SAFE).logit() + self.match_gain[1]
        logits = torch.where(by_words.unsqueeze(-1), word_logits + self.share * matched, matched)
        informed = has_region | by_words
        if not bool(informed.all()):
            logits = torch.where(informed.unsqueeze(-1), logits, self.fallback(tokens, context).logits)
        votes = (own_votes + correction).clamp(0, 1)
        box = consensus(logits, votes)
        return GateResult(logits, logits.sigmoid(), marks, votes, box, informed)

    def votes(self, seen: Tensor) -> Tensor:
        """(U, N, 4) the box that each token thinks it lies in, from its place and its distances to the four edges."""
        centres = grid_centres(self.grid, seen.device)
        reach = self.reach(seen).float().sigmoid()
        return torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], dim=-1)

    def _word_logits(self, seen: Tensor, context: PromptContext) -> Tensor:
        """(F, N) how well tokens fit their request's words, 0 where it has none."""
        logits = seen.new_zeros(len(context.frame_rows), seen.shape[1], dtype=torch.float32)
        asked = context.has_words.nonzero().squeeze(-1)
        if context.words is None or context.words_mask is None or not len(asked):
            return logits
        rows = context.frame_rows[asked]
        frames = asked if context.frame_ids is None else context.frame_ids[asked]
        fit = self.read(seen, frames, context.words[rows].to(seen.dtype), context.words_mask[rows])
        return logits.index_copy(0, asked, self.word_gain[0] * fit + self.word_gain[1])

    def _regions(self, own_votes: Tensor, context: PromptContext) -> tuple[Tensor, Tensor]:
        """Of each frame, zero where it has no region: (F, N) coverage of its tokens by its region, relative to the best
        covered; (F, 4) the region."""
        marks, boxes = own_votes.new_zeros(own_votes.shape[:2]), own_votes.new_zeros(len(own_votes), 4)
        if context.region_boxes is None or context.region_frames is None or not len(context.region_boxes):
            return marks, boxes
        coverage = _relative_coverage(context.region_boxes, self.grid)
        marks = marks.index_copy(0, context.region_frames, coverage)
        return marks, boxes.index_copy(0, context.region_frames, context.region_boxes.float())

    def _inherit(
        self, tokens: Tensor, seen: Tensor, context: PromptContext, anchors: Tensor, covered: Tensor, region: Tensor,
        own_votes: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """How much of each token's matches in its anchor frame lies in the region, (F, N), and by how much, on
        average, the votes of those matches miss the region's edges, (F, N, 4)."""
        looks = F.normalize(self.match(tokens) + self.match_seen(seen), dim=-1)
        missed = covered.unsqueeze(-1) * (region.unsqueeze(1) - own_votes[anchors])
        read = self._attention(looks, context, anchors) @ torch.cat([covered.unsqueeze(-1), missed], dim=-1)
        return read[..., 0], read[..., 1:] / (read[..., :1] + 1e-6)

    def _attention(self, looks: Tensor, context: PromptContext, anchors: Tensor) -> Tensor:
        """(F, N, N) how much each token of a frame looks at each of its anchor frame, ``looks`` (U, N, H) being what
        the frames' tokens look like. Of requests about the same frames it is computed once, where nothing learns."""
        ids, which = context.frame_ids, None
        if ids is None or torch.is_grad_enabled():
            first = context.of_requests(looks)
            second = first[anchors]
        else:
            pairs, which = torch.stack([ids, ids[anchors]]).unique(dim=1, return_inverse=True)
            first, second = looks[pairs[0]], looks[pairs[1]]
        attention = (self.match_scale.exp() * first @ second.transpose(1, 2)).float().softmax(dim=-1)
        return attention if which is None else attention[which]


class FrameReader(nn.Module):
    """Tokens (U, N, C) of single frames -> what each of them sees around itself, (U, N, H)."""

    def __init__(self, num_channels: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.enter = nn.Linear(num_channels, hidden_size)
        self.layers = nn.ModuleList(_Block(hidden_size) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.enter(tokens)
        for layer in self.layers:
            seen = layer(seen)
        normed: Tensor = self.norm(seen)
        return normed


class WordReader(nn.Module):
    """How well tokens fit words that are read while looking at the frame."""

    def __init__(self, query_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.enter = nn.Linear(query_size, hidden_size)
        self.layers = nn.ModuleList(_Block(hidden_size, looks=True) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.weigh = nn.Linear(hidden_size, 1)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)

    def forward(self, seen: Tensor, frames: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """(A, N) cosines of tokens and words: A expressions ``words`` (A, L, D) under ``mask`` (A, L) with a word in
        each, about the frames ``frames`` (A,) of ``seen`` (U, N, H)."""
        length = words.shape[1]
        places = code_1d(torch.arange(length, device=words.device) / _MOST_WORDS, self.key.in_features // 2 * 2)
        state = self.enter(words)
        state = state + F.pad(places, (0, state.shape[-1] - places.shape[-1])).to(state.dtype)
        for layer in self.layers:
            state = layer(state, mask, seen, frames)
        state = self.norm(state)
        weights = self.weigh(state).squeeze(-1).float().masked_fill(~mask, -1e4).softmax(dim=-1)
        query = self.query((weights.unsqueeze(1).to(state.dtype) @ state).squeeze(1))
        keys = F.normalize(self.key(seen), dim=-1)[frames]
        return (keys @ F.normalize(query, dim=-1).unsqueeze(-1)).squeeze(-1).float()


class _Block(nn.Module):
    """A transformer block, normed first: self-attention, optionally cross-attention to a frame, two-layer MLP."""

    def __init__(self, size: int, looks: bool = False) -> None:
        super().__init__()
        self.heads = max(1, size // _HEAD_SIZE)
        self.self_norm, self.mlp_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.self_in, self.self_out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        if looks:
            self.cross_norm = nn.LayerNorm(size)
            self.cross_query, self.cross_out = nn.Linear(size, size), nn.Linear(size, size)
            self.cross_in = nn.Linear(size, 2 * size)

    def forward(
        self, state: Tensor, mask: Tensor | None = None, seen: Tensor | None = None, frames: Tensor | None = None
    ) -> Tensor:
        """``state`` (A, L, H) attends to itself, under ``mask`` (A, L), and to the frames ``frames`` (A,) of ``seen``
        (U, N, H)."""
        query, key, value = self.self_in(self.self_norm(state)).chunk(3, dim=-1)
        allowed = None if mask is None else mask[:, None, None, :]
        state = state + self.self_out(self._attend(query, key, value, allowed))
        if seen is not None:
            key, value = self.cross_in(seen)[frames].chunk(2, dim=-1)
            state = state + self.cross_out(self._attend(self.cross_query(self.cross_norm(state)), key, value))
        grown: Tensor = state + self.mlp(self.mlp_norm(state))
        return grown

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(1, 2).flatten(2)


def consensus(logits: Tensor, votes: Tensor) -> Tensor:
    """(F, 4) the box that a frame's votes (F, N, 4) agree on, ``logits`` (F, N) saying how much each counts.

    A plain mean would fall between two things that look alike. So the best voters elect the vote that overlaps most
    with the others', and the box is the mean of the votes that agree with it.
    """
    strongest, places = logits.topk(min(_VOTERS, logits.shape[1]), dim=-1)
    weights = strongest.softmax(dim=-1)
    votes = votes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))
    overlap = _pairwise_iou(votes.detach())
    elected = (overlap @ weights.detach().unsqueeze(-1)).squeeze(-1).argmax(dim=-1)
    agreement = overlap[torch.arange(len(votes), device=votes.device), elected]
    weights = weights * agreement * (agreement > _AGREE)
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-9)
    return (weights.unsqueeze(-1) * votes).sum(dim=1)


def _pairwise_iou(boxes: Tensor) -> Tensor:
    """(F, N, N) IoU of each frame's boxes (F, N, 4); 1 of a box with itself, however thin."""
    itself = torch.eye(boxes.shape[1], device=boxes.device)
    first, second = boxes.unsqueeze(2), boxes.unsqueeze(1)
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    inside = (high - low).clamp_min(0).prod(dim=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(dim=-1)
    union = areas.unsqueeze(2) + areas.unsqueeze(1) - inside
    return torch.maximum(inside / union.clamp_min(1e-9), itself)


def _relative_coverage(boxes: Tensor, grid: int) -> Tensor:
    """(R, N) how much of each token lies in its box (R, 4), relative to the best covered token."""
    coverage = box_coverage(boxes, grid)
    return coverage / coverage.amax(dim=1, keepdim=True).clamp_min(1e-6)


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
