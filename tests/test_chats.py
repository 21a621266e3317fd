"""Chats of several rounds: what is said, which tokens carry loss, what is left out when there is no room."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from elysium.config import DataSection, Phase
from elysium.data.records import Record
from elysium.data.records.chats import rounds, without_frame_marks
from elysium.errors import InputError
from elysium.language.prompts import MARK_IMAGE, SYSTEM_SENTENCE
from elysium.training.collate import IGNORED, WORD, Collator
from elysium.training.samples import Sample, SampleDataset
from elysium.training.sources import RecordClips
from tiny import tiny_model_and_processor

CHAT = [("What moves at <box>?", "a red car"), ("Where is it?", "on the left"), ("Where is it then?", "at <box>")]


def chat(*pairs: tuple[str, str], **fields) -> Record:
    turns = [{"from": who, "value": text} for pair in pairs for who, text in zip(("human", "gpt"), pair, strict=True)]
    return Record(id="c", vid="v", source="test", frames=["a.png", "b.png"], vqa=turns, **fields)


def written(box) -> str:
    return str([round(100 * value) for value in box])


def test_boxes_fill_their_marks_in_order():
    boxes = [(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)]
    said = rounds(chat(*CHAT, box=boxes), written)
    assert said[0] == ("What moves at [10, 20, 30, 40]?", "a red car") and said[2][1] == "at [50, 60, 70, 80]"
    turns = chat(("<video>\nIs it <box> or <box>?", "<box>")).vqa
    turns = [turns[0].model_copy(update={"box": boxes}), turns[1].model_copy(update={"box": boxes[1:]})]
    own = Record(id="c", frames=["a.png"], vqa=[turn.model_dump(by_alias=True) for turn in turns])
    assert rounds(own, written) == (("Is it [10, 20, 30, 40] or [50, 60, 70, 80]?", "[50, 60, 70, 80]"),)


def test_the_box_of_a_system_turn_is_nobody_elses():
    turns = [("system", "Look at <box>."), ("human", "What is at <box>?"), ("gpt", "a dog")]
    boxes = [(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)]
    record = Record(id=1, frames=[], vqa=[{"from": who, "value": text} for who, text in turns], box=boxes)
    assert rounds(record, written) == (("What is at [50, 60, 70, 80]?", "a dog"),)


def test_only_who_speaks_decides_what_a_round_is():
    turns = [("system", "be nice"), ("user", "<image>\nwhat is it"), ("assistant", "a dog")]
    record = Record(id=1, frames=[], vqa=[{"from": who, "value": text} for who, text in turns])
    assert rounds(record, written) == (("what is it", "a dog"),)
    for sides in (("gpt", "human"), ("human", "gpt", "human"), ("human", "human"), ("system",)):
        mixed = Record(id=1, frames=[], vqa=[{"from": side, "value": "a"} for side in sides])
        with pytest.raises(InputError, match="The chat of record 1 is not question and answer in turn"):
            rounds(mixed, written)


def test_a_round_without_words_ends_the_chat():
    assert rounds(chat(CHAT[1], ("", "yes"), CHAT[1]), written) == (CHAT[1],)
    assert rounds(chat(("<image>", "a dog")), written) == ()


def test_frame_marks_go_wherever_they_stand():
    for text in ("<image>\n<image>\nwhat is it", "what is it<video>", "<video>\nwhat is it"):
        assert without_frame_marks(text) == "what is it"


@pytest.fixture
def clips(tmp_path):
    """A source of one chat of three rounds about two frames."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
    record = chat(*CHAT, box=[(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)])
    (tmp_path / "chat.jsonl").write_text(json.dumps(json.loads(record.to_json())) + "\n")
    return RecordClips(tmp_path / "chat.jsonl", tmp_path, 56)


