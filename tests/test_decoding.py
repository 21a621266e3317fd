"""Batched, joined, cached decoding answers what the plain reference does; scores are what they should be."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from elysium.inference import answers, contexts
from elysium.inference.answers import Answer, Request
from elysium.inference.decoding import Decoder
from elysium.inference.pipelines import Elysium
from elysium.inference.reference import decode_reference
from elysium.language.prompts import Task, build_prompt, build_question
from scripted import numbered_frames
from tiny import tiny_model_and_processor


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["mlp", "prompt"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(*tiny_model_and_processor(gate=request.param))


def ask(decoder: Decoder, task: Task, frames: int, words: str = "the red car", **options: Any) -> Request:
    """A request with noise for frames."""
    rng = np.random.default_rng(frames)
    images = [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(frames)]
    marks = bool(decoder.model.config.region_tokens)
    question = build_question(task, box_text="[18,29,42,61]", expression=words, region_mark=marks)
    regions = [(0, (0.18, 0.29, 0.42, 0.61))] if task.needs_box else []
    query = words if task.needs_expression else None
    options = {"num_boxes": frames if task.answers_boxes else None, "single_box": task is Task.REC} | options
    return Request(build_prompt(task, frames, question), images, regions, query, **options)


def mixture(decoder: Decoder) -> list[Request]:
    """Requests of every kind and of different lengths."""
    return [
        ask(decoder, Task.SOT, 2),
        ask(decoder, Task.RSOT, 1, "a small blue star on the left of the big green circle"),
        ask(decoder, Task.REC, 1),
        ask(decoder, Task.VIDEO_REG, 2, max_new_tokens=9),
        ask(decoder, Task.SOT, 1),
    ]


def same(a: Answer, b: Answer) -> None:
    assert a.token_ids == b.token_ids
    assert a.text == b.text
    assert a.statuses == b.statuses
    if b.boxes_bins is None:
        assert a.boxes_bins is None
    else:
        np.testing.assert_array_equal(a.boxes_bins, b.boxes_bins)
    np.testing.assert_allclose(a.box_scores, b.box_scores, rtol=1e-3)


@pytest.mark.parametrize("free", [False, True], ids=["grammar", "free"])
def test_batched_is_single_is_token_by_token(decoder: Decoder, free: bool) -> None:
    requests = [replace(request, max_new_tokens=8) for request in mixture(decoder)]
    with torch.inference_mode():
        batched = decoder.decode(requests, free=free)
        alone = [decoder.decode([request], free=free)[0] for request in requests]
    for request, one, other in zip(requests, batched, alone, strict=True):
        same(one, other)
        same(one, decode_reference(decoder, request, free=free))
        same(one, decode_reference(decoder, request, free=free, use_cache=False))


def test_batched_logits_are_single_logits(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stronger than equal answers: every logit that a choice is made from, to float32 accuracy."""
    requests = mixture(decoder)
    seen = record_choices(decoder, requests, monkeypatch)
    for position, request in enumerate(requests):
        (alone,) = record_choices(decoder, [request], monkeypatch)
        assert len(alone) == len(seen[position])
        for together, one in zip(seen[position], alone, strict=True):
            np.testing.assert_allclose(together, one, atol=2e-5)


