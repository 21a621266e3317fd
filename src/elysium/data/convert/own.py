"""Tracks that this project found, and the published ElysiumTrack-1M, as annotation records.

**tracks**: SRC is a ``tracks.json`` of ``elysium track`` (`elysium.tracks`, schema 1), or a folder with some at any
depth, such as ``runs/track``. ``--images`` names the frames: in ``<images>/<name of the source>/`` or, of one
tracks.json, in ``<images>`` itself, in the source's own size. Which they are is told by the ``frames.json`` that
``elysium data frames`` writes; without it there must be an image for each frame of the source, skipped ones too, whose
natural order is that of the frame numbers, which count from 0 (``index`` 12 is the thirteenth image). Boxes are left,
top, right, bottom in pixels from 0, continuous; nothing is shifted. Kept: a track as a record of the frames in which it
has a box (``tracked``) or is said to be ``absent``; its expression, if it has one, as class and description; times.
Dropped: frames with a ``carried`` box, which is a guess (whether the object is there, and where, is not known), or that
frames.json does not have; tracks that nowhere have a box; scores. All of it is what a model said, not a truth.

**elysiumtrack**: SRC is the annotation file, a JSON array or JSON lines, gzipped or not, read in bounded memory. Its
boxes are left, top, right, bottom in 0..1 of the frame, from its upper left corner. Kept: every record, with all its
keys. Mended: boxes that stick out of the frame (cut off), inverted ones (corners sorted), those of which nothing is
left (absent); an id that was there before gets the number of its record. Dropped, with a warning for each unit of 500:
what nothing can be made of (not JSON, keys missing, not as many boxes as frames, pixels in place of 0..1), records
whose frames repeat or leave the image folder, those without a box. ``--images`` may name the folder of the frames,
which are files or members of tar files in it; the first one must be there then.

Knows nothing about models.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from elysium.data.convert.base import Converter, LeftOut, Options, Unit, image_root
from elysium.data.convert.parts import has_image, image_files, image_size, in_frame, read_text, track_record
from elysium.data.frames import FRAMES_JSON
from elysium.data.records import Record
from elysium.data.records.checks import defects
from elysium.data.records.streaming import Item, Problem, stream
from elysium.errors import InputError, SourceError
from elysium.tracks import Track, TrackResult
from elysium.video import natural_key

CHUNK = 500  # lines of ElysiumTrack in a unit


def _results(source: Path, options: Options) -> Iterator[Unit]:
    """The files, each with whether it is the only one."""
    if not source.exists():
        raise SourceError(f"There is no {str(source)!r}", "Give a tracks.json, or a folder with some.")
    if options.images is None or not options.images.is_dir():
        told = f"There is no folder {str(options.images)!r}" if options.images else "tracks.json holds no frames"
        raise SourceError(told, "Name the folder of the frames that were tracked with --images.")
    files = [source] if source.is_file() else sorted(source.rglob("tracks.json"), key=_run_order)
    if not files:
        raise InputError(f"{source} holds no tracks.json", "Give what `elysium track` wrote.")
    for file in files:
        yield file.relative_to(_folder(source)).as_posix(), len(files) == 1


def _run_order(file: Path) -> list[str | int]:
    return natural_key(file.parent)  # walk before walk-2


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _track_records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    (name, alone), root = unit, image_root(source, options)
    file = _folder(source) / name
    result = _read(file)
    if not len(result.indices):
        return
    frames = _frames(file, result, root, alone)
    first = next(iter(frames.values()))
    size_wh = image_size(first)
    if size_wh != result.resolution_wh:
        told = f"{first} is {size_wh[0]}x{size_wh[1]}, but {file} is about frames of {result.resolution_wh}"
        raise InputError(told, "Take the frames of the same video, in its own size.")
    run = (Path(_folder(source).resolve().name) / name).parent.as_posix()
    for track in result.tracks:
        record = _track_record(root, frames, track, result, f"{run}/{track.id}")
        if any(record.box or ()):
            yield record


def _read(file: Path) -> TrackResult:
    try:
        return TrackResult.from_json(file)
    except InputError as error:
        raise InputError(f"{file}: {error.message}", error.remedy) from error


def _video_name(result: TrackResult) -> str:
    return re.split(r"[/\\]", result.source.rstrip("/\\"))[-1]


def _frames(file: Path, result: TrackResult, root: Path, alone: bool) -> dict[int, Path]:
    """Images by the numbers of their frames in the source. Raises InputError if they are not those of the tracks."""
    folder = _frames_folder(result, root, alone)
    indices = result.indices.tolist()
    if (folder / FRAMES_JSON).is_file():
        frames = _listed(folder / FRAMES_JSON)
        if not frames.keys() & set(indices):
            raise InputError(f"{folder} has none of the frames of {file}", "Write them with `elysium data frames`.")
        return frames
    frames = dict(enumerate(image_files(folder)))
    if strangers := [index for index in indices if index not in frames]:
        told = f"{file} is about frame {strangers[-1]}, and {folder} has {len(frames)} images, from frame 0 on"
        raise InputError(told, "Give an image for each frame of the source, skipped ones too.")
    return frames


def _frames_folder(result: TrackResult, root: Path, alone: bool) -> Path:
    name = _video_name(result)
    for place in (name, Path(name).stem):
        if place.strip(".") and (root / place).is_dir():
            return root / place
    if not alone:
        raise SourceError(f"{root} has no folder {Path(name).stem!r} for the frames of {result.source!r}", "Make one.")
    return root


def _listed(file: Path) -> dict[int, Path]:
    """What `elysium data frames` says about its images."""
    try:
        rows = json.loads(read_text(file))["frames"]
        return {int(row["index"]): file.parent / Path(row["file"]).name for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} is broken", "Delete its folder and write the frames again.") from error


def _track_record(root: Path, frames: dict[int, Path], track: Track, result: TrackResult, id: str) -> Record:
    tracked = (track.states == "tracked") & ~np.isnan(track.boxes_xyxy).any(axis=1)
    known = tracked | (track.states == "absent")
    rows = np.flatnonzero(known & np.isin(track.indices, list(frames)))
    boxes = np.where(tracked[:, None], track.boxes_xyxy, np.nan)[rows]
    words, indices = track.expression or "", track.indices[rows].tolist()
    return track_record(
        root, [frames[index] for index in indices], boxes, result.resolution_wh, source="elysium", id=id,
        vid=Path(_video_name(result)).stem, object_class=words, times_s=track.times_s[rows].tolist(),
        metadata={"video": result.source, "model": result.model, "fps": result.fps, "frame_indices": indices},
    )  # fmt: skip


TRACKS = Converter("tracks.json of `elysium track`, or a folder with some", _results, _track_records, takes=("images",))


def _lines(source: Path, options: Options) -> Iterator[Unit]:
    """Chunks of what the file holds, with ids that are unique."""
    seen: set[int] = set()
    chunk: list[Item | Problem] = []
    for item in stream(source):
        if isinstance(item, Item):
            if not seen and options.images is not None:
                _look_for_frame(item.value, options.images)
            item = _unique(item, seen)
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield f"records {chunk[0].record}-{item.record}", chunk
            chunk = []
    if chunk:
        yield f"records {chunk[0].record}-{chunk[-1].record}", chunk


def _unique(item: Item, seen: set[int]) -> Item:
    """With the record's number behind an id that was there already."""
    own = item.value.get("id") if isinstance(item.value, dict) else None
    if not isinstance(own, int | str):
        return item
    if hash(str(own)) in seen:
        own = f"{own}-{item.record}"
        item = replace(item, value={**item.value, "id": own})
    seen.add(hash(str(own)))
    return item


