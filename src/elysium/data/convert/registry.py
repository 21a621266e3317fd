"""Which converters there are, each by its module and the name in it; imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from elysium.data.convert.base import Converter, Options, checked
from elysium.data.records import Record
from elysium.errors import InputError

PLACES = {
    "csv": "tables:CSV",
    "sequences": "sequences:SEQUENCES",
    "lasot": "lasot:LASOT",
    "got10k": "got10k:GOT10K",
    "trackingnet": "trackingnet:TRACKINGNET",
    "uav123": "uav123:UAV123",
    "otb100": "otb:OTB100",
    "vot": "vot:VOT",
    "davis": "davis:DAVIS",
    "tnl2k": "tnl2k:TNL2K",
    "mot": "mot:MOT",
    "cvat": "cvat:CVAT",
    "refcoco": "refcoco:REFCOCO",
    "coco": "coco:COCO",
    "yolo": "yolo:YOLO",
    "tracks": "own:TRACKS",
    "elysiumtrack": "own:ELYSIUMTRACK",
    "llava": "chats:LLAVA",
    "videochat": "chats:VIDEOCHAT",
    "msvd": "videoqa:MSVD",
    "msrvtt": "videoqa:MSRVTT",
    "tgif": "videoqa:TGIF",
    "activitynet": "videoqa:ACTIVITYNET",
}


def converter(name: str) -> Converter:
    """The converter of a name. Raises InputError for one that there is not."""
    if name not in PLACES:
        raise InputError(f"There is no converter {name!r}", f"Use one of {', '.join(PLACES)}.")
    module, _, attribute = PLACES[name].partition(":")
    found: Converter = getattr(import_module(f"elysium.data.convert.{module}"), attribute)
    return found


def read(name: str, source: Path, options: Options | None = None) -> Iterator[Record]:
    """The records of a source, one after the other, without a file. Raises SourceError or InputError."""
    found = converter(name)
    options = checked(name, found, options or Options())
    for unit in found.units(source, options):
        yield from found.records(source, unit, options)
