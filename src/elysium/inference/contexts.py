"""What a batch has read so far, as keys and values, and how more of it is read.

Two ways with one face. `Context` calls any model as transformers does, with its `DynamicCache`. `LlamaContext` walks
through the layers of a LLaMA (and of those built like it) itself, and leaves out what decoding does not need:

- keys and values are written into room that is there, where a growing cache is copied as a whole in every forward;
- in the last layer only the places whose logits are asked for go on to attention and feed-forward: of the others the
  keys and values are all that anybody will look at. Of a prompt that is one place of hundreds;
- logits are made of the ids that are asked for, a hundred of a vocabulary's thousands;
- masks, positions and rotations are made once a forward, and nothing looks for outputs to collect on the way: half of
  the time of a small forward.

The modules that hold weights are called as they are, so weights in 8 bits and adapters work. The numbers are the same
but for rounding.

Knows tensors and layers. Does not know: requests, grammars, drafts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM

_ALIKE = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_ROOM = 128  # slots that room grows by at least: an answer about a clip of 8 frames, in LLaMA's tokens


class Reading(Protocol):
    """A batch that reads."""

    def read(self, ids: Tensor, mask: Tensor, positions: Tensor, keep: int, features: dict[str, Any]) -> Tensor:
        """Feed ids (B, Q) at positions (B, Q); ``mask`` (B, S + Q) says which slots are real, these included. Returns
        logits (B, keep, V) of the last places. ``features`` are what the model takes besides ids, in the first read."""

    def rearrange(self, rows: Tensor) -> None:
        """Go on with these rows (int64): fewer, or one as several."""

    def crop(self, count: int) -> bool:
        """Take the last ``count`` slots away, if that can be done."""


def reading(model: Any, only: Tensor | None = None) -> Reading:
    """What suits a model. ``only`` (A,): ids whose logits are wanted, in place of all V."""
    return LlamaContext(model, only) if _is_like_llama(model) else Context(model, only)


class Context:
    """Any model, called as transformers does."""

    def __init__(self, model: Any, only: Tensor | None = None) -> None:
        self.model, self.only = model, only
        self.cache = DynamicCache()

    def read(self, ids: Tensor, mask: Tensor, positions: Tensor, keep: int, features: dict[str, Any]) -> Tensor:
        output = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True,
            logits_to_keep=keep, **features,
        )  # fmt: skip
        self.cache = output.past_key_values
        logits: Tensor = output.logits if self.only is None else output.logits[..., self.only]
        return logits

    def rearrange(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)

    def crop(self, count: int) -> bool:
        if any(getattr(layer, "is_sliding", False) for layer in self.cache.layers):
            return False
        self.cache.crop(-count)
        return True


class LlamaContext:
    """A LLaMA, layer by layer."""

    def __init__(self, model: Any, only: Tensor | None = None) -> None:
        self.model, self.language_model = model, model.language_model
        self.head = _head(self.language_model.lm_head, only)
        self.length = 0
        self.held: list[tuple[Tensor, Tensor]] = []  # of each layer keys and values (B, heads, room, size)

    def read(self, ids: Tensor, mask: Tensor, positions: Tensor, keep: int, features: dict[str, Any]) -> Tensor:
        hidden, _ = self.model.embed(ids, self.length > 0, **features)
        inner = self.language_model.model
        cos, sin = (part.unsqueeze(1) for part in inner.rotary_emb(hidden, position_ids=positions))
        self._make_room(hidden, mask.shape[1])
        count, last = ids.shape[1], len(inner.layers) - 1
        # Of a whole prompt without padding, attention knows by itself what each place sees.
        seen = None if not self.length and bool(mask.all()) else _visible(mask, count)
        # Before the layers: whether a mask is full is a question that waits for the device.
        seen_last = seen if keep == count and self.length else _visible(mask, keep)
        for number, layer in enumerate(inner.layers):
            if number == last:
                count, seen = keep, seen_last
            hidden = self._through(number, layer, hidden, cos, sin, seen, count)
        self.length = mask.shape[1]
        return self.head(inner.norm(hidden))

    def _through(
        self, number: int, layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor, seen: Tensor | None, keep: int
    ) -> Tensor:
        """One layer: (B, Q, W) -> (B, keep, W), the last places. ``seen`` (B, 1, keep, S + Q) are the slots that each
        of them sees; None: all up to itself."""
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)
        heads = (*hidden.shape[:2], -1, attention.head_dim)
        held_keys, held_values = self.held[number]
        end = self.length + hidden.shape[1]
        held_keys[:, :, self.length : end] = _rotated(attention.k_proj(normed).view(heads).transpose(1, 2), cos, sin)
        held_values[:, :, self.length : end] = attention.v_proj(normed).view(heads).transpose(1, 2)
        hidden, normed, cos, sin = hidden[:, -keep:], normed[:, -keep:], cos[:, :, -keep:], sin[:, :, -keep:]
        queries = attention.q_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        keys, values, groups = held_keys[:, :, :end], held_values[:, :, :end], attention.num_key_value_groups
        if groups > 1 and seen is not None and not _groups_under_masks(keys.device):
            keys, values, groups = _repeated(keys, groups), _repeated(values, groups), 1
        mixed = F.scaled_dot_product_attention(
            _rotated(queries, cos, sin), keys, values, attn_mask=seen, is_causal=seen is None and keep > 1,
            scale=attention.scaling, enable_gqa=groups > 1,
        )  # fmt: skip
        hidden = hidden + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        grown: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return grown

    def _make_room(self, hidden: Tensor, length: int) -> None:
        """Room for ``length`` slots in each layer; more than that, so that it is rarely made anew."""
        room = self.held[0][0].shape[2] if self.held else 0
        if length <= room:
            return
        config, room = self.language_model.config, max(length, room * 3 // 2) + _ROOM
        shape = (len(hidden), config.num_key_value_heads, room, self.language_model.model.layers[0].self_attn.head_dim)
        for number in range(config.num_hidden_layers):
            grown = hidden.new_empty(shape), hidden.new_empty(shape)
            if number < len(self.held):
                for new, old in zip(grown, self.held[number], strict=True):
                    new[:, :, : self.length] = old[:, :, : self.length]
                self.held[number] = grown
            else:
                self.held.append(grown)

    def rearrange(self, rows: Tensor) -> None:
        for number, (keys, values) in enumerate(self.held):  # one after the other: each copy takes memory
            self.held[number] = keys[rows], values[rows]

    def crop(self, count: int) -> bool:
        self.length -= count
        return True


def _visible(mask: Tensor, count: int) -> Tensor | None:
    """(B, 1, count, S) which slots each of the last ``count`` places sees: real ones (B, S), up to itself. None for a
    single place that sees all of them."""
    if count == 1:
        return None if bool(mask.all()) else mask.bool()[:, None, None]
    slots = torch.arange(mask.shape[1], device=mask.device)
    return (slots <= slots[-count:, None]) & mask.bool()[:, None, None]


def _groups_under_masks(device: torch.device) -> bool:
    """Whether attention takes a mask and heads that share keys at once. A GPU falls back to writing down the weights of
    all pairs then (transformers' `use_gqa_in_sdpa` keeps from it likewise)."""
    return device.type == "cpu"


def _repeated(states: Tensor, groups: int) -> Tensor:
    """(B, heads, S, size) -> (B, heads * groups, S, size), each for the queries that share it."""
    return states.repeat_interleave(groups, dim=1)


def _head(module: Any, only: Tensor | None) -> Callable[[Tensor], Tensor]:
    """What makes logits (..., V), or those of ``only`` (A,) ids, of states (..., W)."""
    if only is None:
        return module
    if type(module) is not nn.Linear or not module.weight.is_floating_point():
        return lambda states: module(states)[..., only]
    weight, bias = module.weight[only], None if module.bias is None else module.bias[only]
    return lambda states: F.linear(states, weight, bias)


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, heads, Q, size) turned by their positions (Su et al. 2021), halves paired as LLaMA pairs them."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin


def _is_like_llama(model: Any) -> bool:
    """Whether its language model is built of LLaMA's layers, and nobody listens or steps in on the way: hooks, and
    forwards that were replaced, as accelerate does where layers are spread over devices or lie on disk."""
    inner: Any = getattr(model, "language_model", None)
    if type(inner) not in _ALIKE or not hasattr(model, "embed"):
        return False
    config = inner.config
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if slides or config._attn_implementation != "sdpa":
        return False
    wrapped = any(type(layer).__name__ not in inner._no_split_modules for layer in inner.model.layers)
    return not wrapped and not any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in inner.modules()
    )
