"""The T-Selector: keeps the k visual tokens of a frame that matter, unscaled and in spatial order.

``G = KeepTopK(Softmax(MLP(F)), k, F)`` of the paper, section 3.2. At inference the kept tokens pass on as they
are. In training the choice is made differentiable: Gumbel noise on the logits makes the top k a sample without
replacement from the softmax (Kool et al. 2019), and a straight-through factor ``1 + k (p - stop(p))``, whose
value is one, lets the language-model loss reach the gate. A straight-through estimate is used, not a soft
selection, because kept tokens must look the same in training and at inference.

The gate ``average`` is the exception to all this, there to be compared with: the frame is cut into k cells whose tokens
are averaged, and the token in the middle of a cell stands for it in ``indices``.

Knows: tokens, gates, k. Does not know: pixels, text, the language model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from elysium.errors import ModelError
from elysium.model.configuration import SelectorConfig
from elysium.model.gates import (
    AverageGate,
    FixedGate,
    GateResult,
    LegacyGate,
    MlpGate,
    PromptContext,
    Sight,
    UniformGate,
)
from elysium.model.positions import code_1d, code_2d, grid_centres
from elysium.model.prompt_gate import PromptGate

GATES: dict[str, type[nn.Module]] = {
    "mlp": MlpGate, "legacy": LegacyGate, "fixed": FixedGate, "uniform": UniformGate, "average": AverageGate,
    "prompt": PromptGate,
}  # fmt: skip
_CODE_CHANNELS = 64  # as in number embeddings (presets), so that reading a coordinate off a note is a linear map
_SCALARS = 3
_MOST_FRAMES = 32  # frame numbers are coded as a share of it


@dataclass
class Selection:
    """Kept tokens (F, k, C), their raster places (F, k) ascending, all logits (F, N) in float32, and optionally
    ``notes`` (F, k, A), what the selector knows about each kept token, for the annotation embedding, and the
    prompt gate's ``votes`` (F, N, 4) and their consensus ``box`` (F, 4)."""

    tokens: Tensor
    indices: Tensor
    logits: Tensor
    notes: Tensor | None = None
    votes: Tensor | None = None
    box: Tensor | None = None
    informed: Tensor | None = None

    @property
    def numbers(self) -> Tensor | None:
        """(F, k) in 0..1: the tokens of a frame take turns in carrying left, top, right, bottom of its voted box, so
        that reading one of them is copying one token, as it is from text; NaN where nothing was asked about."""
        if self.box is None or self.informed is None:
            return None
        numbers = self.box[:, _turns(self.indices)]
        return numbers.masked_fill(~self.informed.unsqueeze(-1), float("nan"))


def _turns(indices: Tensor) -> Tensor:
    """(k,) 0, 1, 2, 3, 0, 1, ...: which side of the box each kept token carries."""
    return torch.arange(indices.shape[1], device=indices.device) % 4


