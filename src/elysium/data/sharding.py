"""Records and their images put into shards: in several processes, stopped and gone on with (`elysium.data.units`).

Clips go to shards in an order drawn from a seed, so that whoever reads one after the other still sees them mixed. The
shards of ``tracks.jsonl`` are ``tracks-00000.tar`` and so on; ``tracks-shards.jsonl`` beside them has a line for each:
its name, how many clips, records, frames and bytes it has. Images are copied as they are; a run that goes on takes them
to be what they were.

Knows: records, images, shards. Does not know: processes, what the clips are for.
"""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from elysium.data.rearrange import stem
from elysium.data.records.images import FIRST_RECORDS, ImageFolder, check_images
from elysium.data.records.index import RecordFile, clips_of
from elysium.data.shards import SUFFIXES, Form, StoredClip, records_text, write_shard
from elysium.data.units import Done, LeftOut, Report, Unit, begun, carry_out
from elysium.errors import ElysiumError, InputError, SourceError
from elysium.files import ensure_folder

CLIPS = 256
"""Clips in a shard: of videos of 60 frames of 50 kB, 0.8 GB."""
LISTING = "-shards.jsonl"


def shard(
    path: Path, output: Path, images: Path, *, form: Form = "webdataset", clips: int = CLIPS, seed: int = 0,
    workers: int = 1, report: Report | None = None,
) -> Done:  # fmt: skip
    """Write the clips of a file of records into shards of ``clips`` clips; a line of the result is a shard.

    A clip with a defective record, or without one of its images, is left out, with a warning.

    Raises:
        SourceError, InputError: the file, or the folder of images, cannot be read; its first records are defective, or
        none of their images is there; there are shards of something else in ``output``; no clip can be used.
    """
    if form not in SUFFIXES:
        raise InputError(f"There is no form of shards {form!r}", f"Use one of {', '.join(SUFFIXES)}.")
    check_images(RecordFile(path)[:FIRST_RECORDS], images)
    ensure_folder(output)
    listing = output / f"{stem(path)}{LISTING}"
    found = path.stat()
    about = {"records": [str(path.resolve()), found.st_size, found.st_mtime_ns], "images": str(images.resolve()),
             "form": form, "clips": clips, "seed": seed}  # fmt: skip
    _refuse_others(listing, about)
    return carry_out(
        partial(_write, path, output, images, form), _units(path, clips, seed, form), listing, about,
        nothing=f"{path} holds no clip", reads=(output,), workers=workers, report=report,
    )  # fmt: skip


def count_shards(path: Path, clips: int = CLIPS, report: Report | None = None) -> int:
    """How many shards there will be; ``report`` is told of records as the file is indexed. Raises as :func:`shard`."""
    records = RecordFile(path, report=report)
    if report is not None:
        report(len(records))
    return -(-(len(clips_of(records.groups, records.is_chat)[1]) - 1) // clips)


def _refuse_others(listing: Path, about: dict[str, object]) -> None:
    """Raises InputError if there are shards of that name that a stopped run with the same options did not write."""
    name = listing.name.removesuffix(LISTING)
    old = sorted(path for suffix in SUFFIXES.values() for path in listing.parent.glob(f"{name}-[0-9]*{suffix}"))
    if old and not begun(listing, about):
        raise InputError(f"{old[0]} is there already", "Choose another folder, or remove the shards of that name.")


def _units(path: Path, clips: int, seed: int, form: Form) -> Iterator[Unit]:
    """The names of shards, each with the number of its first clip and the record numbers of all its clips."""
    records = RecordFile(path)
    order, starts = clips_of(records.groups, records.is_chat)
    mixed = np.random.default_rng(seed).permutation(len(starts) - 1)
    for number, first in enumerate(range(0, len(mixed), clips)):
        numbers = [order[starts[clip] : starts[clip + 1]].tolist() for clip in mixed[first : first + clips]]
        yield f"{stem(path)}-{number:05d}{SUFFIXES[form]}", (first, numbers)


@lru_cache(maxsize=1)
def _opened(path: Path, images: Path) -> tuple[RecordFile, ImageFolder]:
    return RecordFile(path), ImageFolder(images)


def _write(path: Path, output: Path, images: Path, form: Form, unit: Unit) -> list[str]:
    """Write a shard; the line about it."""
    name, (first, numbers) = unit
    told: Counter[str] = Counter()
    left_out: list[str] = []

    def clips() -> Iterator[StoredClip]:
        for place, some in enumerate(numbers, first):
            try:
                clip = _clip(*_opened(path, images), some, f"{place:09d}")
            except ElysiumError as error:
                left_out.append(str(error))
                continue
            told["clips"] += 1
            told["records"] += len(some)
            told["frames"] += len(clip.frames)
            yield clip

    write_shard(output / name, clips(), form)
    if left_out:
        warnings.warn(f"{len(left_out)} of {len(numbers)} clips left out; the first: {left_out[0]}", LeftOut, 2)
    if not told["clips"]:
        (output / name).unlink()
        raise SourceError(f"none of its {len(numbers)} clips can be read; the first: {left_out[0]}")
    with (output / name).open("rb") as file:  # that makes it a part of what is done: taken away, it is made again
        told["bytes"] = file.seek(0, io.SEEK_END)
    return [json.dumps({"shard": name, **told})]


def _clip(records: RecordFile, images: ImageFolder, numbers: list[int], key: str) -> StoredClip:
    """Raises InputError for a defective record, SourceError for an image that is not there."""
    found = [records[number] for number in numbers]
    frames = []
    for name in found[0].frames:
        data = images.content(name)
        if data is None:
            raise SourceError(f"record {found[0].id!r}: {name!r} is not there")
        frames.append((name, data))
    return StoredClip(key, records_text(found), tuple(frames))
