"""What the stages of building a data set hand to each other, and what a plug-in of each has to be able to do.

    caption --Nouns--> phrases --Grounder--> starts --Follower--> trajectories --filters--> kept, or dropped and why

Knows types only: no spaCy, no model, no video file, no Ray. Every stage can be run alone on these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import FloatArray

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True)
class Phrase:
    """Something a caption speaks of.

    Args:
        text: the noun chunk without its article, as detectors want it: "running dog".
        noun: its head, in the singular and in lower case: "dog". The object class of a record.
        expression: the chunk with all that depends on it: "a running dog played in the snow field".
    """

    text: str
    noun: str
    expression: str


@dataclass(frozen=True)
class Dropped:
    """Something that did not become part of a record: what it was, and the code and words of the reason."""

    what: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Detections:
    """What a grounder finds of a phrase in one image: boxes_xyxy (N, 4) in pixels, scores (N,) in 0..1, best first."""

    boxes_xyxy: FloatArray
    scores: FloatArray


@dataclass(frozen=True)
class Grounded:
    """A phrase with its box in the first frame, where following starts, and those in frames to hold it against.

    Args:
        start_xyxy: (4,) pixels, in frame 0 of the clip.
        score: the grounder's, of the start.
        witnesses: by number of a frame of the clip (its middle, its last), (4,) pixels: what the grounder says there.
        others: in the same frames, (K, 4) pixels: what else it may be there, where there are several candidates.
    """

    phrase: Phrase
    start_xyxy: FloatArray
    score: float
    witnesses: dict[int, FloatArray] = field(default_factory=dict)
    others: dict[int, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Trajectory:
    """A phrase followed through a clip.

    Args:
        boxes_xyxy: (T, 4) pixels, one a frame of the clip, NaN where the follower lost it.
        scores: (T,) of the follower in 0..1, or None where it has none.
    """

    grounded: Grounded
    boxes_xyxy: FloatArray
    scores: FloatArray | None


class Clip(Protocol):
    """The frames of a video between two times, read as often as they are asked for, one in memory at a time."""

    @property
    def indices(self) -> Sequence[int]:
        """(T,) numbers of the frames in the video file, counted from 0."""

    @property
    def times_s(self) -> Sequence[float]:
        """(T,) when they are shown, in seconds from the beginning of the file."""

    @property
    def resolution_wh(self) -> tuple[int, int]: ...

    def frames(self) -> Iterator[Image]:
        """All T frames, in order. Raises SourceError if the file cannot be decoded."""

    def frame(self, number: int) -> Image:
        """Frame `number` of the clip, 0..T-1. Raises SourceError."""


WHOLE = ("not-english", "no-nouns")
"""Reason codes that are about a caption as a whole and not about something that it names."""


@runtime_checkable
class Nouns(Protocol):
    """Which phrases of a caption name something that can be pointed at."""

    name: str

    def phrases(self, caption: str) -> tuple[list[Phrase], list[Dropped]]:
        """What there is to look for, and what was left out; a single `Dropped` with a code of `WHOLE` where the caption
        as a whole was."""

    def phrase_of(self, expression: str) -> Phrase:
        """An expression that stands in place of a caption: nothing is dropped. Raises InputError if it is empty."""


@runtime_checkable
class Grounder(Protocol):
    """Where in an image a phrase's object is."""

    name: str

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        """What there is of each phrase, in their order; nothing found is an empty `Detections`."""


@runtime_checkable
class Follower(Protocol):
    """Where what is in a box goes. It is used for one object after another, or for all of a clip at once."""

    name: str

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        """For each start (4,) in frame 0: boxes_xyxy (T, 4) in pixels, NaN where lost, and scores (T,) or None."""
