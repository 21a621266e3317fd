"""The released layout of checkpoints (the published 7B model and what was made from it), turned into ours.

Knows: what the names of its tensors mean here, and which of them mean nothing. The architecture of tower and language
model, and the tokenizer, are not in it: they come from the components that its configuration (``legacy_config``)
names. Tensors go from file to file one by one; nothing of a checkpoint is ever run.
Does not know: how files of tensors are read and written (``weight_files``), the command line, caches.

The layout is described in the project's facts, section 7; parity with the released code: ``tests/test_parity.py``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from elysium.errors import InputError, ModelError
from elysium.files import atomic_folder, ensure_folder
from elysium.model.compose import hollow_model
from elysium.model.configuration import ElysiumConfig
from elysium.model.image_processing import ElysiumImageProcessor
from elysium.model.legacy_config import ReleasedConfig, checkpoint_folder
from elysium.model.modeling import ElysiumForConditionalGeneration
from elysium.model.parts import (
    as_sentencepiece,
    from_checkpoint,
    image_size_of,
    locate_part,
    read_normalisation,
    read_text_config,
    read_tokenizer,
    read_tower_config,
)
from elysium.model.processing import ElysiumProcessor
from elysium.model.weight_files import (
    SHARD_BYTES,
    Stored,
    cut_into_shards,
    find_tensors,
    read_tensors,
    write_shards,
)

_LISTED = 4  # tensors named in a message
_PLACES = (  # how names begin there and here; of several lines the first that leads to a tensor of ours
    ("visual_encoder.vision_model.", "vision.tower."),
    ("visual_encoder.vision_model.", "vision.tower.vision_model."),
    ("visual_encoder.", "vision.tower."),
    ("adapter.", "selector.gate."),
    ("llm_proj.", "projector."),
    ("llm.", "language_model."),
)
_USELESS = {  # parts of names, and why such tensors are left behind
    "adapter.score_proj.": "the released code never uses it",
    ".inv_freq": "computed from the configuration",
    ".position_ids": "counted anew",
}
_COMPONENTS = {  # what an option is for, and what the published 7B was built of
    "vision": ("vision tower", "openai/clip-vit-large-patch14-336"),
    "llm": ("language model", "lmsys/vicuna-7b-v1.5"),
}
_TRANS_WEIGHT, _TRANS_BIAS = "adapter.trans_weight", "adapter.trans_bias"
_HEAD, _TABLE = "llm.lm_head.weight", "llm.model.embed_tokens.weight"
_FIXED = "selector.gate.logits"

Plan: TypeAlias = dict[str, Stored]
"""Which stored tensor becomes which of ours, by our name."""


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        source, target: folders. vision, language: the components that were used.
        mapped: number of tensors by where they went, as "visual_encoder -> vision.tower".
        ignored: name and reason of tensors left behind. missing: ours that were filled, because they are never used.
        config_ignored, config_unknown: keys of ``config.json``.
        notes: what else is to be known. dtype: number type. num_bytes: written.
    """

    source: Path
    target: Path
    vision: str
    language: str
    mapped: Mapping[str, int]
    ignored: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    config_ignored: tuple[str, ...]
    config_unknown: tuple[str, ...]
    notes: tuple[str, ...]
    dtype: torch.dtype
    num_bytes: int


