"""A world that building is tested in: videos of coloured squares, captions, plug-ins that know colours and no more."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.settings import BuildSettings
from elysium.building.stages import Clip, Detections, Dropped, Image, Phrase
from elysium.video import VideoWriter

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230)}
SIZE_WH, SIDE, STEP = (96, 64), 16, 2


def write_video(path: Path, colors: Sequence[str] = ("red",), frames: int = 12, shift: int = 0) -> Path:
    """Squares of 16 pixels, one a colour, below one another, that go 2 pixels to the right from frame to frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25.0, SIZE_WH) as writer:
        for number in range(frames):
            image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 128, dtype=np.uint8)
            for row, color in enumerate(colors):
                left, top = 4 + shift + STEP * number, 2 + row * (SIDE + 4)
                image[top : top + SIDE, left : left + SIDE] = COLORS[color]
            writer.write(image)
    return path


def write_captions(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def world(folder: Path, count: int = 3) -> Path:
    """``count`` videos of a red square, every second with a blue one, and their captions; a list of them."""
    lines = []
    for number in range(count):
        colors = ("red", "blue")[: 1 + number % 2]
        write_video(folder / "videos" / f"v{number}.mp4", colors, shift=2 * (number % 5))
        caption = "a red square, a blue square, happiness"
        lines.append({"video": f"v{number}.mp4", "caption": caption, "url": f"https://example.org/{number}"})
    return write_captions(folder / "captions.jsonl", lines)


def settings(**following: Any) -> BuildSettings:
    """Those of the plug-ins below; options of the follower."""
    return BuildSettings.model_validate(
        {
            "nouns": {"plugin": "building_world:CommaNouns"},
            "grounding": {"plugin": "building_world:ColorGrounder"},
            "following": {"plugin": "building_world:ColorFollower", "options": following},
            "filters": {"shots": {"enabled": False}, "drift": {"enabled": False}},  # which need no package
        }
    )


def overrides(**options: Any) -> list[str]:
    """The same for a command line."""
    return [
        "nouns.plugin=building_world:CommaNouns", "grounding.plugin=building_world:ColorGrounder",
        "following.plugin=building_world:ColorFollower", "filters.shots.enabled=false", "filters.drift.enabled=false",
        *(f"following.options.{key}={json.dumps(value)}" for key, value in options.items()),
    ]  # fmt: skip


class CommaNouns:
    """Phrases stand between commas; what has no colour is abstract, and what says so is not English."""

    name = "commas"

    def phrases(self, caption: str) -> tuple[list[Phrase], list[Dropped]]:
        if caption.startswith("ein "):
            return [], [Dropped(caption, "not-english")]
        chunks = [chunk.strip() for chunk in caption.split(",") if chunk.strip()]
        named = [chunk for chunk in chunks if any(color in chunk for color in COLORS)]
        return [self.phrase_of(chunk) for chunk in named], [
            Dropped(chunk, "abstract") for chunk in chunks if chunk not in named
        ]

    def phrase_of(self, expression: str) -> Phrase:
        return Phrase(expression.removeprefix("a "), expression.split()[-1], expression)


def find(image: Image, color: str) -> FloatArray | None:
    """(4,) around the pixels of a colour; None if there are fewer than 30."""
    close = np.abs(image.astype(np.int64) - COLORS[color]).max(axis=2) < 60
    if close.sum() < 30:
        return None
    y, x = np.nonzero(close)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=np.float64)


class ColorGrounder:
    """Finds the colour that a phrase names."""

    name = "colours"

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        found = []
        for phrase in phrases:
            box = find(image, next(color for color in COLORS if color in phrase.text))
            boxes = np.zeros((0, 4)) if box is None else box[None]
            found.append(Detections(boxes, np.full(len(boxes), 0.9)))
        return found


class ColorFollower:
    """Follows the colour in the middle of the first box.

    ``raises_on``, ``dies_on``, ``unsure_of``: clips whose name has these words. ``log``: a file in which the name of
    each clip is written. ``held_by``: a file; as long as it is there, only the first two clips in the log are followed.
    """

    name = "colours"

    def __init__(
        self, raises_on: str = "", dies_on: str = "", unsure_of: str = "", held_by: str = "", log: str = ""
    ) -> None:
        self.raises_on, self.dies_on, self.unsure_of = raises_on, dies_on, unsure_of
        self.held_by, self.log = held_by, log

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        name = clip.path.name  # type: ignore[attr-defined]
        if self.log:
            with open(self.log, "a") as file:
                file.write(name + "\n")
        while self.held_by and Path(self.held_by).exists() and name not in Path(self.log).read_text().split()[:2]:
            time.sleep(0.05)
        if self.dies_on and self.dies_on in name:
            os._exit(9)
        if self.raises_on and self.raises_on in name:
            raise ArithmeticError("no idea")
        images = list(clip.frames())
        score = 0.5 if self.unsure_of and self.unsure_of in name else 1.0
        found = []
        for start in starts_xyxy:
            middle = images[0][int(start[1] + start[3]) // 2, int(start[0] + start[2]) // 2].astype(np.int64)
            color = min(COLORS, key=lambda one: int(np.abs(middle - COLORS[one]).sum()))
            boxes = [find(image, color) for image in images]
            rows = np.array([np.full(4, np.nan) if box is None else box for box in boxes])
            found.append((rows, np.full(len(rows), score)))
        return found
