"""What goes through the pipe between the server and the model: what is asked for, and what comes of it.

Plain types that import nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elysium.app.corrections import Box
from elysium.tracks import TrackResult


@dataclass(frozen=True)
class Target:
    """One object to follow from frame ``frame`` on: a box (xyxy pixels), or words."""

    frame: int
    box: Box | None = None
    expression: str | None = None


@dataclass(frozen=True)
class Options:
    """How to track.

    Args:
        stride: every so many frames are looked at.
        search_window: in box sizes; "auto" for the model's, None for whole frames.
        lost_policy: as of `Elysium.track`.
    """

    stride: int = 1
    search_window: float | Literal["auto"] | None = "auto"
    lost_policy: Literal["search", "report", "stop"] = "search"


@dataclass(frozen=True)
class Outcome:
    """A result and the files made of it.

    Args:
        result: all tracks.
        files: by format: mp4, json, csv, mot, and gif where one was asked for.
        seconds: that tracking took.
        stopped: it was cancelled, and covers what was done by then.
        options: how it was tracked.
    """

    result: TrackResult
    files: Mapping[str, Path]
    seconds: float
    stopped: bool = False
    options: Options = Options()
