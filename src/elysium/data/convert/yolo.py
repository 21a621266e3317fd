"""Images and labels as Ultralytics' YOLO trainers take them, as annotation records.

    SRC/data.yaml                   names: a list or a mapping from numbers; train, val, test: where the images are
    SRC/images/<split>/*.jpg ...    in folders of any depth
    SRC/labels/<split>/*.txt        a line an object: "class cx cy w h", or "class x1 y1 x2 y2 x3 y3 ..." (a polygon)

SRC may also be the YAML file itself. What stands under a split is a folder, a text file that lists images (relative to
its own folder), or a list of these; it is looked for below ``path``, then beside the YAML file, with and without a
leading ``../`` (as Roboflow writes it). The labels of an image lie where it does, with the last ``images`` of its path
replaced by ``labels``. This is the layout of Ultralytics' documentation of detection and segmentation data sets.

Numbers are shares of the image's width and height, 0..1 from its upper left corner, continuous: cx, cy is the centre.
Classes count from 0. Images are opened for their size alone, and only those with labels.

Kept: each line as a record of one frame ("<image>#<line>") with the name of its class; of a polygon (oriented boxes are
four corners) the box around it; where data.yaml has ``kpt_shape``, the box in front of the key points. Dropped: boxes
without area. An image without a label file holds no object. Knows nothing about models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from elysium.boxes import denormalize
from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import image_size, images_in, read_text, track_record
from elysium.data.records import Box, Record
from elysium.errors import InputError, SourceError
from elysium.video import natural_key

_ROUNDING = 1e-6  # how far numbers that were written with few decimals may lie outside of 0..1


def _units(source: Path, options: Options) -> Iterator[Unit]:
    file = source / "data.yaml" if source.is_dir() else source
    about = _read_yaml(file)
    names, has_points = _class_names(file, about), "kpt_shape" in about
    root = Path(os.path.abspath(image_root(source, options)))
    images = [_inside(root, image, file) for image in _images(file, about, options.split or "train")]
    if not images:
        raise InputError(f"{file}: the split {options.split!r} has no images", "Check where it points.")
    if not any((root / _label(image)).is_file() for image in images):
        told = f"No image of {options.split!r} has labels: there is no {root / _label(images[0])}, for one"
        raise SourceError(told, "Put the labels there.")
    for image in dict.fromkeys(images):
        yield image, (names, has_points)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {error}", "Mend it.") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} holds no keys", "Write it as key: value.")
    return value


def _class_names(file: Path, about: dict[str, Any]) -> dict[int, str]:
    names = about.get("names")
    try:
        pairs = names.items() if isinstance(names, dict) else enumerate(names or ())
        found = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise InputError(f"{file}: names is neither a list nor a mapping from numbers", "Mend it.") from error
    if not found:
        raise InputError(f"{file} has no names", "Write the names of the classes, in the order of their numbers.")
    return found


def _images(file: Path, about: dict[str, Any], split: str) -> Iterator[Path]:
    """All images of a split, folder by folder, in natural order."""
    places = about.get(split) or []
    if not places:
        there = ", ".join(name for name in YOLO.splits if about.get(name)) or "none"
        raise InputError(f"{file} has no split {split!r}", f"It has {there}.")
    for place in places if isinstance(places, list) else [places]:
        found = _found(file, str(about.get("path") or ""), str(place))
        if found.is_file():
            listed = (line.strip() for line in read_text(found).splitlines())
            yield from (found.parent / line for line in listed if line)
            continue
        folders = sorted((path for path in found.rglob("*") if path.is_dir()), key=natural_key)
        for folder in (found, *folders):
            yield from images_in(folder)


def _found(file: Path, base: str, place: str) -> Path:
    """The folder or list of images that a split names."""
    short = place
    while short.startswith("../"):
        short = short[3:]
    for folder in (file.parent / base, file.parent):
        for name in (place, short):
            if (folder / name).exists():
                return folder / name
    raise SourceError(f"{file} names {place!r}, and there is no such folder or list", "Check its path and splits.")


def _inside(root: Path, image: Path, file: Path) -> str:
    """The path of an image relative to the folder of the source."""
    path = Path(os.path.abspath(image))
    if not path.is_relative_to(root):
        raise InputError(f"{file} names {path}, which is not in {root}", "Put it into a folder above the images.")
    return path.relative_to(root).as_posix()


def _label(image: str) -> Path:
    parts = list(PurePosixPath(image).parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    (image, (names, has_points)), root = unit, image_root(source, options)
    label = root / _label(image)
    if not label.is_file():
        return
    size_wh, vid = image_size(root / image), PurePosixPath(image).with_suffix("").as_posix()
    for number, line in enumerate(read_text(label).splitlines(), 1):
        if not line.strip():
            continue
        name, box = _object(f"{label}, line {number}", line.split(), names, has_points)
        record = track_record(
            root, [root / image], denormalize([box], size_wh), size_wh,
            source=root.resolve().name, id=f"{image}#{number}", vid=vid, object_class=name,
        )  # fmt: skip
        if any(record.box or ()):
            yield record


def _object(place: str, words: list[str], names: Mapping[int, str], has_points: bool) -> tuple[str, Box]:
    """The class and the box, left, top, right, bottom in 0..1, of one line."""
    try:
        label, *numbers = map(float, words)
    except ValueError as error:
        raise InputError(f"{place}: something else than numbers", "Mend it.") from error
    if has_points:
        numbers = numbers[:4]
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        remedy = "Write a class and cx cy w h, or a class and x y of three corners or more, and nothing else."
        raise InputError(f"{place} has {len(words)} numbers", remedy)
    if label not in names:
        remedy = f"data.yaml names those from {min(names)} to {max(names)}."
        raise InputError(f"{place}: there is no class {words[0]}", remedy)
    wrong = [number for number in numbers if not -_ROUNDING <= number <= 1 + _ROUNDING]
    if wrong:
        raise InputError(f"{place}: {wrong[0]:g} is not in 0..1", "Divide pixels by the image's width and height.")
    return names[int(label)], _box(numbers)


def _box(numbers: list[float]) -> Box:
    if len(numbers) == 4:
        x, y, width, height = numbers
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    corners = np.reshape(numbers, (-1, 2))
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return left, top, right, bottom


YOLO = Converter(
    "data.yaml with images/ and labels/, as Ultralytics has them", _units, _records, ("train", "val", "test")
)
