"""A few frames that stand for a whole source. Knows frames and counts; nothing of what is done with them."""

from __future__ import annotations

from collections.abc import Iterable

from elysium.data.sampling import spread_frames
from elysium.video import Frame


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
