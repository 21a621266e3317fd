"""DAVIS 2016 and 2017 (video object segmentation), and the expressions for it, as annotation records.

    <SRC>/JPEGImages/480p/<seq>/00000.jpg ...    (or Full-Resolution, or 1080p, here and below)
    <SRC>/Annotations/480p/<seq>/00000.png ...   a mask a frame
    <SRC>/ImageSets/2017/{train,val}.txt         a sequence a line (or ImageSets/2016; in ImageSets/480p, as DAVIS 2016
                                                 came, a line names an image and its mask)
    <SRC>/davis_semantics.json                   (optional) {sequence: {object: class}}
    <SRC>/davis_text_annotations/Davis17_annot1.txt, Davis17_annot2.txt, and both with _full_video (each optional):
                                                 <seq> <object> "<expression>" a line

A mask of 2017 is a PNG with a palette: 0 is background, n the object n, 255 void. One of 2016 is black and white: where
a sequence has no value but 0 and 255, 255 is its one object. The box reaches from an object's first pixel to the far
edge of its last (pixels 3 to 5 make 3..6), counted from 0; in a frame without a pixel of it an object is absent.

Khoreva et al. (2018) had two people describe each object, once by the first frame alone and once by the whole video;
the description is the first of these, and all are expressions. Three sequences are misspelt in their files, and the
second's are in Latin-1. Splits: train, val, or all, which is both. Kept: objects, words, classes. Dropped: the shape
within the box, void. Knows nothing about models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import image_size, images_in, read_text, track_record
from elysium.data.records import Record, Size
from elysium.errors import InputError, SourceError

_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
_LISTS = ("ImageSets/2017", "ImageSets/2016", "ImageSets/480p")
_EXPRESSIONS = tuple(f"Davis17_annot{person}{seen}.txt" for seen in ("", "_full_video") for person in (1, 2))
_MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
_VOID = 255
_Box: TypeAlias = tuple[float, float, float, float]
_Words: TypeAlias = dict[str, dict[str, list[str]]]
"""Expressions of an object of a sequence."""


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """The sequences of the split, in the order of its list."""
    if not root.is_dir():
        raise SourceError(f"There is no folder {str(root)!r}", "Check the path.")
    resolution = _resolution(root)
    lists = next((root / place for place in _LISTS if (root / place).is_dir()), root / _LISTS[0])
    splits = ("train", "val") if options.split == "all" else (options.split or "train",)
    names = dict.fromkeys(name for split in splits for name in _listed(lists / f"{split}.txt"))
    classes, words = _classes(root / "davis_semantics.json"), _words(root / "davis_text_annotations")
    for name in names:
        yield name, (resolution, classes.get(name, {}), words.get(name, {}))


def _resolution(root: Path) -> str:
    for name in _RESOLUTIONS:
        if (root / "JPEGImages" / name).is_dir() and (root / "Annotations" / name).is_dir():
            return name
    raise InputError(f"{root} has no JPEGImages/480p with Annotations/480p", "Give the folder that DAVIS comes in.")


def _listed(path: Path) -> list[str]:
    """The sequences of a list of them, or of their images."""
    names = []
    for line in read_text(path).splitlines():
        if line.strip():
            first = PurePosixPath(line.split()[0])
            name = first.parent.name if "/" in line else first.name
            if name in ("", ".."):
                raise InputError(f"{path} names {line.strip()!r}, which is no sequence", "Write a name a line.")
            names.append(name)
    if not names:
        raise InputError(f"{path} names no sequence", "Write a name a line.")
    return names


def _classes(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        given = json.loads(read_text(path))
        return {name: {str(key): str(word) for key, word in objects.items()} for name, objects in given.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} does not say {{sequence: {{object: class}}}}", "Mend it or take it away.") from error


def _words(folder: Path) -> _Words:
    found: _Words = {}
    for path in (folder / name for name in _EXPRESSIONS):
        for number, line in enumerate(_lines(path) if path.is_file() else (), 1):
            name, thing, text = (*line.split(maxsplit=2), "", "", "")[:3]
            expression = " ".join(text.strip('" \t').split())
            if line.strip() and not (thing.isdecimal() and expression):
                raise InputError(f'{path}, line {number} is not <sequence> <object> "<expression>"', "Mend the line.")
            if expression:
                objects = found.setdefault(_MISSPELT.get(name, name), {})
                objects.setdefault(str(int(thing)), []).append(expression)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).split("\n")
    except InputError:  # no UTF-8, then: Latin-1 reads whatever there is
        return path.read_text(encoding="latin-1").split("\n")


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """The objects of one sequence."""
    name, (resolution, classes, words) = unit
    frames = images_in(root / "JPEGImages" / resolution / name)
    masks = images_in(root / "Annotations" / resolution / name)
    _check_pairs(root / "Annotations" / resolution / name, frames, masks)
    size = image_size(frames[0])
    extents = _objects([_extents(_mask(path, size)) for path in masks])
    nothing = (np.nan,) * 4
    for thing in sorted({thing for extent in extents for thing in extent}):
        expressions = list(dict.fromkeys(words.get(str(thing), ())))
        yield track_record(
            image_root(root, options), frames, [extent.get(thing, nothing) for extent in extents], size,
            source="DAVIS", id=f"{name}/{thing}", vid=name, object_class=classes.get(str(thing), ""),
            description=next(iter(expressions), ""), expressions=expressions,
        )  # fmt: skip


def _check_pairs(folder: Path, frames: list[Path], masks: list[Path]) -> None:
    """Raises InputError unless each image has its mask, SourceError if there is none."""
    if not frames:
        raise SourceError(f"There are no images for {folder}", "They belong into JPEGImages.")
    without = sorted({path.stem for path in frames} ^ {path.stem for path in masks})
    if without:
        raise InputError(f"{folder}: {without[0]!r} is not there as both image and mask", "Each image needs its mask.")


def _mask(path: Path, size: Size) -> NDArray[np.uint8]:
    """(H, W) the values of a mask. Raises SourceError, InputError."""
    try:
        with Image.open(path) as image:
            indexed = image.mode in ("P", "L", "1")
            values = np.asarray(image if indexed else image.convert("RGB")).astype(np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise SourceError(f"Cannot read the mask {path}", "Mend it or take its sequence off the list.") from error
    if not indexed:  # a few masks of 2016 have three or four channels, of greys
        if (values != values[..., :1]).any():
            raise InputError(f"The mask {path} is in colours", "Save it with a palette, its indices the objects.")
        values = values[..., 0]
    if values.shape != size[::-1]:
        told = f"The mask {path} is {values.shape[1]} x {values.shape[0]} pixels, its image {size[0]} x {size[1]}"
        raise InputError(told, "They must be as large.")
    return values


def _extents(values: NDArray[np.uint8]) -> dict[int, _Box]:
    """The box of each value but 0."""
    boxes: dict[int, Any] = {}
    for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:]).tolist():
        mask = values == value + 1
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[value + 1] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return boxes


def _objects(extents: list[dict[int, _Box]]) -> list[dict[int, _Box]]:
    """Without void, and 255 as 1 where it is all there is."""
    if set().union(*extents) == {_VOID}:
        return [{1: extent[_VOID]} if extent else {} for extent in extents]
    return [{thing: box for thing, box in extent.items() if thing != _VOID} for extent in extents]


DAVIS = Converter(
    "JPEGImages, Annotations and ImageSets of DAVIS 2016 or 2017", _units, _records, splits=("train", "val", "all")
)
