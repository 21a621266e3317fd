"""Results that other programs wrote, as ours: the published evaluation's answers and the text files of the toolkits.

Knows how to tell them apart, and which file belongs to which record. Knows nothing about metrics; the text files
themselves are in `formats.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.errors import InputError, SourceError
from elysium.evaluation.formats import read_boxes, read_got10k, read_mot
from elysium.evaluation.journal import read_lines
from elysium.evaluation.published import PublishedScores, merge_published, parse_published, published_scores
from elysium.evaluation.raw import RawAnswer, Size
from elysium.evaluation.results import RESULTS, RUN, Result, read_results
from elysium.evaluation.scoring import Truth


@dataclass(frozen=True)
class _Said:
    """An answer with the published keys, of a clip or merged, as far as figures need it."""

    vid: str
    id: str
    gt: str
    predict: str
    image_size: Size | None
    whole: bool  # a video; else a clip of one

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_value(cls, value: Any) -> _Said:
        filled = {"question": "", "prompt": "", **value} if isinstance(value, dict) else value  # merged ones lack these
        raw = RawAnswer.from_value(filled)
        return cls(raw.vid, raw.id, raw.gt, raw.predict, raw.image_size, "prompt" not in value)


FORMATS = ("auto", "elysium", "answers", "lasot", "otb", "trackingnet", "got10k", "mot")
_BESIDE = ("_time", "_object_presence_scores", "_scores", "_all_boxes", "_all_scores")


def import_results(
    path: Path, truths: Mapping[str, Truth], *, format: str = "auto", box_format: str = "xywh", origin: int = 0
) -> list[Result]:
    """The results at ``path``, whatever wrote them.

    Args:
        truths: by id; sequences are looked for by these names, and boxes in 0..1 or per cent are scaled by them.
        format: one of `FORMATS`; "auto" looks at what is there.
        box_format: of text files: `xywh` or `xyxy` in pixels, `xyxyn` in 0..1, `percent` in 0..100.
        origin: the number of the first pixel in text files, 0 or 1.

    Raises:
        SourceError: nothing there. InputError: an unknown format, or files that are not of it.
    """
    if format not in FORMATS:
        raise InputError(f"There is no format {format!r}", f"Use one of {', '.join(FORMATS)}.")
    kind = guess_format(path) if format == "auto" else format
    if kind == "elysium":
        return list(read_results(path))
    if kind == "answers":
        return from_answers(path, truths)
    found = list(_from_texts(path, kind, truths, box_format, origin))
    if not found:
        names = ", ".join(repr(id) for id in list(truths)[:3])
        raise InputError(
            f"{str(path)!r} has no {kind} file for any sequence of the annotations ({names} ...)",
            "Name the files after the ids of the records.",
        )
    return found


def guess_format(path: Path) -> str:
    """Raises SourceError if there is nothing, InputError if nothing fits."""
    if not path.exists():
        raise SourceError(f"There are no results {str(path)!r}", "Check the path.")
    if path.is_dir():
        if (path / RUN).is_file() or (path / RESULTS).is_file():
            return "elysium"
        if any(path.glob("*/*_001.txt")):
            return "got10k"
        if any(path.glob("*.txt")):
            return "lasot"
        raise InputError(f"The folder {str(path)!r} holds no results", "Give the folder of a run or of text files.")
    with path.open("rb") as file:
        first = file.readline().strip()
    try:
        value = json.loads(first) if first else {}
    except ValueError:
        value = {}
    if not isinstance(value, dict) or not value:
        told = "is empty" if not first else "is not JSON lines"
        raise InputError(f"{str(path)!r} {told}", "Give a file of results or answers, or a folder.")
    return "answers" if "predict" in value and "boxes_xyxy" not in value else "elysium"


def from_answers(path: Path, truths: Mapping[str, Truth] | None = None) -> list[Result]:
    """Answers with the published keys, of clips ("id|0") or merged, as boxes; clips are merged as the released code
    does, and frames without a box are NaN. Per cents become pixels of the truth's frame, or of ``image_size``.

    Raises InputError for an answer without the size of its frames.
    """
    answers = list(read_lines(path, _Said))
    _check_sizes(path, answers)
    results = []
    for record in _merged(answers):
        id = str(record["id"])
        truth = (truths or {}).get(id)
        size = record["image_size"] if truth is None else truth.resolution_wh
        results.append(Result(id, str(record["vid"]), boxes_of(record["predict"], record["gt"], size)))
    return results


def published_of(path: Path) -> PublishedScores:
    """The released script's figures of answers with the published keys, of clips or merged. Raises as above."""
    answers = list(read_lines(path, _Said))
    _check_sizes(path, answers)
    return published_scores(_merged(answers))


