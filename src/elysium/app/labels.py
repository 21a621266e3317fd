"""A result as annotation records with their images: what a labelling tool hands on to training.

The form is that of `elysium.data.records`, with what ElysiumTrack-1M does not have: a frame in which an object is not
there has a null in `box` and true in `absent`. Boxes that only stand in (`carried`) count as unknown, and their frames
are left out of the record; nobody has said that they are right. Knows results, records and JPEG files.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elysium.app.clips import Clip, file_stem, frame_name
from elysium.app.corrections import Corrections
from elysium.boxes import box_area, clip_to_frame, normalize
from elysium.data.records.model import to_line
from elysium.errors import InputError
from elysium.files import atomic_path
from elysium.tracks import Track, TrackResult

RECORDS = "records.jsonl"
IMAGES = "images"  # the folder that `frames` of the records are relative to
DEFAULT_CLASS = "object"  # of what was given by a box alone


def write_labels(clip: Clip, result: TrackResult, corrections: Corrections, folder: Path) -> Path:
    """Write `<name>.labels.zip` into ``folder``: `records.jsonl` and `images/<name>/000000.jpg`, ...

    One record a track; tracks without a frame that counts have none. Raises InputError if no track has one,
    OutputError.
    """
    stem = file_stem(clip.name)
    records = [record for track in result.tracks if (record := _record(clip, result, track, corrections, stem))]
    if not records:
        raise InputError("No object has a frame that could be saved", "Track or correct something first.")
    used = sorted({Path(name).name for record in records for name in record["frames"]})
    target = folder / f"{stem}.labels.zip"
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(RECORDS, "".join(to_line(record) + "\n" for record in records))
        for name in used:  # JPEG files do not get smaller
            archive.write(clip.folder / name, f"{IMAGES}/{stem}/{name}")
    return target


def _record(
    clip: Clip, result: TrackResult, track: Track, corrections: Corrections, stem: str
) -> dict[str, Any] | None:
    """One track as a record, None if no frame of it counts."""
    boxes = clip_to_frame(track.boxes_xyxy, result.resolution_wh)
    present = (track.states == "tracked") & (box_area(boxes) > 0)
    rows = np.flatnonzero(present | (track.states == "absent")).tolist()
    if not present.any():
        return None
    indices = [int(track.indices[row]) for row in rows]
    normal = normalize(boxes, result.resolution_wh).round(6).tolist()
    words = track.expression or ""
    by_hand: Mapping[int, Any] = corrections.get(track.id, {})
    return {
        "source": "elysium-app",
        "id": f"{stem}_{track.id}",
        "vid": stem,
        "metadata": {
            "video": clip.name,
            "model": result.model,
            "fps": round(clip.fps, 6),
            "frame_indices": indices,
            "by_hand": sorted(by_hand),
        },
        "frames": [f"{stem}/{frame_name(index)}" for index in indices],
        "object_class": words or DEFAULT_CLASS,
        "box": [normal[row] if present[row] else None for row in rows],
        "absent": [not present[row] for row in rows],
        "object_description": words,
        "frame_size": list(result.resolution_wh),
        "times_s": [round(float(track.times_s[row]), 6) for row in rows],
        **({"expressions": [words]} if words else {}),
    }
