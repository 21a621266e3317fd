"""The frames of a video file that a data set is built from, and their images on disk.

Frames are decoded anew for every pass, so memory holds three of them at most, whatever the length. Indices and times
are those of `elysium.video.open_source`: counted from the first frame of the file, exact for variable rates. Knows
videos and image files; does not know what is looked for in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from elysium.building.stages import Image
from elysium.errors import SourceError
from elysium.files import atomic_path
from elysium.sampling import Ticks
from elysium.video import open_source

QUALITY = 95  # of JPEG
_HELD = 3  # frames that were asked for one by one: the first, the middle, the last


@dataclass
class VideoClip:
    """Chosen frames of a video file (a `stages.Clip`). Picklable, without pixels.

    Args:
        path: the file.
        indices: (T,) numbers of the frames in it, ascending. times_s: (T,) their times.
        resolution_wh: of each frame, in pixels.
        source_fps: frames a second of the file; of one with a variable rate, on average.
    """

    path: Path
    indices: Sequence[int]
    times_s: Sequence[float]
    resolution_wh: tuple[int, int]
    source_fps: float
    _held: dict[int, Image] = field(default_factory=dict, repr=False, compare=False)
    _walk: Iterator[tuple[int, Image]] | None = field(default=None, repr=False, compare=False)
    _next: int = field(default=0, repr=False, compare=False)

    @classmethod
    def open(
        cls, path: Path, *, start_s: float | None = None, end_s: float | None = None, fps: float | None = None,
        max_frames: int | None = None,
    ) -> VideoClip:  # fmt: skip
        """The frames of a file between two times, at most ``fps`` a second and ``max_frames`` in all.

        Reads the file once, without making pixels. Raises SourceError if it cannot be read or nothing is selected.
        """
        source = open_source(path, start_s=start_s, end_s=end_s)
        wanted = Ticks(fps, source.fps) if fps is not None else (lambda _: True)
        stamps: list[tuple[int, float]] = []
        for index, time_s in source.stamps():
            if wanted(time_s):
                stamps.append((index, round(time_s, 6)))
            if max_frames is not None and len(stamps) == max_frames:
                break
        indices, times_s = zip(*stamps, strict=True)
        return cls(path, indices, times_s, source.resolution_wh, source.fps)

    def with_frames(self, indices: Sequence[int], times_s: Sequence[float]) -> VideoClip:
        """Other frames of the same file."""
        return VideoClip(self.path, tuple(indices), tuple(times_s), self.resolution_wh, self.source_fps)

    def __len__(self) -> int:
        return len(self.indices)

    def frames(self) -> Iterator[Image]:
        """All T frames, in order. Raises SourceError if the file gives fewer than before."""
        given = 0
        for frame in open_source(self.path).at(self.indices):
            yield frame.image
            given += 1
        if given < len(self.indices):
            raise SourceError(
                f"{str(self.path)!r} gave {given} of {len(self.indices)} frames when read again", "Has it changed?"
            )

    def frame(self, number: int) -> Image:
        """Frame ``number``, 0..T-1; what was asked for last is held, and asking forwards goes on reading there.

        Raises SourceError.
        """
        if number not in self._held:
            if self._walk is None or number < self._next:
                self._walk = enumerate(self.frames())
            for place, image in self._walk:
                self._next = place + 1
                if place == number:
                    self._hold(number, image)
                    break
        return self._held[number]

    def _hold(self, number: int, image: Image) -> None:
        if len(self._held) == _HELD:
            del self._held[next(iter(self._held))]
        self._held[number] = image

    def close(self) -> None:
        """Let go of the frames that are held, and of the file."""
        self._held, self._walk, self._next = {}, None, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": {}, "_walk": None, "_next": 0}


def frame_names(folder: str, indices: Sequence[int]) -> list[str]:
    """Paths of the images of frames with these indices: ``folder``/000123.jpg."""
    return [f"{folder}/{index:06d}.jpg" for index in indices]


def write_frames(clip: VideoClip, output: Path, folder: str) -> None:
    """Write all frames of a clip as JPEG below ``output``, named by `frame_names`; others in the folder are taken away.

    Each appears whole, in place of what was there, so that a process of an earlier run which has not yet ended does no
    harm. Raises OutputError, SourceError.
    """
    names = frame_names(folder, clip.indices)
    for name, image in zip(names, clip.frames(), strict=True):
        with atomic_path(output / name) as path:
            PillowImage.fromarray(image).save(path, quality=QUALITY)
    ours = {Path(name).name for name in names}
    for path in (output / folder).iterdir():
        if path.name not in ours:
            path.unlink(missing_ok=True)
