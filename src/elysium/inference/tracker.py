"""Following objects through a source of frames, to its end or to Ctrl-C.

Knows frame sources, progress and results. What is asked about which frames, and what the states of a frame
mean, is in elysium.inference.clips. Frames are taken one at a time and let go after their clip, so memory
does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from elysium.inference.clips import (
    DEFAULT_CLIP_LENGTH,
    DEFAULT_MIN_SCORE,
    Answers,
    ClipSession,
    TrackedObject,
)
from elysium.language.dialects import ELYSIUM, Dialect
from elysium.tracks import TrackResult
from elysium.video import Frame

Progress = Callable[[int, int | None], None]


class Frames(Protocol):
    """What the tracker needs of a `FrameSource`."""

    name: str
    fps: float
    resolution_wh: tuple[int, int]

    @property
    def num_frames_estimate(self) -> int | None: ...

    @property
    def warnings(self) -> list[str]: ...

    def __iter__(self) -> Iterator[Frame]: ...


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during tracking. `.result` holds all clips that were finished before it."""

    def __init__(self, result: TrackResult) -> None:
        super().__init__("interrupted")
        self.result = result


class Tracker:
    """Follows objects through a frame source. Arguments as of `ClipSession`; `model_name` goes into the
    result."""

    def __init__(
        self,
        engine: Answers,
        clip_length: int = DEFAULT_CLIP_LENGTH,
        search_window: float | None = None,
        min_score: float = DEFAULT_MIN_SCORE,
        *,
        free: bool = False,
        dialect: Dialect = ELYSIUM,
        model_name: str = "",
    ) -> None:
        self.engine, self.clip_length, self.search_window = engine, clip_length, search_window
        self.min_score, self.free, self.dialect, self.model_name = min_score, free, dialect, model_name

    def session(self, objects: Sequence[TrackedObject]) -> ClipSession:
        """A session to push frames into by hand."""
        return ClipSession(
            self.engine,
            objects,
            clip_length=self.clip_length,
            search_window=self.search_window,
            min_score=self.min_score,
            free=self.free,
            dialect=self.dialect,
        )

    def run(
        self,
        source: Frames,
        objects: Sequence[TrackedObject],
        progress: Progress | None = None,
        warnings: Sequence[str] = (),
    ) -> TrackResult:
        """Track `objects` through the whole of `source`.

        Args:
            source: frames, read once, in order, one clip at a time.
            objects: what to follow.
            progress: called after each clip with the number of frames done and the expected total or None.
            warnings: put before the source's own in the result.

        Raises:
            InputError: see `ClipSession`.
            Interrupted: on KeyboardInterrupt, with the result of all finished clips.
        """
        session = self.session(objects)
        try:
            for frame in source:
                if session.push(frame) is not None and progress is not None:
                    progress(session.num_frames, source.num_frames_estimate)
            if session.finish() is not None and progress is not None:
                progress(session.num_frames, session.num_frames)
        except KeyboardInterrupt:
            raise Interrupted(self._result(source, session, warnings)) from None
        return self._result(source, session, warnings)

    def _result(self, source: Frames, session: ClipSession, warnings: Sequence[str]) -> TrackResult:
        return TrackResult(
            source=source.name,
            model=self.model_name,
            fps=source.fps,
            resolution_wh=source.resolution_wh,
            tracks=tuple(session.tracks()),
            warnings=(*warnings, *source.warnings),
        )
