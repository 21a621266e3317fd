"""From boxes and truth of many sequences to the figures of a run: per sequence, on average, by group.

Knows records, results, conventions, and which metrics belong together. Knows nothing about models or files; the
arithmetic is in `ope.py`, `got10k.py` and `quality.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.data.records import Record, box_space
from elysium.errors import InputError
from elysium.evaluation.conventions import CONVENTIONS, Convention
from elysium.evaluation.got10k import Got10kScores, got10k_overlaps, got10k_scores
from elysium.evaluation.groups import GroupMean, group_means, size_class
from elysium.evaluation.ope import Curves, Scores, mean_curves, mean_scores, sequence_curves
from elysium.evaluation.quality import Reliability, auroc, reliability, scored_frames
from elysium.evaluation.results import Result

SEQUENCE_ALIKE = 0.8  # share of sequences that must look like another unit before all are taken for it


@dataclass(frozen=True, eq=False)
class Truth:
    """What is right for one record: boxes (T, 4) in pixels, NaN where the object is absent; the frame; its groups."""

    id: str
    boxes_xyxy: FloatArray
    resolution_wh: tuple[int, int]
    groups: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, record: Record) -> Truth:
        """Raises InputError for a record without boxes or without the size of its frames."""
        if not record.box:
            raise InputError(f"Record {record.id!r} has no boxes", "Tracks are scored against a box for each frame.")
        boxes = record.boxes_xyxy
        assert record.frame_size is not None  # boxes_xyxy has asked
        size = size_class(boxes)
        return cls(
            str(record.id), boxes, record.frame_size, (*attributes(record), *([f"size: {size}"] if size else []))
        )


def attributes(record: Record) -> tuple[str, ...]:
    """The names under ``metadata.attributes``: a list, or a mapping of names to true or 1."""
    given = record.metadata.get("attributes") if isinstance(record.metadata, dict) else None
    if isinstance(given, dict):
        given = [name for name, value in given.items() if value]
    return tuple(str(name) for name in given) if isinstance(given, list) else ()


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """Figures of one sequence; ``fps`` is NaN where no time was measured."""

    id: str
    scores: Scores
    curves: Curves
    got10k: Got10kScores
    fps: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrackingSummary:
    """Figures of a run.

    Attributes:
        convention: name of the convention; ``count_first``: whether frame 1 counted.
        sequences: in the order of the results. missing: ids of records without a result.
        mean, curves: each sequence with the same weight.
        got10k: pooled over frames, as that toolkit does.
        groups: by attribute and by size of the object.
        auroc: of the scores of frames against IoU > 0.5; NaN where there are no scores.
        reliability: None where there are no scores, or not in 0..1.
        fps: frames of all sequences by the time of all; NaN where no time was measured.
    """

    convention: str
    count_first: bool
    sequences: tuple[SequenceScores, ...]
    missing: tuple[str, ...]
    mean: Scores
    curves: Curves
    got10k: Got10kScores
    groups: Mapping[str, GroupMean]
    auroc: float
    reliability: Reliability | None
    fps: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        value = {
            "convention": self.convention,
            "count_first": self.count_first,
            "num_sequences": len(self.sequences),
            "missing": list(self.missing),
            "mean": asdict(self.mean),
            "got10k": asdict(self.got10k),
            "score_auroc": self.auroc,
            "expected_calibration_error": self.reliability.expected_error if self.reliability else None,
            "fps": self.fps,
            "groups": {
                name: {**asdict(group.scores), "num_sequences": group.num_sequences}
                for name, group in self.groups.items()
            },
            "sequences": {
                one.id: {**asdict(one.scores), "ao": one.got10k.ao, "fps": one.fps} for one in self.sequences
            },
        }
        shown: dict[str, Any] = plain(value)
        return shown


def plain(value: Any) -> Any:
    """NaN and infinity as None, floats with six decimals."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if np.isfinite(value) else None
    return value


def convention_for(task: str, name: str | None = None) -> Convention:
    """The convention of a task: in SOT the first frame is the truth, in RSOT never. Raises InputError."""
    if name is None:
        name = "plain-sot" if task == "SOT" else "plain"
    if name not in CONVENTIONS:
        raise InputError(f"There is no convention {name!r}", f"Use one of {', '.join(CONVENTIONS)}.")
    chosen = CONVENTIONS[name]
    return chosen if task == "SOT" else replace(chosen, first_is_truth=False)


