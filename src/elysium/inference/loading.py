"""Finding and loading a model: bundled, from a folder, or from the hub.

Knows file names and what can be wrong with a folder of weights. Knows nothing of what a model is used for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from elysium.errors import ElysiumError, ModelError

BUNDLED = ("nano",)
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


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
        _check_type(folder)
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


def _check_type(folder: Path) -> None:
    """Raises ModelError unless the folder's config.json is that of an Elysium."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}/config.json is not a model's configuration", "Save it again.") from error
    if kind != "elysium":
        raise ModelError(f"{folder} holds a model of type {kind!r}, not an Elysium", "Give another folder.")


def _load(path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and processor of a folder or hub id. Raises ModelError."""
    from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor

    remedy = "The folder must be one that save_pretrained of an Elysium model wrote."
    try:
        with _silence():
            loaded: Any = ElysiumForConditionalGeneration.from_pretrained(
                path,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
            )
            processor = ElysiumProcessor.from_pretrained(path)
    except ElysiumError:
        raise
    except Exception as error:  # transformers raises anything for a damaged file, down to AttributeError
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{path} cannot be loaded: {first_line}", remedy) from error
    model, report = loaded
    problems = _key_problems(report)
    if problems:
        raise ModelError(f"The weights of {path} do not fit its configuration: {'; '.join(problems)}", remedy)
    return model, processor


@contextmanager
def _silence() -> Iterator[None]:
    """No progress bars and warnings of transformers: what matters is in the loading report, which is read."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


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
