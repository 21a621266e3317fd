"""Which frames of a video are looked at, by number or as they come. Knows frames and counts; no records, and nothing of
what is done with them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from elysium.video import Frame

_EARLY_FRAMES = 0.25  # a frame counts for a tick if it comes so little before it: containers round times


def draw_frames(
    rng: np.random.Generator, available: int, count: int, from_start: bool, max_interval: int
) -> NDArray[np.int64]:
    """``count`` frame numbers (all, of a shorter video) at one interval, ascending: a clip as the paper trains on.

    The interval is drawn evenly from 1 to ``max_interval``, or as far as the video allows; the start evenly from what
    that leaves, or it is 0 (``from_start``), for words that are true of the first frame alone.
    """
    count = min(count, available)
    widest = min((available - 1) // max(count - 1, 1), max_interval)
    interval = int(rng.integers(1, widest + 1)) if count > 1 else 1
    last_start = available - 1 - interval * (count - 1)
    start = 0 if from_start else int(rng.integers(last_start + 1))
    return start + interval * np.arange(count)


def spread_frames(available: int, count: int) -> NDArray[np.int64]:
    """``count`` frame numbers (all, of a shorter video) spread evenly, the first and the last among them.

    >>> spread_frames(10, 4), spread_frames(3, 5), spread_frames(10, 1)
    (array([0, 3, 6, 9]), array([0, 1, 2]), array([0]))
    """
    return np.linspace(0, max(available - 1, 0), min(count, available)).round().astype(np.int64)


def uniform_frames(frames: Iterable[Frame], count: int, expected: int | None = None) -> list[Frame]:
    """At most `count` frames spread evenly from the first to the last, in order.

    Args:
        frames: read once; memory holds `count` of them (twice as many if it is not known how many will come).
        count: 1 or more.
        expected: how many frames will come, None if nobody knows. If that was wrong, the frames that came first are
            spread as announced, and those after are left out.
    """
    if expected is None:
        return _of_unknown(frames, count)
    wanted = set(spread_frames(expected, count).tolist()) if expected > count else None
    kept: list[Frame] = []
    for place, frame in enumerate(frames):
        if len(kept) == count:
            break
        if wanted is None or place in wanted:
            kept.append(frame)
    return kept


def _of_unknown(frames: Iterable[Frame], count: int) -> list[Frame]:
    """Keep every frame, then every second, every fourth ... so that between `count` and twice as many are held."""
    kept: list[Frame] = []
    step = 1
    for place, frame in enumerate(frames):
        if place % step == 0:
            kept.append(frame)
        if len(kept) == 2 * count + 1:
            kept, step = kept[::2], 2 * step
    if len(kept) <= count:
        return kept
    return [kept[place] for place in spread_frames(len(kept), count)]


class Ticks:
    """Whether a frame is the first of its 1/fps s, counted from the first frame that is asked about.

    Args:
        fps: frames per second that are wanted. source_fps: those of the source; all are taken where it has fewer.
    """

    def __init__(self, fps: float, source_fps: float) -> None:
        self._fps, self._early = fps, fps / source_fps * _EARLY_FRAMES
        self._due, self._start_s = 0, None  # type: int, float | None

    def __call__(self, time_s: float) -> bool:
        """Frames are to be asked about in their order."""
        if self._start_s is None:
            self._start_s = time_s
        tick = (time_s - self._start_s) * self._fps + self._early
        if tick < self._due:
            return False
        self._due = math.floor(tick) + 1
        return True
