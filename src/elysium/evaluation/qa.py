"""Exact match of short answers to questions, for VideoQA (MSVD-QA, MSRVTT-QA, TGIF-QA), without a judge.

Answers are compared after a normalisation in the manner of the VQA evaluation (Antol et al., "VQA: visual question
answering", ICCV 2015), so that "The dog." is "dog" and "two" is "2". The rules stand at `normalise_answer`. Two things
differ from VQA: an answer is right if it equals any of the given ones (VQA has ten people's and wants three to agree),
and an apostrophe is dropped where VQA puts missing ones back, which makes the same words equal.

Published VideoQA figures of language models come from a judge (`judge.py`), which also accepts longer sentences: exact
match is lower, and not comparable.

Knows texts. Knows nothing about questions, models or files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_APOSTROPHES = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}`]")
_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
NAN = float("nan")


@dataclass(frozen=True)
class QaItem:
    """A predicted answer, the right ones (one is enough), and what kind of question it was, if known."""

    predicted: str
    answers: Sequence[str]
    question_type: str | None = None


@dataclass(frozen=True)
class TypeScore:
    """Accuracy in per cent of the questions of one type, and how many there are."""

    accuracy: float
    num_items: int


@dataclass(frozen=True, eq=False)
class QaScores:
    """Of a set of questions.

    Attributes:
        accuracy: per cent of the answers that match; NaN if there are none.
        num_items: questions.
        right: (N,) which ones, in their order, for bootstrap intervals.
        by_type: the same for each type of question, by its name; questions without a type are not in it.
    """

    accuracy: float
    num_items: int
    right: NDArray[np.bool_]
    by_type: dict[str, TypeScore] = field(default_factory=dict)


def normalise_answer(text: str) -> str:
    """What two answers must have in common to be equal.

    In this order: compatible characters become one (full-width, ligatures), letters lower case; apostrophes are
    dropped, and commas that part thousands (1,000); every other punctuation mark or symbol becomes a space, except a
    point with digits on both sides; the words none, zero, one, ..., ten become digits; a, an and the are dropped,
    unless nothing would be left; words are joined by single spaces.

    >>> normalise_answer("The man's two T-shirts, 3.5 m.")
    'mans 2 t shirts 3.5 m'
    """
    text = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).lower())
    text = _POINT.sub(" ", _THOUSANDS.sub("", text))
    text = "".join(" " if c != "." and unicodedata.category(c)[0] in "PS" else c for c in text)
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def exact_match(predicted: str, answers: str | Sequence[str]) -> bool:
    """Whether an answer equals one of the right ones after `normalise_answer`. An empty one never does.

    >>> exact_match("A dog.", ["dog", "puppy"]), exact_match("a big dog", "dog")
    (True, False)
    """
    given = normalise_answer(predicted)
    right = [answers] if isinstance(answers, str) else answers
    return bool(given) and any(given == normalise_answer(answer) for answer in right)


def qa_scores(items: Iterable[QaItem]) -> QaScores:
    """Accuracy over all questions, each of the same weight, and for each type of question."""
    given = list(items)
    right = np.array([exact_match(item.predicted, item.answers) for item in given], dtype=np.bool_)
    types = sorted({item.question_type for item in given if item.question_type is not None})
    by_type = {name: right[[item.question_type == name for item in given]] for name in types}
    return QaScores(
        accuracy=_percent(right),
        num_items=len(given),
        right=right,
        by_type={name: TypeScore(_percent(flags), len(flags)) for name, flags in by_type.items()},
    )


def _percent(flags: NDArray[np.bool_]) -> float:
    return float(100 * flags.mean()) if len(flags) else NAN
