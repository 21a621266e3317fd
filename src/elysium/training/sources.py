"""Where clips come from: what was rendered, or records with their images.

Knows: how the objects and chats of a file of records belong to clips, and how frames are read when a sample asks for
them. Does not know: tasks, prompts, which frames are drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from elysium.data.records.index import RecordFile, clips_of
from elysium.errors import InputError, SourceError
from elysium.language.dialects import ELYSIUM
from elysium.training.dealing import Group, shuffled


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

    ``words_at_start``: expressions are true of the first frame, and perhaps of no other. ``caption``: words for all of
    it. ``name``: what it is called in messages, its number by default.
    """

    objects: tuple[ObjectLabel, ...] = ()
    chat: tuple[tuple[str, str], ...] = ()
    words_at_start: bool = True
    caption: str = ""
    name: str = ""


class Frames(Protocol):
    """The frames of one clip; indexing by frame numbers gives features (n, D) or pixels (n, S, S, 3) uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, picked: NDArray[np.int64]) -> NDArray[Any]: ...


class Clips(Protocol):
    """Clips by number, and a name for messages. :class:`AtHand` has those that can be had in any order,
    :mod:`elysium.training.streams` those that can only be read on."""

    @property
    def name(self) -> str: ...

    @property
    def bookmark(self) -> str:
        """From where the clips that are at hand now can be read again; empty if they always are."""

    def turn_to(self, group: Group, seed: int) -> Sequence[str]:
        """Have the clip of a group at hand; says what could not be read on the way. Raises InputError if nothing can
        be."""

    def own(self, group: Group, seed: int) -> int:
        """The number of the clip of a group that was turned to: every clip once before any comes again."""

    def another(self, rng: np.random.Generator) -> int:
        """The number of any clip that is at hand."""

    def __getitem__(self, number: int) -> tuple[Frames, ClipLabels]: ...


class AtHand(ABC):
    """Clips of which each can be had at any time."""

    bookmark = ""

    @abstractmethod
    def __len__(self) -> int: ...

    def turn_to(self, group: Group, seed: int) -> Sequence[str]:
        return ()

    def own(self, group: Group, seed: int) -> int:
        turn, place = divmod(group.number, len(self))
        return int(shuffled(len(self), seed, turn)[place])

    def another(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self)))


class Images(Protocol):
    """Images by name."""

    def __hash__(self) -> int: ...

    def picture(self, name: str) -> Image.Image:
        """RGB, upright. Raises SourceError for one that is missing or broken."""


class ImageFrames:
    """Frames in image files, scaled to ``size_px`` squares as the model's processor would."""

    def __init__(self, images: Images, names: Sequence[str], size_px: int) -> None:
        self.images, self.names, self.size_px = images, names, size_px

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, picked: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, S, S, 3). Raises SourceError for an image that is missing or broken."""
        read = [_read(self.images, self.names[i], self.size_px) for i in picked]
        return np.stack(read) if read else np.zeros((0, self.size_px, self.size_px, 3), np.uint8)


@lru_cache(maxsize=64)  # neighbouring samples ask about the same frames
def _read(images: Images, name: str, size_px: int) -> NDArray[np.uint8]:
    return np.asarray(images.picture(name).resize((size_px, size_px), Image.Resampling.BILINEAR))


class RecordClips(AtHand):
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
            labels = labels_of(records)
        except InputError as error:
            raise SourceError(str(error)) from error
        return ImageFrames(self.images, records[0].frames, self.size_px), labels

    def objects(self) -> Iterator[ObjectLabel]:
        """Every object of the tracks. Raises InputError for a defective record."""
        for place in np.flatnonzero(~self.records.is_chat):
            yield from labels_of([self.records[place]]).objects


def labels_of(records: Sequence[Record], name: str = "") -> ClipLabels:
    """Of the tracks over the same frames, or of one chat. Raises InputError for a chat that is none."""
    caption = next((record.caption for record in records if record.caption), "")
    chat = () if records[0].vqa is None else rounds(records[0], _box_text)
    objects = tuple(_object(record) for record in records if record.vqa is None and record.box is not None)
    return ClipLabels(objects, chat, words_at_start=False, caption=caption, name=name)


def _box_text(box: Box) -> str:
    return ELYSIUM.format_box(quantize(np.array([box]))[0])


def _object(record: Record) -> ObjectLabel:
    words = record.object_description.strip() or record.object_class.strip()
    expressions = tuple(record.expressions or ([words] if words else []))
    return ObjectLabel(
        record.object_class or words, None, record.boxes_xyxyn.astype(np.float32), expressions, words
    )  # fmt: skip
