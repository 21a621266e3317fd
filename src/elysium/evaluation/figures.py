"""The figures of a run, whatever its task: from items and results to `scores.json`.

Knows which metrics belong to which task. Knows nothing about models, or how results came about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from elysium.errors import InputError
from elysium.evaluation.caption import caption_scores
from elysium.evaluation.items import TRACKING, Item
from elysium.evaluation.judge import Verdict, judge_scores
from elysium.evaluation.published import LABEL, PublishedScores, merge_published, published_scores
from elysium.evaluation.qa import QaItem, qa_scores
from elysium.evaluation.rec import rec_accuracy
from elysium.evaluation.results import Result
from elysium.evaluation.scoring import TrackingSummary, Truth, check_known, convention_for, plain, score_tracking

Judge = Callable[[str, str, str, str], Verdict]
"""(id, question, right answer, given answer) -> what a judge says of it."""


@dataclass(frozen=True, eq=False)
class Figures:
    """What came out.

    Attributes:
        task: of `items.TASKS`.
        tracking: SOT, RSOT. published: the released script's arithmetic, where answers allow it and it was asked for.
        language: REC, REG, Video-REG, VideoQA: figures by name, and "per_item" by id.
        missing: ids without a result.
    """

    task: str
    missing: tuple[str, ...]
    tracking: TrackingSummary | None = None
    published: PublishedScores | None = None
    language: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        value: dict[str, Any] = {"task": self.task, "missing": list(self.missing)}
        if self.tracking is not None:
            value |= self.tracking.to_json()
        if self.published is not None:
            value["published"] = {**asdict(self.published), "label": LABEL}
        if self.language is not None:
            value |= dict(self.language)
        shown: dict[str, Any] = plain(value)
        return shown


def truths_of(items: Sequence[Item]) -> dict[str, Truth]:
    """By id. Raises InputError for a record that cannot be scored as a track."""
    return {item.id: Truth.from_record(item.record) for item in items}


def compute_figures(
    task: str, items: Sequence[Item], results: Sequence[Result], *, convention: str | None = None,
    count_first: bool = True, published: bool = False, java: bool = True, judge: Judge | None = None,
) -> Figures:  # fmt: skip
    """Score ``results`` of ``task`` by ``items``.

    Args:
        convention: name of a tracking convention; None for the task's own. count_first: whether frame 1 counts.
        published: the released arithmetic too. java: METEOR and tokens by the Java programs.
        judge: of VideoQA; asked about every answer.

    Raises:
        InputError: results that are not of these items, see `score_tracking`; Java or a package is missing.
    """
    done = {result.id for result in results}
    missing = tuple(item.id for item in items if item.id not in done)
    if not results:
        raise InputError("There are no results to score", "Run the evaluation first.")
    if task in TRACKING:
        truths = truths_of(items)
        tracking = score_tracking(results, truths, convention_for(task, convention), count_first=count_first)
        return Figures(task, missing, tracking, _published(results, truths) if published else None)
    pairs = _pairs(items, results)
    if task == "REC":
        return Figures(task, missing, language=_found(pairs))
    if task == "VideoQA":
        return Figures(task, missing, language=_answered(pairs, judge))
    return Figures(task, missing, language=_described(pairs, java))


def _pairs(items: Sequence[Item], results: Sequence[Result]) -> list[tuple[Item, Result]]:
    by_id = {item.id: item for item in items}
    check_known(results, by_id)
    return [(by_id[result.id], result) for result in results]


def _published(results: Sequence[Result], truths: Mapping[str, Truth]) -> PublishedScores:
    """Sequences that ended before their end are left out: the released code has no figure for them.

    Raises InputError for answers that do not cover all frames: of a lost object nothing is asked, for example.
    """
    whole = [result for result in results if not result.failure]
    for result in whole:
        asked = sum(answer.gt.count("[") for answer in result.answers) - len(result.answers) + 1
        frames = len(truths[result.id].boxes_xyxy)
        if asked != frames:
            raise InputError(
                f"The model was asked about {asked} of the {frames} frames of {result.id!r}",
                "The published arithmetic needs a run with --protocol published.",
            )
    return published_scores(merge_published(asdict(answer) for result in whole for answer in result.answers))


def _found(pairs: Sequence[tuple[Item, Result]]) -> dict[str, Any]:
    """REC: whether the box is right."""
    nowhere = np.full((1, 4), np.nan)
    boxes = [nowhere if result.boxes_xyxy is None else result.boxes_xyxy[:1] for _, result in pairs]
    true = [item.record.boxes_xyxy[:1] for item, _ in pairs]
    scores = rec_accuracy(np.concatenate(boxes), np.concatenate(true))
    per_item = {
        item.id: {"iou": 100.0 * float(iou)} for (item, _), iou in zip(pairs, scores.ious.tolist(), strict=True)
    }
    return {"accuracy": scores.accuracy, "mean_iou": scores.mean_iou, "num_items": len(pairs), "per_item": per_item}


def _described(pairs: Sequence[tuple[Item, Result]], java: bool) -> dict[str, Any]:
    """REG, Video-REG: how much the words are like the right ones."""
    said = {item.id: _sentence(result.text) for item, result in pairs}
    right = {item.id: [_sentence(text) for text in item.references] for item, _ in pairs}
    scores = caption_scores(said, right, java=java)
    return {
        "meteor": scores.meteor,
        "cider": scores.cider,
        "bleu4": scores.bleu4,
        "rouge_l": scores.rouge_l,
        "meteor_name": scores.meteor_name,
        "tokenizer": scores.tokenizer,
        "num_items": scores.num_items,
        "per_item": {id: asdict(item) for id, item in scores.items.items()},
    }


def _sentence(text: str | None) -> str:
    return (text or "").strip()


def _answered(pairs: Sequence[tuple[Item, Result]], judge: Judge | None) -> dict[str, Any]:
    """VideoQA: whether the answer is the right one, word for word, and what the judge says."""
    scores = qa_scores(QaItem(result.text or "", item.references, _question_type(item)) for item, result in pairs)
    per_item: dict[str, dict[str, Any]] = {
        item.id: {"right": 100.0 * float(right)} for (item, _), right in zip(pairs, scores.right.tolist(), strict=True)
    }
    value: dict[str, Any] = {"exact_match": scores.accuracy, "num_items": scores.num_items, "per_item": per_item}
    for name, of_type in scores.by_type.items():
        value[f"exact_match ({name}, {of_type.num_items})"] = of_type.accuracy
    if judge is not None:
        verdicts = {
            item.id: judge(item.id, item.words, item.references[0], result.text or "") for item, result in pairs
        }
        judged = judge_scores(verdicts.values())
        value |= {
            "judge_accuracy": judged.accuracy,
            "judge_score": judged.mean_score,
            "judge_unreadable": judged.num_unreadable,
            "judge_model": ", ".join(sorted({verdict.model for verdict in verdicts.values()})),
        }
        for id, verdict in verdicts.items():
            per_item[id] |= {"judge_correct": verdict.correct, "judge_score": verdict.score}
    return value


def _question_type(item: Item) -> str | None:
    """What ``metadata.question_type`` says."""
    kind = item.record.metadata.get("question_type") if isinstance(item.record.metadata, dict) else None
    return None if kind is None else str(kind)