def samples(clips, **changes) -> SampleDataset:
    asked = DataSection(train_clips=0, val_clips=0, tasks={"VIDEO_QA": 1.0}, sources=[
        {"annotations": "chat.jsonl", "images": "."}])  # fmt: skip
    return SampleDataset(clips, 4, 2, [Phase(until=1.0, frames=2)], asked, **changes)


def test_all_answers_carry_loss_and_nothing_else(clips):
    sample = samples(clips)[0]
    _, processor = tiny_model_and_processor("mlp")
    batch = Collator(processor, [], 4)([sample])
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    decode = processor.tokenizer.decode
    answers = ["a red car</s>", "on the left</s>", "at [50,60,70,80]</s>"]
    assert decode(labels[labels != IGNORED]) == "".join(answers)
    assert torch.equal(ids[labels != IGNORED], labels[labels != IGNORED])
    runs = "".join("x" if taught else "." for taught in (labels != IGNORED).tolist())
    assert len([run for run in runs.split(".") if run]) == 3 and runs[0] == "." and runs[-1] == "x"
    assert (batch["number_values"] == WORD).all()
    image = MARK_IMAGE * processor.num_image_tokens
    assert decode(ids) == (
        f"{SYSTEM_SENTENCE}USER: Frame 1: {image}, Frame 2: {image}\nWhat moves at [10,20,30,40]?ASSISTANT:{answers[0]}"
        f"USER: Where is it?ASSISTANT:{answers[1]}USER: Where is it then?ASSISTANT:{answers[2]}"
    )


def test_the_sequence_is_that_of_the_chat_template(clips):
    """Later rounds have no sentence of the system, every answer is closed: as `apply_chat_template` writes it."""
    sample = samples(clips)[0]
    _, processor = tiny_model_and_processor("mlp")
    first = sample.prompt.removeprefix(f"{SYSTEM_SENTENCE}USER: ").removesuffix("ASSISTANT:")
    turns = [first, sample.answer]
    for asked, said in sample.later:
        turns += [asked.removeprefix("USER: ").removesuffix("ASSISTANT:"), said]
    roles = ("user", "assistant") * 3
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    shown = processor.apply_chat_template(messages, tokenize=False)
    (ids,) = Collator(processor, [], 4)([sample])["input_ids"]
    assert processor.tokenizer.decode(ids).replace(MARK_IMAGE * processor.num_image_tokens, MARK_IMAGE) == shown


def test_special_tokens_stand_in_front_of_the_first_round_alone():
    _, processor = tiny_model_and_processor("mlp")
    seen = []

    def encode(text: str, special: bool = False) -> list[int]:
        seen.append((text, special))
        return [7]

    processor._encode_text = encode
    processor.bos_per_piece = True
    processor.encode_prompt("USER: a<image>b")
    processor.encode_prompt("USER: c", begins=False)
    assert seen == [("USER: a", True), ("b", True), ("USER: c", False)]


def test_rounds_then_frames_are_left_out_when_there_is_no_room(clips):
    def room(most_rounds: int, most_frames: int):
        def fits(sample: Sample) -> bool:
            return 1 + len(sample.later) <= most_rounds and len(sample.boxes) <= most_frames

        return samples(clips, fits=fits)[0]

    whole, two, one = room(3, 2), room(2, 2), room(1, 1)
    assert (len(whole.later), whole.dropped_rounds, whole.dropped_frames) == (2, 0, 0)
    assert two == replace(whole, later=whole.later[:1], dropped_rounds=1, features=two.features, boxes=two.boxes,
                          named_box=two.named_box)  # fmt: skip
    assert (len(one.later), one.dropped_rounds, one.dropped_frames, len(one.features)) == (0, 2, 1, 1)
    assert one.prompt.count(MARK_IMAGE) == 1


def test_length_counts_all_rounds(clips):
    sample = samples(clips)[0]
    _, processor = tiny_model_and_processor("mlp")
    collator = Collator(processor, [], 4)
    assert collator.length(sample) == collator([sample])["input_ids"].shape[1]
