"""What loading pretrained weights has in common, whatever is loaded.

Knows: what a hub id looks like, whether the cache has it, how to keep transformers quiet, what its report says.
Does not know: which models there are, what they are for.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging

from elysium.errors import ModelError

_NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"


def is_hub_id(name: str) -> bool:
    """Whether a name looks like owner/name."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def cached_folder(name: str) -> Path | None:
    """Where a model of the hub lies in the cache, without asking the network; None if it does not."""
    from transformers.utils import cached_file

    found = cached_file(
        name, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
    )  # fmt: skip
    return None if found is None else Path(found).parent


def first_line(error: Exception) -> str:
    """What an error says, in one line: transformers raises anything for a damaged file, down to AttributeError."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def load_error(name: str, error: Exception, remedy: str) -> ModelError:
    """What to raise where ``name`` cannot be loaded. PyTorch refuses pickles that hold more than tensors and would run
    code, in a long text that also says how to run it all the same."""
    if isinstance(error, pickle.UnpicklingError):
        return ModelError(
            f"The weights of {name} are a pickle that is damaged or holds more than tensors, and was not read",
            "Give weights in safetensors.",
        )
    return ModelError(f"{name} cannot be loaded: {first_line(error)}", remedy)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """No bars of transformers inside, for reading and writing weights takes one each."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def silence() -> Iterator[None]:
    """No progress bars and warnings of transformers: what matters is in the loading report, which is read. Nor does it
    ask the hub's service to convert a checkpoint that has pickles alone."""
    level, converts = logging.get_verbosity(), os.environ.get(_NO_CONVERSION)
    logging.set_verbosity_error()
    os.environ[_NO_CONVERSION] = "1"
    try:
        with no_progress_bars():
            yield
    finally:
        logging.set_verbosity(level)
        if converts is None:
            del os.environ[_NO_CONVERSION]
        else:
            os.environ[_NO_CONVERSION] = converts


def key_problems(report: Mapping[str, Any], most: int | None = None) -> list[str]:
    """The weights that are missing, not expected, or of another shape than the configuration says, a text for each
    kind that names at most ``most``."""
    problems = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(_key_text(key) for key in report.get(kind, ()))
        if keys:
            named = ", ".join(keys[:most]) + (" ..." if most is not None and len(keys) > most else "")
            problems.append(f"{len(keys)} {kind.removesuffix('_keys')} ({named})")
    return problems


def _key_text(key: Any) -> str:
    """The key alone; for a mismatch with the shape in the file and the one wanted."""
    if isinstance(key, str):
        return key
    name, *shapes = key
    return f"{name}: {' instead of '.join(str(tuple(shape)) for shape in shapes)}"
