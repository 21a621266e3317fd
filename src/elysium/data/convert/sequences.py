"""Folders of tracking sequences, as benchmarks come, as annotation records.

    <root>/<name>/frames/*.jpg  (or img/*, or the images beside the boxes)
    <root>/<name>/groundtruth.txt  (or groundtruth_rect.txt): left, top, width, height in pixels, one line a frame
    <root>/<name>/meta.json  (optional): "object", words for it; "benchmark"; "attributes", a list of names

A sequence may also lie one folder deeper (LaSOT's ``airplane/airplane-1``). The object is absent where the line of its
box is zeros or NaN, and where the benchmark says so: ``full_occlusion.txt`` and ``out_of_view.txt`` (LaSOT),
``cover.label`` of 0 or, without it, ``absence.label`` of 1 (GOT-10k). Boxes of OTB count pixels from 1 (they come from
MATLAB), which is told by "benchmark", and are shifted. Knows nothing about models or metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import FloatArray
from elysium.data.convert.base import Converter, Options, Unit
from elysium.data.convert.parts import (
    check_count,
    image_files,
    image_size,
    in_frame,
    number_lines,
    number_table,
    xywh_to_xyxy,
)
from elysium.data.records import Record
from elysium.errors import InputError, SourceError

_TRUTHS = ("groundtruth.txt", "groundtruth_rect.txt")


def read_sequences(root: Path) -> Iterator[Record]:
    """The sequences of a folder, by name; frames are relative to ``root``.

    Raises:
        SourceError: no such folder, or a sequence without images. InputError: no sequence in it, or boxes that do not
        fit the images.
    """
    for name, _ in _units(root, Options()):
        yield _record(root, root / name)


def sequence_folders(root: Path) -> list[Path]:
    """Raises SourceError if ``root`` is no folder."""
    if not root.is_dir():
        raise SourceError(f"There is no folder {str(root)!r}", "Check the path.")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    deeper = (path for folder in folders if truth_file(folder) is None for path in folder.iterdir() if path.is_dir())
    return sorted(path for path in (*folders, *deeper) if truth_file(path) is not None)


def label_files(folder: Path) -> list[Path]:
    """Everything that is said about a sequence, in files."""
    names = (*_TRUTHS, "meta.json", "full_occlusion.txt", "out_of_view.txt", "cover.label", "absence.label")
    return [folder / name for name in names if (folder / name).is_file()]


def truth_file(folder: Path) -> Path | None:
    """The file with the boxes of a sequence."""
    return next((folder / name for name in _TRUTHS if (folder / name).is_file()), None)


def _record(root: Path, folder: Path) -> Record:
    frames, meta = image_files(folder), _meta(folder)
    file = truth_file(folder)
    assert file is not None
    from_matlab = str(meta.get("benchmark", "")).upper().startswith("OTB")
    boxes = xywh_to_xyxy(number_table(file, 4), origin=int(from_matlab))
    check_count(file, len(boxes), len(frames))
    boxes[_marked_absent(folder, len(boxes))] = np.nan
    size = image_size(frames[0])
    xyxyn = boxes / np.tile(size, 2)
    absent = np.isnan(xyxyn).any(axis=1).tolist()
    words = str(meta.get("object", ""))
    return Record(
        source=str(meta.get("benchmark", root.name)), id=folder.name, vid=folder.name,
        metadata={"attributes": meta["attributes"]} if "attributes" in meta else {},
        frames=[frame.relative_to(root).as_posix() for frame in frames], object_class=str(meta.get("class", words)),
        box=[None if gone else row for gone, row in zip(absent, xyxyn.tolist(), strict=True)],
        object_description=words, frame_size=size, absent=absent if any(absent) else None,
    )  # fmt: skip


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not JSON", "Mend it or take it away.") from error
    return value if isinstance(value, dict) else {}


def _marked_absent(folder: Path, num_frames: int) -> NDArray[np.bool_]:
    """(T,) where the benchmark's own files say that the object cannot be seen."""
    absent = np.zeros(num_frames, dtype=np.bool_)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        absent |= _labels(folder / name, num_frames, 0.0) == 1
    if (folder / "cover.label").is_file():
        return absent | (_labels(folder / "cover.label", num_frames, 8.0) == 0)
    return absent | (_labels(folder / "absence.label", num_frames, 0.0) == 1)


def _labels(path: Path, num_frames: int, default: float) -> FloatArray:
    """(T,) one number a frame, in lines or in one line; all ``default`` if there is no such file."""
    if not path.is_file():
        return np.full(num_frames, default)
    values = np.array([value for line in number_lines(path) for value in line], dtype=np.float64)
    check_count(path, len(values), num_frames)
    return values


def _units(root: Path, options: Options) -> Iterator[Unit]:
    if not (folders := sequence_folders(root)):
        raise InputError(f"{root} holds no sequence", f"Each is a folder with images and a {_TRUTHS[0]}.")
    yield from ((folder.relative_to(root).as_posix(), None) for folder in folders)


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """What :func:`read_sequences` gives, boxes cut off at the edges of the frame."""
    record = _record(root, root / unit[0])
    cut = in_frame(record.boxes_xyxyn)
    yield record.model_copy(update={"absent": None, **cut})


SEQUENCES = Converter("folders with images and groundtruth.txt (left, top, width, height)", _units, _records)
