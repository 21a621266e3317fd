"""Prompts are exact text: against the published system's own where the shared folder is at hand."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import numpy as np
import pytest

import tokenizers_zoo
from elysium.errors import InputError
from elysium.language.prompts import (
    CHAT_TEMPLATE,
    MARK_REGION,
    SYSTEM_SENTENCE,
    Task,
    answer_text,
    build_prompt,
    build_question,
    frames_block,
    messages,
    paraphrases,
)

BOX = "[18,29,42,61]"
WORDS = {"box_text": BOX, "expression": "the brown dog", "question": "Why is it there?"}


def _expected(shared_dir):
    return json.loads((shared_dir / "compat" / "expected.json").read_text())["prompts"]


def test_evaluation_prompts_are_the_published_ones(shared_dir):
    prompts = _expected(shared_dir)
    sot, rsot = prompts["eval_SOT_8f"], prompts["eval_RSOT_8f"]
    assert build_prompt(Task.SOT, 8, build_question(Task.SOT, box_text=BOX)) == sot["prompt"]
    assert (
        build_prompt(Task.RSOT, 8, build_question(Task.RSOT, expression="boat", published=True))
        == rsot["prompt"]
    )


@pytest.mark.parametrize(
    ("key", "task", "frames"),
    [
        ("online_SOT_8f", Task.SOT, 8),
        ("online_VideoREC_8f", Task.RSOT, 8),
        ("online_VideoREG_8f", Task.VIDEO_REG, 8),
        ("online_REC_1f", Task.REC, 1),
        ("online_REG_1f", Task.REG, 1),
    ],
)
def test_training_samples_have_the_published_form(shared_dir, key, task, frames):
    sample = _expected(shared_dir)[key]
    question = sample["prompt"].split("\n")[1].removesuffix("ASSISTANT:")
    assert build_prompt(task, frames, question) == sample["prompt"]
    numbers = [[int(n) for n in box] for box in re.findall(r"(\d+),(\d+),(\d+),(\d+)", sample["response"])]
    assert answer_text(task, boxes=numbers, text=sample["response"].rstrip(".")) == sample["response"]


def test_prompt_is_exact():
    assert (
        build_prompt(Task.SOT, 2, "Q?")
        == SYSTEM_SENTENCE + "USER: Frame 1: <image>, Frame 2: <image>\nQ?ASSISTANT:"
    )
    assert build_prompt(Task.SOT, 1, "Q?") == SYSTEM_SENTENCE + "USER: Frame 1: <image>\nQ?ASSISTANT:"
    assert build_prompt(Task.REC, 1, "Q?") == SYSTEM_SENTENCE + "USER: <image>\nQ?ASSISTANT:"
    assert frames_block(1) == "<image>" and frames_block(2) == "Frame 1: <image>, Frame 2: <image>"
    assert SYSTEM_SENTENCE.endswith("questions. ")
    with pytest.raises(InputError):
        build_prompt(Task.SOT, 0, "Q?")


def test_region_mark_stands_behind_the_box():
    for rng in (None, random.Random(0)):
        for task in (Task.SOT, Task.VIDEO_REG, Task.REG):
            question = build_question(task, **WORDS, rng=rng, region_mark=True)
            assert question.count(BOX + MARK_REGION) == question.count(MARK_REGION) == 1
    assert MARK_REGION not in build_question(Task.REC, **WORDS, region_mark=True)


@pytest.mark.parametrize("task", [task for task in Task if task is not Task.VIDEO_QA])
def test_paraphrases(task):
    texts = paraphrases(task)
    assert len(texts) == len(set(texts)) == 20
    mark = "{box}" if task.needs_box else "{expression}"
    for text in texts:
        assert re.findall(r"\{.*?\}", text) == [mark] and text[-1] in ".?" and text.isascii()
    drawn = {build_question(task, **WORDS, rng=np.random.default_rng(seed)) for seed in range(400)}
    assert drawn == {text.format(box=BOX, expression="the brown dog") for text in texts}


def test_video_questions_stay_as_they_are():
    assert build_question(Task.VIDEO_QA, **WORDS, rng=random.Random(0)) == "Why is it there?"


def test_braces_in_an_expression_are_text():
    assert "{box} {0}" in build_question(Task.RSOT, expression="{box} {0}")


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        (Task.SOT, {}, "a box"),
        (Task.RSOT, {"expression": "  "}, "an expression"),
        (Task.REC, {"box_text": BOX}, "an expression"),
        (Task.VIDEO_QA, {"question": None}, "a question"),
        (Task.RSOT, {"expression": "an <image> of a dog"}, "<image>"),
        (Task.RSOT, {"expression": "a <region>"}, "<region>"),
        (Task.VIDEO_QA, {"question": "a <video>"}, "<video>"),
    ],
)
def test_questions_need_their_words(task, values, words):
    with pytest.raises(InputError, match=words):
        build_question(task, **values)


def test_answers():
    boxes = [[1, 2, 3, 4], None]
    assert answer_text(Task.SOT, boxes=boxes) == "Frame 1: [1,2,3,4], Frame 2: [0,0,0,0]."
    assert answer_text(Task.RSOT, boxes=boxes[:1]) == "Frame 1: [1,2,3,4]."
    assert answer_text(Task.REC, boxes=boxes[:1]) == "[1,2,3,4]"
    assert answer_text(Task.VIDEO_REG, text="a dog") == answer_text(Task.VIDEO_REG, text="a dog.") == "a dog."
    assert answer_text(Task.REG, text="the brown dog") == "the brown dog"
    for task, values in [
        (Task.REC, {"boxes": boxes}),
        (Task.SOT, {"text": "a dog"}),
        (Task.REG, {"boxes": boxes}),
    ]:
        with pytest.raises(InputError):
            answer_text(task, **values)


@pytest.fixture(scope="module")
def chatty():
    tokenizer = tokenizers_zoo.gpt2_like()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("frames", [1, 3])
def test_chat_template_renders_the_prompt(chatty, task, frames):
    question = build_question(task, **WORDS)
    prompt = build_prompt(task, frames, question)
    chat = messages(task, frames, question)
    render = chatty.apply_chat_template
    assert render(chat, tokenize=False, add_generation_prompt=True) == prompt
    assert render(chat, tokenize=False) == prompt.removesuffix("ASSISTANT:")
    answered = messages(task, frames, question, "It is there.")
    assert render(answered, tokenize=False) == prompt + "It is there.</s>"
    assert sum(part["type"] == "image" for part in chat[0]["content"]) == frames
    assert all(a["type"] != b["type"] for a, b in pairwise(chat[0]["content"]))


def test_chat_template_with_several_rounds(chatty):
    chat = messages(Task.VIDEO_QA, 1, "What is it?", "A dog.")
    chat += [{"role": "user", "content": "Colour?"}]
    assert chatty.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        SYSTEM_SENTENCE + "USER: <image>\nWhat is it?ASSISTANT:A dog.</s>USER: Colour?ASSISTANT:"
    )
    own = [{"role": "system", "content": "Be brief. "}, *chat[2:]]
    assert chatty.apply_chat_template(own, tokenize=False) == "Be brief. USER: Colour?"


def test_words_behind_a_picture_start_a_new_line(chatty):
    def rendered(*texts):
        parts = [{"type": "video"}, *({"type": "text", "text": text} for text in texts)]
        return chatty.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)

    for texts, expected in (
        (["Why?"], "<video>\nWhy?"), (["\nWhy?"], "<video>\nWhy?"), ([", and?"], "<video>, and?"), ([""], "<video>"),
        (["Why", " not?"], "<video>\nWhy not?"),
    ):  # fmt: skip
        assert rendered(*texts) == f"{SYSTEM_SENTENCE}USER: {expected}"


def test_a_question_cannot_smuggle_in_an_image():
    with pytest.raises(InputError, match="<image>"):
        messages(Task.VIDEO_QA, 1, "What is <image>?")
