"""Which frames of a video are looked at. Knows numbers of frames; no video, no records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
