"""UAV123 and UAV20L as annotation records.

    <root>/anno/UAV123/<sequence>.txt            left, top, width, height in pixels, a line a frame; NaN: absent
    <root>/anno/UAV20L/<sequence>.txt            the same for the 20 long sequences, the split UAV20L
    <root>/data_seq/UAV123/<video>/000001.jpg ...    frames of both

Several sequences are pieces of one video. Which, and from which frame to which (both belong to it, frames count from
1), stands in uav123.json beside this file; the numbers are those of the authors' configSeqs.m. They add up to 112578
frames in the 123 sequences, which is how many the data set has, and to 58670 in the 20 long ones.

Pixels are taken to count from 1: the authors say nothing of it, but publish the data as a set-up of the MATLAB tool kit
of OTB, in which they do. The object is absent where the line is NaN (fully occluded or out of the frame, the authors
say; which, they do not).

Kept: boxes, absence, the first and the last frame, and as class the first letters of the sequence's name (bike, bird,
boat, building, car, group, person, truck, uav, wakeboard), which is a person in "group" and "wakeboard". Dropped: the
attributes in anno/*/att, whose order differs from source to source. Knows nothing about models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from elysium.data.convert.base import Converter, Options, Unit
from elysium.data.convert.listings import numbered_frames, text_boxes, text_files
from elysium.data.convert.parts import check_count, image_size, track_record
from elysium.data.records import Record
from elysium.errors import InputError, SourceError

_VIDEOS = Path("data_seq", "UAV123")


@cache
def pieces(split: str) -> dict[str, tuple[str, int, int]]:
    """The video of each sequence, and the first and the last of its frames."""
    table = json.loads(files("elysium.data.convert").joinpath("uav123.json").read_text(encoding="utf-8"))
    return {name: (video, first, last) for name, (video, first, last) in table[split].items()}


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """An annotation file each."""
    folder = root / "anno" / str(options.split)
    for needed in (folder, root / _VIDEOS):
        if not needed.is_dir():
            raise SourceError(f"There is no folder {str(needed)!r}", "Name the folder of anno/ and data_seq/.")
    found = text_files(folder)
    if not found:
        raise InputError(f"{folder} holds no <sequence>.txt", "Fetch the annotations.")
    yield from ((file.stem, None) for file in found)


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    name, split = unit[0], str(options.split)
    file = root / "anno" / split / f"{name}.txt"
    if name not in pieces(split):
        raise InputError(f"{file} is no sequence of {split}", "Take the file away.")
    video, first, last = pieces(split)[name]
    boxes = text_boxes(file, origin=1)
    check_count(file, len(boxes), last - first + 1)
    frames = numbered_frames(root / _VIDEOS / video, first, len(boxes))
    letters = re.match("[a-z]+", name)
    yield track_record(
        root, frames, boxes, image_size(frames[0]), source=split, id=name, vid=video,
        object_class=letters[0] if letters else "", metadata={"first_frame": first, "last_frame": last},
    )  # fmt: skip


UAV123 = Converter("UAV123: anno/ and data_seq/UAV123/", _units, _records, splits=("UAV123", "UAV20L"))
