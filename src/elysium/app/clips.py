"""A visitor's video once it has been taken in: numbered JPEG frames in a folder, and what is known of them.

The frames were written by us, so everybody may open them. Knows nothing of uploads, visitors or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elysium.video import Frame, read_image


@dataclass(frozen=True)
class Clip:
    """Frames `000000.jpg`, `000001.jpg`, ... of one size.

    Args:
        name: what the visitor called it; for display only, never a path.
        folder: where the frames lie.
        fps: of the original.
        resolution_wh: width and height in pixels.
        times_s: of each frame, after the first.
        warnings: what was not as it should be with the original.
    """

    name: str
    folder: Path
    fps: float
    resolution_wh: tuple[int, int]
    times_s: tuple[float, ...]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times_s)

    def path(self, index: int) -> Path:
        """The image of frame ``index``, from 0."""
        return self.folder / frame_name(index)

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """These frames, or all, read one at a time. Raises SourceError if they are gone."""
        for index in range(len(self)) if indices is None else indices:
            image = read_image(self.path(index))
            image.flags.writeable = False  # nobody will change it, so that one look of the model at it is enough
            yield Frame(index, self.times_s[index], image)


def frame_name(index: int) -> str:
    """The file name of a frame."""
    return f"{index:06d}.jpg"


def file_stem(name: str) -> str:
    """A visitor's name for a clip as the beginning of a file name: letters, digits, - and _ alone.

    >>> file_stem("../my clip.mp4")
    'my_clip'
    """
    stem = Path(name).stem
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in stem).strip("_")[:80] or "clip"
