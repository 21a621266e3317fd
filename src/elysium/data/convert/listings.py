"""Folders and text files as tracking benchmarks lay them out: boxes and labels a line a frame, images named by their
number, lists of sequences. Knows files; does not know any one benchmark, nor records.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from elysium.boxes import FloatArray
from elysium.data.convert.parts import images_in, number_lines, number_table, read_text, xywh_to_xyxy
from elysium.errors import InputError, SourceError
from elysium.video import natural_key

TRUTH = "groundtruth.txt"


def text_boxes(file: Path, origin: int) -> FloatArray:
    """(T, 4) pixels from 0, left, top, right, bottom, of a file with left, top, width and height in each line; NaN
    where they are no box. Raises InputError, SourceError."""
    numbers = number_table(file, 4)
    if not len(numbers):
        raise InputError(f"{file} holds no box", "It needs a line a frame.")
    return xywh_to_xyxy(numbers, origin)


def frame_labels(file: Path, boxes: int, highest: int) -> FloatArray:
    """(T,) a whole number from 0 to ``highest`` a box, in lines or in one line. Raises InputError, SourceError."""
    labels = np.array([number for line in number_lines(file) for number in line], dtype=np.float64)
    if len(labels) != boxes:
        raise InputError(f"{file} has {len(labels)} entries for {boxes} boxes", "They must be as many.")
    wrong = np.flatnonzero(~np.isin(labels, np.arange(highest + 1)))
    if len(wrong):
        told = f"{file}: entry {wrong[0] + 1} is {labels[wrong[0]]:g}"
        raise InputError(told, f"Each must be a whole number from 0 to {highest}.")
    return labels


def numbered_frames(folder: Path, first: int, count: int) -> list[Path]:
    """The images of a folder whose names are the numbers from ``first`` on, however many zeros lead.

    Raises:
        SourceError: no such folder, or one of the images is missing. InputError: two have the same number.
    """
    found: dict[int, Path] = {}
    for image in images_in(folder):
        if image.stem.isdecimal() and found.setdefault(int(image.stem), image) != image:
            raise InputError(f"{folder} has two images of the number {int(image.stem)}", "Take one of them away.")
    for number in range(first, first + count):
        if number not in found:
            raise SourceError(f"{folder} has no image of the number {number}", "Unpack the images again.")
    return [found[number] for number in range(first, first + count)]


def listed_names(file: Path, pattern: str) -> list[str]:
    """The lines of a file that are not blank, each once. Raises InputError for one that is unlike ``pattern``."""
    names: dict[str, None] = {}
    for number, line in enumerate(map(str.strip, read_text(file).splitlines()), 1):
        if line and not re.fullmatch(pattern, line):
            raise InputError(f"{file}: line {number}, {line!r}, is no name of a sequence", "Write one name a line.")
        names[line] = None
    return [name for name in names if name]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order. Raises SourceError if it is none itself."""
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}", "Check the path.")
    shown = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(shown, key=lambda path: natural_key(path.name))


def text_files(folder: Path) -> list[Path]:
    """The files ``*.txt`` of a folder, in natural order."""
    found = sorted(path for path in folder.glob("*.txt") if path.is_file() and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))
