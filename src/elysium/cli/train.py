"""`elysium train`: hand a configuration to the training recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from elysium.cli import common
from elysium.errors import InputError


def parse_override(text: str) -> tuple[str, Any]:
    """`"trainer.lr=1e-3"` -> ("trainer.lr", 0.001); the value is read as YAML. Raises InputError."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text!r} is not KEY=VALUE", "For example --set seed=3.")
    try:
        return key.strip(), _number(yaml.safe_load(value))
    except yaml.YAMLError:
        raise InputError(f"--set {text!r}: the value is not YAML", "Put text in quotes.") from None


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` as text (no dot); people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def train(
    config: Annotated[
        Path, typer.Argument(help="A YAML file, for example configs/nano.yaml.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one value, with dots for levels. Repeatable."
        ),
    ] = None,
) -> int:
    """Train a model as a configuration says; a run that was cut short is resumed."""
    if not config.is_file():
        raise InputError(
            f"No such configuration: {str(config)!r}", "Give a YAML file, for example configs/nano.yaml."
        )
    changes = dict(parse_override(text) for text in overrides or [])
    from elysium.training.recipe import run

    run(config, changes)
    return common.DONE
