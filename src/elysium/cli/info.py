"""`elysium info`: versions, device, threads and folders, for bug reports."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from elysium.cli import common
from elysium.cli.models import weights_folder

_PACKAGES = (
    "elysium-video",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "av",
    "supervision",
)


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


def info(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False) -> int:
    """Print versions, device, threads, and where the weights are."""
    found = facts()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:<16} {value}")
    return common.DONE