class TSelector(nn.Module):
    """Chooses tokens by a gate. ``num_channels`` C, ``num_tokens`` N, ``query_size`` D of the words' vector."""

    def __init__(self, config: SelectorConfig, num_channels: int, num_tokens: int, query_size: int) -> None:
        super().__init__()
        self.config = config
        self.grid = round(num_tokens**0.5)
        self.gate = GATES[config.gate](config, num_channels, num_tokens, query_size)

    @property
    def looks_at(self) -> frozenset[Sight]:
        """What the choice depends on beyond constants: caches of kept tokens must key on it."""
        sight: frozenset[Sight] = self.gate.looks_at  # type: ignore[assignment]
        return sight

    @property
    def note_size(self) -> int:
        """A, the width of the notes."""
        return 7 * _CODE_CHANNELS + 4 + _SCALARS

    def forward(self, tokens: Tensor, k: int | None = None, context: PromptContext | None = None) -> Selection:
        """Select ``k`` (default: the configuration's) of the N tokens of each frame.

        ``tokens`` (U, N, C) of the frames given, which ``context.frame_ids`` deals out to the requests' F frames.
        """
        k = self.config.num_tokens if k is None else k
        if not 1 <= k <= tokens.shape[1]:
            raise ModelError(
                f"Cannot keep {k} of {tokens.shape[1]} visual tokens", "Choose k between 1 and that number"
            )
        if self.config.position_embedding:
            tokens = tokens + code_2d(self.grid, tokens.shape[-1], tokens.device).to(tokens.dtype)
        result: GateResult = self.gate(tokens.to(self._gate_dtype()), context)
        result.logits = result.logits.float()
        if self.config.gate == "average":
            tokens = tokens if context is None else context.of_requests(tokens)
            kept, indices, places = pool_cells(tokens, k, self.grid)
        else:
            indices = self._top_k(result.logits, k)
            shared = None if context is None else context.frame_ids
            if shared is None:
                kept = tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
            else:  # without a copy of all tokens for each request, which keeps few of them
                kept = tokens[shared.unsqueeze(1), indices]
            places = grid_centres(self.grid, indices.device)[indices]
        notes = self._notes(result, indices, places, context) if self.config.annotate else None
        if self.training and torch.is_grad_enabled() and self.config.gate != "average":
            factor = self._straight_through(result.logits, indices)
            kept = kept * factor.to(kept.dtype)
            notes = None if notes is None else notes * factor
        return Selection(kept, indices, result.logits, notes, result.votes, result.box, result.informed)

    def _gate_dtype(self) -> torch.dtype:
        parameter = next(self.gate.parameters(), None)
        return torch.float32 if parameter is None else parameter.dtype

    def _top_k(self, logits: Tensor, k: int) -> Tensor:
        """(F, k) ascending places of the k largest logits; of equal ones the earlier place wins."""
        scores = logits.detach()
        if self.training and self.config.noise > 0:
            uniform = torch.rand_like(scores).clamp_(1e-9, 1 - 1e-7)
            scores = scores - self.config.noise * (-uniform.log()).log()
        order = scores.sort(dim=-1, descending=True, stable=True).indices
        return order[:, :k].sort(dim=-1).values

    def _straight_through(self, logits: Tensor, indices: Tensor) -> Tensor:
        """(F, k, 1) ones that pass gradients to the gate.

        They must scale all that the language model gets of a token, its note included: were its features to grow alone,
        they would drown the note of its place, and the gate would learn to avoid the very tokens that answers are read
        off (measured: docs/selector.md).
        """
        probability = logits.softmax(dim=-1).gather(1, indices) * indices.shape[1]
        return (1 + probability - probability.detach()).unsqueeze(-1)

    def _notes(self, result: GateResult, indices: Tensor, places: Tensor, context: PromptContext | None) -> Tensor:
        """(F, k, A): place (``places`` (F, k, 2)) and frame of each kept token; its match to the prompt, its vote and
        which side of the frame's voted box it carries (see ``numbers``) where there are any."""
        numbers = context.frame_numbers if context is not None else indices.new_ones(len(indices))
        frames = (numbers.float() / _MOST_FRAMES).unsqueeze(-1).expand(indices.shape)
        codes = [code_1d(v, _CODE_CHANNELS) for v in (places[..., 0], places[..., 1], frames)]
        if result.votes is None or result.box is None or result.probability is None or result.mark is None:
            blank = codes[0].new_zeros(*indices.shape, 4 * _CODE_CHANNELS + 4 + _SCALARS)
            return torch.cat([*codes, blank], dim=-1)
        votes = result.votes.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4))
        codes += [code_1d(votes[..., i], _CODE_CHANNELS) for i in range(4)]
        turns = torch.nn.functional.one_hot(_turns(indices), 4)
        codes.append(turns.to(codes[0].dtype).expand(*indices.shape, 4))
        scalars = [result.logits / 4, result.probability, result.mark]
        evidence = torch.cat([*codes[3:], torch.stack([s.gather(1, indices) for s in scalars], dim=-1)], dim=-1)
        if result.informed is not None:
            evidence = evidence * result.informed[:, None, None]
        return torch.cat([*codes[:3], evidence], dim=-1)


def pool_cells(tokens: Tensor, k: int, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (F, N, C) averaged over k cells of the raster: the means (F, k, C), the raster place of the token in the
    middle of each cell (F, k), ascending, and the middles (F, k, 2), x, y in 0..1."""
    member = torch.nn.functional.one_hot(cells(k, grid).to(tokens.device), k).T.float()
    shares = member / member.sum(dim=1, keepdim=True)
    middles = shares @ grid_centres(grid, tokens.device)
    column, row = (middles * grid - 0.25).long().unbind(dim=-1)  # of an even number of tokens the earlier one
    indices = (row * grid + column).expand(len(tokens), k)
    return shares.to(tokens.dtype) @ tokens, indices, middles.expand(len(tokens), k, 2)


def cells(k: int, grid: int) -> Tensor:
    """(N,) the cell 0..k-1 of each token of a ``grid`` x ``grid`` raster: about sqrt(k) bands of rows, each cut into as
    many or one more columns, so that cells are nearly square, none is empty and any k up to N will do."""
    bands = round(k**0.5)
    ends = torch.arange(bands + 1) * k // bands
    across = 2 * torch.arange(grid) + 1  # middles of rows or columns, in half tokens
    band = across * bands // (2 * grid)
    columns = (ends[1:] - ends[:-1])[band].unsqueeze(1)
    return (ends[:-1][band].unsqueeze(1) + across * columns // (2 * grid)).flatten()
