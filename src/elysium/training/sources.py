"""Where clips come from: what was rendered, or records with their images.

Knows: how the objects and chats of a file of records belong to clips, and how frames are read when a sample asks for
them. Does not know: tasks, prompts, which frames are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.boxes import quantize
from elysium.data.records import Box, Record, read_records
from elysium.data.records.chats import rounds
from elysium.errors import InputError, SourceError
from elysium.language.dialects import ELYSIUM


@dataclass(frozen=True)
class ObjectLabel:
    """One object of a clip: boxes (T, 4) in 0..1 with NaN where absent, its words, and its colour if it has one."""

    noun: str
    colour: str | None
    boxes_xyxyn: NDArray[np.float32]
    expressions: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class ClipLabels:
    """What is known of one clip: its objects, or a ``chat`` about it, question and answer of each round.

    ``words_at_start``: expressions are true of the first frame, and perhaps of no other.
    """

    objects: tuple[ObjectLabel, ...] = ()
    chat: tuple[tuple[str, str], ...] = ()
    words_at_start: bool = True


class Frames(Protocol):
    """The frames of one clip; indexing by frame numbers gives features (n, D) or pixels (n, S, S, 3) uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, picked: NDArray[np.int64]) -> NDArray[Any]: ...


class Clips(Protocol):
    """Clips by number, and a name for messages."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[Frames, ClipLabels]: ...


class ImageFrames:
    """Frames in image files, scaled to ``size_px`` squares as the model's processor would."""

    def __init__(self, folder: Path, names: Sequence[str], size_px: int) -> None:
        self.folder, self.names, self.size_px = folder, names, size_px

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, picked: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, S, S, 3). Raises SourceError for an image that is missing or broken."""
        read = [_read(str(self.folder / self.names[i]), self.size_px) for i in picked]
        return np.stack(read) if read else np.zeros((0, self.size_px, self.size_px, 3), np.uint8)


@lru_cache(maxsize=64)  # neighbouring samples ask about the same frames
def _read(path: str, size_px: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            scaled = image.convert("RGB").resize((size_px, size_px), Image.Resampling.BILINEAR)
    except Exception as error:  # decoders raise what they like on broken files
        raise SourceError(f"Cannot read the image {path}", "Mend it, or take its record away") from error
    return np.asarray(scaled)


class RecordClips:
    """The clips of a file of records, held in memory without their images.

    Tracks over the same frames are objects of one clip; every chat is a clip of its own.

    Args:
        annotations: a file that ``elysium.data.records`` reads.
        images: the folder that its paths are relative to.
        size_px: sides of the frames.

    Raises:
        InputError, SourceError: a defective record, or the first record with images finds none of them.
    """

    def __init__(self, annotations: Path, images: Path, size_px: int) -> None:
        self.name = annotations.stem
        self.images, self.size_px = images, size_px
        self.clips = _grouped(read_records(annotations))
        self._check_first_image(annotations)

    @property
    def only_chats(self) -> bool:
        """Whether there are no tracks among them."""
        return not any(labels.objects for _, labels in self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> tuple[ImageFrames, ClipLabels]:
        names, labels = self.clips[number]
        return ImageFrames(self.images, names, self.size_px), labels

    def _check_first_image(self, annotations: Path) -> None:
        names = next((names for names, _ in self.clips if names), ())
        if names and not any((self.images / name).is_file() for name in names):
            raise InputError(
                f"{annotations}: no image of its first record is in {self.images} (looked for {names[0]})",
                "Name the folder that its paths are relative to as images",
            )


def _grouped(records: Any) -> list[tuple[tuple[str, ...], ClipLabels]]:
    objects: dict[tuple[str, ...], list[ObjectLabel]] = {}
    chats: list[tuple[tuple[str, ...], ClipLabels]] = []
    for record in records:
        if record.vqa is not None:
            chat = rounds(record, _box_text)
            if chat:
                chats.append((tuple(record.frames), ClipLabels(chat=chat, words_at_start=False)))
        else:
            objects.setdefault(tuple(record.frames), []).append(_object(record))
    tracks = [(names, ClipLabels(tuple(items), words_at_start=False)) for names, items in objects.items()]
    return tracks + chats


def _box_text(box: Box) -> str:
    return ELYSIUM.format_box(quantize(np.array([box]))[0])


def _object(record: Record) -> ObjectLabel:
    words = record.object_description or record.object_class
    expressions = tuple(record.expressions or ([words] if words else []))
    return ObjectLabel(
        record.object_class or words, None, record.boxes_xyxyn.astype(np.float32), expressions, words
    )  # fmt: skip
