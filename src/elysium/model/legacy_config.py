"""Where a checkpoint in the released layout lies, and what its ``config.json`` says.

Knows: its keys, and which of them mean something here. Does not know: tensors, and what ours are called (``legacy``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from elysium.errors import ModelError
from elysium.model.configuration import is_released
from elysium.pretrained import first_line, is_hub_id

_SECTIONS = {  # what is read of each, and what is known to mean nothing to a model that is used
    "": (
        {"adapter_config", "llm_config", "visual_config", "projector_config"},
        {"_name_or_path", "architectures", "auto_map", "dtype", "gradient_checkpointing_enable", "hidden_size",
         "model_type", "torch_dtype", "transformers_version", "use_cache", "use_flash_attention"},
    ),
    "adapter_config": (
        {"in_token_num", "out_token_num"},
        {"fix_random", "freeze_adapter", "max_video_tokens", "min_out_token_num", "num_features"},
    ),
    "llm_config": ({"pretrained_model_name_or_path"}, {"freeze_llm"}),
    "visual_config": ({"pretrained_model_name_or_path"}, {"freeze_vit", "precision"}),
    "projector_config": ({"type"}, set()),
}  # fmt: skip


@dataclass(frozen=True)
class ReleasedConfig:
    """What ``config.json`` of a released checkpoint says that matters here.

    Attributes:
        path: the file. vision, language: names of the components, None where there is none.
        tokens: N visual tokens a frame before selection. kept: k after it.
        projector: its type.
        ignored: keys that mean nothing here. unknown: keys that nobody knows.
    """

    path: Path
    vision: str | None
    language: str | None
    tokens: int
    kept: int
    projector: str
    ignored: tuple[str, ...]
    unknown: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> ReleasedConfig:
        """Of the checkpoint in a folder. Raises ModelError where there is none, or it does not say what it must."""
        path = folder / "config.json"
        values = read_config(folder)
        if not is_released(values):
            remedy = "Give the folder of a released checkpoint."
            if "text_config" in values:
                remedy = "It needs no import if it is an Elysium of ours: give it to --model as it is."
            raise ModelError(f"{path} is not that of a checkpoint in the released layout", remedy)
        sections = {name: _section(path, values, name) for name in _SECTIONS}
        adapter = sections["adapter_config"]
        tokens, kept = (_count(path, adapter, key) for key in ("in_token_num", "out_token_num"))
        if kept > tokens:
            raise ModelError(
                f"{path} has out_token_num {kept}, but a frame has {tokens} visual tokens", f"Set it to 1..{tokens}."
            )
        projector = sections["projector_config"].get("type", "mlp2x_gelu")
        if projector not in ("mlp2x_gelu", "linear"):
            raise ModelError(f"{path} has a projector of type {projector!r}", "Only mlp2x_gelu and linear are known.")
        vision, language = (sections[n].get("pretrained_model_name_or_path") for n in ("visual_config", "llm_config"))
        return cls(path, vision, language, tokens, kept, projector, *_unread(sections))


def checkpoint_folder(source: str) -> Path:
    """A folder as it is; the weights and configuration of a hub id in the hub's cache, downloaded if need be.

    Raises ModelError for neither, or without network.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_id(source):
        raise ModelError(f"There is no checkpoint {source!r}", "Give a folder or a hub id such as owner/name.")
    try:
        found = Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
        if not any(found.glob("*.safetensors")):
            found = Path(snapshot_download(source, allow_patterns=["*.json", "*.bin"]))
    except Exception as error:  # no network, no such repository, none of its files here
        raise ModelError(
            f"{source} cannot be had from the hub: {first_line(error)}", "Check name and network, or give a folder."
        ) from error
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a folder. Raises ModelError where it is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json", "Give the folder of a checkpoint.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a model's configuration: {first_line(error)}", "Copy it again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a model's configuration", "Copy it again.")
    return values


def _unread(sections: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys that are not read: those that mean nothing here, and those that are not known."""
    left = [(name, key) for name, section in sections.items() for key in sorted(set(section) - _SECTIONS[name][0])]
    named = {f"{name}.{key}".lstrip("."): key in _SECTIONS[name][1] for name, key in left}
    return tuple(key for key, known in named.items() if known), tuple(key for key, known in named.items() if not known)


def _section(path: Path, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name, {}) if name else values
    if not isinstance(section, dict):
        raise ModelError(f"{path} has {name} {section!r}, which should hold settings", "Copy it again.")
    return section


def _count(path: Path, section: Mapping[str, Any], key: str) -> int:
    value = section.get(key)
    if type(value) is not int or value < 1:
        raise ModelError(f"{path} has adapter_config.{key} {value!r}, not a number of tokens", "Set it to 1 or more.")
    return value
