"""Tracks as files for other tools: YOLO labels, COCO video, Label Studio, CVAT, and records to train on.

Every exporter takes a `TrackResult` and a path, writes all or nothing, and gives the path back. An absent object
has no box anywhere. A `carried` box (an old one that stands in) goes, marked as such, to the two tools in which
people correct boxes, and stays away from the formats that are trained on; `include_carried` decides otherwise.
Boxes are clipped to the frame and have two decimals, as in `tracks.json`; one without an area counts as absent.

Knows file formats, nothing about models or pixels: frames are not read or written, only named `<stem>_<index>.jpg`
after the source and their number in it, from 0, with six digits.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray

from elysium.boxes import FloatArray, box_area, clip_to_frame, normalize
from elysium.errors import OutputError
from elysium.files import atomic_write_text, output_error, temporary_beside
from elysium.tracks import Track, TrackResult

AnyPath: TypeAlias = str | os.PathLike[str]

DEFAULT_CLASS = "object"  # the class of everything that was given by a box alone
CVAT_LABEL_LENGTH = 64  # characters; CVAT refuses longer names
_YOLO_MARK = "# Labels written by elysium."  # by this line a folder of ours is known, and may be replaced
# What no XML file may hold, nor one in UTF-8: control characters and halves of surrogate pairs.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\t\n\r]')


class Exporter(Protocol):
    """What the functions in `EXPORTS` are. They raise OutputError if the path cannot be written."""

    def __call__(self, result: TrackResult, path: AnyPath, *, include_carried: bool = ...) -> Path: ...


@dataclass(frozen=True)
class _Shown:
    """One track as the other tool is to see it, over its T processed frames."""

    track: Track
    name: str  # of its class
    boxes_xyxy: FloatArray  # (T, 4) pixels, inside the frame, two decimals
    mask: NDArray[np.bool_]  # (T,) where it has a box

    @property
    def rows(self) -> list[int]:
        """Where the track's arrays hold a box that counts."""
        rows: list[int] = np.flatnonzero(self.mask).tolist()
        return rows

    def index(self, row: int) -> int:
        """The number of the frame in the source, from 0."""
        return int(self.track.indices[row])

    def is_carried(self, row: int) -> bool:
        return str(self.track.states[row]) == "carried"


def _clean(text: str) -> str:
    """The text without what XML or UTF-8 cannot hold."""
    return _ILLEGAL.sub("\ufffd", text)


def _class_name(track: Track) -> str:
    return " ".join(_clean(track.expression or "").split()) or DEFAULT_CLASS


def _class_names(result: TrackResult) -> list[str]:
    """The distinct expressions in the order of the tracks."""
    return list(dict.fromkeys(_class_name(track) for track in result.tracks))


def _shown(result: TrackResult, include_carried: bool) -> list[_Shown]:
    """All tracks, also those without a single box."""
    kept = ["tracked", "carried"] if include_carried else ["tracked"]
    found = []
    for track in result.tracks:
        boxes = clip_to_frame(track.boxes_xyxy, result.resolution_wh).round(2)
        mask = np.isin(track.states, kept) & (box_area(boxes) > 0)  # NaN is not more than 0 either
        found.append(_Shown(track, _class_name(track), boxes, mask))
    return found


def _by_frame(shown: Sequence[_Shown]) -> list[tuple[int, _Shown, int]]:
    """(frame index, track, row) of every box, frame by frame, in a frame in the order of the tracks."""
    found = [(item.index(row), item, row) for item in shown for row in item.rows]
    return sorted(found, key=lambda entry: entry[0])


def _stem(source: str) -> str:
    """What frames of `source` are named after: a file without its suffix, a folder, or the folder of a glob."""
    path = Path(source)
    while glob.has_magic(str(path)) and not path.exists():
        path = path.parent
    name = path.resolve().name if path.is_dir() else path.stem
    return _NOT_IN_NAMES.sub("_", _clean(name)) or "frames"


def _frame_name(stem: str, index: int) -> str:
    return f"{stem}_{index:06d}"


