"""Cuts from one shot to another, and clips without them.

Knows pixels as histograms and how a part of a clip is a clip. Does not know: phrases, boxes, trajectories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray
from elysium.building.settings import FilterSettings, ShotsRule
from elysium.building.stages import Clip, Dropped, Image

_CELLS = 2  # a frame is looked at in 2 x 2 cells
_BINS = 16  # of each colour channel
_SIDE = 64  # pixels of a frame that are counted, in each direction
_AROUND = 5  # frames before and after that a difference is held against


@dataclass(frozen=True)
class Prepared:
    """A clip in which phrases can be looked for.

    Args:
        clip: the clip or its longest shot; None where nothing is left of it.
        cuts: numbers of frames of `clip` with which a new shot begins; none where it was trimmed.
        dropped: what was cut off, or why there is no clip.
    """

    clip: Clip | None
    cuts: tuple[int, ...] = ()
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class ClipPart:
    """Frames `start` to `stop` - 1 of a clip as a clip."""

    whole: Clip
    start: int
    stop: int

    @property
    def indices(self) -> Sequence[int]:
        return self.whole.indices[self.start : self.stop]

    @property
    def times_s(self) -> Sequence[float]:
        return self.whole.times_s[self.start : self.stop]

    @property
    def resolution_wh(self) -> tuple[int, int]:
        return self.whole.resolution_wh

    def frames(self) -> Iterator[Image]:
        return islice(self.whole.frames(), self.start, self.stop)

    def frame(self, number: int) -> Image:
        return self.whole.frame(self.start + number)


def prepare_clip(clip: Clip, settings: FilterSettings) -> Prepared:
    """Find the clip's cuts, trim it to its longest shot if the rule says so, and see whether it is long enough.

    Reads all frames once, one in memory at a time; none of a clip that is too short to begin with. Reason codes:
    `one-frame`, `too-short`, `shot-cut` (a part that was cut off).
    """
    if (short := _too_short(clip, settings)) is not None:
        return Prepared(None, dropped=(short,))
    if not settings.shots.enabled:
        return Prepared(clip)
    cuts = find_cuts(differences(clip.frames()), settings.shots)
    if not cuts or settings.shots.action == "drop":
        return Prepared(clip, tuple(cuts))
    edges = [0, *cuts, len(clip.indices)]
    parts = [ClipPart(clip, start, stop) for start, stop in pairwise(edges)]
    longest = max(parts, key=lambda part: part.stop - part.start)  # the first of several
    dropped = [Dropped(_named(part), "shot-cut", "not the longest shot") for part in parts if part is not longest]
    if (short := _too_short(longest, settings)) is not None:
        return Prepared(None, dropped=(*dropped, short))
    return Prepared(longest, dropped=tuple(dropped))


def _too_short(clip: Clip, settings: FilterSettings) -> Dropped | None:
    count = len(clip.indices)
    if count == 1:
        return Dropped(_named(clip), "one-frame", "nothing can be followed in one frame")
    least = settings.length.min_frames if settings.length.enabled else 2
    return Dropped(_named(clip), "too-short", f"{count} frames, fewer than {least}") if count < least else None


def _named(clip: Clip) -> str:
    """The frames of a clip, as they are numbered in the video."""
    return f"frames {clip.indices[0]}-{clip.indices[-1]}" if len(clip.indices) else "no frames"


def differences(frames: Iterable[Image]) -> FloatArray:
    """How far each of T frames is from the one before it: (T - 1,) in 0..1. Read once, two in memory at a time."""
    found, before = [], None
    for frame in frames:
        now = histogram(frame)
        if before is not None:
            found.append(difference(before, now))
        before = now
    return np.array(found, dtype=np.float64)


def histogram(image: Image) -> NDArray[np.float64]:
    """(H, W, 3) -> (cells, 3, bins): shares of the values of each channel in each quarter of the frame."""
    height, width = image.shape[:2]
    small = image[:: max(height // _SIDE, 1), :: max(width // _SIDE, 1)] // (256 // _BINS)
    cells = [cell for row in np.array_split(small, _CELLS) for cell in np.array_split(row, _CELLS, axis=1)]
    counts = [[np.bincount(cell[..., c].ravel(), minlength=_BINS) / max(cell[..., c].size, 1) for c in range(3)]
              for cell in cells]  # fmt: skip
    return np.array(counts)


def difference(a: ArrayLike, b: ArrayLike) -> float:
    """Of two histograms: half of the summed absolute difference, the mean over cells and channels. 0: the same; 1:
    nothing in common."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).sum(axis=-1).mean() / 2)


def find_cuts(steps: FloatArray, rule: ShotsRule) -> list[int]:
    """Numbers of the frames with which a new shot begins.

    Args:
        steps: (T - 1,) of `differences`.

    A cut is a step of at least `rule.min_difference` that is `rule.margin` times the median of the steps around it, 5
    to either side: a flash or a fast pan makes many large steps, a cut one.
    """
    cuts = []
    for place in np.flatnonzero(steps >= rule.min_difference):
        around = np.r_[steps[max(place - _AROUND, 0) : place], steps[place + 1 : place + 1 + _AROUND]]
        if not len(around) or steps[place] >= rule.margin * np.median(around):
            cuts.append(int(place) + 1)
    return cuts