def import_checkpoint(
    source: str, target: str | Path, vision: str | None = None, language: str | None = None,
    *, shard_bytes: int = SHARD_BYTES,
) -> ImportReport:  # fmt: skip
    """Write a released checkpoint as a folder that ``from_pretrained`` of our classes takes.

    Numbers keep their type, but for the selector's, which become float32. All that can be wrong is looked for before
    anything is written; the folder appears whole or not at all. Memory is bounded by ``shard_bytes`` or the largest
    tensor, but for a .bin of the old format (before PyTorch 1.6), which has to be read whole.

    Args:
        source: a folder, or a hub id. target: a folder that is not there, or empty.
        vision, language: folder or hub id that has the configuration of the tower (and its normalisation) and of the
            language model (and its tokenizer). By default those that the checkpoint's ``config.json`` names: looked for
            in its folder, beside it, from the working directory, then as hub ids.

    Raises:
        InputError: a target that cannot be. ModelError: whatever does not fit, with the file or tensor.
        OutputError: the target cannot be written.
    """
    folder, target = checkpoint_folder(source), Path(target).expanduser()
    _check_target(target, folder)
    released = ReleasedConfig.read(folder)
    vision, language = find_components(released, vision, language)
    stored = find_tensors(folder)
    notes: list[str] = []
    config, processor = _native_parts(released, vision, language, stored, notes)
    model = hollow_model(config)
    _check_tokens(released, model, vision)
    plan, ignored, missing = _plan(model, stored)
    ensure_folder(target.absolute().parent)
    with atomic_folder(target) as working:
        num_bytes = _write_weights(working, plan, missing, model, shard_bytes)
        _write_rest(working, config, processor)
    return ImportReport(
        folder, target, vision, language, _counted(plan), ignored, tuple(missing), released.ignored, released.unknown,
        tuple(notes), config.dtype, num_bytes,
    )  # fmt: skip


def _check_target(target: Path, folder: Path) -> None:
    if target.resolve() == folder.resolve():
        raise InputError(f"{str(target)!r} is the checkpoint itself", "Name another folder for the result.")
    if target.exists() and not target.is_dir():
        raise InputError(f"{str(target)!r} is a file", "Name a folder that is not there yet.")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"The folder {str(target)!r} is not empty", "Name one that is not there yet.")


def find_components(
    released: ReleasedConfig, vision: str | None = None, language: str | None = None
) -> tuple[str, str]:  # fmt: skip
    """Folders or hub ids of tower and language model; see :func:`import_checkpoint`. Raises ModelError."""
    folder = released.path.parent
    return (
        _component(folder, released.vision, vision, "vision"),
        _component(folder, released.language, language, "llm"),
    )


def _component(folder: Path, named: str | None, given: str | None, option: str) -> str:
    """Where a component is: the one given, or the one named by the checkpoint. Raises ModelError."""
    what, published = _COMPONENTS[option]
    remedy = f"Say where its config.json lies: --{option} FOLDER, or a hub id (of the published 7B, {published})."
    if given is None and not (isinstance(named, str) and named):
        raise ModelError(f"{folder / 'config.json'} names no {what}", remedy)
    name = given if given is not None else str(named)
    places = [Path(name).expanduser()] if given is not None else [folder / name, folder.parent / name, Path(name)]
    found = next((str(place) for place in places if place.is_dir()), name)
    try:
        found = locate_part(found)
        from_checkpoint(AutoConfig, found)
    except ModelError as error:
        who = "" if given is not None else f" that {folder / 'config.json'} names"
        raise ModelError(f"The {what} {name!r}{who} cannot be had: {error.message}", remedy) from error
    return found


def _native_parts(
    released: ReleasedConfig, vision: str, language: str, stored: Mapping[str, Stored], notes: list[str]
) -> tuple[ElysiumConfig, ElysiumProcessor]:
    """Configuration and processor of the result; what was decided is added to ``notes``. Raises ModelError."""
    tower, _ = read_tower_config(vision)
    size, normalisation = image_size_of(vision, tower), read_normalisation(vision)
    text = read_text_config(language)
    tokenizer = as_sentencepiece(read_tokenizer(language, text.vocab_size), language)
    text.tie_word_embeddings = bool(text.tie_word_embeddings) and not _heads_differ(stored, notes)
    tower.name_or_path = text.name_or_path = ""  # they would be saved, and folders here mean nothing elsewhere
    tower.dtype = text.dtype = dtype = _most_used_dtype(stored)
    fixed = _is_constant(stored)
    if fixed:
        notes.append(
            "the selector does not look at images (adapter.trans_weight is zero): it keeps the same "
            f"{released.kept} of {released.tokens} places in every frame, and was folded into their order"
        )
    processor = ElysiumProcessor(
        ElysiumImageProcessor(size, *normalisation), tokenizer, num_image_tokens=released.kept, published=True
    )
    # No noise while it is trained: a fine-tune begins with the choice that the rest has learned from.
    selector = {"gate": "fixed" if fixed else "legacy", "num_tokens": released.kept, "noise": 0.0}
    config = ElysiumConfig(
        tower, text, size, vision_feature_layers=(-2,), vision_drop_cls=True, selector=selector,
        projector_type=released.projector, image_token_id=processor.image_token_id,  # type: ignore[arg-type]
        region_token_id=processor.region_token_id, dtype=dtype,
        architectures=[ElysiumForConditionalGeneration.__name__],
    )  # fmt: skip
    return config, processor


