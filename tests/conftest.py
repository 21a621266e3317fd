"""What all tests share. Knows where the shared material lies; nothing about what is tested."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Before anything reads it: a name that is no folder must not be looked for on the hub. Commands inherit it.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Small models are fastest on one thread. Does not itself import torch."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of shared material beside the repository, or the one named in ELYSIUM_SHARED."""
    given = os.environ.get("ELYSIUM_SHARED")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared material at {folder} (set ELYSIUM_SHARED to where it is)")
    return folder
