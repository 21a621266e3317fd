"""An Elysium out of pretrained parts: any vision tower and any causal language model that transformers knows.

Knows: where a checkpoint keeps configuration, tokenizer, normalisation and weights; which of its weights may be left
over; how loaded parts move into a model that was built without memory. Selector and projector come out untrained.
Does not know: how they are trained, what the tokens mean, devices, where the result is saved.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from elysium.errors import ModelError
from elysium.model.configuration import ElysiumConfig, ProjectorType, SelectorConfig
from elysium.model.image_processing import CLIP_MEAN, CLIP_STD, ElysiumImageProcessor
from elysium.model.modeling import ElysiumForConditionalGeneration
from elysium.model.presets import number_token_ids
from elysium.model.processing import ElysiumProcessor, add_marks
from elysium.pretrained import first_line, is_hub_id, key_problems, load_error, silence

_REMEDY = (
    "Give a folder with config.json, weights and, for a language model, its tokenizer; or, with network, a hub id "
    "that has them."
)
_GGUF = ".gguf"
_LEAST_USED = 0.9  # share of an embedding's rows that have a token; vocabularies are padded by a few per cent at most
_LISTED = 4  # weights named in a message; a checkpoint of another model has hundreds that do not fit


def compose(
    vision: str,
    language: str,
    *,
    selector: Mapping[str, Any] | None = None,
    projector_type: ProjectorType | None = None,
    vision_feature_layers: Sequence[int] | None = None,
    vision_grid: int | None = None,
    region_tokens: int | None = None,
    dtype: torch.dtype = torch.float32,
    quantization_config: Any = None,
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """A model (eval mode) with the weights of a tower and a language model, fresh in between, and its processor.

    Under ``torch.manual_seed`` selector and projector are the same whatever is loaded beside them. The selector is
    float32 in every ``dtype``, as after ``from_pretrained``.

    Args:
        vision: folder or hub id of a vision model of transformers, or of a whole CLIP or SigLIP (its vision half).
        language: folder or hub id of a causal language model with its tokenizer; or a GGUF file (needs the package
            gguf; its weights are expanded to ``dtype``).
        selector: fields of :class:`SelectorConfig`.
        projector_type, vision_feature_layers, vision_grid, region_tokens: as in :class:`ElysiumConfig`, whose defaults
            None stands for.
        dtype: number type of tower, projector and language model.
        quantization_config: for the language model's ``from_pretrained`` alone (``BitsAndBytesConfig``). Where that
            puts the language model on an accelerator, the rest is still on the CPU.

    Raises:
        ModelError: no such folder or hub id, one that holds no vision or language model, a tokenizer of another
            language model, weights that are missing, left over or of another shape, or settings that do not fit the
            tower. All but the weights is checked first.

    Weights are read from safetensors, else from pickles, of tensors alone: nothing in them is run.
    """
    random_state = torch.get_rng_state()
    vision, language = _locate(vision), _locate(language)
    tower_config, is_part = _tower_config(vision)
    text_config = _text_config(language)
    tokenizer = _tokenizer(language, text_config.vocab_size)
    image_size = _image_size(vision, tower_config)
    asked: dict[str, Any] = {
        "projector_type": projector_type, "vision_feature_layers": vision_feature_layers,
        "vision_grid": vision_grid, "region_tokens": region_tokens,
    }  # fmt: skip
    config = ElysiumConfig(
        tower_config, text_config, image_size, selector=_selector_fields(selector),
        number_token_ids=number_token_ids(tokenizer), dtype=dtype,
        **{name: value for name, value in asked.items() if value is not None},
    )  # fmt: skip
    config.vision_drop_cls = _has_class_token(vision, tower_config, image_size, config.vision_feature_layers)
    processor = _processor(ElysiumImageProcessor(image_size, *_normalisation(vision)), tokenizer, config)
    model = _hollow_model(config)
    tower = _load_tower(vision, tower_config, is_part, dtype)
    _move_in(model, tower, _load_language_model(language, dtype, quantization_config))
    torch.set_rng_state(random_state)
    _renew_adapters(model, dtype)
    _check_complete(model)
    _set_special_tokens(model, tokenizer)
    return model.eval(), processor


def _locate(name: str) -> str:
    """A folder or GGUF file as a path, what looks like a hub id as it is. Raises ModelError for neither."""
    folder = Path(name).expanduser()
    if folder.suffix == _GGUF and folder.is_file():
        return str(folder)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json", _REMEDY)
        return str(folder)
    if is_hub_id(name):
        return name
    raise ModelError(f"There is no model {name!r}", _REMEDY)


def _pretrained(factory: Any, name: str, **kwargs: Any) -> Any:
    """``factory.from_pretrained``, silent, without code from the checkpoint. Raises ModelError."""
    place, file = Path(name), {}
    if place.suffix == _GGUF:
        place, file = place.parent, {"gguf_file": place.name}
    try:
        with silence():
            return factory.from_pretrained(str(place) if file else name, trust_remote_code=False, **file, **kwargs)
    except Exception as error:  # transformers raises anything for a damaged file, down to AttributeError
        raise load_error(name, error, _REMEDY) from error


def _tower_config(name: str) -> tuple[PreTrainedConfig, bool]:
    """Configuration of the tower in a checkpoint, and whether that is of more: of a whole CLIP, of a classifier.

    Raises ModelError where it holds nothing that reads pictures.
    """
    whole = _pretrained(AutoConfig, name)
    config = getattr(whole, "vision_config", whole)
    model_class: Any = MODEL_MAPPING.get(type(config), None)
    if getattr(model_class, "main_input_name", None) != "pixel_values":
        raise ModelError(f"{name} is no vision model but {whole.model_type!r}", "Give a CLIP, SigLIP, DINOv2 or alike.")
    saved = whole.architectures or [model_class.__name__]
    return config, whole is not config or model_class.__name__ not in saved


def _text_config(name: str) -> PreTrainedConfig:
    """Configuration of a causal language model. Raises ModelError where it is another kind of model."""
    config = _pretrained(AutoConfig, name)
    sizes = hasattr(config, "hidden_size") and hasattr(config, "vocab_size")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not sizes:
        raise ModelError(
            f"{name} is no causal language model but {config.model_type!r}", "Give a LLaMA, Qwen, SmolLM or alike."
        )
    return config


def _image_size(name: str, config: PreTrainedConfig) -> int:
    """Side in pixels of the frames that a tower reads. Raises ModelError where it does not say, or is not square."""
    size = getattr(config, "image_size", None)
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int):
        raise ModelError(f"{name} has image_size {size}, not one number", "Set image_size in its config.json.")
    return side


def _has_class_token(name: str, config: PreTrainedConfig, image_size: int, layers: Sequence[int]) -> bool:
    """Whether the tokens of the chosen layers are a square number and one; from a run on the meta device.

    Raises ModelError for layers that the tower does not have, and for other numbers of tokens.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            tower = AutoModel.from_config(config).eval()
            hidden = tower(torch.zeros(1, 3, image_size, image_size), output_hidden_states=True).hidden_states or ()
    except Exception as error:  # whatever a model that is no tower says to RGB frames
        reason = f"{name} does not read RGB frames of {image_size} pixels: {first_line(error)}"
        raise ModelError(reason, "Give another tower.") from error
    if any(not -len(hidden) <= i < len(hidden) for i in layers):
        raise ModelError(
            f"{name} has {len(hidden)} feature layers, none at {list(layers)}", "Change vision_feature_layers."
        )
    counts = [hidden[i].shape[1] for i in layers if hidden[i].dim() == 3]
    if all(_is_square(count) for count in counts):
        return False
    if all(_is_square(count - 1) for count in counts):
        return True
    raise ModelError(f"{name} makes {counts} tokens of a frame, no square grid", "Give another tower.")


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _selector_fields(selector: Mapping[str, Any] | None) -> dict[str, Any]:
    """The selector's settings. Raises ModelError for names that it does not have."""
    names = [field.name for field in dataclasses.fields(SelectorConfig)]
    unknown = sorted(set(selector or ()) - set(names))
    if unknown:
        raise ModelError(f"The selector has no setting {', '.join(unknown)}", f"It has {', '.join(names)}.")
    return dict(selector or {})