def score_tracking(
    results: Iterable[Result], truths: Mapping[str, Truth], convention: Convention, *, count_first: bool = True
) -> TrackingSummary:
    """Score results by the truth of the same id.

    Raises:
        InputError: results for other records, boxes in another unit than pixels, or, in a convention that does not
        mend it, more or fewer boxes than frames.
    """
    pairs = [(result, _truth(result, truths)) for result in results]
    check_units(pairs)
    overlaps = [_overlaps(result, truth) for result, truth in pairs]
    sequences = [
        _one(result, truth, shares, convention, count_first)
        for (result, truth), shares in zip(pairs, overlaps, strict=True)
    ]
    done = {one.id for one in sequences}
    values, right = _frame_scores(pairs)
    told = len(np.unique(values)) > 1  # a tracker that only says when it is lost has no score to judge
    seconds = sum(result.seconds for result, _ in pairs)
    return TrackingSummary(
        convention.name,
        count_first,
        tuple(sequences),
        tuple(id for id in truths if id not in done),
        mean_scores(one.scores for one in sequences),
        mean_curves(one.curves for one in sequences),
        got10k_scores(overlaps),
        group_means({one.id: one.scores for one in sequences}, {t.id: t.groups for _, t in pairs}),
        auroc(values, right) if told else float("nan"),
        reliability(values, right) if told and values.min() >= 0 and values.max() <= 1 else None,
        sum(result.num_frames for result, _ in pairs) / seconds if seconds else float("nan"),
    )


def check_known(results: Iterable[Result], known: Mapping[str, Any]) -> None:
    """Raise InputError for a result whose id is not among those of the annotations."""
    stranger = next((result.id for result in results if result.id not in known), None)
    if stranger is not None:
        some = ", ".join(repr(id) for id in list(known)[:3])
        raise InputError(
            f"There is a result for {stranger!r}, of which the annotations know nothing (they have {some} ...)",
            "Give the annotations that the results were made for.",
        )


def _truth(result: Result, truths: Mapping[str, Truth]) -> Truth:
    check_known([result], truths)
    if result.boxes_xyxy is None:
        raise InputError(
            f"The result for {result.id!r} has no boxes but words", "Score it as a task that answers words."
        )
    return truths[result.id]


def _one(
    result: Result, truth: Truth, overlaps: FloatArray, convention: Convention, count_first: bool
) -> SequenceScores:
    assert result.boxes_xyxy is not None
    try:
        curves = sequence_curves(result.boxes_xyxy, truth.boxes_xyxy, count_first=count_first, convention=convention)
    except ValueError as error:
        told = f"{result.id!r} has {len(result.boxes_xyxy)} boxes for {len(truth.boxes_xyxy)} frames"
        raise InputError(told, "Track it again, or score with --convention pytracking, which fills up.") from error
    return SequenceScores(
        result.id,
        curves.scores(),
        curves,
        got10k_scores(overlaps),
        result.num_frames / result.seconds if result.seconds else float("nan"),
        result.notes,
    )


def _overlaps(result: Result, truth: Truth) -> FloatArray:
    pred = fitted(result, len(truth.boxes_xyxy))
    return got10k_overlaps(pred, truth.boxes_xyxy, resolution_wh=truth.resolution_wh)


def fitted(result: Result, num_frames: int) -> FloatArray:
    """(T, 4) the boxes cut, or filled up with NaN, to ``num_frames``."""
    assert result.boxes_xyxy is not None
    boxes = np.full((num_frames, 4), np.nan)
    boxes[: len(result.boxes_xyxy)] = result.boxes_xyxy[:num_frames]
    return boxes


def _frame_scores(pairs: Sequence[tuple[Result, Truth]]) -> tuple[FloatArray, Any]:
    """Scores of all frames that have one but the first, whose box may have been given, and whether they are right."""
    found = []
    for result, truth in pairs:
        if result.scores is not None and len(result.scores) == len(truth.boxes_xyxy):
            found.append(
                scored_frames(result.scores[1:], fitted(result, len(truth.boxes_xyxy))[1:], truth.boxes_xyxy[1:])
            )
    if not found:
        return np.zeros(0), np.zeros(0, dtype=np.bool_)
    return np.concatenate([values for values, _ in found]), np.concatenate([right for _, right in found])


def check_units(pairs: Sequence[tuple[Result, Truth]]) -> None:
    """Raise InputError if nearly all results are in per cent or in 0..1 where the truth is not.

    One sequence may well lie in the corner of its frame; nearly all of them do not.
    """
    spaces = []
    for result, truth in pairs:
        if result.boxes_xyxy is None or not np.isfinite(result.boxes_xyxy).any():
            continue  # no box at all is of no unit
        if box_space(truth.boxes_xyxy, truth.resolution_wh) == "pixels":
            spaces.append(box_space(result.boxes_xyxy, truth.resolution_wh))
    for space in ("per cent", "normalised"):
        if spaces and spaces.count(space) >= SEQUENCE_ALIKE * len(spaces):
            raise InputError(
                f"The boxes look like {'per cent' if space == 'per cent' else '0..1'} of the frame, not pixels "
                f"({spaces.count(space)} of {len(spaces)} sequences)",
                "Scale them to pixels of the frame; `--box-format percent` or `xyxyn` does that for text files.",
            )
