"""The model that a run starts from, which of its parts learn, and low-rank adapters.

Knows: presets, folders, compositions, parameters by name. Does not know: data, steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from elysium.config import LoraSection, TrainConfig
from elysium.errors import InputError
from elysium.inference.loading import load_pretrained
from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor
from elysium.model.compose import compose
from elysium.model.presets import build_nano, nano_processor, train_nano_tokenizer
from elysium.model.quantization import quantization
from elysium.training.vocabulary import Vocabulary, template_phrases

Start = tuple[ElysiumForConditionalGeneration, ElysiumProcessor]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def given_start(config: TrainConfig, quantized: bool = True) -> Start | None:
    """Model and processor to start from, in training precision; None if nano's tokenizer has to be made first.

    What a preset starts from is kept in ``output_dir/start``, so that a resumed run has the same tokenizer. Without
    ``quantized`` nothing is held in 4 bits, whatever the configuration says. Raises ModelError.
    """
    section, kept = config.model, config.output_dir / "start"
    dtype = DTYPES[section.dtype]
    four_bit = quantization(4) if quantized and section.lora is not None and section.lora.four_bit else None
    if section.compose is not None:
        torch.manual_seed(config.seed)
        parts = section.compose.model_dump(exclude_none=True)
        return compose(parts.pop("vision"), parts.pop("language"), dtype=dtype, quantization_config=four_bit, **parts)
    if section.path is None and not kept.exists():
        return None
    return load_pretrained(str(kept if kept.exists() else section.path), dtype, four_bit)


def fresh_nano(config: TrainConfig, words: Vocabulary) -> Start:
    """nano with a tokenizer trained on the run's words, kept in ``output_dir/start``."""
    tokenizer = train_nano_tokenizer(words.tokenizer_texts(), phrases=template_phrases())
    torch.manual_seed(config.seed)
    model = build_nano(tokenizer, config.model.tower_weights)
    processor = nano_processor(tokenizer, model.config)
    model.config.tracking["known_words"] = words.known_words()
    model.config.tracking["known_nouns"] = words.known_nouns()
    model.save_pretrained(config.output_dir / "start")
    processor.save_pretrained(config.output_dir / "start")
    return model, processor


def bare_nano(tower_weights: Path | None) -> Start:
    """nano before its tokenizer is made, good for its tower alone."""
    tokenizer = train_nano_tokenizer(["frame"], vocab_size=400)
    model = build_nano(tokenizer, tower_weights).eval()
    return model, nano_processor(tokenizer, model.config)


def check_fits(config: TrainConfig, model: ElysiumForConditionalGeneration) -> None:
    """Raises InputError where the configuration asks for what the model cannot do."""
    most = max(config.model.tokens_per_frame or (1,))
    if most > model.vision.num_tokens:
        raise InputError(
            f"model.tokens_per_frame has {most}, but a frame has {model.vision.num_tokens} visual tokens", "Lower it"
        )
    if config.data.packing and "prompt" in model.selector.looks_at:
        raise InputError(
            f"data.packing: the selector's gate ({model.config.selector_config.gate}) looks at the question, so that "
            "questions cannot share kept tokens",
            "Leave packing out, or train with another gate (mlp, legacy, fixed, uniform, average)",
        )
    attention = model.language_model.config._attn_implementation
    if config.data.packing and attention != "sdpa":
        raise InputError(f"data.packing needs attention by sdpa, not {attention}", "Leave packing out")
    names = [name for name, _ in model.named_parameters()]
    for start in config.model.learning_rates:
        _check_beginning("model.learning_rates", start, names)
    if config.model.tower_learns and config.muon_lr:
        raise InputError("muon_lr is meant for a frozen tower", "Leave muon_lr out, or vision out of model.learns")


def in_full_precision(model: nn.Module) -> None:
    """What learns in float32: small updates of bfloat16 weights are rounded away. (DeepSpeed keeps such copies
    itself.)"""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def freeze(model: ElysiumForConditionalGeneration, learns: tuple[str, ...] | None, adapted: bool = False) -> None:
    """Freeze all parameters but those that begin as ``learns`` says; by default all but the tower's learn.

    ``adapted``: the language model is frozen too. Raises InputError for a beginning that no parameter has.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in learns or ():
        _check_beginning("model.learns", start, names)
    for name, parameter in model.named_parameters():
        wanted = not name.startswith("vision.") if learns is None else name.startswith(learns)
        if adapted and name.startswith("language_model."):
            wanted = False
        if parameter.is_floating_point():
            parameter.requires_grad_(wanted)


def _check_beginning(key: str, start: str, names: list[str]) -> None:
    if not any(name.startswith(start) for name in names):
        parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
        raise InputError(f"{key}: no parameter begins with {start!r}", f"The parts are {parts}")


def adapt(config: TrainConfig, model: ElysiumForConditionalGeneration) -> Callable[[], nn.Module]:
    """Put the low-rank adapters that the configuration asks for on the language model, in place.

    Returns a function that gives the model as it is to be saved: what was learned added to the weights (those that were
    trained on, or, where they were held in 4 bits, the original ones), no adapters left.
    """
    if config.model.lora is None:
        return lambda: model
    merge = add_lora(model, config.model.lora)
    return (lambda: _merged_anew(config, model)) if config.model.lora.four_bit else merge


def _merged_anew(config: TrainConfig, trained: nn.Module) -> nn.Module:
    """The model that the run started from, unquantised, with what ``trained`` has learned."""
    start = given_start(config, quantized=False)
    assert start is not None and config.model.lora is not None
    model = start[0]
    merge = add_lora(model, config.model.lora)
    learned = {name: value.cpu() for name, value in trained.named_parameters() if value.requires_grad}
    model.load_state_dict(learned, strict=False)
    return merge()


def add_lora(model: ElysiumForConditionalGeneration, section: LoraSection) -> Callable[[], nn.Module]:
    """Put low-rank adapters on the language model, in place; the rest of it does not learn.

    Returns a function that adds what was learned to the weights, takes the adapters away and returns the model.
    Raises InputError if peft is missing or no layer has one of the names.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ModuleNotFoundError as error:
        raise InputError(
            f"model.lora needs the package {error.name!r}, which is not installed", "Install it: pip install peft"
        ) from error
    options = LoraConfig(
        r=section.r, lora_alpha=section.alpha, lora_dropout=section.dropout,
        target_modules=rf"language_model\..*\.({'|'.join(section.targets)})",
    )  # fmt: skip
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        tuner = LoraModel(model, options, "default")  # freezes everything else
    except ValueError as error:
        raise InputError(f"model.lora.targets: {error}", "Name linear layers of the language model") from error
    for parameter in learning:
        parameter.requires_grad_(True)
    return lambda: tuner.merge_and_unload()


@contextmanager
def counted_as_adapted(model: nn.Module, config: TrainConfig) -> Iterator[None]:
    """The Trainer refuses 4-bit weights unless the model says that it has adapters; inside, it says so. (Not for
    longer: it would save the adapters alone.)"""
    if config.model.lora is not None:
        model._hf_peft_config_loaded = True  # type: ignore[assignment]
    yield
    model._hf_peft_config_loaded = False  # type: ignore[assignment]
