"""`elysium models`: what is bundled, what lies in the two caches, what nano knows. Reads folders, loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from elysium.cli import common
from elysium.errors import InputError

TASKS = ("SOT", "RSOT", "Video-REG", "REC", "REG", "VideoQA")
LICENCE = "Apache-2.0"  # of everything bundled, as long as a model's own about.json does not say otherwise


def weights_folder() -> Path:
    """Where the bundled models lie, one folder each."""
    return Path(__file__).resolve().parent.parent / "model" / "weights"


def bundled_models() -> list[dict[str, Any]]:
    """Name, size in bytes, licence, tasks, folder and known nouns of every bundled model.

    An `about.json` beside the weights may give `licence` and `tasks`.
    """
    folder = weights_folder()
    found = sorted(path.parent for path in folder.glob("*/config.json")) if folder.is_dir() else []
    return [_describe(path) for path in found]


def cached_models() -> list[dict[str, Any]]:
    """The same of every Elysium in the hub's cache, by its hub id; their licence is in their model card."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = []
    for config in sorted(Path(HF_HUB_CACHE).glob("models--*/snapshots/*/config.json")):
        if _read_json(config).get("model_type") == "elysium":
            name = config.parents[2].name.removeprefix("models--").replace("--", "/", 1)
            found.append({**_describe(config.parent), "name": name, "licence": "see its card", "where": "cache"})
    return found


def imported_models() -> list[dict[str, Any]]:
    """The same of every released checkpoint that was imported into our cache."""
    from elysium.inference.importing import cache_folder

    found = sorted(path.parent for path in cache_folder().glob("*/config.json"))
    return [{**_describe(path), "licence": "see its card", "where": "imported"} for path in found]


def _describe(folder: Path) -> dict[str, Any]:
    about, config = _read_json(folder / "about.json"), _read_json(folder / "config.json")
    return {
        "name": folder.name,
        "where": "bundled",
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "licence": about.get("licence", LICENCE),
        "tasks": list(about.get("tasks", TASKS)),
        "path": str(folder),
        "nouns": list((config.get("tracking") or {}).get("known_nouns", [])),
    }


def _read_json(path: Path) -> dict[str, Any]:
    """A file's object; an empty one where there is no readable file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def models(
    nouns: Annotated[
        str | None,
        typer.Option("--nouns", metavar="NAME", help="Print the nouns a model knows, one a line.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> int:
    """List the models that are here, bundled, in the hub's cache or imported into ours: size on disk, licence, tasks.

    Example: elysium models --nouns nano
    """
    found = [*bundled_models(), *cached_models(), *imported_models()]
    if nouns is not None:
        return _print_nouns(nouns, found)
    if as_json:
        print(json.dumps(found, indent=2))
        return common.DONE
    for item in found:
        size = f"{item['bytes'] / 1e6:.1f} MB"
        known = f"; {len(item['nouns'])} nouns" if item["nouns"] else ""
        tasks = ", ".join(item["tasks"])
        print(f"{item['name']:<12} {item['where']:<8} {size:>10}  {item['licence']:<12} {tasks}{known}")
    if not found:
        common.warn("no model is bundled with this installation")
    return common.DONE


def _print_nouns(name: str, found: list[dict[str, Any]]) -> int:
    known = {item["name"]: item["nouns"] for item in found}
    if not known.get(name):
        remedy = f"Those that do: {', '.join(n for n, nouns in known.items() if nouns) or 'none'}."
        raise InputError(f"No model {name!r} is here that lists its nouns", remedy)
    print("\n".join(known[name]))
    return common.DONE
