"""What an installation needs: pins within the ranges, package data for every file, one test command."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "elysium"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def test_names(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    assert project["name"] == "elysium-video"
    assert project["scripts"] == {"elysium": "elysium.cli.main:main"}
    assert project["requires-python"] == ">=3.10"
    assert set(project["optional-dependencies"]) == {"dev", "train", "eval", "build", "quantized", "app"}


def test_ranges_admit_what_they_must(pyproject: dict[str, Any]) -> None:
    ranges = {r.name: r.specifier for r in map(Requirement, pyproject["project"]["dependencies"])}
    assert "2.11.0" in ranges["torch"]
    assert "5.17.0" in ranges["transformers"]
    assert "6.0.0" not in ranges["transformers"]
    assert "torchvision" not in ranges


def test_every_pin_is_exact_and_in_range(pyproject: dict[str, Any], pins: list[Requirement]) -> None:
    for pin in pins:
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), f"{pin} is not an exact pin"
    wanted = list(pyproject["project"]["dependencies"])
    for extra in pyproject["project"]["optional-dependencies"].values():
        wanted += extra
    for requirement in map(Requirement, wanted):
        versions = [
            str(pin.specifier).removeprefix("==")
            for pin in pins
            if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        ]
        assert versions, f"constraints.txt does not pin {requirement.name}"
        assert all(version in requirement.specifier for version in versions), requirement


def test_torch_is_the_tested_one(pins: list[Requirement]) -> None:
    assert [str(pin.specifier) for pin in pins if pin.name == "torch"] == ["==2.13.0"]


def test_pins_hold_for_every_python(pins: list[Requirement]) -> None:
    """Each name has exactly one pin on each Python that is supported."""
    for version in ("3.10", "3.11", "3.12", "3.13", "3.14"):
        active = [p.name for p in pins if p.marker is None or p.marker.evaluate({"python_version": version})]
        assert len(active) == len(set(active)), version
        assert set(active) == {pin.name for pin in pins}, version


def test_package_data_covers_every_file(pyproject: dict[str, Any]) -> None:
    patterns = [p.replace("**/", "*") for p in pyproject["tool"]["setuptools"]["package-data"]["elysium"]]
    listed = subprocess.run(
        ["git", "ls-files", "src/elysium"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [n.removeprefix("src/elysium/") for n in listed.stdout.splitlines() if not n.endswith(".py")]
    assert "py.typed" in names
    missed = [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert not missed, "an installed elysium would lack these: add them to package-data in pyproject.toml"


def test_folders_with_code_are_packages() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_readme_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv.*$", readme, flags=re.MULTILINE)
    assert len(commands) == 2
    assert all("-c constraints.txt" in command for command in commands)
    assert commands[0].endswith("elysium demo")
    assert commands[1].endswith("pytest -n 2")
    mark = readme.index("<!-- test command -->")  # .ci/run takes the line after it
    assert readme.index(commands[0]) < mark < readme.index(commands[1])
    assert "pip install elysium\n" not in readme
    assert "pip install elysium " not in readme


def test_ci_runs_the_readme() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- test command -->" in text
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_installed_packages_support_the_oldest_python(pins: list[Requirement]) -> None:
    """Where a pin is installed here in its pinned version, its own metadata must admit Python 3.10."""
    from importlib.metadata import PackageNotFoundError, metadata

    checked = 0
    for pin in pins:
        try:
            facts = metadata(pin.name)
        except PackageNotFoundError:
            continue
        if facts["Version"] != str(pin.specifier).removeprefix("==") or pin.marker is not None:
            continue
        assert "3.10.13" in SpecifierSet(facts["Requires-Python"] or ""), pin
        checked += 1
    if not checked:
        pytest.skip("nothing is installed in its pinned version")


def shim(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_metric_shim_gives_the_published_figures(shared_dir: Path) -> None:
    done = shim("eval/otb.py", shared_dir / "compat" / "pipeline" / "SOT_infer.jsonl")
    assert done.returncode == 0 and "not comparable" in done.stdout
    assert "AUC 76.8   precision 83.1   normalised precision 73.9   (3 records)" in done.stdout  # SOT_otb.txt
    assert shim("eval/otb.py", "nosuch").stderr.startswith("error: There are no results 'nosuch'")


def test_evaluation_shim_runs_a_configuration(tmp_path: Path) -> None:
    """The annotations may stand where the published configuration has them."""
    from benchmark_files import write_benchmark

    annotations = write_benchmark(tmp_path / "data", sequences=1, frames=3)
    config = tmp_path / "eval.yaml"
    config.write_text(
        f"data: {{predict: {{data_fetch: {{data_paths: [{annotations}]}}}}}}\n"
        f"images: {tmp_path / 'data' / 'frames'}\noutput: {tmp_path / 'run'}\nthreads: 1\n"
    )
    done = shim("eval/eval.py", "--local_rank=0", "--config", config, "--task", "RSOT")
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "run" / "answers.jsonl").read_text().splitlines()
    assert "Please find one square and provide the detailed coordinates in each frame." in json.loads(line)["question"]
    assert "not comparable" in done.stdout and "RSOT nano (published): 1 sequences, 3 frames" in done.stdout
    refused = shim("eval/eval.py", "--config", tmp_path / "none.yaml", "--task", "SOT")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "none.yaml" in refused.stderr


def test_training_shim_hands_the_configuration_on(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    command = [sys.executable, str(ROOT / "training/train.py"), "--local_rank=0", "--config", str(missing)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert str(missing) in done.stderr
