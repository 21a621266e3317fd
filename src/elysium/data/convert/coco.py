"""COCO's instances files, of images and of videos, as annotation records.

    SRC.json   "images": id, file_name, width, height;  "categories": id, name;
               "annotations": id, image_id, category_id, bbox, iscrowd
    CocoVID    (MMTracking; TAO) "videos": id, name;  images also have video_id and frame_index or frame_id;
               annotations also have track_id or instance_id
    YTVIS      (YouTube-VIS) "videos": id, width, height, file_names;
               annotations have video_id and "bboxes", one a frame, null where the object is not there

``bbox`` is left, top, width, height in pixels; the upper left corner of the image is 0, 0 and coordinates are
continuous, so that the right edge is left + width (COCO's data format page). Nothing is shifted. Sizes of images come
from the file; no image is opened, though the first one must be there.

Kept: an annotation of an image as a record of one frame ("annotation-<id>"); the annotations of one track in one video
as one record ("track-<video id>-<track id>") of the video's frames from its first box to its last, ordered by
frame_index, else frame_id, else file name, absent where it has no box between (outside of that such files do not tell
an absence from another identity); an annotation of YTVIS over all frames of its video, absent where it has null. The
name of the category is the class and the description. Dropped: what is marked as a crowd (``iscrowd`` of 1), boxes
without area (in a track: absent), masks, key points, everything else. Knows nothing about models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, TypeAlias

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import read_text, track_record, xywh_to_xyxy
from elysium.data.records import Box, Record, Size
from elysium.errors import InputError, SourceError
from elysium.video import natural_key

CHUNK = 500  # records of images in a unit
_UNUSED = ("segmentation", "segmentations", "keypoints", "areas")  # most of such a file, and never looked at
_ABSENT = (math.nan,) * 4
Entry: TypeAlias = dict[str, Any]
Table: TypeAlias = dict[Any, Entry]  # by id


class Row(NamedTuple):
    """What one record is made of. ``boxes_xywh`` has an entry a frame, None where the object is absent."""

    id: str
    vid: str
    frames: tuple[str, ...]
    size_wh: Size
    object_class: str
    boxes_xywh: tuple[Box | None, ...]
    words: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Instances:
    """The tables of an instances file, each by its ids."""

    path: Path
    images: Table
    videos: Table
    categories: Table
    annotations: Table

    def find(self, table: str, key: Any, owner: str) -> Entry:
        """Raises InputError if there is none with that id."""
        entries: Table = getattr(self, table)
        if not isinstance(key, int | str) or key not in entries:
            raise InputError(f"{self.path}: {owner} needs {key!r} among the {table}, and it is not there", "Add it.")
        return entries[key]

    def class_name(self, annotation: Entry) -> str:
        owner = f"annotation {annotation['id']!r}"
        return str(self.find("categories", annotation.get("category_id"), owner).get("name", ""))

    def image(self, image: Entry) -> tuple[str, Size]:
        """Its file name and size."""
        owner = f"image {image['id']!r}"
        return self.file_name(image.get("file_name"), owner), self.size(image, owner)

    def file_name(self, name: Any, owner: str) -> str:
        """With forward slashes. Raises InputError for one that leaves the image folder."""
        path = PureWindowsPath(name) if isinstance(name, str) and name else None  # it reads both kinds of slashes
        if path is None or path.drive or path.root or ".." in path.parts:
            told = f"{self.path}: {owner} has the file name {name!r}, which is no path inside of the image folder"
            raise InputError(told, "Write it relative to that folder.")
        return path.as_posix()

    def size(self, entry: Entry, owner: str) -> Size:
        width, height = entry.get("width"), entry.get("height")
        if type(width) is not int or type(height) is not int or min(width, height) <= 0:
            raise InputError(f"{self.path}: {owner} has no width and height in pixels", "Add them, as whole numbers.")
        return width, height

    def box(self, value: Any, annotation: Entry) -> Box:
        """Left, top, width, height."""
        numbers = isinstance(value, list) and len(value) == 4 and all(type(side) in (int, float) for side in value)
        if not numbers or not all(map(math.isfinite, value)):
            told = f"{self.path}: the box of annotation {annotation['id']!r} is {value!r}, not four finite numbers"
            raise InputError(told, "Write left, top, width, height.")
        return value[0], value[1], value[2], value[3]

    def still(self, annotation: Entry) -> Row:
        """An object of one image."""
        name, size_wh = self.image(self.find("images", annotation.get("image_id"), f"annotation {annotation['id']!r}"))
        box = self.box(annotation.get("bbox"), annotation)
        id, vid = f"annotation-{annotation['id']}", str(annotation["image_id"])
        return Row(id, vid, (name,), size_wh, self.class_name(annotation), (box,))

    def whole(self, annotation: Entry) -> Row:
        """An object with a box or null for each frame of its video."""
        owner = f"annotation {annotation['id']!r}"
        video = self.find("videos", annotation.get("video_id"), owner)
        names, boxes = video.get("file_names"), annotation["bboxes"]
        if not isinstance(names, list) or not isinstance(boxes, list) or len(names) != len(boxes):
            raise InputError(f"{self.path}: {owner} has not as many bboxes as its video has file_names", "Mend it.")
        place = f"video {video['id']!r}"
        return Row(
            f"annotation-{annotation['id']}", str(video.get("name", video["id"])),
            tuple(self.file_name(name, place) for name in names), self.size(video, place), self.class_name(annotation),
            tuple(None if box is None else self.box(box, annotation) for box in boxes),
        )  # fmt: skip


def read_instances(path: Path) -> Instances:
    """Without masks and key points. Raises SourceError, InputError."""
    try:
        data = json.loads(read_text(path), object_hook=_slim)  # thrown away while it is read: masks take gigabytes
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}", "Give a COCO instances file.") from error
    lists = ("images", "videos", "categories", "annotations")
    if not isinstance(data, dict) or not all(isinstance(data.get(key, []), list) for key in lists):
        raise InputError(f"{path} holds no lists of annotations and categories", "Give a COCO instances file.")
    if not data.get("annotations") or not data.get("categories"):
        raise InputError(f"{path} holds no annotations or no categories", "Give a COCO instances file.")
    return Instances(path, *(_by_id(path, key, data.get(key, [])) for key in lists))


def _slim(entry: Entry) -> Entry:
    for key in _UNUSED:
        entry.pop(key, None)
    return entry


def _by_id(path: Path, table: str, entries: list[Any]) -> Table:
    found: Table = {}
    for number, entry in enumerate(entries, 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int | str):
            raise InputError(f"{path}: number {number} of the {table} has no id", "Give it one.")
        if key in found:
            raise InputError(f"{path}: two of the {table} have the id {key!r}", "Ids must be unique.")
        found[key] = entry
    return found


def unit(name: str, make: Callable[..., list[Row]], *arguments: Any) -> Unit:
    """A unit of the rows that ``make`` gives, or of what is wrong with them: then it alone fails."""
    try:
        return name, make(*arguments)
    except InputError as error:
        return name, error


def chunks(entries: list[Entry], row: Callable[[Entry], Row]) -> Iterator[Unit]:
    """Units of a row for each entry."""
    for start in range(0, len(entries), CHUNK):
        some = entries[start : start + CHUNK]
        yield unit(f"objects {start + 1}-{start + len(some)}", _each, row, some)


def _each(row: Callable[[Entry], Row], entries: list[Entry]) -> list[Row]:
    return [row(entry) for entry in entries]


def with_images(units: Iterable[Unit], root: Path) -> Iterator[Unit]:
    """The units. Raises SourceError if the very first image is not below ``root``."""
    looked = False
    for name, rows in units:
        if not looked and isinstance(rows, list) and rows:
            looked = True
            if not (root / rows[0].frames[0]).is_file():
                told = f"There is no image {str(root / rows[0].frames[0])!r}"
                raise SourceError(told, "Name the folder that the file names are relative to with --images.")
        yield name, rows


def to_records(rows: list[Row] | InputError, root: Path, source: str) -> Iterator[Record]:
    """Of each row, unless nothing of its boxes lies in a frame. Raises the InputError if it is one."""
    if isinstance(rows, InputError):
        raise rows
    for row in rows:
        boxes = xywh_to_xyxy([box or _ABSENT for box in row.boxes_xywh])
        record = track_record(
            root, [root / name for name in row.frames], boxes, row.size_wh, source=source, id=row.id, vid=row.vid,
            object_class=row.object_class, description=row.words[0] if row.words else "", expressions=row.words,
            metadata=row.metadata,
        )  # fmt: skip
        if any(record.box or ()):
            yield record


def _units(source: Path, options: Options) -> Iterator[Unit]:
    return with_images(_all_units(read_instances(source)), image_root(source, options))


def _all_units(data: Instances) -> Iterator[Unit]:
    stills: list[Entry] = []
    tracks: dict[Any, dict[Any, list[Entry]]] = {}  # by video, by track
    wholes: dict[Any, list[Entry]] = {}  # by video
    for annotation in data.annotations.values():
        track = annotation.get("track_id", annotation.get("instance_id"))
        video = _key(data.images.get(_key(annotation.get("image_id")), {}).get("video_id"))
        if annotation.get("iscrowd") == 1:
            continue
        if "bboxes" in annotation:
            wholes.setdefault(_key(annotation.get("video_id")), []).append(annotation)
        elif video is None or _key(track) is None:
            stills.append(annotation)
        else:
            tracks.setdefault(video, {}).setdefault(track, []).append(annotation)
    yield from chunks(stills, data.still)
    images: dict[Any, list[Entry]] = {}
    for image in data.images.values():
        images.setdefault(_key(image.get("video_id")), []).append(image)
    for video, found in tracks.items():
        yield unit(f"tracks of video {video}", _tracks, data, video, images[video], found)
    for video, some in wholes.items():
        yield unit(f"instances of video {video}", _each, data.whole, some)


def _key(value: Any) -> int | str | None:
    """An id, or None for what cannot be one."""
    return value if isinstance(value, int | str) else None


def _tracks(data: Instances, video: Any, images: list[Entry], tracks: dict[Any, list[Entry]]) -> list[Row]:
    """The tracks of one video, each from its first box to its last."""
    images = _in_order(images)
    places = {image["id"]: place for place, image in enumerate(images)}
    vid = str(data.videos.get(video, {}).get("name", video))
    rows = []
    for track, entries in tracks.items():
        boxes = _boxes(data, track, entries, places)
        span = range(min(boxes), max(boxes) + 1)
        frames, sizes = zip(*(data.image(images[place]) for place in span), strict=True)
        if len(set(sizes)) > 1:
            raise InputError(f"{data.path}: video {vid!r} has images of several sizes", "A video needs one.")
        given, name = tuple(boxes.get(place) for place in span), data.class_name(entries[0])
        rows.append(Row(f"track-{video}-{track}", vid, frames, sizes[0], name, given))
    return rows


def _boxes(data: Instances, track: Any, entries: list[Entry], places: dict[Any, int]) -> dict[int, Box]:
    """The boxes of a track by the places of their images in the video."""
    boxes: dict[int, Box] = {}
    for entry in entries:
        place = places[entry["image_id"]]
        if place in boxes:
            told = f"{data.path}: track {track!r} has two boxes in image {entry['image_id']!r}"
            raise InputError(told, "Take one of them away.")
        boxes[place] = data.box(entry.get("bbox"), entry)
    return boxes


def _in_order(images: list[Entry]) -> list[Entry]:
    for key in ("frame_index", "frame_id"):
        if all(type(image.get(key)) is int for image in images):
            return sorted(images, key=lambda image: int(image[key]))
    return sorted(images, key=lambda image: natural_key(str(image.get("file_name"))))


def _records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    return to_records(unit[1], image_root(source, options), source.stem)


COCO = Converter("a COCO instances file, of images or videos", _units, _records, takes=("images",))
