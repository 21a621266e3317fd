"""Where clips come from: what was rendered, or records with their images.

Knows: how the objects and chats of a file of records belong to clips, and how frames are read when a sample asks for
them. Does not know: tasks, prompts, which frames are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.boxes import quantize
from elysium.data.records import Box, Record
from elysium.data.records.chats import rounds
from elysium.data.records.images import FIRST_RECORDS, ImageFolder, check_images
from elysium.data.records.index import RecordFile
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

    def __init__(self, images: ImageFolder, names: Sequence[str], size_px: int) -> None:
        self.images, self.names, self.size_px = images, names, size_px

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, picked: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, S, S, 3). Raises SourceError for an image that is missing or broken."""
        read = [_read(self.images, self.names[i], self.size_px) for i in picked]
        return np.stack(read) if read else np.zeros((0, self.size_px, self.size_px, 3), np.uint8)


@lru_cache(maxsize=64)  # neighbouring samples ask about the same frames
def _read(images: ImageFolder, name: str, size_px: int) -> NDArray[np.uint8]:
    image = Image.fromarray(images.read(name))
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR))


class RecordClips:
    """The clips of a file of records, read when they are asked for.

    Tracks over the same frames are objects of one clip; every chat is a clip of its own.

    Args:
        annotations: a file that ``elysium.data.records.index`` reads.
        images: the folder that its paths are relative to; its tar files are looked into.
        size_px: sides of the frames.

    Raises:
        InputError, SourceError: the file cannot be read, the first records are defective, or none of their first images
        is there.
    """

    def __init__(self, annotations: Path, images: Path, size_px: int) -> None:
        self.name = annotations.stem
        self.images, self.size_px = ImageFolder(images), size_px
        self.records = RecordFile(annotations)
        self._last: tuple[int, tuple[ImageFrames, ClipLabels]] | None = None
        self._order, self._starts = clips_of(self.records.groups, self.records.is_chat)
        check_images(self.records[:FIRST_RECORDS], images)

    @property
    def only_chats(self) -> bool:
        """Whether there are no tracks among them."""
        return bool(self.records.is_chat.all())

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> tuple[ImageFrames, ClipLabels]:
        """Raises SourceError for a clip with a defective record."""
        if self._last is None or self._last[0] != number:  # neighbouring samples ask about the same clip
            self._last = number, self._read(number)
        return self._last[1]

    def _read(self, number: int) -> tuple[ImageFrames, ClipLabels]:
        try:
            records = [self.records[place] for place in self._order[self._starts[number] : self._starts[number + 1]]]
            labels = _labels(records)
        except InputError as error:
            raise SourceError(str(error)) from error
        return ImageFrames(self.images, records[0].frames, self.size_px), labels

    def objects(self) -> Iterator[ObjectLabel]:
        """Every object of the tracks. Raises InputError for a defective record."""
        for place in np.flatnonzero(~self.records.is_chat):
            yield _object(self.records[place])


def clips_of(groups: NDArray[np.int64], is_chat: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which records make up which clip: record numbers in the order of clips, (N,), and where each clip begins in them
    and the last one ends, (C + 1,). Tracks of one group are a clip, and so is each chat; clips of tracks come first,
    each kind in the order of the file."""
    tracks, chats = np.flatnonzero(~is_chat), np.flatnonzero(is_chat)
    _, first, which = np.unique(groups[tracks], return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))[which]  # numbers of clips in the order in which they begin
    order = np.argsort(by_appearance, kind="stable")
    sizes = np.concatenate([np.bincount(by_appearance, minlength=len(first)), np.ones(len(chats), np.int64)])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return np.concatenate([tracks[order], chats]), starts


def _labels(records: Sequence[Record]) -> ClipLabels:
    if records[0].vqa is not None:
        return ClipLabels(chat=rounds(records[0], _box_text), words_at_start=False)
    return ClipLabels(tuple(_object(record) for record in records), words_at_start=False)


def _box_text(box: Box) -> str:
    return ELYSIUM.format_box(quantize(np.array([box]))[0])


def _object(record: Record) -> ObjectLabel:
    words = record.object_description.strip() or record.object_class.strip()
    expressions = tuple(record.expressions or ([words] if words else []))
    return ObjectLabel(
        record.object_class or words, None, record.boxes_xyxyn.astype(np.float32), expressions, words
    )  # fmt: skip
