"""OTB (OTB-2013, -50 and -100, also called TB-100) as annotation records.

    <root>/<Sequence>/img/0001.jpg ...
    <root>/<Sequence>/groundtruth_rect.txt        left, top, width, height in pixels, a line a frame, between commas,
                                                  tabs or blanks
    <root>/<Sequence>/groundtruth_rect.1.txt, .2  instead, where there are several objects (Jogging, Skating2, Human4)

Pixels count from 1: the benchmark comes from MATLAB. Files without a line are passed over (that of Human4's first
object). Two objects of a sequence are called Jogging.1 and Jogging.2, as in the authors' list.

Boxes and images must be as many. Eight sequences are a piece of a longer video, of which the authors' list names the
first and the last frame: if the folder holds more images than there are boxes, those of the numbers from the first to
the last are taken; if it holds as many, all of them, whatever their numbers. Of Tiger1 the first five frames are left
out: there the object is hidden, and the tool kit's one pass over the sequence, which published results are of, begins
with the sixth (its folder initOmit says where no run may begin).

Kept: boxes; an object is absent where its box has no size. There are no words and no classes in what is distributed.
Dropped: the attributes, which are not with the sequences. Knows nothing about models.
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

_PIECES = {  # the first and the last frame, both belong to it
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
_HIDDEN = {("Tiger1", 354): 5}  # by name and number of boxes: how many frames at the beginning
_TRUTH = "groundtruth_rect"


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """A file with boxes each, by its path."""
    folders = [folder for folder in folders_in(root) if (folder / "img").is_dir()]
    if not folders:
        raise InputError(f"{root} holds no sequence of OTB", f"Each is a folder with img/ and {_TRUTH}.txt.")
    for folder in folders:
        for file in _truths(folder):
            yield folder.name + file.stem.removeprefix(_TRUTH), f"{folder.name}/{file.name}"


def _truths(folder: Path) -> list[Path]:
    """The files with the boxes of a sequence; where there are several, those that are not empty."""
    found = [file for file in text_files(folder) if re.fullmatch(_TRUTH + r"(\.\d+)?", file.stem)]
    if len(found) > 1:
        found = [file for file in found if file.read_bytes().strip()]
    return found or [folder / f"{_TRUTH}.txt"]


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    name, file = unit[0], root / unit[1]
    sequence = file.parent.name
    boxes = text_boxes(file, origin=1)
    frames = _frames(file, len(boxes))
    start = _HIDDEN.get((sequence, len(boxes)), 0)
    yield track_record(
        root, frames[start:], boxes[start:], image_size(frames[start]), source="OTB100", id=name, vid=sequence,
    )  # fmt: skip


def _frames(file: Path, boxes: int) -> list[Path]:
    """The images that the boxes of a file are of."""
    folder, piece = file.parent / "img", _PIECES.get(file.parent.name)
    images = images_in(folder)
    if not images:
        raise SourceError(f"{folder} holds no images", "Unpack them again.")
    if piece is None or len(images) == boxes:
        check_count(file, boxes, len(images))
        return images
    check_count(file, boxes, piece[1] - piece[0] + 1)
    return numbered_frames(folder, piece[0], boxes)


OTB100 = Converter("OTB: <Sequence>/ with img/ and groundtruth_rect.txt", _units, _records)
