"""The staircase: imports point down the layers of docs/architecture.md, the lower ones without PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

# The layer of a module is that of the longest entry that is a prefix of its name.
LAYERS = {
    "elysium": 5,  # the public face and `python -m elysium`
    "elysium.errors": 0,
    "elysium.files": 0,
    "elysium.boxes": 0,
    "elysium.cluster": 0,
    "elysium.config": 0,
    "elysium.config_files": 0,
    "elysium.config_published": 0,
    "elysium.manifest": 0,
    "elysium.processes": 0,
    "elysium.templates": 0,
    "elysium.language": 1,
    "elysium.live": 1,
    "elysium.opencv": 1,
    "elysium.readahead": 1,
    "elysium.readers": 1,
    "elysium.sampling": 1,
    "elysium.video": 1,
    "elysium.video_writer": 1,
    "elysium.tracks": 1,
    "elysium.data": 2,
    "elysium.data.records": 1,
    "elysium.draw": 2,
    "elysium.exports": 2,
    "elysium.gif": 2,
    "elysium.model": 2,
    "elysium.pretrained": 2,
    "elysium.evaluation": 2,
    "elysium.building": 2,
    "elysium.inference": 3,
    "elysium.training": 3,
    "elysium.evaluation.predictors": 4,
    "elysium.evaluation.runner": 4,
    "elysium.evaluation.report": 4,
    "elysium.building.models": 4,
    "elysium.building.plugins": 4,
    "elysium.building.account": 4,
    "elysium.building.pipeline": 4,
    "elysium.building.report": 4,
    "elysium.building.staff": 4,
    "elysium.cli": 5,
    "elysium.app": 5,
}
# What draws samples, in a loader's process or by itself, is light too, though its layer may know PyTorch.
DRAWS_SAMPLES = ["elysium.training.samples", "elysium.training.streams", "elysium.data.sharding"]
# Imports inside functions that look up on purpose: (from, to).
ALLOWED = {
    ("elysium.tracks", "elysium.draw"),  # TrackResult.save_video, a convenience
    ("elysium.tracks", "elysium.gif"),  # the same, for a name in .gif
    ("elysium.tracks", "elysium.exports"),  # TrackResult.export, another
}
HEAVY = ("torch", "transformers")
# Within one layer, what these packages may not know about.
STRANGERS = {"elysium.model": ("elysium.data", "elysium.evaluation", "elysium.building", "elysium.draw", "elysium.gif")}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((SRC / "elysium").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def layer(name: str) -> int:
    """The layer of a module."""
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    return LAYERS[name]


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node`, without the bodies of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other
                yield from at_run_time(other)
            continue
        yield child
        yield from at_run_time(child)


def imports(name: str, source: str, *, is_package: bool = False) -> set[str]:
    """The modules that a module imports anywhere, inside functions too, except for type checking."""
    found = set()
    for node in at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".") + (["__init__"] if is_package else [])
                base = ".".join([*parts[: -node.level], *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in MODULES else base)
    return found


def imports_of(name: str) -> set[str]:
    path = MODULES[name]
    return imports(name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")


def test_every_top_level_module_has_a_layer() -> None:
    unknown = {name for name in MODULES if name.count(".") == 1 and name not in LAYERS} - {"elysium.__main__"}
    assert not unknown, "say in LAYERS and in docs/architecture.md where these belong"


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    ours = {other for other in imports_of(name) if other.split(".")[0] == "elysium" and other != "elysium"}
    upward = {other for other in ours if layer(other) > layer(name) and (name, other) not in ALLOWED}
    assert not upward
    for package, strangers in STRANGERS.items():
        if name == package or name.startswith(package + "."):
            assert not {other for other in ours if other.startswith(strangers)}


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in MODULES
        if layer(n) <= 1 or (layer(n) == 2 and n.startswith(("elysium.evaluation", "elysium.building")))
    ],
)
def test_low_layers_metrics_and_stages_never_import_torch(name: str) -> None:
    assert not {other for other in imports_of(name) if other.split(".")[0] in HEAVY}


def test_low_layers_do_not_bring_torch_in_through_others() -> None:
    low = [n for n in MODULES if n != "elysium" and layer(n) <= 1] + DRAWS_SAMPLES
    lines = "; ".join(f"import {name}" for name in low)
    code = f"import sys; {lines}; print(sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_reader_of_imports_sees_what_it_should() -> None:
    source = (
        "import os\nfrom typing import TYPE_CHECKING\nfrom elysium import boxes\nfrom .errors import X\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from elysium.cli import main\n    import transformers.models\n"
    )
    assert imports("elysium.tracks", source) == {
        "os",
        "typing",
        "elysium.boxes",
        "elysium.errors",
        "elysium.cli.main",
        "transformers.models",
    }
    assert imports("elysium.cli", "from . import main\n", is_package=True) == {"elysium.cli.main"}
