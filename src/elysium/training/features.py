"""Rendered clips and what the frozen tower sees in them, kept on disk.

A frozen tower gives the same features for the same clip every time, so each clip is rendered and encoded once
(float16, about 0.1 MB a frame for nano) and every epoch draws other frames, objects, tasks and words from it. Where the
tower learns, the pixels are kept instead.
Shards are written atomically and skipped when they exist: an interrupted rendering goes on where it stopped.

Knows: shards, annotations. Does not know: tasks, prompts, losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from elysium.data.synth import ClipGenerator, SynthClip
from elysium.errors import InputError
from elysium.files import atomic_path, atomic_write_text, ensure_folder
from elysium.model import ElysiumForConditionalGeneration, ElysiumImageProcessor
from elysium.training.sources import AtHand, ClipLabels, ObjectLabel

SHARD_CLIPS = 100
MADE_BY = "made_by.json"
_ENCODE_BATCH = 8  # measured: the fastest batch for a small convolutional tower on two cores


class FeatureCache(AtHand):
    """Features (T, D) float16, or pixels (T, S, S, 3) uint8, and labels of clips 0..len-1, read from shards by memory
    mapping."""

    def __init__(self, folder: Path, num_clips: int) -> None:
        self.folder = folder
        self.num_clips = num_clips
        self.name = folder.name
        self._arrays: dict[int, NDArray[Any]] = {}
        self._labels: dict[int, list[ClipLabels]] = {}

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ClipLabels]:
        shard, place = divmod(index, SHARD_CLIPS)
        if shard not in self._arrays:
            self._arrays[shard] = np.load(_array_path(self.folder, shard), mmap_mode="r")
            self._labels[shard] = _read_labels(_label_path(self.folder, shard))
        return self._arrays[shard][place], self._labels[shard][place]

    def all_objects(self) -> Iterator[ObjectLabel]:
        """Every object of the cached clips."""
        for shard in range(-(-self.num_clips // SHARD_CLIPS)):
            for clip in _read_labels(_label_path(self.folder, shard)):
                yield from clip.objects


Encode = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""From frames (T, S, S, 3) to what is kept of them, (T, D) or the frames themselves."""


def render_cache(
    folder: Path, num_clips: int, make_generator: Callable[[], ClipGenerator], encode: Encode,
    about: dict[str, Any] | None = None,
) -> FeatureCache:  # fmt: skip
    """Render and encode the shards that are missing in ``folder``, or too short; returns the cache.

    The generator is only made if any is. ``about``: what the clips are made by, written beside them; raises InputError
    if clips are there that were made by something else.
    """
    ensure_folder(folder)
    _check_made_by(folder, about)
    starts = range(0, num_clips, SHARD_CLIPS)
    wanted = {number: min(SHARD_CLIPS, num_clips - start) for number, start in enumerate(starts)}
    missing = {shard: count for shard, count in wanted.items() if _num_clips(folder, shard) < count}
    generator = make_generator() if missing else None
    for shard, count in track(missing.items(), description=f"rendering {folder.name}", disable=not missing):
        assert generator is not None
        clips = [generator.generate(shard * SHARD_CLIPS + i) for i in range(count)]
        with atomic_path(_array_path(folder, shard)) as path, path.open("wb") as file:
            encoded = encode(np.concatenate([clip.frames for clip in clips]))
            np.save(file, encoded.reshape(len(clips), -1, *encoded.shape[1:]))
        atomic_write_text(_label_path(folder, shard), json.dumps([_to_json(clip) for clip in clips]))
    return FeatureCache(folder, num_clips)


def _check_made_by(folder: Path, about: dict[str, Any] | None) -> None:
    path = folder / MADE_BY
    if about is None or (not path.exists() and _label_path(folder, 0).exists()):
        return  # clips of a version that did not write this down
    if path.exists() and (made := json.loads(path.read_text(encoding="utf-8"))) != json.loads(json.dumps(about)):
        changed = ", ".join(key for key in about if made.get(key) != about[key])
        raise InputError(
            f"{folder} holds clips that were made with another {changed}", "Name another data.cache_dir, or remove it"
        )
    atomic_write_text(path, json.dumps(about) + "\n")


def _num_clips(folder: Path, shard: int) -> int:
    """How many clips a shard holds; 0 if it is not there."""
    if not (_label_path(folder, shard).exists() and _array_path(folder, shard).exists()):
        return 0
    return len(np.load(_array_path(folder, shard), mmap_mode="r"))


def tower_encoder(model: ElysiumForConditionalGeneration, image_processor: ElysiumImageProcessor) -> Encode:
    """A function from frames (T, H, W, 3) to features (T, D) in float16."""

    @torch.inference_mode()
    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float16]:
        parts = [frames[i : i + _ENCODE_BATCH] for i in range(0, len(frames), _ENCODE_BATCH)]
        pixels = (image_processor(list(part))["pixel_values"].to(model.device) for part in parts)
        return torch.cat([model.encode_frames(part).half().cpu() for part in pixels]).numpy()

    return encode


def _array_path(folder: Path, shard: int) -> Path:
    return folder / f"features-{shard:05d}.npy"


def _label_path(folder: Path, shard: int) -> Path:
    return folder / f"labels-{shard:05d}.json"


def _to_json(clip: SynthClip) -> list[dict[str, object]]:
    objects = [
        ObjectLabel(o.noun, o.colour, np.round(o.boxes_xyxyn, 5), tuple(o.expressions), o.description)
        for o in clip.objects
        if np.isfinite(o.boxes_xyxyn[:, 0]).sum() >= min(2, len(o.boxes_xyxyn))
    ]
    return [
        {**asdict(o), "boxes_xyxyn": [None if np.isnan(b[0]) else b.tolist() for b in o.boxes_xyxyn]} for o in objects
    ]


def _read_labels(path: Path) -> list[ClipLabels]:
    def label(item: dict[str, Any]) -> ObjectLabel:
        boxes = [[np.nan] * 4 if b is None else b for b in item["boxes_xyxyn"]]
        words = tuple(item["expressions"])
        return ObjectLabel(item["noun"], item["colour"], np.array(boxes, np.float32), words, item["description"])

    return [ClipLabels(tuple(label(o) for o in clip)) for clip in json.loads(path.read_text(encoding="utf-8"))]
