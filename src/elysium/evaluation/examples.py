"""Answers of a run one by one, for a reader: what was asked, what would have been right, what was said.

Knows records, results and scores of single items, in the forms that figures come in. Knows nothing about pages. For
tasks of words (Video-REG, REG, VideoQA) and of single boxes (REC); tracks have `gallery.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from elysium.boxes import FloatArray, format_numbers, iou
from elysium.data.records import Record
from elysium.evaluation.gallery import asked_for, read_picture, without_marks
from elysium.evaluation.report_tables import DASH, PER_ITEM, number
from elysium.evaluation.results import Result

NOTHING: FloatArray = np.full(4, np.nan)


@dataclass(frozen=True, eq=False)
class Card:
    """One answer: a title, named lines, and the first frame with its boxes if it could be read."""

    title: str
    lines: tuple[tuple[str, str], ...]
    image: Image.Image | None
    num_boxes: int = 0


def has_boxes(card: Card) -> bool:
    """Whether there is a box in its picture."""
    return card.num_boxes > 0


def example_cards(
    records: Mapping[str, Record], results: Mapping[str, Result], run: Mapping[str, Any], figures: Mapping[str, Any],
    images: Path | None, limit: int,
) -> tuple[list[Card], str]:  # fmt: skip
    """At most ``limit`` answers and what they are: the worst and the best where each has a score, else the first."""
    scores = {id: given for id, given in item_scores(figures).items() if id in results}
    first = {id: next(iter(given.values())) for id, given in scores.items()}
    ids = worst_and_best(first, limit) if scores else list(results)[: max(0, limit)]
    what = "The worst and the best answers" if len(ids) < len(scores) else "Answers, the worst first"
    cards = [_card(results[id], record_of(id, records), run, scores.get(id, {}), images) for id in ids]
    return cards, what if scores else "The first answers"


def item_scores(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Scores by id, each by its name, from the first "per_item" among the figures, nested ones too.

    It may be a mapping of ids to numbers or to figures, or a list of figures with an "id"; the first number of an item
    is what items are ordered by. NaN and null are left out, and items that have nothing else.

    >>> item_scores({"METEOR": 20.5, "per_item": {"a": 0.5, "b": {"METEOR": 0.25, "said": "x"}}})
    {'a': {'score': 0.5}, 'b': {'METEOR': 0.25}}
    """
    given = figures.get(PER_ITEM)
    if given is None:
        inner = (item_scores(value) for value in figures.values() if isinstance(value, Mapping))
        return next((found for found in inner if found), {})
    if isinstance(given, Mapping):
        pairs: Iterable[tuple[Any, Any]] = given.items()
    else:
        pairs = [(one.get("id"), one) for one in given if isinstance(one, Mapping)]
    found = {str(id): _numbers(value if isinstance(value, Mapping) else {"score": value}) for id, value in pairs}
    return {id: scores for id, scores in found.items() if scores}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    known = {name: float(value) for name, value in values.items() if name != "id" and isinstance(value, int | float)}
    return {name: value for name, value in known.items() if np.isfinite(value)}


def worst_and_best(scores: Mapping[str, float], limit: int) -> list[str]:
    """Ids from the worst to the best; of too many those at both ends.

    >>> worst_and_best({"a": 3, "b": 1, "c": 2, "d": 4}, 2)
    ['b', 'd']
    """
    ids = sorted(scores, key=lambda id: (scores[id], id))
    if len(ids) <= limit:
        return ids
    worst = (limit + 1) // 2
    return [*ids[:worst], *ids[len(ids) - (limit - worst) :]] if limit > 0 else []


def record_of(id: str, records: Mapping[str, Record]) -> Record | None:
    """The record of a result; in a chat of several rounds the id is "record|round"."""
    return records.get(id) or records.get(id.rpartition("|")[0])


def _card(
    result: Result, record: Record | None, run: Mapping[str, Any], scores: Mapping[str, float], images: Path | None
) -> Card:
    truth, size = _truth_box(record)
    answer = result.boxes_xyxy[0] if result.boxes_xyxy is not None and len(result.boxes_xyxy) else NOTHING
    lines = [("asked:", _asked(result, record)), *_right_and_said(result, record, run, truth, answer)]
    lines += [(f"{name.replace('_', ' ')}:", number(value, 2)) for name, value in scores.items()]
    frame = record.frames[0] if record is not None and record.frames else None
    image = None if frame is None else read_picture(images, frame, truth, answer, size)
    boxes = sum(bool(np.isfinite(box).all()) for box in (truth, answer))
    return Card(result.id, tuple((name, text or DASH) for name, text in lines), image, boxes)


def _truth_box(record: Record | None) -> tuple[FloatArray, tuple[int, int] | None]:
    """The first frame's box in pixels and the size of the frame; without a size, in 0..1 there is nothing to draw."""
    if record is None or record.vqa is not None or not record.box or record.frame_size is None:
        return NOTHING, record.frame_size if record else None
    return record.boxes_xyxy[0], record.frame_size


def _right_and_said(
    result: Result, record: Record | None, run: Mapping[str, Any], truth: FloatArray, answer: FloatArray
) -> list[tuple[str, str]]:
    if result.text is not None:
        return [("right:", " | ".join(_references(result, record, run))), ("answer:", result.text)]
    said = format_numbers(answer) if np.isfinite(answer).all() else "no box"
    if not np.isfinite(truth).all():
        return [("answer:", said)]
    return [("right:", format_numbers(truth)), ("answer:", f"{said}, IoU {float(iou(answer, truth)):.2f}")]


def _asked(result: Result, record: Record | None) -> str:
    rounds = record.vqa if record is not None else None
    if rounds and not result.answers:
        turn = 2 * _round(result, record)
        return without_marks(rounds[turn].value) if turn < len(rounds) else ""
    return asked_for(record if result.boxes_xyxy is not None else None, result)  # of words the record has the answer


def _references(result: Result, record: Record | None, run: Mapping[str, Any]) -> Sequence[str]:
    """Right texts: the reply of the round, or the words under the run's text key, or what the raw answer noted."""
    if record is not None and record.vqa:
        turn = 2 * _round(result, record) + 1
        return [record.vqa[turn].value] if turn < len(record.vqa) else []
    for key in (str(run.get("text_key") or "object_description"), "object_description", "expressions", "object_class"):
        value = getattr(record, key, None)
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if any(texts):
            return [str(text) for text in texts if text]
    return [result.answers[0].gt] if result.answers else []


def _round(result: Result, record: Record | None) -> int:
    """Which round of a chat the result answers, from 0."""
    whole, _, tail = result.id.rpartition("|")
    return int(tail) if record is not None and whole == str(record.id) and tail.isdecimal() else 0
