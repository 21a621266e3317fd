"""Following objects through a source of frames, to its end or to Ctrl-C.

Knows frame sources, progress and results. What is asked about which frames, and what the states of a frame
mean, is in elysium.inference.clips. Frames are taken one at a time and let go after their clip, so memory
does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from elysium.inference.clips import (
    DEFAULT_CLIP_LENGTH,
    DEFAULT_MIN_SCORE,
    Answers,
    ClipAnswer,
    ClipSession,
    LostPolicy,
    TrackedObject,
    check_lost_policy,
)
from elysium.inference.sessions import Sessions
from elysium.language.dialects import ELYSIUM, Dialect
from elysium.readahead import read_ahead
from elysium.tracks import Track, TrackRecorder, TrackResult
from elysium.video import Frame

Progress = Callable[[int, int | None], None]
_AHEAD = 4  # frames that are decoded while the model works


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
        fine: bool = False,
        zoom: bool = False,
        dialect: Dialect = ELYSIUM,
        model_name: str = "",
        lost_policy: LostPolicy = "search",
        on_answer: Callable[[ClipAnswer], None] | None = None,
    ) -> None:
        check_lost_policy(lost_policy)
        self.engine, self.clip_length, self.search_window = engine, clip_length, search_window
        self.min_score, self.free, self.dialect, self.model_name = min_score, free, dialect, model_name
        self.fine, self.zoom = fine, zoom
        self.lost_policy, self.on_answer = lost_policy, on_answer

    def session(self, objects: Sequence[TrackedObject]) -> ClipSession:
        """A session to push frames into by hand."""
        return ClipSession(
            self.engine,
            objects,
            clip_length=self.clip_length,
            search_window=self.search_window,
            min_score=self.min_score,
            free=self.free,
            fine=self.fine,
            zoom=self.zoom,
            dialect=self.dialect,
            lost_policy=self.lost_policy,
            on_answer=self.on_answer,
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
            objects: what to follow; each joins in the frame in which it starts.
            progress: called after each clip with the number of frames done and the expected total or None.
            warnings: put before the source's own in the result.

        Raises:
            InputError: see `ClipSession`.
            Interrupted: on KeyboardInterrupt, with the result of all finished clips.
        """
        sessions, waiting = Sessions(self.session), list(objects)
        try:
            with closing(_coming(source)) as frames:
                for frame in frames:
                    due = [item for item in waiting if (item.start_s or 0.0) <= frame.time_s + 1e-6]
                    waiting = [item for item in waiting if item not in due]
                    if sessions.push(frame, due) and progress is not None:
                        progress(sessions.num_frames, source.num_frames_estimate)
                    if sessions.done and not waiting:
                        break
            if sessions.finish() and progress is not None:
                progress(sessions.num_frames, sessions.num_frames)
        except KeyboardInterrupt:
            raise Interrupted(self._result(source, sessions, waiting, warnings)) from None
        return self._result(source, sessions, waiting, warnings)

    def _result(
        self, source: Frames, sessions: Sessions, waiting: Sequence[TrackedObject], warnings: Sequence[str]
    ) -> TrackResult:
        tracks = [*sessions.tracks(), *(_never_started(item) for item in waiting)]
        return TrackResult(
            source=source.name,
            model=self.model_name,
            fps=source.fps,
            resolution_wh=source.resolution_wh,
            tracks=tuple(sorted(tracks, key=lambda track: track.id)),
            warnings=(*warnings, *source.warnings),
        )


def _never_started(item: TrackedObject) -> Track:
    """The track, without frames, of an object whose start lies behind the last frame."""
    recorder = TrackRecorder(item.id, item.expression, item.box)
    recorder.note(f"it was to start at {item.start_s:g} s, but no frame came after that")
    return recorder.finish()


def _coming(source: Frames) -> Generator[Frame, None, None]:
    """The frames; those in files are decoded ahead while the model works."""
    if not getattr(source, "in_files", False):
        yield from map(_for_good, source)
        return
    with closing(read_ahead(source, _AHEAD)) as frames:
        yield from map(_for_good, frames)


def _for_good(frame: Frame) -> Frame:
    """The frame with an image that nobody will change while it is tracked in, so that one look at it is enough."""
    image = frame.image.view()
    image.flags.writeable = False
    return replace(frame, image=image)
