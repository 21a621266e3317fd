"""What tests of compositions need: folders of small vision towers and language models, as others save them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    LlamaForCausalLM,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2Model,
    PreTrainedTokenizerFast,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    VideoMAEConfig,
    VideoMAEModel,
)

from tokenizers_zoo import llama3_like

SMALL = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
PICTURE = {"image_size": 56, "patch_size": 14}
SELECTOR = {"num_tokens": 5, "hidden_size": 16}
MOBILE = {"tf_padding": False, "depth_multiplier": 0.35, "image_size": 64, "initializer_range": 0.3}


def build_tower(name: str):
    torch.manual_seed(1)
    config = {"text_config": {**SMALL, "vocab_size": 50}, "vision_config": {**SMALL, **PICTURE}}
    if name == "clip whole":
        return CLIPModel(CLIPConfig(**config, projection_dim=16))
    if name == "siglip whole":
        return SiglipModel(SiglipModel.config_class(**config))
    return {
        "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**SMALL, **PICTURE)),
        "clip projected": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**SMALL, **PICTURE)),
        "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**SMALL, **PICTURE)),
        "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL, **PICTURE)),
        "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL, **PICTURE)),
        "film": lambda: VideoMAEModel(VideoMAEConfig(**SMALL, **PICTURE)),
        "mobilenet": lambda: MobileNetV2Model(MobileNetV2Config(**MOBILE)),
        "classifier": lambda: MobileNetV2ForImageClassification(MobileNetV2Config(**MOBILE)),
    }[name]()


def tower_folder(folder: Path, name: str = "clip whole"):
    """The folder of a saved tower, and the tower."""
    tower = build_tower(name).eval()
    for key, buffer in tower.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)  # new ones are all zeros and ones, so that nobody would miss them
    tower.save_pretrained(folder / "tower")
    return str(folder / "tower"), tower


@cache
def core_with_bos() -> str:
    core = Tokenizer.from_str(llama3_like().backend_tokenizer.to_str())
    core.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return core.to_str()


def small_tokenizer(bos: bool = True, **named: str) -> PreTrainedTokenizerFast:
    """Every number 0..100 one token; neither marks nor, unless ``named``, a pad token."""
    core = Tokenizer.from_str(core_with_bos()) if bos else llama3_like().backend_tokenizer
    core = Tokenizer.from_str(core.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=core, **{"bos_token": "<s>", "eos_token": "</s>", **named})


def language_folder(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, **config):
    """The folder of a saved LLaMA, and the LLaMA."""
    tokenizer = tokenizer or small_tokenizer()
    torch.manual_seed(2)
    sizes = {**SMALL, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": len(tokenizer), "eos_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, **config})).eval()
    model.save_pretrained(folder / "language")
    tokenizer.save_pretrained(folder / "language")
    return str(folder / "language"), model


def parts(folder: Path) -> tuple[str, str]:
    return tower_folder(folder)[0], language_folder(folder)[0]
