"""Questions about an object in some frames, and what has to be known to read their answers.

Knows prompts, windows and boxes in bins. Knows nothing of memories and states: what is asked when, and what an answer
means, is in elysium.inference.clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import Affine2d, FloatArray
from elysium.inference.answers import Request
from elysium.inference.windows import bins_to_region, box_to_bins, cut_out, look_around
from elysium.language.dialects import Dialect
from elysium.language.prompts import Task, build_prompt, build_question
from elysium.video import Frame


@dataclass(frozen=True)
class Question:
    """A request, and how to read the answer to it."""

    request: Request | None  # None: nothing to ask, the given box is all there is
    affines: list[Affine2d]  # of each frame asked about
    frames: tuple[int, ...] = ()  # their indices in the source
    skip: int = 0  # frames at the start whose answers are not results: they have been reported
    given: FloatArray | None = None  # result of the first frame, whatever the answer
    note: str | None = None


@dataclass(frozen=True)
class Asker:
    """Makes questions.

    Args:
        dialect: how boxes are written in them.
        search_window: side in box sizes of the window that a question by box looks through, None for full frames.
        region_marks: the model wants `<region>` after a box.
    """

    dialect: Dialect
    search_window: float | None
    region_marks: bool

    def by_box(self, box: FloatArray, frames: Sequence[Frame], window: Affine2d | None = None) -> Question:
        """SOT: `box` was seen in the first of `frames`. Through `window`, by default the search window around it."""
        images = [frame.image for frame in frames]
        if window is None:
            images, seen = look_around(images, box, self.search_window)
        else:
            images, seen = [cut_out(image, window) for image in images], window
        bins = box_to_bins(box, seen, self.dialect.max_bin)
        text = self.dialect.format_box(bins)
        request = Request(
            build_prompt(Task.SOT, len(images), build_question(Task.SOT, box_text=text, region_mark=self.region_marks)),
            images,
            regions=[(0, bins_to_region(bins, self.dialect.max_bin))],
            num_boxes=len(images),
        )
        return Question(request, [seen] * len(images), _indices(frames))

    def by_words(self, words: str, frames: Sequence[Frame], window: Affine2d | None = None) -> Question:
        """RSOT, or REC when there is but one frame. Through `window`, by default the full frames."""
        images = [frame.image if window is None else cut_out(frame.image, window) for frame in frames]
        task = Task.RSOT if len(images) > 1 else Task.REC
        request = Request(
            build_prompt(task, len(images), build_question(task, expression=words)),
            images,
            query=words,
            num_boxes=len(images),
            single_box=task is Task.REC,
        )
        return Question(request, [window or Affine2d.full_frame(wh(image)) for image in images], _indices(frames))


def wh(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height in pixels."""
    return image.shape[1], image.shape[0]


def _indices(frames: Sequence[Frame]) -> tuple[int, ...]:
    return tuple(frame.index for frame in frames)
