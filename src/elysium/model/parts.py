"""What a pretrained vision tower or language model says of itself: configuration, tokenizer, normalisation.

Knows: where a folder or a hub id keeps these. No code of a checkpoint is ever run.
Does not know: weights, and what becomes of the parts (``compose``, ``legacy``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer, models, normalizers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    LlamaTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file

from elysium.errors import ModelError
from elysium.model.image_processing import CLIP_MEAN, CLIP_STD
from elysium.model.processing import add_marks
from elysium.pretrained import first_line, is_hub_id, load_error, silence

REMEDY = (
    "Give a folder with config.json, weights and, for a language model, its tokenizer; or, with network, a hub id "
    "that has them."
)
GGUF = ".gguf"
_LEAST_USED = 0.9  # share of an embedding's rows that have a token; vocabularies are padded by a few per cent at most


def locate_part(name: str) -> str:
    """A folder or GGUF file as a path, what looks like a hub id as it is. Raises ModelError for neither."""
    folder = Path(name).expanduser()
    if folder.suffix == GGUF and folder.is_file():
        return str(folder)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json", REMEDY)
        return str(folder)
    if is_hub_id(name):
        return name
    raise ModelError(f"There is no model {name!r}", REMEDY)


def from_checkpoint(factory: Any, name: str, **kwargs: Any) -> Any:
    """``factory.from_pretrained``, silent, without code from the checkpoint. Raises ModelError."""
    place, file = Path(name), {}
    if place.suffix == GGUF:
        place, file = place.parent, {"gguf_file": place.name}
    try:
        with silence():
            return factory.from_pretrained(str(place) if file else name, trust_remote_code=False, **file, **kwargs)
    except Exception as error:  # transformers raises anything for a damaged file, down to AttributeError
        raise load_error(name, error, REMEDY) from error


def read_tower_config(name: str) -> tuple[PreTrainedConfig, bool]:
    """Configuration of the tower in a checkpoint, and whether that is of more: of a whole CLIP, of a classifier.

    Raises ModelError where it holds nothing that reads pictures.
    """
    whole = from_checkpoint(AutoConfig, name)
    config = getattr(whole, "vision_config", whole)
    model_class: Any = MODEL_MAPPING.get(type(config), None)
    if getattr(model_class, "main_input_name", None) != "pixel_values":
        raise ModelError(f"{name} is no vision model but {whole.model_type!r}", "Give a CLIP, SigLIP, DINOv2 or alike.")
    saved = whole.architectures or [model_class.__name__]
    return config, whole is not config or model_class.__name__ not in saved


def read_text_config(name: str) -> PreTrainedConfig:
    """Configuration of a causal language model. Raises ModelError where it is another kind of model."""
    config = from_checkpoint(AutoConfig, name)
    sizes = hasattr(config, "hidden_size") and hasattr(config, "vocab_size")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not sizes:
        raise ModelError(
            f"{name} is no causal language model but {config.model_type!r}", "Give a LLaMA, Qwen, SmolLM or alike."
        )
    return config


def image_size_of(name: str, config: PreTrainedConfig) -> int:
    """Side in pixels of the frames that a tower reads. Raises ModelError where it does not say, or is not square."""
    size = getattr(config, "image_size", None)
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int):
        raise ModelError(f"{name} has image_size {size}, not one number", "Set image_size in its config.json.")
    return side


def read_tokenizer(name: str, rows: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a language model, whose embedding has so many rows, with the marks and a pad token.

    Raises ModelError without an end token, and for another model's tokenizer.
    """
    tokenizer = from_checkpoint(AutoTokenizer, name)
    _check_vocabulary(name, tokenizer, rows)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"The tokenizer of {name} has no end token", "Set eos_token in its tokenizer_config.json.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token if tokenizer.unk_token_id is None else tokenizer.unk_token
    add_marks(tokenizer)
    return tokenizer


def _check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Raises ModelError for tokens without a row (but for padding, which is never looked up), and for far too few."""
    ids = set(tokenizer.get_vocab().values()) - {tokenizer.pad_token_id}
    if not ids or max(ids) >= rows or len(ids) < _LEAST_USED * rows:
        raise ModelError(
            f"The tokenizer of {name} has {len(ids)} tokens, up to number {max(ids, default=0)}, but the embedding "
            f"{rows} rows",
            "Put the tokenizer beside it that this language model was trained with.",
        )


def as_sentencepiece(tokenizer: PreTrainedTokenizerBase, name: str) -> PreTrainedTokenizerBase:
    """LLaMA's tokenizer of the checkpoint ``name`` with the ids that its SentencePiece model gives; others as they are.

    The released model was trained with those. transformers 5 differs where a text begins with a space (" Colour?" is
    tokenised as "Colour?") or has several, because it merges by the order of pieces instead of their scores.
    """
    if not isinstance(tokenizer, LlamaTokenizer) or tokenizer.add_prefix_space is False:
        return tokenizer
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.pre_tokenizer = None
    path = cached_file(name, "tokenizer.model", _raise_exceptions_for_missing_entries=False)
    if path is not None:
        core.model = _bpe_of(SentencePieceProcessor(model_file=path))
    marks = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=tokenizer.model_max_length, clean_up_tokenization_spaces=False, **marks
    )


def _bpe_of(pieces: SentencePieceProcessor) -> models.BPE:
    """The same merges: pieces by falling score, each from any two pieces that make it up."""
    ids = range(pieces.vocab_size())
    vocabulary = {pieces.id_to_piece(i): i for i in ids}
    made = [i for i in ids if not (pieces.is_control(i) or pieces.is_byte(i) or pieces.is_unknown(i))]
    merges: list[tuple[str, str]] = []
    for piece in map(pieces.id_to_piece, sorted(made, key=pieces.get_score, reverse=True)):
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        inside = [(left, right) for left, right in halves if left in vocabulary and right in vocabulary]
        merges += sorted(inside, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    unknown = pieces.id_to_piece(pieces.unk_id())
    return models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text begins with the beginning token unless that is told not to."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a").input_ids[:1]) == [bos]


def read_normalisation(name: str) -> tuple[list[float], list[float]]:
    """Channel means and deviations that a checkpoint's preprocessor names, else CLIP's."""
    values = _preprocessor(name)
    if values.get("do_normalize") is False:
        return [0.0] * 3, [1.0] * 3
    mean, std = list(values.get("image_mean") or CLIP_MEAN), list(values.get("image_std") or CLIP_STD)
    if len(mean) != 3 or len(std) != 3:
        raise ModelError(f"The preprocessor of {name} has image_mean {mean}, image_std {std}", "Give a tower for RGB.")
    return mean, std


def _preprocessor(name: str) -> dict[str, Any]:
    """What preprocessor_config.json says, or the image part of processor_config.json, which newer checkpoints have."""
    for file, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        try:
            path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
            values = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
            values = dict(values.get(part, {}) if part else values)
        except Exception as error:  # no network, no JSON, no dictionary
            raise ModelError(f"{file} of {name} cannot be read: {first_line(error)}", "Mend or remove it.") from error
        if values:
            return values
    return {}
