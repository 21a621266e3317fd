"""Clips of shards, which can only be read from beginning to end: one window of clips at a time is at hand.

All readers of a run, the *lanes* (see :mod:`elysium.training.dealing`), share out the shards of an epoch, whose order
is drawn anew for each, by ``datasets.distributed.split_dataset_by_node``; with fewer shards than lanes each reads all
and takes its part of the clips. A lane reads a window of clips and shows them in an order drawn from (seed, epoch,
lane, place), then reads the next. So what it shows depends on these numbers alone, and an epoch shows every clip once.

A *bookmark* says where a window begins: the state of the stream of ``datasets`` there. It travels with the samples to
the trainer, which keeps that of the last sample of each lane that was trained on; a run that goes on reads from there.
Without one it reads from the beginning, to the same end.

Knows: shards, windows. Does not know: what samples are, which lane this process is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from elysium.data.records.images import FIRST_RECORDS
from elysium.data.shards import StoredClip, read_shard, records_of, shard_paths
from elysium.errors import InputError, SourceError
from elysium.readers import read_picture
from elysium.training.dealing import Group, shuffled
from elysium.training.sources import ClipLabels, ImageFrames, ObjectLabel, labels_of

_MOST_EMPTY = 100  # epochs in a row in which a lane finds no clip


class HeldImages:
    """Encoded images in memory, by name."""

    def __init__(self, frames: Iterable[tuple[str, bytes]]) -> None:
        self._frames = dict(frames)

    def picture(self, name: str) -> Image.Image:
        """RGB, upright. Raises SourceError for one that is broken."""
        return read_picture(name, BytesIO(self._frames[name]))


@dataclass(frozen=True)
class _Window:
    """Clips that are at hand, each with its shard, in the order in which they are shown: the lane's clips ``start``,
    ``start + 1`` ... What could not be read among them, and where they begin: epoch, and state of the stream."""

    start: int
    clips: tuple[tuple[str, StoredClip], ...]
    troubles: tuple[str, ...]
    epoch: int
    state: dict[str, Any] | None


class ShardClips:
    """The clips of shards.

    Args:
        shards: a path or pattern, see :func:`elysium.data.shards.shard_paths`.
        size_px: sides of the frames.
        window: how many clips are held, and shown in a drawn order.
        number: of the source in the run, for bookmarks.

    Raises:
        SourceError: there are no shards, or something is wrong with the first clips.
    """

    def __init__(self, shards: str, size_px: int, window: int, number: int = 0) -> None:
        self.name, self.size_px, self.size, self.number = shards, size_px, window, number
        self.lanes = 1
        self._paths = shard_paths(shards)
        self._bookmarks: dict[int, dict[str, Any]] = {}
        self._at: tuple[int, int] | None = None  # lane and seed of what is being read
        self._windows: Iterator[_Window] = iter(())
        self._window: _Window | None = None
        self._last: tuple[int, tuple[ImageFrames, ClipLabels]] | None = None
        self.only_chats = self._looks_like_chats()

    def _looks_like_chats(self) -> bool:
        """Whether all of the first clips are chats. Raises SourceError for the first that is not as it should be."""
        first = list(islice(read_shard(self._paths[0]), FIRST_RECORDS))
        for found in first:
            if isinstance(found, str):
                raise SourceError(found, "Make this shard anew, or take it away.")
        kinds = [bool(self._clip(self._paths[0], found)[1].chat) for found in first if isinstance(found, StoredClip)]
        if not kinds:
            raise SourceError(f"{self._paths[0]} holds no clip", "Take it away.")
        return all(kinds)

    def read_from(self, bookmarks: Iterable[str]) -> None:
        """Read on from the latest of these, lane by lane, where they are this source's."""
        for mark in map(json.loads, bookmarks):
            if mark["source"] == self.number:
                self._bookmarks[mark["lane"]] = mark

    @property
    def bookmark(self) -> str:
        """Where the window that is at hand begins."""
        assert self._at is not None and self._window is not None
        window = self._window
        mark = {"source": self.number, "lane": self._at[0], "start": window.start, "epoch": window.epoch}
        return json.dumps({**mark, "state": window.state})

    def turn_to(self, group: Group, seed: int) -> list[str]:
        """Read on until the clip of a group is at hand; says what could not be read on the way. Raises InputError if
        the lane finds nothing."""
        if self._at != (group.lane, seed) or (self._window is not None and group.turn < self._window.start):
            self._at, self._window = (group.lane, seed), None
            mark = self._bookmarks.get(group.lane, {})
            usable = mark if mark.get("start", 0) <= group.turn else {}
            self._windows = self._read(group.lane, seed, usable)
        troubles: list[str] = []
        while self._window is None or group.turn >= self._window.start + len(self._window.clips):
            self._window, self._last = None, None  # two at once would take twice the memory
            self._window = next(self._windows)
            troubles += self._window.troubles
        return troubles

    def own(self, group: Group, seed: int) -> int:
        return group.turn

    def another(self, rng: np.random.Generator) -> int:
        assert self._window is not None
        return self._window.start + int(rng.integers(len(self._window.clips)))

    def __getitem__(self, number: int) -> tuple[ImageFrames, ClipLabels]:
        """Raises SourceError for a clip with a defective record."""
        assert self._window is not None
        if self._last is None or self._last[0] != number:  # neighbouring samples ask about the same clip
            self._last = number, self._clip(*self._window.clips[number - self._window.start])
        return self._last[1]

    def objects(self) -> Iterator[ObjectLabel]:
        """Every object of the tracks. Raises SourceError for what cannot be read."""
        for path in self._paths:
            for found in read_shard(path):
                if isinstance(found, str):
                    raise SourceError(found, "Make this shard anew, or take it away.")
                yield from self._clip(path, found)[1].objects

    def _clip(self, path: str, clip: StoredClip) -> tuple[ImageFrames, ClipLabels]:
        place = f"{path.rpartition('/')[2]}:{clip.key}"
        try:
            records = records_of(clip)
            labels = labels_of(records, place)
        except (InputError, SourceError) as error:
            raise SourceError(f"{path}, {error}") from error
        names = records[0].frames  # which are told where one cannot be read
        images = HeldImages((name, data) for name, (_, data) in zip(names, clip.frames, strict=True))
        return ImageFrames(images, names, self.size_px), labels

    def _read(self, lane: int, seed: int, mark: dict[str, Any]) -> Iterator[_Window]:
        """The windows of a lane, one epoch after the other, from a bookmark on."""
        start, epoch, state = mark.get("start", 0), mark.get("epoch", 0), mark.get("state")
        empty, troubles = 0, ()  # type: int, tuple[str, ...]
        while empty < _MOST_EMPTY:
            empty += 1
            read_on, where = self._stream(lane, seed, epoch, state)
            while found := read_on(self.size):
                clips = [one for one in found if isinstance(one[1], StoredClip)]
                troubles = tuple(one[1] for one in found if isinstance(one[1], str))
                order = np.random.default_rng((seed, 7, epoch, lane, start)).permutation(len(clips))
                yield _Window(start, tuple(clips[place] for place in order), troubles, epoch, state)
                start, state = start + len(clips), where()
                empty = 0 if clips else empty
                found.clear()  # or two windows would be held while the next one is read
                clips.clear()
            epoch, state = epoch + 1, None
        told = f" {troubles[0]}" if troubles else ""
        raise InputError(
            f"{self.name}: reader {lane + 1} of {self.lanes} finds no clip in {_MOST_EMPTY} epochs.{told}",
            "Make more shards, or use fewer loader processes.",
        )

    def _stream(
        self, lane: int, seed: int, epoch: int, state: dict[str, Any] | None
    ) -> tuple[Callable[[int], list[tuple[str, StoredClip | str]]], Callable[[], dict[str, Any]]]:
        """A function that reads as many items of an epoch as it is told, or as there are, and one that says where it
        is."""
        from datasets.distributed import split_dataset_by_node
        from datasets.iterable_dataset import ExamplesIterable, IterableDataset

        order = [self._paths[place] for place in shuffled(len(self._paths), seed, epoch)]
        by_shards = len(order) >= self.lanes
        whole = IterableDataset(ExamplesIterable(_items, {"shards": order}))
        part = split_dataset_by_node(whole, lane, self.lanes, strategy="shards" if by_shards else "examples")
        if state is not None:
            part.load_state_dict(state)
        # Batches of one: unlike plain iteration, it does not share out once more to the processes of a loader.
        items = ((item["shard"][0], item["found"][0]) for item in part.iter(batch_size=1))
        return lambda count: list(islice(items, count)), part.state_dict

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_at": None, "_windows": iter(()), "_window": None, "_last": None}


def _items(shards: list[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What ``datasets`` reads of a shard: it gives them one at a time."""
    for shard in shards:
        for number, found in enumerate(read_shard(shard)):
            yield (shard, number), {"shard": shard, "found": found}
