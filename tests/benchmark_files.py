"""A tiny benchmark on disk: sequences of a square over noise, and their annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (64, 48)


def boxes(number: int, frames: int) -> list[list[float]]:
    """The square of sequence ``number``: it goes ``number`` pixels to the right in each frame; in 0..1."""
    return [
        [(8 + number * i) / 64, 12 / 48, (24 + number * i) / 64, 28 / 48] for i in range(frames)
    ]  # fmt: skip


def write_benchmark(folder: Path, sequences: int = 4, frames: int = 5, **changes: Any) -> Path:
    """``folder/anno.jsonl`` and ``folder/frames``; ``changes`` go into every record. Returns the annotations."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(sequences):
        id = f"seq_{number}"
        names = [f"{id}/{i:03d}.png" for i in range(frames)]
        truth = boxes(number, frames)
        for name, box in zip(names, truth, strict=True):
            pixels = rng.integers(0, 80, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            x1, y1, x2, y2 = (round(v * s) for v, s in zip(box, SIZE * 2, strict=True))
            pixels[y1:y2, x1:x2] = (200, 40, 40)
            path = folder / "frames" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        lines.append(
            {"source": "made", "id": id, "vid": id, "metadata": {}, "frames": names, "object_class": "square",
             "box": truth, "object_description": "the red square", "frame_size": list(SIZE), **changes}
        )  # fmt: skip
    path = folder / "anno.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
