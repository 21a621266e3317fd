"""`elysium train`: hand a configuration to the training recipe. Knows nothing of what it says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from elysium.cli import common
from elysium.errors import InputError


def train(
    config: Annotated[
        Path, typer.Argument(help="A YAML file, for example configs/nano.yaml.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Values in place of the file's, with dots for levels.", show_default=False
        ),
    ] = None,
) -> int:
    """Train a model as a configuration says; a run that was cut short is resumed.

    Example: elysium train configs/smoke.yaml trainer.max_steps=60
    """
    from elysium.config_files import load_stages

    load_stages(config, overrides)  # every wrong key is told before PyTorch is imported
    try:
        from elysium.training.recipe import run
    except ModuleNotFoundError as error:
        raise InputError(
            f"Training needs the package {error.name!r}, which is not installed",
            "Install elysium with its extra: pip install -c constraints.txt '.[train]'",
        ) from error
    folder = run(config, overrides)
    if os.environ.get("RANK", "0") == "0":  # a launcher gives each of its processes a number
        print(folder)
    return common.DONE
