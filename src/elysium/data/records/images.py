"""Whether records and a folder of images belong together. Knows paths; opens no image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elysium.data.records.model import Record
from elysium.errors import SourceError

FIRST_RECORDS = 20  # that are looked at: if none of their images is there, the folder is the wrong one


def check_images(records: Iterable[Record], images: Path) -> None:
    """Raise SourceError if ``images`` is no folder, or holds the first frame of none of these records."""
    if not images.is_dir():
        raise SourceError(f"There is no folder of images {str(images)!r}", "Name it with --images, or as images.")
    tried = [record.frames[0] for record in records if record.frames]
    if tried and not any((images / name).is_file() for name in tried):
        raise SourceError(
            f"{str(images)!r} holds none of the frames of the annotations (for example {tried[0]!r})",
            "Paths in the annotations are relative to that folder.",
        )
