"""A stand-in for the engine: answers come from a script, every request is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from elysium.inference.answers import Answer, Request

Said = tuple[str, tuple[int, int, int, int] | None, float]  # status, bins, score
Script = Callable[[Request, int], Said]  # (request, index of the frame in the source) -> what is said of it


def numbered_frames(count: int, height: int = 100, width: int = 200) -> list[NDArray[np.uint8]]:
    """Frames of one colour, the number of the frame."""
    return [np.full((height, width, 3), number, dtype=np.uint8) for number in range(count)]


def frame_numbers(request: Request) -> list[int]:
    """Which frames of `numbered_frames` a request shows, by their middle pixel."""
    return [int(image[image.shape[0] // 2, image.shape[1] // 2, 0]) for image in request.frames]


def boxes_at(bins: tuple[int, int, int, int] = (10, 20, 30, 40), score: float = 0.9) -> Script:
    """The same box in every frame."""
    return lambda request, frame: ("ok", bins, score)


@dataclass
class ScriptedEngine:
    """Answers each frame of each request with what `script` says of it."""

    script: Script
    max_batch: int = 8
    region_marks: bool = False
    requests: list[Request] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    free: list[bool] = field(default_factory=list)

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        self.batches.append(len(requests))
        self.requests += requests
        self.free.append(free)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        said = [self.script(request, number) for number in frame_numbers(request)]
        boxes = np.array([[np.nan] * 4 if bins is None else bins for _, bins, _ in said], dtype=np.float64)
        return Answer("", (), boxes, np.array([score for *_, score in said]), tuple(s for s, *_ in said))
