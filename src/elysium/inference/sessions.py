"""Objects that start at different times, one after the other through the same frames; results frame by frame.

Knows sessions (elysium.inference.clips): all objects that start in one frame share one, and each session cuts its
own clips. A frame's result is given out when every session that it went into has judged it, always in the order of
frames: that is when the clip that holds it is complete, so up to `clip_length - 1` frames later (7 by default, 1 with
clips of 2), or at `finish`. Does not know where frames come from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from elysium.inference.clips import ClipResult, ClipSession, FloatArray, TrackedObject
from elysium.tracks import FrameState, Track, TrackResult
from elysium.video import Frame

if TYPE_CHECKING:
    import supervision as sv

MakeSession = Callable[[Sequence[TrackedObject]], ClipSession]


@dataclass(frozen=True, eq=False)
class ObjectResult:
    """One object in one frame: `box_xyxy` (4,) in pixels of the source, NaN where it is absent."""

    id: int
    expression: str | None
    box_xyxy: FloatArray
    score: float
    state: FrameState


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All objects in one frame, by id."""

    index: int
    time_s: float
    objects: tuple[ObjectResult, ...]

    def to_json(self) -> str:
        """One line of JSON: `{"index", "time_s", "objects": [{"id", "expression", "box_xyxy", "score", "state"}]}`."""
        return json.dumps(
            {"index": self.index, "time_s": round(self.time_s, 4), "objects": list(map(_as_json, self.objects))},
            ensure_ascii=False,
        )

    def to_supervision(self) -> sv.Detections:
        """The objects that have a box, as `TrackResult.to_supervision` gives them."""
        tracks = tuple(self._as_track(item) for item in self.objects)
        return TrackResult("", "", 1.0, (1, 1), tracks).to_supervision(0)

    def _as_track(self, item: ObjectResult) -> Track:
        return Track(
            item.id, item.expression, None, np.array([self.index]), np.array([self.time_s]), item.box_xyxy[None],
            np.array([item.score]), np.array([item.state]),
        )  # fmt: skip


def _as_json(item: ObjectResult) -> dict[str, Any]:
    known = bool(np.isfinite(item.box_xyxy).all())
    return {
        "id": item.id, "expression": item.expression,
        "box_xyxy": [round(float(value), 2) for value in item.box_xyxy] if known else None,
        "score": round(item.score, 4), "state": item.state,
    }  # fmt: skip


@dataclass
class _Waiting:
    """A frame that not all sessions have judged yet."""

    time_s: float
    sessions: int
    objects: list[ObjectResult] = field(default_factory=list)


class Sessions:
    """Push frames, and with any of them objects that start there.

    Args:
        make_session: a new session for the objects of one start.
    """

    def __init__(self, make_session: MakeSession) -> None:
        self._make = make_session
        self._sessions: list[ClipSession] = []
        self._waiting: dict[int, _Waiting] = {}
        self.num_frames = 0  # that have results

    @property
    def done(self) -> bool:
        """Whether there are objects and all their tracks have ended."""
        return bool(self._sessions) and all(session.done for session in self._sessions)

    def push(self, frame: Frame, starting: Sequence[TrackedObject] = ()) -> list[FrameResult]:
        """Take the next frame, in which the objects `starting` start; the results that are complete with it."""
        if starting:
            self._sessions.append(self._make(starting))
        running = [session for session in self._sessions if not session.done]
        if running:
            self._waiting[frame.index] = _Waiting(frame.time_s, len(running))
        for session in running:
            self._take(session, session.push(frame))
        return self._ready()

    def finish(self) -> list[FrameResult]:
        """The results of all frames that still waited for their clip to fill."""
        for session in self._sessions:
            if not session.done:
                self._take(session, session.finish())
        for waiting in self._waiting.values():
            waiting.sessions = 0
        return self._ready()

    def tracks(self) -> list[Track]:
        """All results so far, one track for each object, by id."""
        return sorted((track for session in self._sessions for track in session.tracks()), key=lambda track: track.id)

    def _take(self, session: ClipSession, clip: ClipResult | None) -> None:
        if clip is None:
            return
        for place, (index, _) in enumerate(clip.frames):
            self._waiting[index].sessions -= 1
            self._waiting[index].objects += [
                ObjectResult(item.id, item.expression, *results[place])
                for item, results in zip(session.objects, clip.results, strict=True)
                if place < len(results)
            ]

    def _ready(self) -> list[FrameResult]:
        """Complete frames at the head of the queue."""
        ready: list[FrameResult] = []
        for index in sorted(self._waiting):
            waiting = self._waiting[index]
            if waiting.sessions:
                break
            objects = tuple(sorted(waiting.objects, key=lambda item: item.id))
            ready.append(FrameResult(index, waiting.time_s, objects))
        for result in ready:
            del self._waiting[result.index]
        self.num_frames += len(ready)
        return ready