def _heads_differ(stored: Mapping[str, Stored], notes: list[str]) -> bool:
    """Whether there are a head and an embedding that are not the same, so that they cannot be tied."""
    pair = [stored[name] for name in (_HEAD, _TABLE) if name in stored]
    if len(pair) < 2 or pair[0].shape != pair[1].shape:
        return False
    (_, head), (_, table) = read_tensors(pair)
    if torch.equal(head, table):
        return False
    notes.append(f"{_HEAD} is not the embedding, though the language model's configuration ties them: both were kept")
    return True


def _most_used_dtype(stored: Mapping[str, Stored]) -> torch.dtype:
    """The number type of most bytes."""
    sizes: dict[torch.dtype, int] = {}
    for one in stored.values():
        sizes[one.dtype] = sizes.get(one.dtype, 0) + one.num_bytes
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


def _is_constant(stored: Mapping[str, Stored]) -> bool:
    """Whether the selector's choice is the same for every image."""
    if _TRANS_WEIGHT not in stored or _TRANS_BIAS not in stored:
        return False
    ((_, weight),) = read_tensors([stored[_TRANS_WEIGHT]])
    return not bool(weight.any())


def _check_tokens(released: ReleasedConfig, model: ElysiumForConditionalGeneration, vision: str) -> None:
    if model.vision.num_tokens != released.tokens:
        raise ModelError(
            f"{released.path} has in_token_num {released.tokens}, but the tower of {vision} makes "
            f"{model.vision.num_tokens} tokens of a frame",
            "Give the tower that it was trained with: --vision.",
        )


def _plan(
    model: ElysiumForConditionalGeneration, stored: Mapping[str, Stored]
) -> tuple[Plan, tuple[tuple[str, str], ...], dict[str, Tensor]]:
    """What becomes of every tensor: the plan; names and reasons of those left behind; ours that are never used and are
    not there, with values. Raises ModelError for shapes that do not fit, and for missing tensors that are used."""
    tied = dict(model.all_tied_weights_keys)  # ours that are another of ours: the head, the embedding
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    plan: Plan = {}
    again: dict[str, Stored] = {}
    ignored = []
    for name, one in stored.items():
        target, reason = _target(name, {**wanted, **tied})
        if target is None:
            ignored.append((name, reason))
        elif target in tied:
            again[tied[target]] = one
        else:
            plan[target] = one
    for target, one in again.items():
        if plan.setdefault(target, one) is not one:
            ignored.append((one.name, "tied to the embedding"))
    _check_fit(plan, wanted)
    missing = {name: tensor for name, tensor in wanted.items() if name not in plan}
    used = [name for name in missing if not _is_unused(name, model)]
    if used:
        raise ModelError(
            f"The checkpoint lacks {len(used)} tensors that are needed: {_some(used)}",
            "Copy or download it again; or give the components that it was trained with: --vision, --llm.",
        )
    filled = {name: _filling(name, tensor) for name, tensor in missing.items()}
    return plan, tuple(ignored), filled


def _target(name: str, wanted: Container[str]) -> tuple[str | None, str]:
    """Our name of a stored tensor, or None and why there is none."""
    for part, reason in _USELESS.items():
        if part in name:
            return None, reason
    if _FIXED in wanted and name.startswith("adapter."):
        return (_FIXED, "") if name == _TRANS_BIAS else (None, "the choice does not depend on it")
    places = [ours + name.removeprefix(theirs) for theirs, ours in _PLACES if name.startswith(theirs)]
    return next((place for place in places if place in wanted), None), "not known"


