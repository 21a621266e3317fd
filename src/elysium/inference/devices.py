"""Which device, number type and number of threads a model runs with.

Knows the spellings that users write (`auto`, `cuda:1`, `bfloat16`, ...) and what this machine has. Knows
nothing of models.
"""

from __future__ import annotations

from typing import Literal

import torch

from elysium.errors import InputError

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
BITS: dict[str, Literal[8, 4]] = {"8bit": 8, "4bit": 4}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """`auto|cpu|cuda|cuda:N|mps` -> a device that this machine has. `auto` is the first of cuda, mps, cpu.

    Raises:
        InputError: a spelling not known, or a device that is not there.
    """
    if isinstance(name, torch.device):
        return name
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"Unknown device {name!r}", "Use auto, cpu, cuda, cuda:N or mps.")
    if kind == "mps" and not has_mps:
        raise InputError("This machine has no MPS device", "Use --device cpu.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(
            f"Device {name!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices",
            "Use --device cpu or auto.",
        )
    return torch.device(name)


def resolve_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """`auto|float32|bfloat16|float16|8bit|4bit` -> dtype. `auto`: float32 on the CPU (bfloat16 is no faster there and
    answers would differ between machines), bfloat16 on GPUs that have it, else float16; so is what stays beside weights
    in 8 or 4 bits.

    Raises:
        InputError: a spelling not known.
    """
    if isinstance(name, torch.dtype):
        return name
    if name != "auto" and name not in BITS:
        if name not in DTYPES:
            raise InputError(f"Unknown dtype {name!r}", f"Use auto, {', '.join([*DTYPES, *BITS])}.")
        return DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


def set_threads(threads: int | None) -> None:
    """Number of CPU threads of PyTorch, for the whole process; None leaves it alone.

    Raises:
        InputError: a number below 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise InputError(f"{threads} threads make no sense", "Give 1 or more.")
    torch.set_num_threads(threads)
