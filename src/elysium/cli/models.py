"""`elysium models`: what is bundled. Reads folders, loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from elysium.cli import common

TASKS = ("SOT", "RSOT", "Video-REG", "REC", "REG")
LICENCE = "Apache-2.0"  # of everything bundled, as long as a model's own about.json does not say otherwise


def weights_folder() -> Path:
    """Where the bundled models lie, one folder each."""
    return Path(__file__).resolve().parent.parent / "model" / "weights"


def bundled_models() -> list[dict[str, Any]]:
    """Name, size in bytes, licence, tasks and folder of every bundled model.

    An `about.json` beside the weights may give `licence` and `tasks`.
    """
    folder = weights_folder()
    found = sorted(path.parent for path in folder.glob("*/config.json")) if folder.is_dir() else []
    return [_describe(path) for path in found]


def _describe(folder: Path) -> dict[str, Any]:
    about_file = folder / "about.json"
    about = json.loads(about_file.read_text(encoding="utf-8")) if about_file.is_file() else {}
    return {
        "name": folder.name,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "licence": about.get("licence", LICENCE),
        "tasks": list(about.get("tasks", TASKS)),
        "path": str(folder),
    }


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> int:
    """List the bundled models: size on disk, licence, tasks."""
    found = bundled_models()
    if as_json:
        print(json.dumps(found, indent=2))
        return common.DONE
    for item in found:
        size = f"{item['bytes'] / 1e6:.1f} MB"
        print(f"{item['name']:<12} {size:>10}  {item['licence']:<12} {', '.join(item['tasks'])}")
    if not found:
        common.warn("no model is bundled with this installation")
    return common.DONE
