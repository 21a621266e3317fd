"""What the tests of the web app work on without a model: clips, tracks, and a model whose answers are a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from elysium.app.clips import Clip, frame_name
from elysium.inference.streaming import StreamTracker
from elysium.inference.tracker import Tracker
from elysium.tracks import Track, TrackRecorder, TrackResult
from scripted import ScriptedEngine

SIZE = (200, 100)


def made_clip(folder: Path, count: int = 20, name: str = "street.mp4") -> Clip:
    """Frames of one colour each, their number (which JPEG keeps), 10 a second."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = Image.fromarray(np.full((SIZE[1], SIZE[0], 3), number, dtype=np.uint8))
        image.save(folder / frame_name(number), quality=100)
    return Clip(name, folder, 10.0, SIZE, tuple(number / 10 for number in range(count)))


def made_track(states: str, first: int = 0, expression: str | None = "the dog", number: int = 1) -> Track:
    """t tracked, c carried, a absent; the box moves a pixel a frame."""
    recorder = TrackRecorder(number, expression, [0, 0, 10, 10])
    names = {"t": "tracked", "c": "carried", "a": "absent"}
    for place, letter in enumerate(states):
        index = first + place
        box = None if letter == "a" else [index, 10, index + 20, 30]
        recorder.add(index, index / 10, box, 0.5, names[letter])  # type: ignore[arg-type]
    return recorder.finish()


def made_result(*tracks: Track) -> TrackResult:
    return TrackResult("street.mp4", "nano", 10.0, SIZE, tracks)


class Told:
    """Takes reports down; cancelled after ``stop_after`` of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[tuple[str, int, int | None]] = []
        self.stop_after = stop_after
        self.images: list[bytes] = []

    @property
    def cancelled(self) -> bool:
        return self.stop_after is not None and len(self.lines) >= self.stop_after

    def progress(self, stage: str, done: int, total: int | None = None, image: bytes | None = None) -> None:
        self.lines.append((stage, done, total))
        if image is not None:
            self.images.append(image)


class Model:
    """A model whose answers are a script: the box follows the number of the frame; it sees nothing in ``blind``."""

    name = "scripted"

    def __init__(self, blind: tuple[int, ...] = ()) -> None:
        self.engine = ScriptedEngine(
            lambda request, frame: ("absent", None, 0.9) if frame in blind else ("ok", (frame, 20, frame + 10, 40), 0.8)
        )

    def tracker(
        self, *, search_window: Any = None, lost_policy: Any = "search", fps: float = 25.0, clip_length: int = 4
    ) -> StreamTracker:
        return StreamTracker(Tracker(self.engine, clip_length, None, lost_policy=lost_policy), fps=fps)

    def unknown_words(self, words: Any) -> list[str]:
        return [f"unknown: {text}" for text in words if "zebra" in text]
