"""Finding and loading a model: bundled, from a folder, or from the hub.

Knows file names and what can be wrong with a folder of weights. One in the released layout is imported first
(`importing.py`). Knows nothing of what a model is used for.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download

from elysium.errors import ElysiumError, InputError, ModelError
from elysium.inference.importing import imported
from elysium.pretrained import first_line, is_hub_id, key_problems, load_error, silence

BUNDLED = ("nano",)
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")  # the second names shards


def load_pretrained(
    model: str, dtype: torch.dtype, quantization_config: Any = None, device: torch.device | None = None
) -> tuple[Any, Any]:
    """Model (in `dtype`, eval mode, on `device`, by default the CPU) and processor of a bundled name, a folder or a hub
    id.

    Bundled models and folders are read without network. ``quantization_config``: as `from_pretrained` takes it; without
    a `device` it decides where the model lies.

    Raises:
        ModelError: no such model, a folder without weights, or weights that do not fit (all keys listed).
    """
    options = {} if quantization_config is None else {"quantization_config": quantization_config}
    if options and device is not None:
        options["device_map"] = {"": device}  # weights in few bits are made where they stay
    loaded, processor = _load(locate(model), dtype, options)
    if device is not None and not options:
        loaded = loaded.to(device)
    return loaded, processor


def set_tokens_per_frame(model: Any, processor: Any, tokens_per_frame: int) -> None:
    """Let a loaded model's selector keep so many visual tokens of each frame, in place of its configuration's number.

    Raises:
        InputError: fewer than one, or more than its vision tower gives.
    """
    _check_tokens(model, tokens_per_frame)
    model.config.selector["num_tokens"] = tokens_per_frame
    model.selector.config = model.config.selector_config
    processor.num_image_tokens = tokens_per_frame


def check_tokens_per_frame(model: str, tokens_per_frame: int) -> None:
    """The same check without weights. Raises InputError, and ModelError for a model that cannot be found."""
    from elysium.model import ElysiumForConditionalGeneration

    with torch.device("meta"):
        _check_tokens(ElysiumForConditionalGeneration(load_config(locate(model))), tokens_per_frame)


def _check_tokens(model: Any, tokens_per_frame: int) -> None:
    most = model.vision.num_tokens
    if not 1 <= tokens_per_frame <= most:
        raise InputError(
            f"The model cannot keep {tokens_per_frame} visual tokens of a frame: its vision tower gives {most}",
            f"Give 1 to {most}; it is made for {model.config.selector_config.num_tokens}.",
        )


def bundled_folder(name: str) -> Path:
    """Where the weights of a bundled model lie."""
    return Path(str(files("elysium.model"))) / "weights" / name


def weight_files(folder: Path) -> list[Path]:
    """The files with a folder's weights: one, or those that its index names; none where there are none."""
    whole, index = (folder / name for name in WEIGHT_FILES)
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of weights", "Copy it again.") from error


def locate(model: str) -> str:
    """A bundled name or a folder as a path, what looks like a hub id as it is; for a checkpoint in the released layout
    the folder that it was imported to, now or before.

    Raises:
        ModelError: neither, a folder without weights, or a released checkpoint that cannot be imported.
    """
    folder = bundled_folder(model) if model in BUNDLED else Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json", "Give a folder written by save_pretrained.")
        if _is_released(folder / "config.json"):
            return str(imported(model, folder))
        _check_config(folder)
        if not weight_files(folder):
            raise ModelError(f"{folder} has no weights", "model.safetensors belongs beside config.json.")
        return str(folder)
    if model in BUNDLED:
        raise ModelError(
            f"The bundled model {model} is not in this installation", "Install the package again."
        )
    if is_hub_id(model):
        return _on_hub(model)
    raise ModelError(
        f"There is no model {model!r}", f"Give {', '.join(BUNDLED)}, a folder or a hub id such as owner/name."
    )


def _on_hub(model: str) -> str:
    """A hub id as it is, or the folder that it was imported to."""
    try:
        config = Path(hf_hub_download(model, "config.json"))
    except Exception:  # whatever it is, loading will say so
        return model
    return str(imported(model)) if _is_released(config) else model


def _is_released(config: Path) -> bool:
    from elysium.model.configuration import is_released

    return is_released(_read(config))


def _read(config: Path) -> dict[str, Any]:
    """The values of a config.json. Raises ModelError."""
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{config} is not a model's configuration", "Save it again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{config} is not a model's configuration", "Save it again.")
    return values


def _check_config(folder: Path) -> None:
    """Raises ModelError unless the folder's config.json is that of an Elysium, and says nothing that it does not
    know."""
    from elysium.model.configuration import ElysiumConfig

    path = folder / "config.json"
    values = _read(path)
    if values.get("model_type") != "elysium":
        kind = values.get("model_type", "unknown")
        raise ModelError(f"{folder} holds a model of type {kind!r}, not an Elysium", "Give another folder.")
    unknown = ElysiumConfig.unknown_keys(values)
    if unknown:
        raise ModelError(f"{path} has keys that Elysium does not know: {', '.join(unknown)}", "Remove or mend them.")


def _load(path: str, dtype: torch.dtype, options: dict[str, Any]) -> tuple[Any, Any]:
    """Model and processor of a folder or hub id. Raises ModelError."""
    from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor

    remedy = "The folder must be one that save_pretrained of an Elysium model wrote."
    try:
        with silence():
            loaded: Any = ElysiumForConditionalGeneration.from_pretrained(
                path,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                **options,
            )
            processor = ElysiumProcessor.from_pretrained(path)
    except ElysiumError:
        raise
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded: {first_line(error)}", remedy) from error
    model, report = loaded
    problems = key_problems(report)
    if problems:
        raise ModelError(f"The weights of {path} do not fit its configuration: {'; '.join(problems)}", remedy)
    return model, processor


def load_config(model: str) -> Any:
    """The configuration of a bundled name, of a folder, which needs no weights, or of a hub id. Raises ModelError."""
    from elysium.model import ElysiumConfig

    folder = bundled_folder(model) if model in BUNDLED else Path(model).expanduser()
    if not folder.is_dir() and not is_hub_id(model):
        raise ModelError(f"There is no model {model!r}", f"Give {', '.join(BUNDLED)}, a folder or a hub id.")
    try:
        with silence():
            values, _ = ElysiumConfig.get_config_dict(str(folder) if folder.is_dir() else model)
            if values.get("model_type") == "elysium" and "vision_config" in values:
                return ElysiumConfig.from_dict(values)
    except ElysiumError:
        raise
    except Exception as error:  # transformers raises anything for a damaged file
        raise load_error(model, error, "Give another.") from error
    raise ModelError(f"{model} has no configuration that save_pretrained of an Elysium wrote", "Import or compose it.")
