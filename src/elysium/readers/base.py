"""What every kind of frame source gives: its facts, and its frames in order.

Knows nothing about files or decoders. Which frames are wanted is the business of elysium.video.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from elysium.errors import SourceError

ImageArray: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB

DEFAULT_FPS = 25.0
CODEC_THREADS = min(4, os.cpu_count() or 1)  # each thread holds a frame: bounded on machines of many cores


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame that costs little until its pixels are asked for."""

    index: int  # in the source; a live source may leave some out
    time_s: float  # after the first frame, never less than that of the frame before
    load: Callable[[], ImageArray]  # makes the pixels; to be called, if at all, before the next frame is taken


class Reader(ABC):
    """What `FrameSource` needs from each kind of source; every frame of it comes out, in order."""

    name: str
    fps: float
    resolution_wh: tuple[int, int]
    count: int | None  # frames, as far as the source says
    warnings: list[str]
    live: bool = False  # it arrives while it is read, and only once
    dropped: int = 0  # frames of a live source that nobody took in time

    @abstractmethod
    def read(self) -> Generator[RawFrame, None, None]:
        """All frames, from the start."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing between two passes
        """Let go of whatever is held open. Reading on afterwards is an error."""


def missing(path: Path, kind: str) -> SourceError:
    """The error for a path that leads nowhere."""
    if os.path.islink(path):
        return SourceError(
            f"{str(path)!r} is a link to {os.readlink(path)!r}, which does not exist",
            "Mend the link, or give the file itself.",
        )
    return SourceError(f"No such {kind}: {str(path)!r}", "Check the path.")