def _look_for_frame(value: Any, images: Path) -> None:
    frames = value.get("frames") if isinstance(value, dict) else None
    if isinstance(frames, list) and frames and not has_image(images, str(frames[0])):
        raise SourceError(f"There is no image {str(images / str(frames[0]))!r}", "Check --images, or leave it out.")


def _mended_records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    left_out: list[str] = []
    for item in unit[1]:
        found = item if isinstance(item, Problem) else _mended(item, str(source))
        if isinstance(found, Problem):
            left_out.append(str(found))
        else:
            yield found
    if left_out:
        told = f"{len(left_out)} of {len(unit[1])} records left out; the first: {left_out[0]}"
        warnings.warn(told, LeftOut, stacklevel=2)


def _mended(item: Item, file: str) -> Record | Problem:
    """The record, or why there is none."""
    found = defects(item.value)
    chat = isinstance(item.value, dict) and "vqa" in item.value
    for field, told, fatal in found:
        if fatal or field.startswith("frames") or (chat and "box" in field):
            return Problem(file, item.record, item.line, field, told, True)
    record = Record.model_validate(item.value)
    if chat:
        return record
    if any(field.startswith("box") for field, _, _ in found):
        corners = record.boxes_xyxyn.reshape(-1, 2, 2)
        record = record.model_copy(update={"absent": None, **in_frame(np.sort(corners, axis=1).reshape(-1, 4))})
    if not any(record.box or ()):
        return Problem(file, item.record, item.line, "box", "nothing of its boxes is in the frame", True)
    return record


ELYSIUMTRACK = Converter(
    "the annotation file of ElysiumTrack-1M: JSON array or lines", _lines, _mended_records, takes=("images",)
)
