"""Questions on a clip whose answers are known: colour, kind, count, direction of motion.

Knows: what labels say of things. Does not know: pixels, tasks, prompts. Answers are a word or a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from elysium.data.synth.nouns import PATCH_NOUN, REGION_NOUN, confusable
from elysium.data.synth.words import COLOUR_NAMES

LEAST_SHIFT = 0.1  # of the frame: less is not called a motion in a direction
STILL_REACH = 0.02
STRAIGHT = 1.7  # how much more along than across
_IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "tooth": "teeth",
    "foot": "feet", "goose": "geese", "leaf": "leaves", "knife": "knives", "fish": "fish", "sheep": "sheep",
    "deer": "deer", "ox": "oxen",
}  # fmt: skip


KINDS = ("colour", "kind", "count", "motion")
EQUALLY = dict.fromkeys(KINDS, 1.0)
SAMPLES = (
    "What color is the What is the Which way does the move? How many are there? "
    "it does not move to the right to the left down up a an 1 2 3 4 5 6"
)
"""The words of all questions and answers but those of the things themselves, for a tokenizer."""


class Thing(Protocol):
    """What is asked about: an object's labels."""

    @property
    def noun(self) -> str: ...

    @property
    def colour(self) -> str | None: ...

    @property
    def expressions(self) -> tuple[str, ...]: ...


def ask(
    rng: np.random.Generator, thing: Thing, everything: Sequence[Thing], boxes: NDArray[np.float32],
    kinds: Mapping[str, float] = EQUALLY,
) -> tuple[str, str] | None:  # fmt: skip
    """A question about ``thing`` and its answer, of a kind drawn at random; None if that kind cannot be asked of it.

    ``boxes`` (n, 4) in 0..1: of the thing in the frames shown, NaN where absent. ``kinds``: of `KINDS`, how often each
    is drawn, in shares of any sum.
    """
    shares = np.array([kinds.get(name, 0.0) for name in KINDS])
    kind = KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
    if kind == "count":
        return _count(thing, everything)
    told = {"colour": thing.colour, "kind": _with_article(thing.noun), "motion": _direction(boxes)}[kind]
    fitting = [words for words in thing.expressions if _may_ask(kind, words)]
    if told is None or not fitting:
        return None
    words = fitting[int(rng.integers(len(fitting)))]
    name = words if words.startswith("the ") else f"the {words}"
    return {"colour": f"What color is {name}?", "kind": f"What is {name}?", "motion": f"Which way does {name} move?"}[
        kind
    ], told


def _may_ask(kind: str, words: str) -> bool:
    """Whether an expression can stand in a question without telling the answer."""
    if kind == "colour":
        return not any(colour in words.split() for colour in COLOUR_NAMES)
    if kind == "kind":
        return "object" in words.split()
    return "moving" not in words


def _count(thing: Thing, everything: Sequence[Thing]) -> tuple[str, str] | None:
    """How many things have the noun; None if another noun may mean them too."""
    others = {other.noun for other in everything} - {thing.noun}
    if thing.noun in (PATCH_NOUN, REGION_NOUN) or any(confusable(thing.noun, other) for other in others):
        return None
    number = sum(other.noun == thing.noun for other in everything)
    return f"How many {plural(thing.noun)} are there?", str(number)


def _direction(boxes: NDArray[np.float32]) -> str | None:
    """Where the middle of the boxes goes from the first to the last; None if that is not clear."""
    there = boxes[np.isfinite(boxes).all(axis=1)]
    if len(there) < 2:
        return None
    middles = (there[:, :2] + there[:, 2:]) / 2
    x, y = middles[-1] - middles[0]
    if np.hypot(*(middles - middles[0]).T).max() < STILL_REACH:
        return "it does not move"
    if abs(x) > max(LEAST_SHIFT, STRAIGHT * abs(y)):
        return "to the right" if x > 0 else "to the left"
    if abs(y) > max(LEAST_SHIFT, STRAIGHT * abs(x)):
        return "down" if y > 0 else "up"
    return None


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """More than one of it: "cars", "buses", "people"."""
    *before, last = noun.split()
    return " ".join([*before, _IRREGULAR.get(last) or _regular(last)])


def _regular(word: str) -> str:
    if word.endswith("s") and not word.endswith(("ss", "us")):
        return word  # scissors, glasses
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