def _tokenizer(name: str, rows: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a language model, whose embedding has so many rows, with the marks and a pad token.

    Raises ModelError without an end token, and for another model's tokenizer.
    """
    tokenizer = _pretrained(AutoTokenizer, name)
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


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a").input_ids[:1]) == [bos]


def _normalisation(name: str) -> tuple[list[float], list[float]]:
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


def _processor(
    image_processor: ElysiumImageProcessor, tokenizer: PreTrainedTokenizerBase, config: ElysiumConfig
) -> ElysiumProcessor:
    """The processor that goes with ``config``, which is told the ids of the marks."""
    processor = ElysiumProcessor(
        image_processor, tokenizer, num_image_tokens=config.selector_config.num_tokens,
        num_region_tokens=config.region_tokens, bos_per_piece=_adds_bos(tokenizer),
    )  # fmt: skip
    config.image_token_id, config.region_token_id = processor.image_token_id, processor.region_token_id
    return processor


def _hollow_model(config: ElysiumConfig) -> ElysiumForConditionalGeneration:
    """The model on the meta device: structure without memory. Raises ModelError where it keeps more than it sees."""
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
    kept, seen = config.selector_config.num_tokens, model.vision.num_tokens
    if kept > seen:
        raise ModelError(
            f"The selector keeps {kept} of {seen} visual tokens", f"Set its num_tokens to 1..{seen} (--select)."
        )
    return model


def _load_tower(name: str, config: PreTrainedConfig, is_part: bool, dtype: torch.dtype) -> nn.Module:
    """The tower with its weights. Where it ``is_part`` of a model, that one's (text half, head) may be left over."""
    tower, report = _load(AutoModel, name, dtype, config=config)
    if is_part:
        own = {"vision_model", tower.base_model_prefix, *(child for child, _ in tower.named_children())}
        report["unexpected_keys"] = [key for key in report["unexpected_keys"] if key.split(".")[0] in own]
    _check_report(name, report)
    return tower


def _load_language_model(name: str, dtype: torch.dtype, quantization_config: Any) -> nn.Module:
    """The language model with its weights, quantised where that is asked for."""
    whole = _expanded() if Path(name).suffix == _GGUF else {}
    options = whole if quantization_config is None else {"quantization_config": quantization_config}
    language_model, report = _load(AutoModelForCausalLM, name, dtype, **options)
    _check_report(name, report)
    return language_model


def _expanded() -> dict[str, Any]:
    """Options under which the weights of a GGUF file become ordinary ones. Left in its blocks they could be neither
    trained nor saved, and code from the hub computes with them."""
    settings = getattr(transformers, "GgufConfig", None)  # before it came, they always did
    return {} if settings is None else {"quantization_config": settings(dequantize=True)}


def _load(factory: Any, name: str, dtype: torch.dtype, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A model, and the report of what did not fit."""
    report_all = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = _pretrained(factory, name, dtype=dtype, weights_only=True, **report_all, **options)
    return model, dict(report)


def _check_report(name: str, report: Mapping[str, Any]) -> None:
    """Raises ModelError where weights are missing, left over or of another shape than the configuration says."""
    problems = key_problems(report, _LISTED)
    if problems:
        raise ModelError(f"The weights of {name} do not fit its configuration: {'; '.join(problems)}", _REMEDY)


def _move_in(model: ElysiumForConditionalGeneration, tower: nn.Module, language_model: nn.Module) -> None:
    """Loaded parts take the places of hollow ones, as they are: nothing is copied, tied weights stay tied."""
    model.vision.tower, model.language_model = tower, language_model
    model.config.vision_config, model.config.text_config = tower.config, language_model.config
    for part in (model.config.vision_config, model.config.text_config):
        if Path(part.name_or_path).is_dir():
            part.name_or_path = ""  # it would be saved, and folders of this machine mean nothing on another


def _renew_adapters(model: ElysiumForConditionalGeneration, dtype: torch.dtype) -> None:
    """What is not loaded, built again with memory and initial values; the selector stays float32."""
    model.build_adapters()
    for part in (model.projector, model.annotation):
        if part is not None:
            part.to(dtype)
    if model.number_scale is not None:
        model.number_scale.data = model.number_scale.data.to(dtype)


def _check_complete(model: ElysiumForConditionalGeneration) -> None:
    """Raises ModelError where a parameter or buffer is still without memory."""
    tensors: Iterable[tuple[str, torch.Tensor]] = itertools.chain(model.named_parameters(), model.named_buffers())
    hollow = [name for name, tensor in tensors if tensor.is_meta]
    if hollow:
        raise ModelError(f"{len(hollow)} weights have no values: {', '.join(hollow[:_LISTED])}", "Report it as a bug.")


def _set_special_tokens(model: ElysiumForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> None:
    """The generation settings get the language model's beginning and end tokens (chat models have several)."""
    own, given = model.generation_config, model.language_model.generation_config
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(given, name) is not None:
            setattr(own, name, getattr(given, name))
    own.pad_token_id = tokenizer.pad_token_id
