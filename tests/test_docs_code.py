"""The Python of the documentation runs: blocks behind the line `<!-- runs -->`, in order, one file in one namespace."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"<!-- runs(?:, needs (?P<package>\w+))? -->\n```python\n(?P<code>.*?)```", re.DOTALL)
ASSETS = DOCS.parent / "src" / "elysium" / "assets"
WEIGHTS = DOCS.parent / "src" / "elysium" / "model" / "weights"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the blocks name: a model, a video, a picture."""
    shutil.copytree(WEIGHTS / "nano", tmp_path / "runs" / "mine")
    shutil.copy(ASSETS / "pedestrians.mp4", tmp_path / "clip.mp4")
    Image.effect_noise((64, 48), 90).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_blocks_run(here):
    names: dict[str, object] = {}
    blocks = list(BLOCK.finditer((DOCS / "checkpoints.md").read_text(encoding="utf-8")))
    assert len(blocks) >= 6
    for block in blocks:
        if block["package"] and find_spec(block["package"]) is None:
            continue
        exec(compile(block["code"], f"checkpoints.md: {block['code'].splitlines()[0]}", "exec"), names)
    assert names["answer"] and names["loss"] > 0 and len(names["result"].tracks) == 1