def _check_fit(plan: Plan, wanted: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{one.name} in {one.file} has the shape {one.shape}, wanted is {tuple(wanted[target].shape)}"
        for target, one in plan.items()
        if one.shape != tuple(wanted[target].shape)
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ModelError(
            f"{wrong[0]}{more}", "Give the components that the checkpoint was trained with: --vision, --llm."
        )
    whole = next((one for one in plan.values() if not one.dtype.is_floating_point), None)
    if whole is not None:
        told = f"{whole.name} in {whole.file} holds numbers of the type {whole.dtype}"
        raise ModelError(told, "Give a checkpoint that is not quantised.")


def _is_unused(name: str, model: ElysiumForConditionalGeneration) -> bool:
    """Whether nothing depends on a tensor: features are read before the tower's last layer."""
    last = f"encoder.layers.{model.config.vision_config.num_hidden_layers - 1}."
    return name.startswith("vision.") and (last in name or "post_layernorm" in name)


def _filling(name: str, like: Tensor) -> Tensor:
    """What a norm or a layer begins with, where nobody will ever look at it."""
    make = torch.ones if "norm" in name and name.endswith("weight") else torch.zeros
    return make(like.shape)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" ..." if len(names) > _LISTED else "")


def _counted(plan: Plan) -> dict[str, int]:
    counts: dict[str, int] = {}
    for target, one in plan.items():
        theirs = one.name.split(".")[0]
        ours = next(ours for start, ours in reversed(_PLACES) if start.startswith(theirs) and target.startswith(ours))
        key = f"{theirs} -> {ours.rstrip('.')}"
        counts[key] = counts.get(key, 0) + 1
    return counts


def _write_weights(
    folder: Path, plan: Plan, missing: Mapping[str, Tensor], model: ElysiumForConditionalGeneration, shard_bytes: int
) -> int:
    """Write all tensors, those of one file together; the bytes that they take. What is read of a file is let go of
    with each shard, for it is mapped into memory."""
    ordered = dict(sorted(plan.items(), key=lambda item: (item[1].file, item[1].name)))
    sizes = {name: prod(one.shape) * _dtype_of(name, one.dtype).itemsize for name, one in ordered.items()}
    shards = cut_into_shards(sizes, shard_bytes)
    shards[-1] += missing
    k = model.config.selector_config.num_tokens

    def tensors(names: list[str]) -> dict[str, Tensor]:
        read = read_tensors(ordered[name] for name in names if name in ordered)
        found = {name: tensor for name, (_, tensor) in zip(names, read, strict=False)}
        found |= {name: missing[name].to(model.config.dtype) for name in names if name in missing}
        if _FIXED in found:
            found[_FIXED] = fixed_order(found[_FIXED], k)
        return {name: tensor.to(_dtype_of(name, tensor.dtype)) for name, tensor in found.items()}

    return write_shards(folder, (tensors(names) for names in shards), len(shards))


def _dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    """The number type that a tensor of type ``dtype`` gets: its own, float32 in the selector."""
    return torch.float32 if name.startswith("selector.") else dtype


def fixed_order(trans_bias: Tensor, k: int) -> Tensor:
    """(N,) logits of which the ``k`` largest are those that ``torch.topk`` takes of ``trans_bias``.

    Where equal ones stand on both sides of the boundary (all zero, or rounded to bfloat16), which of them are taken is
    torch's secret, and what comes after has been trained on it.
    """
    logits = trans_bias.float().clone()  # the file is mapped into memory
    values, chosen = logits.topk(k)
    if int((logits == values[-1]).sum()) > int((values == values[-1]).sum()):
        logits[chosen] += 1.0
    return logits


def _write_rest(folder: Path, config: ElysiumConfig, processor: ElysiumProcessor) -> None:
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer, named = processor.tokenizer, getattr(config.text_config, "eos_token_id", None)
    end = tokenizer.eos_token_id if named is None else named
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)
