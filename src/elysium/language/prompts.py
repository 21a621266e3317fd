"""What a model is asked and what it should answer: tasks, questions, prompts, chat messages, targets.

Knows the exact text of the "elysium" prompt format. Knows nothing about tokenizers, images or models; boxes
come in as text (see `dialects`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elysium.errors import InputError
from elysium.language.dialects import ELYSIUM, Dialect

SYSTEM_SENTENCE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
MARK_IMAGE = "<image>"
MARK_VIDEO = "<video>"
"""Stands for all frames of a video in a chat; the processor writes them out as `frames_block`."""
MARK_ANSWER = "ASSISTANT:"
"""The end of every question."""
MARK_REGION = "<region>"
"""Stands after a box in a question when the model pools a region token from that box."""


class Task(str, Enum):
    """What a model can be asked to do."""

    SOT = "SOT"
    RSOT = "RSOT"
    VIDEO_REG = "VIDEO_REG"
    REC = "REC"
    REG = "REG"
    VIDEO_QA = "VIDEO_QA"
    CAPTION = "CAPTION"

    @property
    def needs_box(self) -> bool:
        """Whether the question holds a box."""
        return self in (Task.SOT, Task.VIDEO_REG, Task.REG)

    @property
    def needs_expression(self) -> bool:
        """Whether the question names the object."""
        return self in (Task.RSOT, Task.REC)

    @property
    def answers_boxes(self) -> bool:
        """Whether the answer is made of boxes (otherwise it is free text)."""
        return self in (Task.SOT, Task.RSOT, Task.REC)

    @property
    def labels_frames(self) -> bool:
        """Whether even a single frame is introduced by "Frame 1: "."""
        return self in (Task.SOT, Task.RSOT, Task.VIDEO_REG)


# One fixed question a task, used at inference and evaluation; SOT and RSOT are those of the published system.
EVALUATION_QUESTIONS = {
    Task.SOT: (
        "This is a video showing an object with coordinates {box} in Frame 1. "
        "Please provide the detailed coordinates of the object in each frame."
    ),
    Task.RSOT: "Please find one {expression} and provide the detailed coordinates in each frame.",
    Task.VIDEO_REG: (
        "This is a video showing an object with coordinates {box} in Frame 1. "
        "Please provide a short description of the object."
    ),
    Task.REC: "Please find {expression} and provide the detailed coordinates.",
    Task.REG: "Please provide a short description of the object with coordinates {box}.",
    Task.VIDEO_QA: "{question}",
    Task.CAPTION: "Please provide a short caption.",
}

# What `track` asks: an expression already has its article ("the person in red"), so RSOT takes the question
# of the project page; the published evaluation asks for a class ("person").
TRACKING_RSOT_QUESTION = (
    "Please find {expression} in the initial frame and provide the detailed coordinates in each frame."
)


class Rng(Protocol):
    """A source of floats in [0, 1): `random.Random` and `numpy.random.Generator` both are."""

    def random(self) -> float: ...


@cache
def paraphrases(task: Task) -> tuple[str, ...]:
    """The training questions of a task, with {box} or {expression} where these belong."""
    if task is Task.VIDEO_QA:
        return (EVALUATION_QUESTIONS[task],)
    text = files("elysium.language").joinpath("paraphrases.json").read_text(encoding="utf-8")
    return tuple(json.loads(text)[task.value])


def build_question(
    task: Task,
    *,
    box_text: str | None = None,
    expression: str | None = None,
    question: str | None = None,
    rng: Rng | None = None,
    region_mark: bool = False,
    published: bool = False,
) -> str:
    """The question of a task.

    box_text: the object's box in Frame 1, as a dialect writes it (SOT, VIDEO_REG, REG).
    expression: the words that name the object (RSOT, REC). question: the user's own words (VIDEO_QA).
    rng: None gives the fixed question, otherwise one of about twenty paraphrases is drawn.
    published: the fixed question of RSOT is the published evaluation's, for a class instead of an expression.
    region_mark: puts `MARK_REGION` behind the box.

    Raises InputError when what the task needs is missing or empty, or holds a reserved mark.
    """
    task = Task(task)
    values = {"box": "", "expression": "", "question": ""}
    if task.needs_box:
        values["box"] = _required(task, "a box", box_text) + (MARK_REGION if region_mark else "")
    if task.needs_expression:
        values["expression"] = _required(task, "an expression", expression)
    if task is Task.VIDEO_QA:
        values["question"] = _required(task, "a question", question)
    if rng is None:
        tracking = task is Task.RSOT and not published
        return (TRACKING_RSOT_QUESTION if tracking else EVALUATION_QUESTIONS[task]).format(**values)
    choices = paraphrases(task)
    return choices[int(rng.random() * len(choices))].format(**values)


def _required(task: Task, what: str, value: str | None) -> str:
    text = (value or "").strip()
    if not text:
        raise InputError(f"{task.value} needs {what}, and none (or an empty one) was given", f"Give {what}")
    for mark in (MARK_IMAGE, MARK_VIDEO, MARK_REGION):
        if mark in text:
            raise InputError(f"{text!r} holds the reserved mark {mark}", "Write it without this mark")
    return text


def frames_block(num_frames: int, *, labelled: bool | None = None, seconds: bool = False) -> str:
    """Where the frames stand in a prompt: "Frame 1: <image>, Frame 2: <image>", or "<image>" for one image.

    labelled: whether to write "Frame i: "; by default only when there are several frames.
    seconds: "1s: <image>; 2s: <image>; " in place of that, which is what the released model's chats have.
    Raises InputError when num_frames is below 1.
    """
    _check_frames(num_frames)
    if not (num_frames > 1 if labelled is None else labelled):
        return ", ".join([MARK_IMAGE] * num_frames)
    if seconds:
        return "".join(f"{number}s: {MARK_IMAGE}; " for number in range(1, num_frames + 1))
    return ", ".join(f"Frame {number}: {MARK_IMAGE}" for number in range(1, num_frames + 1))


def _check_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise InputError(f"A prompt needs at least one frame, not {num_frames}", "Give one frame or more")


def build_prompt(task: Task, num_frames: int, question: str, *, published: bool = False) -> str:
    """The whole prompt, up to and including "ASSISTANT:", with one `MARK_IMAGE` a frame.

    SOT, RSOT and VIDEO_REG label even a single frame; the image tasks write "<image>" alone.
    published: questions about a video (VIDEO_QA) label frames as the released model's chats do.
    """
    seconds = published and Task(task) is Task.VIDEO_QA
    block = frames_block(num_frames, labelled=Task(task).labels_frames or num_frames > 1, seconds=seconds)
    return f"{SYSTEM_SENTENCE}USER: {block}\n{question}{MARK_ANSWER}"


def messages(task: Task, num_frames: int, question: str, answer: str | None = None) -> list[dict[str, Any]]:
    """The same prompt as chat messages for `apply_chat_template` with `CHAT_TEMPLATE`.

    answer: adds the assistant's message, as in a training sample.
    """
    block = frames_block(num_frames, labelled=Task(task).labels_frames or num_frames > 1)
    content: list[dict[str, str]] = []
    if MARK_IMAGE in question:
        raise InputError(f"{question!r} holds the reserved mark {MARK_IMAGE}", "Write it without this mark")
    texts = (block + "\n" + question).split(MARK_IMAGE)
    for position, text in enumerate(texts):
        if text:
            content.append({"type": "text", "text": text})
        if position < num_frames:
            content.append({"type": "image"})
    chat: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat


# A first message of role "system" replaces the standard sentence (an empty one removes it). Later rounds have
# no system text: they start again with "USER: ". Every answer is closed by the end token. Words right behind a picture
# start a new line, as models were trained on, unless they bring a line, a space or a comma of their own.
CHAT_TEMPLATE = (
    "{%- macro render(content) -%}"
    "{%- if content is string -%}{{- content -}}"
    "{%- else -%}{%- for part in content -%}"
    "{%- if part['type'] == 'image' -%}{{- '" + MARK_IMAGE + "' -}}"
    "{%- elif part['type'] == 'video' -%}{{- '" + MARK_VIDEO + "' -}}"
    "{%- elif part['type'] == 'text' -%}"
    "{%- if not loop.first and loop.previtem['type'] != 'text' and part['text'][:1] not in ['', '\\n', ' ', ','] -%}"
    "{{- '\\n' -}}{%- endif -%}{{- part['text'] -}}"
    "{%- else -%}{{- raise_exception('Only text, image and video parts are known, not ' + part['type']) -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}{{- render(messages[0]['content']) -}}"
    '{%- else -%}{{- "' + SYSTEM_SENTENCE + '" -}}{%- endif -%}'
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{- 'USER: ' + render(message['content']) -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- 'ASSISTANT:' + render(message['content']) + (eos_token or '') -}}"
    "{%- elif not loop.first -%}{{- raise_exception('Unknown role ' + message['role']) -}}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)


def answer_text(
    task: Task,
    *,
    boxes: Sequence[Sequence[int] | NDArray[np.integer] | None] | None = None,
    text: str | None = None,
    dialect: Dialect = ELYSIUM,
) -> str:
    """The training target of a task, without the end token.

    boxes: one box in bins a frame, None where the object is absent (SOT, RSOT; REC takes exactly one).
    text: the description (VIDEO_REG, written with a full stop; REG, as it is) or the answer (VIDEO_QA).

    Raises InputError when the one that the task needs is missing.
    """
    task = Task(task)
    if not task.answers_boxes:
        words = _required(task, "an answer text", text)
        return words.rstrip(".") + "." if task is Task.VIDEO_REG else words
    if not boxes or (task is Task.REC and len(boxes) != 1):
        count = len(boxes) if boxes else 0
        raise InputError(f"{task.value} cannot be answered by {count} boxes", "Give one box for each frame")
    if task is Task.REC:
        return dialect.format_boxes(boxes).removeprefix("Frame 1: ")
    return dialect.format_boxes(boxes, full_stop=True)
