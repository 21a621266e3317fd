"""Where benchmark figures go: one JSON file a benchmark, with the command and the machine that made it."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from elysium.files import atomic_write_text

RESULTS = Path(__file__).parent / "results"


def write(name: str, figures: dict[str, Any]) -> Path:
    """Store ``figures`` as ``results/<name>.json``; returns the path."""
    record = {
        "command": " ".join(["python", *sys.argv]),
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__,
                    "threads": torch.get_num_threads()},
        **figures,
    }  # fmt: skip
    return atomic_write_text(RESULTS / f"{name}.json", json.dumps(record, indent=1) + "\n")
