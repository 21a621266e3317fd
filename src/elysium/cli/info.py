"""`elysium info`: versions, device, threads and folders, for bug reports; or what a model needs of memory."""

from __future__ import annotations

import json
import os
import platform
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.cli.models import weights_folder
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.model import ElysiumConfig
    from elysium.model.memory import Memory

_PACKAGES = (
    "elysium-video",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "av",
    "supervision",
)
PUBLISHED = "elysium-7b"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, str]:
    """Everything that is printed, as name and value. Imports PyTorch."""
    import torch

    from elysium.inference.devices import resolve_device, resolve_dtype
    from elysium.inference.importing import cache_folder

    device = resolve_device("auto")
    shown = str(device)
    if device.type == "cuda":
        shown += f" ({torch.cuda.get_device_name(device)}, {torch.cuda.device_count()} in all)"
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "device": shown,
        "dtype": str(resolve_dtype("auto", device)).removeprefix("torch."),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "bundled weights": str(weights_folder()),
        "hub cache": _hub_cache(),
        "import cache": str(cache_folder()),
    }


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return HF_HUB_CACHE


def needs(name: str, frames: int, tokens_per_frame: int | None) -> dict[str, Memory]:
    """What a model needs, by how its weights are held. Imports PyTorch. Raises ModelError, InputError."""
    import torch

    from elysium.model.memory import estimate_memory

    config = _configuration(name)
    estimate = partial(estimate_memory, config, frames=frames, tokens_per_frame=tokens_per_frame)
    return {
        "float32": estimate(dtype=torch.float32), "bfloat16": estimate(), "8-bit": estimate(bits=8),
        "4-bit": estimate(bits=4),
    }  # fmt: skip


def _configuration(name: str) -> ElysiumConfig:
    """Of the published model by its name, else that of a bundled model, a folder or a hub id."""
    from elysium.inference.loading import load_config
    from elysium.model.presets import elysium_7b_config

    return elysium_7b_config() if name == PUBLISHED else load_config(name)


def _memory_table(name: str, frames: int, found: dict[str, Memory]) -> str:
    """In GiB, or MiB of a small model, a line for each way to hold the weights."""
    largest = max(found.values(), key=lambda memory: memory.total)
    tokens, (unit, size) = largest.tokens, ("GiB", 2**30) if largest.total >= 2**30 else ("MiB", 2**20)
    lines = [f"{name}, one question about {frames} frames: {tokens} tokens"]
    lines.append(f"{unit}         weights    cache     both")
    for how, memory in found.items():
        sizes = (memory.weights / size, memory.cache / size, memory.total / size)
        lines.append(f"{how:<10} " + " ".join(f"{value:8.2f}" for value in sizes))
    return "\n".join(lines)


def info(
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="NAME|PATH",
            help=f"Print what this model needs of memory instead; {PUBLISHED} is the published one.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="With --memory: frames of a question.")] = 8,
    select: Annotated[
        int | None,
        typer.Option(
            "--select",
            metavar="K",
            help="With --memory: visual tokens kept of a frame. Default: the model's.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, sizes in bytes.")] = False,
) -> int:
    """Print versions, device, threads, and where the weights are; or how much memory a model takes.

    Example: elysium info --memory elysium-7b
    """
    common.at_least("--frames", frames)
    common.at_least("--select", select)
    if memory is not None:
        found = needs(memory, frames, select)
        sizes = {how: {"weights": m.weights, "cache": m.cache, "tokens": m.tokens} for how, m in found.items()}
        print(json.dumps(sizes, indent=2) if as_json else _memory_table(memory, frames, found))
        return common.DONE
    if select is not None:
        raise InputError("--select is given without --memory", "Name a model with --memory.")
    told = facts()
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        for name, value in told.items():
            print(f"{name:<16} {value}")
    return common.DONE
