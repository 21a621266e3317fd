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


class OwnGrounder:
    """One box for each phrase: a model that is asked for one never sees several candidates.

    Args:
        model: "nano", a folder or a hub id, as `Elysium.from_pretrained` takes it.
        words: what is asked for: the phrase's `text` ("running dog") or its whole `expression`.
        device, dtype, threads: as for `Elysium.from_pretrained`.

    Raises as `Elysium.from_pretrained`.
    """

    def __init__(
        self, model: str = "nano", words: Words = "text", device: str = "auto", dtype: str = "auto",
        threads: int | None = None,
    ) -> None:  # fmt: skip
        if words not in ("text", "expression"):
            raise InputError(f"The words asked for are {words!r}", "Use text or expression.")
        self.name = f"elysium ({model})"
        self._model = Elysium.from_pretrained(model, device=device, dtype=dtype, threads=threads)
        self._words = words

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        answers = (self._model.ground(image, getattr(phrase, self._words)) for phrase in phrases)
        return [
            Detections(np.empty((0, 4)), np.empty(0))
            if np.isnan(box).any()
            else Detections(box[None].astype(np.float64), np.array([score], dtype=np.float64))
            for box, score in answers
        ]


class OwnFollower:
    """All objects of a clip at once. Where the model says "absent", or an old box stands in, there is no box.

    Args:
        model, device, dtype, threads: as for `OwnGrounder`.
        tracking: options of `Elysium.track`, such as `search_window`.
    """

    def __init__(
        self, model: str = "nano", tracking: dict[str, Any] | None = None, device: str = "auto", dtype: str = "auto",
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.name = f"elysium ({model})"
        self._model = Elysium.from_pretrained(model, device=device, dtype=dtype, threads=threads)
        self._tracking = tracking or {}

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        result = self._model.track(clip.frames(), boxes=np.array(starts_xyxy), **self._tracking)
        answers: list[tuple[FloatArray, FloatArray | None]] = []
        for track, start in zip(result.tracks, starts_xyxy, strict=True):
            boxes, scores = np.full((len(clip.indices), 4), np.nan), np.full(len(clip.indices), np.nan)
            seen = track.states == "tracked"
            boxes[: len(track)][seen] = track.boxes_xyxy[seen]
            scores[: len(track)] = track.scores
            boxes[0] = start
            answers.append((boxes, scores))
        return answers
