"""Labels drawn in CVAT, as annotation records: its exports "CVAT for video 1.1" and "CVAT for images 1.1".

    <SRC>/annotations.xml                 (SRC may also be the XML file)
    <SRC>/images/frame_000000.PNG ...     (or the folder of --images; or, without images/, the folder of the XML file)

Video: a ``<track id label>`` with a ``<box frame outside xtl ytl xbr ybr>`` for each frame, those between key frames
included, makes one record. Its frames are all images of the task; the object is absent where ``outside`` is 1 or where
there is no box. An image called ``frame_<n>`` is the frame n, which is how CVAT names what it has cut from a video;
with other names the images, in the order of the numbers in them, are the frames of the task, from ``start_frame`` in
steps of ``frame_filter``, and must be as many as its ``size``. Of a project, each task must be exported by itself.
Images: each ``<box label>`` of an ``<image name width height>`` makes a record of one frame. The file may lack in the
name its ending (frames of a video do), and of a project's export lies in a folder with the name of the ``subset``.

Coordinates are pixels, continuous from 0 at the left and upper edge of the image to its width and height: a box that
reaches the right edge of an image of 1920 pixels has the xbr 1920.00. They are taken as they are. A box with
``rotation``, degrees about its centre, becomes the upright box around it. Kept: labels, as class; attributes that are
the same in all boxes of a track, and those of an image's box, in metadata. Dropped: other attributes, polygons, masks,
points, skeletons, tags, what is occluded; boxes of no area in the frame, which in a track are absences.

The file is read piece by piece; one that declares a document type, which CVAT never writes, is refused for the
entities that could come with it. Knows nothing about models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import image_size, images_in, track_record
from elysium.data.records import Record, Size
from elysium.errors import InputError, SourceError

_Box: TypeAlias = tuple[float, float, float, float]
_NOTHING: _Box = (math.nan,) * 4
_CHUNK = 500  # images to a unit
_ENDINGS = ("", ".png", ".PNG", ".jpg", ".jpeg", ".JPG", ".JPEG", ".webp", ".bmp")
_NUMBERED = re.compile(r"frame_(\d+)")


@dataclass(frozen=True)
class _Task:
    """What <meta> says."""

    name: str = ""
    size: int | None = None
    start: int = 0
    step: int = 1
    frame_size: Size | None = None
    project: bool = False


@dataclass(frozen=True)
class _Track:
    id: str
    label: str
    attributes: dict[str, str]
    boxes: dict[int, _Box]  # by their frames, without those outside
    task: _Task


@dataclass(frozen=True)
class _Image:
    name: str
    subset: str
    size: Size
    boxes: list[tuple[str, dict[str, str], _Box]]  # label, attributes, box

    @property
    def path(self) -> str:
        return f"{self.subset}/{self.name}".lstrip("/")


def _units(source: Path, options: Options) -> Iterator[Unit]:
    """The tracks, and the images with boxes in chunks, in the order of the file."""
    path, task, found = source / "annotations.xml" if source.is_dir() else source, _Task(), 0
    names: set[str] = set()
    chunk: list[_Image] = []
    for element in _elements(path):
        if element.tag == "meta":
            task = _task(path, element)
        elif element.tag == "track":
            track = _track(path, element, task)
            if track.boxes:
                found += 1
                yield f"track {track.id}", track
        elif (image := _image(path, element)).boxes:
            if image.path in names:
                raise InputError(f"{path} has two images {image.path!r}", "Rename one of them.")
            names.add(image.path)
            chunk.append(image)
        if len(chunk) == _CHUNK:
            yield f"images to {len(names)}", chunk
            chunk = []
    if chunk:
        yield f"images to {len(names)}", chunk
    if not found and not names:
        raise InputError(f"{path} holds no box", "Draw boxes: polygons, masks and points are left out.")


def _elements(path: Path) -> Iterator[Element]:
    """Each <meta>, <track> and <image>, emptied after its turn. Raises SourceError, InputError."""
    try:
        with path.open("rb") as file:
            _refuse_doctype(path, file.read)
            file.seek(0)
            events = ElementTree.iterparse(file, ("start", "end"))
            _, root = next(iter(events))
            if root.tag != "annotations":
                raise InputError(f"{path} begins with <{root.tag}>, not <annotations>", "Export as CVAT 1.1.")
            for event, element in events:
                if event == "end" and element.tag in ("meta", "track", "image"):
                    yield element
                    root.clear()
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror or error}", "Check the path.") from error
    except (ElementTree.ParseError, expat.ExpatError) as error:
        raise InputError(f"{path} is not XML: {error}", "Export it once more.") from error


def _refuse_doctype(path: Path, read: Any) -> None:
    """Look as far as the first element, which is as far as a document type can be declared."""
    parser, begun = expat.ParserCreate(), []

    def refuse(*_: object) -> None:
        raise InputError(f"{path} declares a document type", "CVAT writes none: take it out.")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda *_: begun.append(True)
    while not begun:
        block = read(1 << 16)
        parser.Parse(block, not block)


def _task(path: Path, meta: Element) -> _Task:
    about = next((found for kind in ("task", "job", "project") if (found := meta.find(kind)) is not None), None)
    if about is None:
        return _Task()
    text = {child.tag: (child.text or "").strip() for child in about}
    sides = [about.findtext(f"original_size/{side}") for side in ("width", "height")]
    step = re.search(r"step=(\d+)", text.get("frame_filter", ""))
    try:
        width, height = (int(side) if side else 0 for side in sides)
        return _Task(
            text.get("name", ""), int(text["size"]) if text.get("size") else None, int(text.get("start_frame") or 0),
            int(step[1]) if step else 1, (width, height) if width and height else None, about.tag == "project",
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{path}: a size or frame in <meta> is no whole number ({error})", "Mend it.") from error


def _track(path: Path, element: Element, task: _Task) -> _Track:
    id, boxes = element.get("id", ""), {}
    where = f"{path}, track {id}"
    if task.project:
        raise InputError(f"{path} is the export of a project, in which frames are of several videos", "Export tasks.")
    frames: set[int] = set()
    for box in element.iterfind("box"):
        frame = _whole(where, box, "frame")
        if frame in frames:
            raise InputError(f"{where} has two boxes in frame {frame}", "Take one away.")
        frames.add(frame)
        if box.get("outside") != "1":
            boxes[frame] = _box(f"{where}, frame {frame}", box)
    return _Track(id, element.get("label", ""), _constant(element), boxes, task)


def _image(path: Path, element: Element) -> _Image:
    name, subset = element.get("name", ""), element.get("subset", "")
    place = f"{subset}/{name}" if subset else name
    where = f"{path}, image {place!r}"
    size = (_whole(where, element, "width"), _whole(where, element, "height"))
    away = Path(name).is_absolute() or Path(subset).is_absolute() or ".." in Path(subset, name).parts
    if not name or away or min(size) < 1:
        raise InputError(f"{where} of {size[0]} x {size[1]} pixels cannot be", "Name a file in the folder of images.")
    boxes = [(box.get("label", ""), _attributes(box), _box(where, box)) for box in element.iterfind("box")]
    return _Image(name, subset, size, boxes)


def _number(where: str, element: Element, name: str) -> float:
    """Raises InputError unless it is a finite one."""
    try:
        value = float(element.get(name, "0" if name == "rotation" else "nothing"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name} is {element.get(name)!r}, no number", "Export it once more.")
    return value


def _whole(where: str, element: Element, name: str) -> int:
    """Raises InputError unless it is a whole number from 0."""
    value = _number(where, element, name)
    if value < 0 or value % 1:
        raise InputError(f"{where}: {name} is {element.get(name)!r}, no whole number", "Export it once more.")
    return int(value)


def _box(where: str, element: Element) -> _Box:
    """Upright, around what may be turned. Raises InputError if it is inside out."""
    x1, y1, x2, y2 = (_number(where, element, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    if x2 < x1 or y2 < y1:
        raise InputError(f"{where}: the box {x1:g},{y1:g},{x2:g},{y2:g} is inside out", "Export it once more.")
    angle = math.radians(_number(where, element, "rotation"))
    if not angle:
        return x1, y1, x2, y2
    cos, sin = abs(math.cos(angle)) / 2, abs(math.sin(angle)) / 2
    half_width, half_height = (x2 - x1) * cos + (y2 - y1) * sin, (x2 - x1) * sin + (y2 - y1) * cos
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _attributes(element: Element) -> dict[str, str]:
    return {child.get("name", ""): (child.text or "").strip() for child in element.iterfind("attribute")}


def _constant(track: Element) -> dict[str, str]:
    """The attributes that are the same in each box of a track."""
    pairs = [set(_attributes(box).items()) for box in track.iterfind("box")]
    return dict(sorted(set.intersection(*pairs))) if pairs else {}


def _records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """The record of a track, or those of a chunk of images."""
    root = image_root(source, options)
    folder = root / "images" if options.images is None and (root / "images").is_dir() else root
    if isinstance(unit[1], _Track):
        records = [_record_of_track(root, folder, unit[1])]
    else:
        records = [record for image in unit[1] for record in _records_of_image(root, folder, image)]
    yield from (record for record in records if not all(record.absent or [False]))


def _record_of_track(root: Path, folder: Path, track: _Track) -> Record:
    frames, task = _frames(folder, track.task), track.task
    strangers = sorted(set(track.boxes) - set(frames))
    if strangers or not frames:
        what = f"no image for the frame {strangers[0]} of track {track.id}" if strangers else "no images"
        raise InputError(f"{folder} has {what}", "Export with images, or name their folder with --images.")
    size = image_size(next(iter(frames.values())))
    if task.frame_size not in (None, size):
        raise InputError(f"Frames in {folder} are {size}, but in <meta> {task.frame_size}", "Give the original ones.")
    video = task.name or root.resolve().name
    return track_record(
        root, list(frames.values()), [track.boxes.get(frame, _NOTHING) for frame in frames], size, source="CVAT",
        id=f"{video}/{track.id}", vid=video, object_class=track.label, metadata=_metadata(track.attributes),
    )  # fmt: skip


def _frames(folder: Path, task: _Task) -> dict[int, Path]:
    """The images by the numbers of their frames. Raises SourceError, InputError."""
    files = images_in(folder)
    numbers = [_NUMBERED.fullmatch(file.stem) for file in files]
    if all(numbers):
        return {int(number[1]): file for number, file in zip(numbers, files, strict=True) if number}
    if task.size not in (None, len(files)):
        told = f"{folder} has {len(files)} images for {task.size} frames"
        raise InputError(told, "Give as many, or name them frame_<n>.")
    return {task.start + place * task.step: file for place, file in enumerate(files)}


def _records_of_image(root: Path, folder: Path, image: _Image) -> Iterator[Record]:
    places = (base / f"{image.name}{ending}" for base in (folder, folder / image.subset) for ending in _ENDINGS)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise SourceError(f"There is no image {folder / image.name}", "Name the folder of the images with --images.")
    for number, (label, attributes, box) in enumerate(image.boxes, 1):
        yield track_record(
            root, [file], [box], image.size, source="CVAT", id=f"{image.path}/{number}", vid=image.path,
            object_class=label, metadata=_metadata(attributes),
        )  # fmt: skip


def _metadata(attributes: dict[str, str]) -> dict[str, dict[str, str]]:
    return {"attributes": attributes} if attributes else {}


CVAT = Converter("annotations.xml of CVAT 1.1, for video or images, and images/", _units, _records, takes=("images",))
