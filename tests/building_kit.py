"""What the tests of building share: clips in memory, phrases, and plug-ins that say what they are told to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from elysium.building.stages import Detections, Grounded, Image, Phrase, Trajectory

SIZE_WH = (200, 100)


@dataclass
class FakeClip:
    """Frames in memory as a clip; counts how often they are read. `first` is the number of its first frame."""

    images: Sequence[Image]
    first: int = 0
    reads: int = 0

    @property
    def indices(self) -> list[int]:
        return list(range(self.first, self.first + len(self.images)))

    @property
    def times_s(self) -> list[float]:
        return [index / 25 for index in self.indices]

    @property
    def resolution_wh(self) -> tuple[int, int]:
        return self.images[0].shape[1], self.images[0].shape[0]

    def frames(self) -> Iterator[Image]:
        for image in self.images:
            self.reads += 1
            yield image

    def frame(self, number: int) -> Image:
        self.reads += 1
        return self.images[number]


def blank_clip(count: int, first: int = 0) -> FakeClip:
    """Frame k is all of value k."""
    return FakeClip([np.full((SIZE_WH[1], SIZE_WH[0], 3), k, dtype=np.uint8) for k in range(count)], first)


def phrase(text: str = "red dog", expression: str | None = None) -> Phrase:
    return Phrase(text, text.split()[-1], expression or f"a {text} that runs")


def detections(*found: tuple[float, float, float, float, float]) -> Detections:
    """left, top, right, bottom, score of each."""
    rows = np.array(found, dtype=np.float64).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4])


@dataclass
class TableGrounder:
    """Says what stands in its table for a frame of `blank_clip` and a phrase's text; keeps the questions."""

    table: dict[tuple[int, str], Detections]
    name: str = "table"
    asked: list[tuple[int, list[str]]] = field(default_factory=list)

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        number = int(image[0, 0, 0])
        self.asked.append((number, [one.text for one in phrases]))
        return [self.table.get((number, one.text), detections()) for one in phrases]


def straight(count: int = 24, velocity: tuple[float, float] = (2.0, 1.0), side: float = 24.0) -> np.ndarray:
    """(T, 4) a square that moves evenly."""
    corner = np.array([20.0, 10.0]) + np.arange(count)[:, None] * np.array(velocity)
    return np.hstack([corner, corner + side])


def trajectory(
    boxes: np.ndarray,
    scores: np.ndarray | None = None,
    *,
    text: str = "red dog",
    score: float = 0.9,
    witnesses: dict[int, np.ndarray] | None = None,
    others: dict[int, np.ndarray] | None = None,
    expression: str | None = None,
) -> Trajectory:
    start = Grounded(phrase(text, expression), boxes[0], score, witnesses or {}, others or {})
    return Trajectory(start, boxes, scores)
