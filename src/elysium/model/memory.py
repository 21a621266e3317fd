"""How many bytes a model's weights and its key-value cache take, from its configuration alone.

Both are counted on the model itself, built without memory on PyTorch's meta device, so that they hold for any tower and
any language model. Knows: number types, what bitsandbytes keeps beside weights in 8 and 4 bits. Does not know: what is
needed for a moment only (activations: a few hundred MB for a 7B model's prompt), nor what a device keeps for itself.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from elysium.errors import ModelError
from elysium.model.configuration import ElysiumConfig
from elysium.model.modeling import ElysiumForConditionalGeneration
from elysium.model.quantization import WHOLE_PARTS, Bits

FRAMES = 8  # of a clip, as in the paper
TEXT_TOKENS = 288  # a question about 8 frames and its answer take less of LLaMA's tokens (tests/test_memory.py)
_FLOAT = 4
_BLOCK, _OUTER_BLOCK = 64, 256  # of bitsandbytes: numbers that share a scale, and scales that share one
_CODE, _OUTER_CODE = 16, 256  # entries of its tables of values


@dataclass(frozen=True)
class Memory:
    """Bytes of the ``weights``, and of the ``cache`` when it holds ``tokens`` tokens."""

    weights: int
    cache: int
    tokens: int

    @property
    def total(self) -> int:
        return self.weights + self.cache


def estimate_memory(
    config: ElysiumConfig,
    *,
    frames: int = FRAMES,
    tokens_per_frame: int | None = None,
    text_tokens: int = TEXT_TOKENS,
    requests: int = 1,
    dtype: torch.dtype = torch.bfloat16,
    bits: Bits | None = None,
) -> Memory:
    """What a model needs to answer ``requests`` questions at once, each about ``frames`` frames.

    Args:
        config: the model's.
        tokens_per_frame: k; by default the configuration's.
        text_tokens: tokens of a question and its answer.
        dtype: number type of weights and cache.
        bits: of the language model's layers, as :func:`elysium.model.quantization.quantization` holds them; the rest
            is in ``dtype``. None: they are in ``dtype`` too.

    Raises ModelError for another number of tokens than the tower has.
    """
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config).eval()
    k = config.selector_config.num_tokens if tokens_per_frame is None else tokens_per_frame
    if not 1 <= k <= model.vision.num_tokens:
        raise ModelError(
            f"Cannot keep {k} of {model.vision.num_tokens} visual tokens", "Choose k between 1 and that number"
        )
    tokens = frames * k + text_tokens
    weights = _weight_bytes(model, dtype, bits)
    return Memory(weights, _cache_bytes(model, requests, tokens, dtype), tokens)


def _weight_bytes(model: ElysiumForConditionalGeneration, dtype: torch.dtype, bits: Bits | None) -> int:
    quantised = {f"{name}.weight" for name in _quantised_layers(model)} if bits else set()
    kept = set(model.state_dict())  # the other buffers are made anew and never converted
    total = 0
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if name in quantised:
            total += _eight_bits(tensor) if bits == 8 else _four_bits(tensor)
        elif tensor.is_floating_point() and name in kept and not name.startswith("selector."):
            total += tensor.numel() * dtype.itemsize
        else:
            total += tensor.nbytes
    return total


def _quantised_layers(model: ElysiumForConditionalGeneration) -> set[str]:
    """Names of the layers that transformers hands to bitsandbytes, by its own rule."""
    skipped = HfQuantizer.get_modules_to_not_convert(model, list(WHOLE_PARTS), list(model._keep_in_fp32_modules))
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return {name for name in linear if should_convert_module(name, skipped)}


def _eight_bits(weight: torch.Tensor) -> int:
    """A byte a number, and a scale for each row."""
    return weight.numel() + _FLOAT * weight.shape[0]


def _four_bits(weight: torch.Tensor) -> int:
    """Half a byte a number; a scale of one byte for each block; for those in turn an offset, scales of blocks and a
    table; and the table of the 16 values."""
    blocks = math.ceil(weight.numel() / _BLOCK)
    outer = 1 + math.ceil(blocks / _OUTER_BLOCK) + _OUTER_CODE
    return math.ceil(weight.numel() / 2) + blocks + _FLOAT * (outer + _CODE)


def _cache_bytes(model: ElysiumForConditionalGeneration, requests: int, tokens: int, dtype: torch.dtype) -> int:
    """Of all that the language model keeps of a sequence; from a run on the meta device."""
    language_model = model.language_model.to(dtype)
    with torch.device("meta"), torch.no_grad():
        embeddings = torch.zeros(requests, tokens, model.config.text_config.hidden_size, dtype=dtype)
        cache = language_model(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1).past_key_values
    kept = (value for layer in cache.layers for value in vars(layer).values())
    return sum(value.nbytes for value in kept if isinstance(value, torch.Tensor))
