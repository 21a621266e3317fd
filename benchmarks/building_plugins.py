"""Plug-ins that cost next to nothing, for benchmarks of what carries them: one box is found, and stays where it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.stages import Clip, Detections, Dropped, Image, Phrase


class CommaNouns:
    name = "commas"

    def phrases(self, caption: str) -> tuple[list[Phrase], list[Dropped]]:
        return [self.phrase_of(part) for part in caption.split(",")], []

    def phrase_of(self, expression: str) -> Phrase:
        return Phrase(expression.strip(), expression.split()[-1], expression.strip())


class MiddleGrounder:
    name = "middle"

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        height, width = image.shape[:2]
        box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]])
        return [Detections(box, np.ones(1)) for _ in phrases]


class StillFollower:
    name = "still"

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        count = sum(1 for _ in clip.frames())
        return [(np.tile(start, (count, 1)), np.ones(count)) for start in starts_xyxy]
