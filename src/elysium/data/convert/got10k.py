"""GOT-10k as annotation records.

    <root>/{train,val}/list.txt                        the names of the sequences, one a line
    <root>/{train,val}/GOT-10k_Train_000001/00000001.jpg ...
    <root>/{train,val}/GOT-10k_Train_000001/groundtruth.txt    left, top, width, height in pixels, a line a frame
    <root>/{train,val}/GOT-10k_Train_000001/absence.label, cover.label    a number a frame
    <root>/{train,val}/GOT-10k_Train_000001/meta_info.ini      "object_class: ctenophore", "anno_fps: 10Hz" and more

``<root>`` may also be the folder of one split. Without list.txt, every folder GOT-10k_... in it is a sequence.

Pixels count from 1: so the first author (issue 6 of got-10k/toolkit on GitHub). The object is absent where
absence.label is 1 (it is not in the frame), where cover.label is 0 (it is, but none of it can be seen: 0 to 8 stand for
visible shares from 0 to 100 per cent, and what box there is was guessed), and where the box has no size.

The split test is refused: only the box of its first frame is published, and a record has a box for every frame; results
on it are scored by the benchmark's server. So is a sequence whose last frame has another size than its first, of which
there are about ten (issue 25: GOT-10k_Val_000136 is one), since a record has one size.

Kept: boxes, absence, class, times, all of meta_info.ini. Dropped: cut_by_image.label, and how much was visible where
something was. Knows nothing about models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from elysium.data.convert.base import Converter, Options, Unit
from elysium.data.convert.listings import TRUTH, folders_in, frame_labels, listed_names, numbered_frames, text_boxes
from elysium.data.convert.parts import check_count, image_size, images_in, read_text, track_record
from elysium.data.records import Record
from elysium.errors import InputError

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:hz|fps)", re.IGNORECASE)


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """A sequence each, with the path of its folder."""
    split = str(options.split)
    folder = root / split if (root / split).is_dir() else root
    names = _names(folder)
    if split == "test" or any("_Test_" in name for name in names):
        told = "GOT-10k publishes no boxes of its split test but those of the first frames"
        raise InputError(told, "Convert train or val.")
    if not names:
        raise InputError(f"{root} holds neither {split}/ nor a sequence", "Name the folder of train/ and val/.")
    if split == "val" and any("_Train_" in name for name in names):
        raise InputError(f"{folder} holds the split train, not val", "Leave --split out, or name another folder.")
    yield from ((name, (folder / name).relative_to(root).as_posix()) for name in names)


def _names(folder: Path) -> list[str]:
    """The sequences of a folder: those of its list if there is one."""
    file = folder / "list.txt"
    if file.is_file():
        return listed_names(file, r"[\w-]+")
    return [path.name for path in folders_in(folder) if path.name.startswith("GOT-10k_")]


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    name, folder = unit[0], root / unit[1]
    boxes = text_boxes(folder / TRUTH, origin=1)
    check_count(folder / TRUTH, len(boxes), len(images_in(folder)))
    boxes[frame_labels(folder / "absence.label", len(boxes), 1) == 1] = np.nan
    boxes[frame_labels(folder / "cover.label", len(boxes), 8) == 0] = np.nan
    frames = numbered_frames(folder, 1, len(boxes))
    size, last = image_size(frames[0]), image_size(frames[-1])
    if size != last:
        told = f"{folder} begins with frames of {size[0]}x{size[1]} and ends with {last[0]}x{last[1]}"
        raise InputError(told, "A record cannot say that; leave the sequence out.")
    about = _about(folder / "meta_info.ini")
    rate = _RATE.fullmatch(about.get("anno_fps", ""))
    times_s = [i / float(rate[1]) for i in range(len(boxes))] if rate and float(rate[1]) else None
    yield track_record(
        root, frames, boxes, size, source="GOT-10k", id=name, vid=name, object_class=about.pop("object_class"),
        times_s=times_s, metadata=about,
    )  # fmt: skip


def _about(file: Path) -> dict[str, str]:
    """The lines ``key: value`` of a file. Raises InputError for another line, or if there is no class."""
    about = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip() or line.startswith("["):
            continue
        key, colon, value = line.partition(":")
        if not colon:
            raise InputError(f"{file}: line {number}, {line.strip()!r}, has no colon", "Write key: value.")
        about[key.strip()] = value.strip()
    if "object_class" not in about:
        raise InputError(f"{file} has no object_class", "Fetch the sequence again.")
    return about


GOT10K = Converter(
    "GOT-10k: train/ and val/ (or one of them), with list.txt and a folder a sequence",
    _units, _records, splits=("train", "val", "test"),
)  # fmt: skip
