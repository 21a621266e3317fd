"""Weights in 8 or 4 bits, by bitsandbytes.

Knows: which parts are held so, and how. Does not know: models, how much memory it saves (``memory`` does).
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch

from elysium.errors import ModelError

Bits = Literal[8, 4]
WHOLE_PARTS = ("vision", "selector", "projector", "annotation", "lm_head")
"""Beginnings and ends of names of what stays as it is: small beside the language model's layers, and sensitive."""


def quantization(bits: Bits, compute_dtype: torch.dtype = torch.bfloat16) -> Any:
    """The language model's layers in 8 bits (LLM.int8(), Dettmers et al. 2022) or in 4-bit NormalFloat with double
    quantisation (QLoRA, Dettmers et al. 2023), for ``quantization_config`` of ``from_pretrained``.

    Raises ModelError without bitsandbytes.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModelError(
            f"Weights in {bits} bits need the package bitsandbytes, which is not installed",
            "Install elysium with its extra: pip install -c constraints.txt '.[quantized]'",
        ) from error
    # It says at every multiplication that inputs are cast to float16, which is how LLM.int8() works.
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_not_of_casts)
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(WHOLE_PARTS))
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype, llm_int8_skip_modules=list(WHOLE_PARTS),
    )  # fmt: skip


def _not_of_casts(record: logging.LogRecord) -> bool:
    return "inputs will be cast" not in record.getMessage()
