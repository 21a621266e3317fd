"""What training tests need: a tiny model on disk, records with images, and a configuration of few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from elysium.data.sharding import shard
from elysium.data.shards import SUFFIXES, Form
from elysium.training import recipe
from elysium.training.trainer import ElysiumTrainer
from tiny import tiny_model_and_processor

NUM_FRAMES = 6


def write_model(folder: Path, gate: str = "mlp", noise: float = 1.0, positions: int = 2048) -> Path:
    """A tiny Elysium with a CLIP tower; its tokenizer has no number of several digits as one token."""
    model, processor = tiny_model_and_processor(gate)
    model.config.selector["noise"] = noise
    model.config.text_config.max_position_embeddings = positions
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_records(folder: Path, videos: int = 3, things: int = 2) -> Path:
    """``videos`` of six frames of noise, ``things`` tracks in each; images beside ``records.jsonl``."""
    rng = np.random.default_rng(0)
    lines = []
    for video in range(videos):
        names = [f"v{video}/{frame}.png" for frame in range(NUM_FRAMES)]
        (folder / f"v{video}").mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(folder / name)
        for thing in range(things):
            left = 0.1 + 0.3 * thing
            boxes = [[round(left + 0.02 * t, 3), 0.2, round(left + 0.25 + 0.02 * t, 3), 0.7] for t in range(NUM_FRAMES)]
            words = ("red car", "blue dog")[thing % 2]
            lines.append({
                "source": "test", "id": f"{video}-{thing}", "vid": f"v{video}", "metadata": {}, "frames": names,
                "object_class": words.split()[1], "box": boxes, "object_description": f"the {words}",
                "frame_size": [60, 40],
            })  # fmt: skip
    return write_lines(folder / "records.jsonl", lines)


def write_chats(folder: Path, image: str | None = None) -> Path:
    """Two chats, about the image or about nothing."""
    frames = [image] if image else []
    mark = "<image>\n" if image else ""
    lines = [
        {"id": f"chat{i}", "source": "test", "vid": "c", "frames": frames,
         "vqa": [{"from": "human", "value": f"{mark}a big {word}"}, {"from": "gpt", "value": f"the small {word}"}]}
        for i, word in enumerate(("car", "dog"))
    ]  # fmt: skip
    return write_lines(folder / "chats.jsonl", lines)


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_shards(records: Path, folder: Path, clips: int = 2, form: Form = "webdataset") -> str:
    """The records with the images beside them in shards of so many clips; the pattern that names them."""
    shard(records, folder, records.parent, form=form, clips=clips)
    return str(folder / f"*{SUFFIXES[form]}")


def write_config(path: Path, **sections: Any) -> Path:
    """Four steps of two samples of two frames; ``sections`` are laid over that, one level deep."""
    values: dict[str, Any] = {
        "output_dir": str(path.with_suffix("")),
        "threads": 1,
        "data": {"train_clips": 0, "val_clips": 0, "slip_share": 0.0, "tasks": {"SOT": 0.5, "RSOT": 0.5}},
        "phases": [{"until": 1.0, "frames": 2}],
        "loss": {"gate": 0.0, "choice": 0.0, "votes": 0.0},
        "trainer": {
            "max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1,
            "save_steps": 2, "disable_tqdm": True, "report_to": "none",
        },
    }  # fmt: skip
    for key, value in sections.items():
        merged = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if merged else value
    path.write_text(yaml.safe_dump(json.loads(json.dumps(values, default=str))))
    return path


def source(annotations: Path, images: Path | None = None, **more: Any) -> dict[str, Any]:
    """An entry of ``data.sources``; images beside the records."""
    return {"annotations": annotations, "images": images or annotations.parent, **more}


def log_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> dict[int, float]:
    """Loss by step; of a step that was done twice, the later."""
    return {line["step"]: line["loss"] for line in log_lines(folder) if "loss" in line}


def run_whole_and_broken(whole: Path, broken: Path, step: int) -> None:
    """A run to its end, and one that dies behind ``step``."""
    recipe.run(whole)
    run_until_it_dies(broken, step)


def run_until_it_dies(config: Path, step: int) -> None:
    """A run whose process ends without a word in the step behind ``step``."""
    honest = ElysiumTrainer.compute_loss

    def dies(self: ElysiumTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            raise RuntimeError("the machine went away")
        return honest(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ElysiumTrainer, "compute_loss", dies)
        with pytest.raises(RuntimeError):
            recipe.run(config)
