"""Our own model as a grounder (REC) and as a follower (SOT).

Knows `Elysium.ground` and `Elysium.track`. Does not know: prompts, tokens, clips of the tracker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.stages import Clip, Detections, Image, Phrase
from elysium.errors import InputError
from elysium.inference.pipelines import Elysium

Words = Literal["text", "expression"]
Line = tuple[float, float]

# How likely a box of nano's is right (IoU > 0.5), by its score: offset and slope of a logistic regression on the log
# odds of the score, on held-out clips made by program (benchmarks/grounders.py). Its scores are products of
# probabilities of tokens, which order boxes well and are far below 1 even for good ones: 0.6 would mean nothing.
GROUNDING_LINES: dict[str, Line] = {"nano": (5.65, 2.90)}
FOLLOWING_LINES: dict[str, Line] = {"nano": (9.40, 5.04)}


class OwnGrounder:
    """One box for each phrase: a model that is asked for one never sees several candidates.

    Args:
        model: "nano", a folder or a hub id, as `Elysium.from_pretrained` takes it.
        words: what is asked for: the phrase's `text` ("running dog") or its whole `expression`.
        calibrated: scores that say how likely the box is right, where that is known for the model (nano: on clips made
            by program); else the model's own.
        device, dtype, threads: as for `Elysium.from_pretrained`.

    Raises as `Elysium.from_pretrained`.
    """

    def __init__(
        self, model: str = "nano", words: Words = "text", calibrated: bool = True, device: str = "auto",
        dtype: str = "auto", threads: int | None = None,
    ) -> None:  # fmt: skip
        if words not in ("text", "expression"):
            raise InputError(f"The words asked for are {words!r}", "Use text or expression.")
        self.name = f"elysium ({model})"
        self._model = Elysium.from_pretrained(model, device=device, dtype=dtype, threads=threads)
        self._words, self._line = words, GROUNDING_LINES.get(model) if calibrated else None

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        answers = (self._model.ground(image, getattr(phrase, self._words)) for phrase in phrases)
        return [
            Detections(np.empty((0, 4)), np.empty(0))
            if np.isnan(box).any()
            else Detections(box[None].astype(np.float64), calibrate(np.array([score]), self._line))
            for box, score in answers
        ]


class OwnFollower:
    """All objects of a clip at once. Where the model says "absent", or an old box stands in, there is no box.

    Args:
        model, calibrated, device, dtype, threads: as for `OwnGrounder`.
        tracking: options of `Elysium.track`, such as `search_window`.
    """

    def __init__(
        self, model: str = "nano", tracking: dict[str, Any] | None = None, calibrated: bool = True,
        device: str = "auto", dtype: str = "auto", threads: int | None = None,
    ) -> None:  # fmt: skip
        self.name = f"elysium ({model})"
        self._model = Elysium.from_pretrained(model, device=device, dtype=dtype, threads=threads)
        self._tracking, self._line = tracking or {}, FOLLOWING_LINES.get(model) if calibrated else None

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        result = self._model.track(clip.frames(), boxes=np.array(starts_xyxy), **self._tracking)
        answers: list[tuple[FloatArray, FloatArray | None]] = []
        for track, start in zip(result.tracks, starts_xyxy, strict=True):
            boxes, scores = np.full((len(clip.indices), 4), np.nan), np.full(len(clip.indices), np.nan)
            seen = track.states == "tracked"
            boxes[: len(track)][seen] = track.boxes_xyxy[seen]
            scores[: len(track)] = calibrate(track.scores, self._line)
            boxes[0], scores[0] = start, np.nan  # it was given
            answers.append((boxes, scores))
        return answers


def calibrate(scores: FloatArray, line: Line | None) -> FloatArray:
    """Scores in 0..1 by a line on their log odds; as they are without one. 0, no box, stays 0."""
    values = np.asarray(scores, dtype=np.float64)
    if line is None:
        return values
    inside = np.clip(values, 1e-6, 1 - 1e-6)
    odds = line[0] + line[1] * np.log(inside / (1 - inside))
    return np.where(values == 0, 0.0, 1 / (1 + np.exp(-odds)))
