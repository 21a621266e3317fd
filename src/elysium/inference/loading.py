"""Finding and loading a model: bundled, from a folder, or from the hub.

Knows file names and what can be wrong with a folder of weights. Knows nothing of what a model is used for.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from elysium.errors import ModelError

BUNDLED = ("nano",)
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def load_pretrained(model: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model (on the CPU, in `dtype`, eval mode) and processor of a bundled name, a folder or a hub id.

    Bundled models and folders are read without network.

    Raises:
        ModelError: no such model, a folder without weights, or weights that do not fit (all keys listed).
    """
    return _load(locate(model), dtype)


def bundled_folder(name: str) -> Path:
    """Where the weights of a bundled model lie."""
    return Path(str(files("elysium.model"))) / "weights" / name


def locate(model: str) -> str:
    """A bundled name or a folder as a path, what looks like a hub id as it is.

    Raises:
        ModelError: neither, or a folder without weights.
    """
    folder = bundled_folder(model) if model in BUNDLED else Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json", "Give a folder written by save_pretrained.")
        if not any((folder / name).is_file() for name in WEIGHT_FILES):
            raise ModelError(f"{folder} has no weights", "model.safetensors belongs beside config.json.")
        return str(folder)
    if model in BUNDLED:
        raise ModelError(
            f"The bundled model {model} is not in this installation", "Install the package again."
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return model
    raise ModelError(
        f"There is no model {model!r}", f"Give {', '.join(BUNDLED)}, a folder or a hub id such as owner/name."
    )


def _load(path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and processor of a folder or hub id. Raises ModelError."""
    from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor

    remedy = "The folder must be one that save_pretrained of an Elysium model wrote."
    try:
        loaded: Any = ElysiumForConditionalGeneration.from_pretrained(
            path, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
        model, report = loaded
        processor = ElysiumProcessor.from_pretrained(path)
    except (OSError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{path} cannot be loaded: {first_line}", remedy) from error
    problems = _key_problems(report)
    if problems:
        raise ModelError(f"The weights of {path} do not fit its configuration: {'; '.join(problems)}", remedy)
    return model, processor


def _key_problems(report: dict[str, Any]) -> list[str]:
    """All keys that are missing, not expected, or of another shape than the configuration says."""
    problems = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(_key_text(key) for key in report.get(kind, ()))
        if keys:
            problems.append(f"{len(keys)} {kind.removesuffix('_keys')} ({', '.join(keys)})")
    return problems


def _key_text(key: Any) -> str:
    """The key alone; for a mismatch with the shape in the file and the one wanted."""
    if isinstance(key, str):
        return key
    name, *shapes = key
    return f"{name}: {' instead of '.join(str(tuple(shape)) for shape in shapes)}"