def _merged(answers: Sequence[_Said]) -> list[dict[str, Any]]:
    records = [asdict(answer) for answer in answers]
    return records if any(answer.whole for answer in answers) else merge_published(records)


def _check_sizes(path: Path, answers: Sequence[_Said]) -> None:
    unsized = next((answer.id for answer in answers if answer.image_size is None), None)
    if unsized is not None:
        raise InputError(f"{path}: the answer {unsized!r} has no image_size", "Its boxes have no pixels without it.")


def boxes_of(text: str, truth: str, size: Sequence[int]) -> FloatArray:
    """(T, 4) pixels of an answer in per cent, cut or filled with NaN to the truth's number of boxes; a box of zeros is
    an absent object."""
    count = len(parse_published(truth))
    boxes = np.full((count, 4), np.nan)
    found = parse_published(text)[:count]
    boxes[: len(found)] = np.array(found).reshape(-1, 4)
    boxes[(boxes == 0).all(axis=1)] = np.nan
    return np.asarray(boxes * np.tile(size, 2), dtype=np.float64)


def _from_texts(path: Path, kind: str, truths: Mapping[str, Truth], box_format: str, origin: int) -> Iterator[Result]:
    known = set()
    for id, truth in truths.items():
        found = _one_text(path, kind, id, len(truth.boxes_xyxy))
        if found is not None:
            known.add(id)
            boxes, seconds = found
            pixels = to_pixels(boxes, box_format, truth.resolution_wh, origin)
            yield Result(id, boxes_xyxy=pixels, seconds=seconds, num_frames=len(boxes) if seconds else 0)
    if known:
        strangers = sorted(name for name in _names(path, kind) if name not in known)
        if strangers:
            names = ", ".join(repr(name) for name in strangers[:3])
            told = f"{str(path)!r} has results for {names}, of which the annotations know nothing"
            raise InputError(told, "Give the annotations that the results were made for, or take these files away.")


def _names(path: Path, kind: str) -> Iterator[str]:
    """The sequences that a folder has results for. pytracking puts times and other columns beside the boxes."""
    if kind == "got10k":
        yield from (file.parent.name for file in path.glob("*/*_001.txt"))
        return
    stems = {file.stem for file in path.glob("*.txt")}
    for stem in stems:
        if not any(stem.endswith(end) and stem.removesuffix(end) in stems for end in _BESIDE):
            yield stem


def _one_text(path: Path, kind: str, id: str, num_frames: int) -> tuple[FloatArray, float] | None:
    """Boxes as they stand in the file, and the seconds they took (0 if that is not known); None without a file."""
    if kind == "got10k":
        if not (path / id / f"{id}_001.txt").is_file():
            return None
        boxes, times = read_got10k(path, id)
        return boxes, float(np.nansum(times))
    file = path / f"{id}.txt"
    if not file.is_file():
        return None
    if kind != "mot":
        return read_boxes(file), 0.0
    tracks = read_mot(file, num_frames=num_frames)
    if not tracks:
        return np.full((num_frames, 4), np.nan), 0.0  # it was never found
    if len(tracks) != 1:
        raise InputError(f"{file} has {len(tracks)} objects", "A sequence has one: write a file for each.")
    return next(iter(tracks.values())).boxes_xywh, 0.0


def to_pixels(boxes: FloatArray, box_format: str, resolution_wh: Sequence[int], origin: int = 0) -> FloatArray:
    """(T, 4) in any format as xyxy pixels that count from 0; never clipped, for figures depend on it.

    Raises InputError for an unknown format.
    """
    frame = np.tile(np.asarray(resolution_wh, dtype=np.float64), 2)
    scale = {"xywh": np.ones(4), "xyxy": np.ones(4), "xyxyn": frame, "percent": frame / 100}
    if box_format not in scale:
        raise InputError(f"There is no box format {box_format!r}", f"Use one of {', '.join(scale)}.")
    pixels = boxes * scale[box_format]
    if box_format == "xywh":
        pixels = np.concatenate([pixels[:, :2], pixels[:, :2] + pixels[:, 2:]], axis=1)
    result: FloatArray = pixels - origin
    return result
