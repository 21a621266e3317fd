"""The words that nano's own tokenizer is trained on, and which of them it may be said to know.

Knows: expressions, descriptions, questions. Does not know: models, pixels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from elysium.data.synth.questions import SAMPLES as QUESTION_SAMPLES
from elysium.data.synth.questions import plural
from elysium.language import prompts
from elysium.training.sources import ObjectLabel

_KNOWN_COUNT = 3


class Vocabulary:
    """What is said of things: every expression and description, and the noun of every thing that has an expression."""

    def __init__(self, things: Iterable[ObjectLabel]) -> None:
        self.texts: Counter[str] = Counter()
        self.nouns: Counter[str] = Counter()
        for thing in things:
            self.texts.update([*thing.expressions, thing.description])
            self.nouns.update([thing.noun] if thing.expressions else [])

    def known_nouns(self) -> list[str]:
        """What at least three things that can be named are called, sorted."""
        return _frequent(self.nouns)

    def known_words(self) -> list[str]:
        """The words that stood in at least three expressions or descriptions, and those of the questions, sorted."""
        words: Counter[str] = Counter()
        for text, count in self.texts.items():
            words.update(dict.fromkeys(set(text.lower().split()), count))
        plurals = (word for noun in self.known_nouns() for word in plural(noun).lower().split())
        return sorted({*_frequent(words), *re.findall(r"[a-z]+", QUESTION_SAMPLES.lower()), *plurals})

    def tokenizer_texts(self) -> list[str]:
        """Everything nano reads and writes: questions, the system sentence, the words of the clips."""
        fixed = [prompts.TRACKING_RSOT_QUESTION]
        tasks = [task for task in prompts.Task if task is not prompts.Task.CAPTION]  # which nano does not learn
        fixed += [q for task in tasks for q in (*prompts.paraphrases(task), prompts.EVALUATION_QUESTIONS[task])]
        frames = prompts.frames_block(8).replace(prompts.MARK_IMAGE, "")
        words = [f" {word}" for text in self.texts.elements() for word in text.split()]
        return [*[*fixed, QUESTION_SAMPLES, prompts.SYSTEM_SENTENCE + "USER: " + frames, "ASSISTANT:"] * 200, *words]


def template_phrases() -> list[str]:
    """The fixed parts of prompts and answers, each of which is one token of nano's."""
    tasks = (prompts.Task.SOT, prompts.Task.VIDEO_REG, prompts.Task.REC, prompts.Task.REG)
    questions = [prompts.TRACKING_RSOT_QUESTION, *(prompts.EVALUATION_QUESTIONS[task] for task in tasks)]
    parts = {part.rstrip() for q in questions for part in re.split(r"\{box\}|\{expression\}", q) if part.strip(" .")}
    return [
        prompts.SYSTEM_SENTENCE + "USER: ",
        "ASSISTANT:",
        "Frame ",
        ", Frame ",
        ": ",
        ": [",
        "], Frame ",
        *sorted(parts),
    ]


def _frequent(counts: Counter[str]) -> list[str]:
    return sorted(text for text, count in counts.items() if count >= _KNOWN_COUNT)
