"""What a model or tracker made of one record: boxes or words, how long it took, what it was asked and said.

Knows the line of `results.jsonl` and the files of a run's folder. Knows nothing about models, truth or metrics.

A run writes to ``parts/<worker>.jsonl`` as it goes on, and at its end joins them to ``results.jsonl`` in the order of
the annotations; a run that was stopped reads both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.errors import InputError
from elysium.evaluation.journal import AnyPath, read_lines
from elysium.evaluation.raw import RawAnswer
from elysium.files import atomic_path, atomic_write_text

RESULTS, ANSWERS, FAILURES, RUN, SCORES, PARTS = (
    "results.jsonl", "answers.jsonl", "failures.jsonl", "run.json", "scores.json", "parts",
)  # fmt: skip


SCALED = ": boxes were scaled"  # how the note ends of images that are not of the size that their record says


@dataclass(frozen=True, eq=False)
class Result:
    """One line of `results.jsonl`. Either boxes or a text.

    Attributes:
        id: of the record. vid: of its video.
        boxes_xyxy: (T, 4) pixels of the record's frame, NaN where the object was called absent; None for words.
        scores: (T,) 0..1, NaN where there is none; None for words.
        text: the description or answer; None for boxes.
        seconds: that it took, reading of frames included. num_frames: that it took them for.
        answers: what the model was asked and said, clip by clip; empty for a tracker without words.
        notes: what was special.
        failure: why it ended before its end; empty if it did not. What there is of it counts.
    """

    id: str
    vid: str = ""
    boxes_xyxy: FloatArray | None = None
    scores: FloatArray | None = None
    text: str | None = None
    seconds: float = 0.0
    num_frames: int = 0
    answers: tuple[RawAnswer, ...] = ()
    notes: tuple[str, ...] = field(default=())
    failure: str = ""

    def to_json(self) -> str:
        """One line without its end; NaN is null."""
        value: dict[str, Any] = {key.name: getattr(self, key.name) for key in fields(self)}
        value["boxes_xyxy"] = _rows(self.boxes_xyxy)
        value["scores"] = None if self.scores is None else [_number(score) for score in self.scores.tolist()]
        value["seconds"] = round(self.seconds, 4)
        value["answers"] = [json.loads(answer.to_json()) for answer in self.answers]
        if not self.failure:
            del value["failure"]
        return json.dumps(value, allow_nan=False)

    @classmethod
    def from_value(cls, value: Any) -> Result:
        """From a parsed line. Raises ValueError that says what is wrong."""
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise ValueError("is no result: it has no id")
        boxes, scores = value.get("boxes_xyxy"), value.get("scores")
        if boxes is None and not isinstance(value.get("text"), str):
            raise ValueError("has neither boxes_xyxy nor text")
        if any(not isinstance(value.get(key) or [], list) for key in ("scores", "answers", "notes")):
            raise ValueError("has scores, answers or notes that are no list")
        return cls(
            id=value["id"],
            vid=str(value.get("vid", "")),
            boxes_xyxy=None if boxes is None else boxes_array(boxes),
            scores=None if scores is None else np.array([np.nan if s is None else s for s in scores], dtype=np.float64),
            text=value.get("text"),
            seconds=float(value.get("seconds") or 0.0),
            num_frames=int(value.get("num_frames") or 0),
            answers=tuple(RawAnswer.from_value(answer) for answer in value.get("answers") or ()),
            notes=tuple(value.get("notes") or ()),
            failure=str(value.get("failure") or ""),
        )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _rows(boxes: FloatArray | None) -> list[list[float] | None] | None:
    if boxes is None:
        return None
    return [row if np.isfinite(row).all() else None for row in boxes.tolist()]


def boxes_array(rows: Any) -> FloatArray:
    """(T, 4) with NaN for null. Raises ValueError for anything else."""
    nothing = [float("nan")] * 4
    if not isinstance(rows, list) or not all(row is None or (isinstance(row, list) and len(row) == 4) for row in rows):
        raise ValueError("has boxes_xyxy that are not four numbers or null for each frame")
    return np.array([nothing if row is None else row for row in rows], dtype=np.float64).reshape(-1, 4)


def read_results(path: AnyPath, *, may_be_empty: bool = False) -> Iterator[Result]:
    """The results of a file, or of a run's folder with those of a run that was stopped; each id once.

    Raises SourceError or InputError as `journal.read_lines` does.
    """
    seen: set[str] = set()
    for file in result_files(path):
        for result in read_lines(file, Result, may_be_empty=True):
            if result.id not in seen:
                seen.add(result.id)
                yield result
    if not seen and not may_be_empty:
        raise InputError(f"{str(path)!r} holds no result", "Run the evaluation first.")


def result_files(path: AnyPath) -> list[Path]:
    """The files with results, the finished ones first; those without a line are left out."""
    if not Path(path).is_dir():
        return [Path(path)]
    found = [Path(path) / RESULTS, *sorted((Path(path) / PARTS).glob("*.jsonl"))]
    return [file for file in found if file.is_file() and file.stat().st_size]


def join_parts(folder: Path, order: Iterable[str]) -> None:
    """Write ``results.jsonl`` and ``answers.jsonl`` in the order of the ids ``order``, and take the parts away."""
    places = {result.id: result for result in read_results(folder, may_be_empty=True)}
    ordered = [places[id] for id in order if id in places]
    with atomic_path(folder / RESULTS) as path, path.open("w", encoding="utf-8") as file:
        file.writelines(result.to_json() + "\n" for result in ordered)
    answers = [answer for result in ordered for answer in result.answers]
    if answers:
        atomic_write_text(folder / ANSWERS, "".join(answer.to_json() + "\n" for answer in answers))
    for part in (folder / PARTS).glob("*.jsonl"):
        part.unlink()
    if (folder / PARTS).is_dir():
        (folder / PARTS).rmdir()
