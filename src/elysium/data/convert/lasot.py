"""LaSOT (and its extension of 2020) as annotation records.

    <root>/<class>/<class>-<n>/img/00000001.jpg ...   (or <root>/<class>-<n>/, without the folders of the classes)
    <root>/<class>/<class>-<n>/groundtruth.txt        left, top, width, height in pixels, a line a frame
    <root>/<class>/<class>-<n>/full_occlusion.txt, out_of_view.txt    0 or 1 a frame, in one line
    <root>/<class>/<class>-<n>/nlp.txt                words for the object; may be missing
    <root>/training_set.txt, testing_set.txt          for the splits train and test: a sequence a line

Pixels count from 1: asked for the origin, an author said that the smallest coordinate should be 1 (issue 14 of
LaSOT_Evaluation_Toolkit on GitHub), the asker had found no 0 in the 1400 sequences of 2019, and a loader by another of
the authors (LoRAT) subtracts 1. Several tool kits do not. The extension does have zeros; they are cut off at the edge.

A sequence may have more images than lines. As in the authors' evaluation, the images after the last line are left out;
too few images are an error. Kept: boxes, words, the class (from the name), and absence: where an occlusion is full or
the object out of view, and where a box has no size (tiger-6 has one with a negative height). Dropped: which of the two
reasons it was; the attributes, which are not with the sequences. Knows nothing about models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from elysium.data.convert.base import Converter, Options, Unit
from elysium.data.convert.listings import TRUTH, folders_in, frame_labels, listed_names, numbered_frames, text_boxes
from elysium.data.convert.parts import image_size, read_text, track_record
from elysium.data.records import Record
from elysium.errors import InputError, SourceError

LISTS = {"train": "training_set.txt", "test": "testing_set.txt"}
_NAME = r"[\w-]+-\d+"


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """A sequence each, with the path of its folder."""
    found = _sequences(root)
    names = list(found)
    if options.split in LISTS:
        file = root / LISTS[options.split]
        if not file.is_file():
            remedy = "Fetch it from LaSOT's page of results (there: Training/Testing split), or leave --split out."
            raise SourceError(f"There is no {file}, which lists the sequences of the split", remedy)
        names = listed_names(file, _NAME)
    for name in names:
        yield name, found.get(name, f"{name.rpartition('-')[0]}/{name}")


def _sequences(root: Path) -> dict[str, str]:
    """The folders of sequences below ``root`` by their names."""
    found: dict[str, str] = {}
    for folder in folders_in(root):
        for path in [folder] if re.fullmatch(_NAME, folder.name) else folders_in(folder):
            place = path.relative_to(root).as_posix()
            if re.fullmatch(_NAME, path.name) and found.setdefault(path.name, place) != place:
                raise InputError(f"{root} holds {found[path.name]} and {place}", "Take one of them away.")
    if not found:
        raise InputError(f"{root} holds no sequence of LaSOT", f"Each is a folder <class>-<n> with img/ and {TRUTH}.")
    return found


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    name, folder = unit[0], root / unit[1]
    boxes = text_boxes(folder / TRUTH, origin=1)
    for labels in ("full_occlusion.txt", "out_of_view.txt"):
        boxes[frame_labels(folder / labels, len(boxes), 1) == 1] = np.nan
    frames = numbered_frames(folder / "img", 1, len(boxes))
    words = folder / "nlp.txt"
    yield track_record(
        root, frames, boxes, image_size(frames[0]), source="LaSOT", id=name, vid=name,
        object_class=name.rpartition("-")[0], description=" ".join(read_text(words).split()) if words.is_file() else "",
    )  # fmt: skip


LASOT = Converter(
    "LaSOT: <class>/<class>-<n>/ with img/, groundtruth.txt, nlp.txt, full_occlusion.txt and out_of_view.txt",
    _units, _records, splits=("all", *LISTS),
)  # fmt: skip
