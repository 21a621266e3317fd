"""Tiny models with random weights for tests: a transformer tower as in the paper, and a nano-like composition."""

from __future__ import annotations

from functools import lru_cache

import torch
from transformers import CLIPVisionConfig, LlamaConfig, MobileNetV2Config, PreTrainedTokenizerFast

from elysium.language import prompts
from elysium.model import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumImageProcessor, ElysiumProcessor
from elysium.model.presets import train_nano_tokenizer

WORDS = "the red blue green car dog circle square star on left right top bottom moving a big small person".split()


@lru_cache(maxsize=1)
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A nano-style tokenizer of about 600 pieces."""
    questions = [q for task in prompts.Task for q in prompts.paraphrases(task)]
    return train_nano_tokenizer([*questions, prompts.SYSTEM_SENTENCE, " ".join(WORDS)] * 20, vocab_size=600)


def tiny_config(gate: str = "mlp", vocab_size: int = 600, num_tokens: int = 5) -> ElysiumConfig:
    """A configuration of a few thousand parameters; ``gate`` "prompt" switches on all of nano's options."""
    text = LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    marks = {"image_token_id": vocab_size, "region_token_id": vocab_size + 1}
    if gate == "prompt":
        tower = MobileNetV2Config(tf_padding=False, depth_multiplier=0.35, image_size=64)
        selector = {
            "gate": gate,
            "num_tokens": num_tokens,
            "hidden_size": 16,
            "noise": 0.0,
            "position_embedding": True,
            "annotate": True,
        }
        return ElysiumConfig(tower, text, 64, (4, 11), False, 4, True, selector, region_tokens=1, **marks)
    tower = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    return ElysiumConfig(tower, text, 56, selector={"gate": gate, "num_tokens": num_tokens, "hidden_size": 16}, **marks)


def tiny_model_and_processor(
    gate: str = "mlp", seed: int = 0
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """A tiny model in eval mode, float32, and its processor."""
    tokenizer = tiny_tokenizer()
    config = tiny_config(gate, len(tokenizer) - 2)
    torch.manual_seed(seed)
    model = ElysiumForConditionalGeneration(config).eval()
    processor = ElysiumProcessor(
        ElysiumImageProcessor(config.image_size), tokenizer, num_image_tokens=config.selector_config.num_tokens,
        num_region_tokens=config.region_tokens, bos_per_piece=False,
    )  # fmt: skip
    return model, processor
