"""TrackingNet as annotation records.

    <root>/TRAIN_0/anno/<id>.txt                 left, top, width, height in pixels, a line a frame
    <root>/TRAIN_0/frames/<id>/0.jpg, 1.jpg ...  unpacked from TRAIN_0/zips/<id>.zip by the authors' kit
    <root>/TRAIN_1/ ... TRAIN_11/                as many of the twelve as there are

Frames count from 0, and so do pixels: nothing says so, but the boxes come from YouTube-BoundingBoxes, in which they are
shares of the frame, and the authors' kit draws them unshifted with OpenCV. One box a second was drawn by people, those
between come from a tracker and may stick out of the frame; they are cut off.

The split test (TEST/) is refused: only the box of its first frame is published, and a record has a box for every frame;
results on it are scored by the benchmark's server.

Kept: boxes; an object is absent where its box has no size or lies outside of the frame, for want of anything else that
says so. There are no words and no classes in what is distributed. Dropped: nothing. Knows nothing about models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from elysium.data.convert.base import Converter, Options, Unit
from elysium.data.convert.listings import folders_in, numbered_frames, text_boxes, text_files
from elysium.data.convert.parts import check_count, image_size, images_in, track_record
from elysium.data.records import Record
from elysium.errors import InputError, SourceError


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """An annotation file each."""
    if options.split == "test":
        told = "TrackingNet publishes no boxes of its split test but those of the first frames"
        raise InputError(told, "Convert train.")
    parts = [folder for folder in folders_in(root) if re.fullmatch(r"TRAIN_\d+", folder.name)]
    if not parts:
        raise InputError(f"{root} holds no folder TRAIN_0 to TRAIN_11", "Name the folder that they are in.")
    for part in parts:
        if not (part / "anno").is_dir():
            raise SourceError(f"There is no folder {str(part / 'anno')!r}", "Fetch the annotations.")
        yield from ((f"{part.name}/{file.stem}", None) for file in text_files(part / "anno"))


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    part, _, name = unit[0].partition("/")
    file, folder = root / part / "anno" / f"{name}.txt", root / part / "frames" / name
    boxes = text_boxes(file, origin=0)
    check_count(file, len(boxes), len(images_in(folder)))
    frames = numbered_frames(folder, 0, len(boxes))
    yield track_record(root, frames, boxes, image_size(frames[0]), source="TrackingNet", id=unit[0], vid=name)


TRACKINGNET = Converter(
    "TrackingNet: TRAIN_0/ to TRAIN_11/ (or some of them), each with anno/ and the unpacked frames/",
    _units, _records, splits=("train", "test"),
)  # fmt: skip
