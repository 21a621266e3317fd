"""Tracking as frames arrive: `init` an object, then `update` with every frame, or `stream` through many.

Knows frames without a source: it counts them, tells their time by a rate, and starts objects in any of them. When a
frame's result comes is said in elysium.inference.sessions; nothing is ever dropped here (a live source drops frames
while it waits, see elysium.live).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import to_xyxy
from elysium.errors import InputError
from elysium.inference.clips import TrackedObject
from elysium.inference.sessions import FrameResult, Sessions
from elysium.inference.tracker import Tracker
from elysium.tracks import Track
from elysium.video import Frame

DEFAULT_FPS = 25.0
AnyFrame = Frame | NDArray[np.uint8]


class StreamTracker:
    """Follows objects through frames that come one at a time. Made by `Elysium.tracker`.

    Frames are (H, W, 3) uint8 arrays, or `Frame`s, which know their number and time. All have one size.

    Args:
        tracker: how to track.
        color: channel order of arrays, `rgb` or `bgr`.
        fps: gives arrays their times.

    Raises:
        InputError: an unknown colour order, or an fps that is no rate.

    Example::

        tracker = model.tracker()
        tracker.init(frames[0], box=[10, 20, 110, 220])
        for result in tracker.stream(frames[1:]):
            print(result.index, result.objects[0].box_xyxy)
    """

    def __init__(self, tracker: Tracker, color: str = "rgb", fps: float = DEFAULT_FPS) -> None:
        if color not in ("rgb", "bgr"):
            raise InputError(f"Unknown color {color!r}", "Use 'rgb' or 'bgr'.")
        if not (math.isfinite(fps) and fps > 0):
            raise InputError(f"fps is {fps}", "Give frames per second, more than 0.")
        self._color, self._fps = color, fps
        self._sessions = Sessions(tracker.session)
        self._given: AnyFrame | None = None  # the frame that was last given, as it was given
        self._frame: Frame | None = None  # the same; not pushed yet while objects may still start in it
        self._starting: list[TrackedObject] = []
        self._count = self._objects = 0
        self._early: list[FrameResult] = []  # complete before anybody asked

    def init(
        self, frame: AnyFrame, *, box: ArrayLike | None = None, expression: str | None = None, box_format: str = "xyxy"
    ) -> int:
        """Start following an object in `frame`; returns its id, 1 for the first.

        `frame` is the frame given last (the same object: several objects may start in one frame), or the next one.
        With a box and an expression the box starts the track, and the expression finds the object again.

        Raises:
            InputError: neither box nor expression, a bad box, a frame of another size.
        """
        if box is None and not (expression or "").strip():
            raise InputError("There is nothing to follow: no box and no expression", "Give one of them, or both.")
        if frame is not self._given or self._frame is None:
            if frame is self._given:
                raise InputError(
                    "An object cannot start in a frame that update has taken",
                    "Call init before update with a frame, or with the next frame.",
                )
            self._early += self._flush()
            self._hold(frame)
        assert self._frame is not None
        height, width = self._frame.image.shape[:2]
        pixels = None if box is None else to_xyxy(box, box_format, (width, height)).boxes[0]
        self._objects += 1
        words = (expression or "").strip() or None
        self._starting.append(TrackedObject(self._objects, words, pixels))
        return self._objects

    def update(self, frame: AnyFrame) -> list[FrameResult]:
        """Take the next frame; returns the results that are complete now, often none, in the order of frames.

        Raises:
            InputError: no object yet, a frame of another size or type.
        """
        if not self._objects:
            raise InputError("There is nothing to follow yet", "Call init first.")
        ready = self._early + self._flush()
        self._early = []
        self._hold(frame)
        return ready + self._flush()

    def stream(self, frames: Iterable[AnyFrame]) -> Iterator[FrameResult]:
        """The result of every frame, that of `init` first, as soon as it is known; those that wait come at the end.

        When every track has ended (lost policy `stop`) no more frames are taken, as in `track`.
        """
        for frame in frames:
            yield from self.update(frame)
            if self._sessions.done:
                break
        yield from self.finish()

    def finish(self) -> list[FrameResult]:
        """No more frames: the results of those that still waited."""
        ready = self._early + self._flush()
        self._early = []
        return ready + self._sessions.finish()

    def tracks(self) -> list[Track]:
        """Everything found so far, one track for each object."""
        return self._sessions.tracks()

    def _hold(self, frame: AnyFrame) -> None:
        """Keep `frame` as the one in which objects may start."""
        if isinstance(frame, Frame):
            held = frame
        else:
            image = _checked(frame)
            image = image if self._color == "rgb" else image[..., ::-1]
            held = Frame(self._count, self._count / self._fps, image)
        if self._frame is None and self._given is None:
            self._size = held.image.shape
        if held.image.shape != self._size:
            raise InputError(
                f"A frame of {held.image.shape[1]}x{held.image.shape[0]} pixels after frames of "
                f"{self._size[1]}x{self._size[0]}",
                "Give all frames in one size.",
            )
        self._given, self._frame = frame, held
        self._count = held.index + 1

    def _flush(self) -> list[FrameResult]:
        """Push the held frame with the objects that start in it."""
        if self._frame is None:
            return []
        frame, starting = self._frame, self._starting
        self._frame, self._starting = None, []
        return self._sessions.push(frame, starting)


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        what = f"shape {image.shape} and {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"A frame of {what}", "Give (H, W, 3) uint8.")
    return image