def record_choices(
    decoder: Decoder, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> list[list[np.ndarray]]:
    """Per request, the logits of every choice."""
    from elysium.inference import answers

    rows: list[Any] = []
    chosen: dict[int, list[np.ndarray]] = {}
    make, choose = answers.Row.__init__, answers.Row._choose

    def remember(row: Any, *args: Any) -> None:
        make(row, *args)
        rows.append(row)

    def note(row: Any, logits: np.ndarray) -> int:
        legal = slice(None) if row.free or row.state is None else row.state.allowed()
        fits = logits[row.places(legal)]
        chosen.setdefault(id(row), []).append(fits)
        return choose(row, logits)

    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(answers.Row, "__init__", remember)
        patch.setattr(answers.Row, "_choose", note)
        decoder.decode(requests)
    return [chosen[id(row)] for row in rows]


def test_answers_under_the_grammar_are_well_formed(decoder: Decoder) -> None:
    with torch.inference_mode():
        answers = decoder.decode(mixture(decoder))
    for answer, count in zip(answers, [2, 1, 1, None, 1], strict=True):
        if count is None:
            assert answer.boxes_bins is None
            assert len(answer.token_ids) <= 9
            continue
        assert len(answer.statuses) == count
        assert set(answer.statuses) <= {"ok", "absent"}
        assert answer.boxes_bins is not None
        assert answer.boxes_bins.shape == (count, 4)
        assert ((answer.box_scores > 0) & (answer.box_scores <= 1)).all()
        assert answer.token_ids[-1] == decoder.tokenizer.eos_token_id
    assert answers[0].text.startswith("Frame 1: [")
    assert answers[2].text.startswith("[")


def what_is_read(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """A list that gets the ids (B, Q) of every forward."""
    read: list[torch.Tensor] = []
    for kind in (contexts.Context, contexts.LlamaContext):
        original = kind.read

        def note(self: Any, ids: torch.Tensor, *args: Any, original: Any = original) -> torch.Tensor:
            read.append(ids)
            return original(self, ids, *args)

        monkeypatch.setattr(kind, "read", note)
    return read


def test_template_tokens_cost_no_forward(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many forwards as there are tokens with an alternative, the prompt's included."""
    forwards = what_is_read(monkeypatch)
    plain = Decoder(decoder.model, decoder.processor, spare=0)
    with torch.inference_mode():
        (answer,) = plain.decode([ask(decoder, Task.SOT, 3)])
    assert len(answer.token_ids) > 30
    state, choices = decoder.grammar.start(3), 0
    for token in answer.token_ids:
        choices += len(state.allowed()) > 1
        state.advance(token)
    assert len(forwards) == choices


@pytest.mark.parametrize("free", [False, True], ids=["grammar", "free"])
def test_objects_in_the_same_frames_share_them(free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the selector does not look at the question: the frames' tokens are fed once, answers are those of each."""
    decoder = Decoder(*tiny_model_and_processor(gate="mlp"))
    first = ask(decoder, Task.RSOT, 3)
    words = ["the red car", "a dog on the left of it", "the red circle"]
    asked = [replace(ask(decoder, Task.RSOT, 3, each), frames=first.frames, max_new_tokens=30) for each in words]
    asked.append(replace(ask(decoder, Task.SOT, 3), frames=first.frames, max_new_tokens=30))
    with torch.inference_mode():
        alone = [decoder.decode([request], free=free)[0] for request in asked]
        read = what_is_read(monkeypatch)
        together = decoder.decode(asked, free=free)
    fed = [int((ids == decoder.processor.image_token_id).sum()) for ids in read]
    assert sum(fed) == fed[0] == 3 * decoder.processor.num_image_tokens
    for one, other in zip(together, alone, strict=True):
        same(one, other)


@pytest.mark.parametrize("gate", ["mlp", "prompt"])
def test_the_tower_looks_at_each_frame_of_a_video_once(gate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlap frames and frames of several objects included; boxes are those of a model that remembers nothing."""
    model, processor = tiny_model_and_processor(gate=gate)
    frames = np.random.default_rng(0).integers(0, 255, (9, 40, 60, 3), dtype=np.uint8)
    elysium = Elysium(model, processor, max_batch=2)
    asked = {"boxes": [[5, 5, 30, 30]], "expression": ["the red car", "a dog"], "clip_length": 4, "search_window": None}
    looked: list[int] = []
    encode = type(model).encode_frames
    monkeypatch.setattr(type(model), "encode_frames", lambda self, x: (looked.append(len(x)), encode(self, x))[1])
    first = elysium.track(frames, **asked)
    assert sum(looked) == len(frames)
    monkeypatch.setattr(Decoder, "_seen", property(lambda self: {}, lambda self, value: None), raising=False)
    forgetful = Elysium(model, processor, max_batch=1).track(frames, **asked)
    assert sum(looked) > 3 * len(frames)
    for one, other in zip(first.tracks, forgetful.tracks, strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, equal_nan=True)
    assert all(frame.flags.writeable for frame in frames)


def test_a_buffer_that_is_written_to_is_looked_at_again() -> None:
    decoder = Decoder(*tiny_model_and_processor())
    request = ask(decoder, Task.REC, 1)
    with torch.inference_mode():
        decoder.decode([request])
        request.frames[0][:] = 255 - request.frames[0]
        (changed,) = decoder.decode([request])
        (fresh,) = Decoder(decoder.model, decoder.processor).decode([request])
    np.testing.assert_array_equal(changed.box_scores, fresh.box_scores)


def test_a_selector_that_looks_at_the_question_sees_each(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(*tiny_model_and_processor(gate="prompt"))
    first = ask(decoder, Task.RSOT, 2)
    assert not decoder._share_a_prefix([first, replace(ask(decoder, Task.RSOT, 2, "a dog"), frames=first.frames)])
    decoder = Decoder(*tiny_model_and_processor(gate="mlp"))
    assert not decoder._share_a_prefix([first, ask(decoder, Task.RSOT, 2, "a dog")])  # other arrays


def hand_score(decoder: Decoder, request: Request, answer: Answer) -> np.ndarray:
    """Scores from one teacher-forced forward and the definition, without the grammar: at each step of a
    number the legal tokens are those with which the tokenizer goes on in a text that differs in it only."""
    ids = decoder.features([request]).pop("input_ids")
    features = {
        k: v for k, v in decoder.features([request]).items() if k not in ("input_ids", "attention_mask")
    }
    whole = torch.cat([ids, torch.tensor([answer.token_ids])], dim=1)
    with torch.inference_mode():
        output = decoder.model(input_ids=whole, attention_mask=torch.ones_like(whole), **features)
    logits = output.logits[0, ids.shape[1] - 1 : -1].double()
    scores = []
    for box in re.finditer(r"\[(\d+),(\d+),(\d+),(\d+)\]", answer.text):
        numbers = [int(value) for value in box.groups()]
        product = 1.0
        for slot, value in enumerate(numbers):
            lowest = numbers[slot - 2] if slot >= 2 else 0
            before, after = answer.text[: box.start(slot + 1)], answer.text[box.end(slot + 1)]
            product *= number_probability(decoder, logits, before, value, after, range(lowest, 101))
        scores.append(product**0.25)
    return np.array(scores)


def number_probability(
    decoder: Decoder, logits: torch.Tensor, before: str, value: int, after: str, choices: range
) -> float:
    """Probability of the tokens of `value` between `before` and `after`, where `choices` are legal."""
    tokenizer = decoder.tokenizer
    texts = tokenizer(
        [before + str(choice) + after for choice in choices], add_special_tokens=False
    ).input_ids
    written = texts[choices.index(value)]
    product = 1.0
    for step in range(len(tokenizer(before, add_special_tokens=False).input_ids), len(written)):
        legal = sorted({ids[step] for ids in texts if ids[:step] == written[:step]})
        product *= float(logits[step][legal].softmax(dim=0)[legal.index(written[step])])
    return product


@pytest.mark.parametrize(("task", "frames"), [(Task.SOT, 3), (Task.REC, 1)])
def test_scores_are_the_geometric_mean_of_renormalised_probabilities(
    decoder: Decoder, task: Task, frames: int
) -> None:
    request = ask(decoder, task, frames)
    with torch.inference_mode():
        (answer,) = decoder.decode([request])
    np.testing.assert_allclose(answer.box_scores, hand_score(decoder, request, answer), rtol=1e-4)


def write(decoder: Decoder, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model prefer the tokens of `text`, whatever it sees, by a head start of 30 in the logits."""
    tokens = [*decoder.tokenizer(text, add_special_tokens=False).input_ids, decoder.tokenizer.eos_token_id]
    from elysium.inference import answers

    choose = answers.Row._choose

    def prefer(row: Any, logits: np.ndarray) -> int:
        logits, token = logits.copy(), tokens[min(len(row.tokens), len(tokens) - 1)]
        if row.alphabet is None or token in row.alphabet:  # of what no legal answer has, there is no logit
            logits[row.places(token)] += 30.0
        return choose(row, logits)

    monkeypatch.setattr(answers.Row, "_choose", prefer)


def test_free_answers_are_parsed_with_statuses(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(decoder, "Frame 1: [10,20,30,40], Frame 2: [0,0,0,0], Frame 3: [50,60", monkeypatch)
    with torch.inference_mode():
        (answer,) = decoder.decode([ask(decoder, Task.SOT, 4)], free=True)
    assert answer.text == "Frame 1: [10,20,30,40], Frame 2: [0,0,0,0], Frame 3: [50,60"
    assert answer.statuses == ("ok", "absent", "malformed", "missing")
    assert answer.boxes_bins is not None
    assert answer.boxes_bins[0].tolist() == [10, 20, 30, 40]
    assert np.isnan(answer.boxes_bins[1:]).all()
    assert (answer.box_scores[:2] > 0.9).all()
    assert answer.box_scores[2:].tolist() == [0.0, 0.0]


def test_free_answers_outside_the_grammar_get_the_score_of_the_text(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(decoder, "the box is [10,20,30,40]", monkeypatch)
    with torch.inference_mode():
        (answer,) = decoder.decode([ask(decoder, Task.REC, 1)], free=True)
    assert answer.statuses == ("ok",)
    assert 0.9 < answer.box_scores[0] <= 1.0


def test_the_grammar_overrules_the_model(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(decoder, "the box is nowhere and I would rather talk", monkeypatch)
    with torch.inference_mode():
        (answer,) = decoder.decode([ask(decoder, Task.SOT, 2)])
    assert len(answer.statuses) == 2
    assert set(answer.statuses) <= {"ok", "absent"}


def test_free_text_stops_at_the_end_token_or_the_limit(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(decoder, Task.VIDEO_REG, 1)
    with monkeypatch.context() as patch, torch.inference_mode():
        write(decoder, "the red car", patch)
        (answer,) = decoder.decode([request])
    assert answer.text == "the red car"
    assert answer.token_ids[-1] == decoder.tokenizer.eos_token_id
    assert answer.boxes_bins is None
    assert answer.box_scores.shape == (0,)
    with monkeypatch.context() as patch, torch.inference_mode():
        write(decoder, "the red car on the left", patch)
        (answer,) = decoder.decode([ask(decoder, Task.VIDEO_REG, 1, max_new_tokens=3)])
    assert len(answer.token_ids) == 3


def test_no_requests_no_answers(decoder: Decoder) -> None:
    assert decoder.decode([]) == []


def test_defaults_of_the_token_limit() -> None:
    frames = numbered_frames(1)
    assert Request("", frames).token_limit == 128
    assert Request("", frames, num_boxes=8).token_limit == 360
    assert Request("", frames, num_boxes=8, max_new_tokens=5).token_limit == 5


def test_finer_numbers_are_means_over_the_bins_nearby() -> None:
    values = np.array([-1, 10, 11, 12, 13, 40])
    logits = np.log(np.array([5.0, 0.1, 0.2, 0.4, 0.3, 9.0], dtype=np.float32))
    assert answers._mean_nearby(values, logits, np.int64(12)) == pytest.approx((1.0 + 2.2 + 4.8 + 3.9) / 1.0)
    assert answers._mean_nearby(values, logits, np.int64(40)) == pytest.approx(40)
    assert np.isnan(answers._mean_nearby(values, logits, np.int64(-1)))
