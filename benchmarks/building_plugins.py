"""Plug-ins for benchmarks: some that cost next to nothing, and one that remembers what another one said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.plugins import make_follower
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


class RememberingFollower:
    """Another follower, asked once for each start: settings of the stages before it are compared at no cost."""

    said: ClassVar[dict[tuple[object, ...], tuple[FloatArray, FloatArray | None]]] = {}

    def __init__(self, plugin: str = "auto") -> None:
        self._follower = make_follower(plugin)
        self.name = self._follower.name

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        keys = [(str(clip.path), *clip.indices, *start.tolist()) for start in starts_xyxy]
        new = [number for number, key in enumerate(keys) if key not in self.said]
        if new:
            answers = self._follower.follow(clip, [starts_xyxy[number] for number in new])
            self.said.update((keys[number], answer) for number, answer in zip(new, answers, strict=True))
        return [self.said[key] for key in keys]