def _image_name(stem: str, index: int) -> str:
    return f"{_frame_name(stem, index)}.jpg"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_yolo(result: TrackResult, path: AnyPath, *, include_carried: bool = False) -> Path:
    """A folder `path` with `labels/<stem>_<index>.txt` for each processed frame, and `data.yaml`.

    Lines are `class cx cy w h`, the last four in 0..1 of the frame; a frame without a box has an empty file.
    Classes are the distinct expressions, from 0. A folder that an earlier export made gets new labels and keeps
    whatever else is in it; any other folder that holds something is refused with an OutputError.
    """
    stem, names = _stem(result.source), _class_names(result)
    lines: dict[int, list[str]] = {index: [] for index in result.indices.tolist()}
    for index, item, row in _by_frame(_shown(result, include_carried)):
        x1, y1, x2, y2 = normalize(item.boxes_xyxy[row], result.resolution_wh)
        numbers = " ".join(f"{v:.6f}" for v in ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        lines[index].append(f"{names.index(item.name)} {numbers}\n")
    # Without a `path`, trainers take the folder of this file; images/ is where they look for what labels/ describes.
    about = {"train": "images", "val": "images", "nc": len(names), "names": names}
    text = yaml.safe_dump(about, allow_unicode=True, sort_keys=False, width=10**6)
    with _whole_folder(path) as folder:
        (folder / "labels").mkdir()
        for index, found in lines.items():
            (folder / "labels" / f"{_frame_name(stem, index)}.txt").write_text("".join(found), newline="\n")
        (folder / "data.yaml").write_text(f"{_YOLO_MARK}\n{text}", encoding="utf-8", newline="\n")
    return Path(path)


def check_yolo_folder(path: AnyPath) -> None:
    """Raise OutputError unless `write_yolo` may write to `path`: it is free, an empty folder, or one of ours."""
    target = Path(path)
    try:
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
        about = target / "data.yaml"
        ours = about.is_file() and about.read_bytes().startswith(_YOLO_MARK.encode())
    except OSError as error:
        raise output_error(target, error) from error
    if not ours:
        raise OutputError(
            f"{str(target)!r} exists and is no folder of labels written by elysium", "Choose a new folder."
        )


@contextmanager
def _whole_folder(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, for `labels/` and `data.yaml`; they move over if all goes well."""
    target = Path(path)
    check_yolo_folder(target)
    temporary = temporary_beside(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            _replace_labels(temporary, target)
        else:
            temporary.rename(target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_labels(new: Path, target: Path) -> None:
    """Move `labels/` and `data.yaml` from one folder to the other, or leave the other as it was."""
    labels, aside = target / "labels", new / "labels.old"
    if labels.exists():
        labels.rename(aside)
    try:
        (new / "labels").rename(labels)
        os.replace(new / "data.yaml", target / "data.yaml")
    except OSError:
        shutil.rmtree(labels, ignore_errors=True)
        if aside.exists():
            aside.rename(labels)
        raise


def write_coco(result: TrackResult, path: AnyPath, *, include_carried: bool = False) -> Path:
    """COCO JSON for video: `videos`, `images`, `categories`, `tracks`, `annotations`; all ids from 1.

    Of an image, `frame_id` is its place among the processed frames, from 0, and `frame_index` its number in the
    source. Of an annotation, `bbox` is left, top, width, height in pixels, `instance_id` and `track_id` both are
    the id of the track (tools differ in the name), and `score` is left out where there is none.
    """
    stem, (width, height) = _stem(result.source), result.resolution_wh
    size = {"width": int(width), "height": int(height)}
    categories = {name: number for number, name in enumerate(_class_names(result), 1)}
    image_ids = {index: number for number, index in enumerate(result.indices.tolist(), 1)}
    shown = _shown(result, include_carried)
    data = {
        "info": {"description": "Tracks by elysium", "source": _clean(result.source), "model": _clean(result.model)},
        "videos": [{"id": 1, "name": stem, "fps": round(result.fps, 6), **size}],
        "images": [
            {"id": number, "video_id": 1, "frame_id": number - 1, "frame_index": index}
            | {"file_name": _image_name(stem, index), **size}
            for index, number in image_ids.items()
        ],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "tracks": [{"id": item.track.id, "category_id": categories[item.name], "video_id": 1} for item in shown],
        "annotations": [
            {"id": number, "image_id": image_ids[index], "video_id": 1, "category_id": categories[item.name]}
            | _coco_box(item, row)
            for number, (index, item, row) in enumerate(_by_frame(shown), 1)
        ],
    }
    return atomic_write_text(path, _dump(data) + "\n")


def _coco_box(item: _Shown, row: int) -> dict[str, Any]:
    x1, y1, x2, y2 = item.boxes_xyxy[row].tolist()
    width, height = round(x2 - x1, 2), round(y2 - y1, 2)
    found: dict[str, Any] = {"instance_id": item.track.id, "track_id": item.track.id}
    found |= {"bbox": [x1, y1, width, height], "area": round(width * height, 4), "iscrowd": 0}
    score = float(item.track.scores[row])
    return found if np.isnan(score) else found | {"score": round(score, 4)}


def write_labelstudio(result: TrackResult, path: AnyPath, *, include_carried: bool = True) -> Path:
    """A Label Studio import: one task with a prediction of `videorectangle` regions, one for each track.

    A keyframe is a processed frame with a box, `frame` from 1, in per cents of the frame. `enabled` says whether
    the object goes on after a keyframe, up to the next one: it is false before each gap and on the last. A carried
    keyframe has `"state": "carried"`, and its region counts them in the note that people see. Tracks without a box
    are left out. `framesCount` and `duration` go up to the last processed frame: how long the source is, is unknown.
    """
    regions = [_region(result, item) for item in _shown(result, include_carried) if item.rows]
    task = {
        "data": {"video": _clean(result.source), "fps": round(result.fps, 6)},
        "predictions": [{"model_version": _clean(result.model), "result": regions}],
    }
    return atomic_write_text(path, _dump([task]) + "\n")


def _region(result: TrackResult, item: _Shown) -> dict[str, Any]:
    frames_count = int(result.indices[-1]) + 1
    region: dict[str, Any] = {"id": f"elysium-{item.track.id}", "type": "videorectangle"}
    region |= {"from_name": "box", "to_name": "video"}
    region["value"] = {
        "framesCount": frames_count,
        "duration": round(frames_count / result.fps, 4),
        "sequence": [_keyframe(result, item, row) for row in item.rows],
        "labels": [item.name],
    }
    carried = sum(item.is_carried(row) for row in item.rows)
    if carried:
        region["meta"] = {"text": [f"{carried} of {len(item.rows)} boxes carried over from earlier frames"]}
    return region


def _keyframe(result: TrackResult, item: _Shown, row: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (100 * normalize(item.boxes_xyxy[row], result.resolution_wh)).round(4).tolist()
    frame = item.index(row) + 1
    return {
        "frame": frame,
        "enabled": bool(item.mask[row + 1 : row + 2].any()),  # the tool shows this frame itself either way
        "rotation": 0,
        "x": x1,
        "y": y1,
        "width": round(x2 - x1, 4),
        "height": round(y2 - y1, 4),
        "time": round(frame / result.fps, 4),  # the tool's own arithmetic, from frame numbers that start at 1
        **({"state": "carried"} if item.is_carried(row) else {}),
    }


def write_cvat(result: TrackResult, path: AnyPath, *, include_carried: bool = True) -> Path:
    """CVAT for video 1.1: XML with a `track` for each object that has a box at all, its frames from 0.

    All boxes are keyframes. Where an object goes absent, its last box is repeated with `outside="1"`, which holds
    until the next keyframe; a carried box has `occluded="1"`. Labels are cut to the 64 characters that CVAT allows.
    Nothing says that an object ends with the last processed frame, for CVAT refuses frames that a task lacks.
    """
    root = ET.Element("annotations")
    _text_element(root, "version", "1.1")
    _cvat_task(ET.SubElement(ET.SubElement(root, "meta"), "task"), result)
    for item in _shown(result, include_carried):
        if item.rows:
            _cvat_track(root, item)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return atomic_write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _text_element(parent: ET.Element, tag: str, text: object) -> None:
    ET.SubElement(parent, tag).text = str(text)


def _cvat_label(name: str) -> str:
    return name if len(name) <= CVAT_LABEL_LENGTH else name[: CVAT_LABEL_LENGTH - 1] + "…"


def _cvat_task(task: ET.Element, result: TrackResult) -> None:
    """The frames from 0 to the last processed one, the labels, and the size of a frame."""
    width, height = result.resolution_wh
    _text_element(task, "name", _stem(result.source))
    _text_element(task, "size", int(result.indices.max(initial=-1)) + 1)
    _text_element(task, "mode", "interpolation")
    labels = ET.SubElement(task, "labels")
    for name in dict.fromkeys(map(_cvat_label, _class_names(result))):
        label = ET.SubElement(labels, "label")
        _text_element(label, "name", name)
        ET.SubElement(label, "attributes")
    size = ET.SubElement(task, "original_size")
    _text_element(size, "width", width)
    _text_element(size, "height", height)


def _cvat_track(root: ET.Element, item: _Shown) -> None:
    track = ET.SubElement(root, "track", id=str(item.track.id), label=_cvat_label(item.name), source="auto")
    last: int | None = None  # the row of the box that CVAT goes on showing
    for row in range(item.rows[0], len(item.mask)):
        if item.mask[row]:
            last = row
            _cvat_box(track, item, row, last, outside=False)
        elif last is not None:
            _cvat_box(track, item, row, last, outside=True)
            last = None


def _cvat_box(track: ET.Element, item: _Shown, row: int, box_row: int, *, outside: bool) -> None:
    box = ET.SubElement(track, "box", frame=str(item.index(row)))
    box.set("outside", str(int(outside)))
    box.set("occluded", str(int(not outside and item.is_carried(row))))
    box.set("keyframe", "1")
    for side, value in zip(("xtl", "ytl", "xbr", "ybr"), item.boxes_xyxy[box_row].tolist(), strict=True):
        box.set(side, f"{value:.2f}")
    box.set("z_order", "0")


def write_records(result: TrackResult, path: AnyPath, *, include_carried: bool = False) -> Path:
    """JSON lines in the form of ElysiumTrack-1M: one track a line, `box` in 0..1 of the frame, six decimals.

    That form has no absence: frames without a box are in neither `frames` nor `box`, and a track that has none has
    no line. `metadata` says which frames of the source are left.
    """
    stem, lines = _stem(result.source), []
    for item in _shown(result, include_carried):
        if item.rows:
            lines.append(_dump(_record(result, item, stem)) + "\n")
    return atomic_write_text(path, "".join(lines))


def _record(result: TrackResult, item: _Shown, stem: str) -> dict[str, Any]:
    indices = [item.index(row) for row in item.rows]
    return {
        "source": "elysium",
        "id": f"{stem}_{item.track.id}",
        "vid": stem,
        "metadata": {
            "video": _clean(result.source),
            "model": _clean(result.model),
            "fps": round(result.fps, 6),
            "frame_indices": indices,
        },
        "frames": [_image_name(stem, index) for index in indices],
        "object_class": item.name,
        "box": normalize(item.boxes_xyxy[item.rows], result.resolution_wh).round(6).tolist(),
        "object_description": "" if item.track.expression is None else item.name,
        "frame_size": [int(value) for value in result.resolution_wh],
    }


EXPORTS: Mapping[str, Exporter] = MappingProxyType(
    {
        "yolo": write_yolo,
        "coco": write_coco,
        "labelstudio": write_labelstudio,
        "cvat": write_cvat,
        "records": write_records,
    }
)
