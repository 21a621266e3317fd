"""Drafts: what is guessed, that no guess changes an answer or a score, and how many forwards are saved."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tokenizers_zoo as zoo
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.inference.answers import Request, Row, common_length
from elysium.inference.decoding import Decoder
from elysium.inference.drafting import CPU_SPARE, CPU_WIDTH, SPARE, WIDTH, Drafter, draft_width, spare_tokens
from elysium.inference.pipelines import Elysium
from elysium.inference.reference import decode_reference
from elysium.language.dialects import ELYSIUM, SHIKRA, Dialect
from elysium.language.grammar import AnswerGrammar
from elysium.language.prompts import Task, build_prompt, build_question
from tiny import tiny_tokenizer

CUTS = {"nano": tiny_tokenizer, "qwen": zoo.qwen_like, "llama3": zoo.llama3_like, "metaspace": zoo.metaspace_like}
STILL = [[34, 40, 51, 67]] * 6
MOVING = [[10 + 3 * t, 20 - t, 30 + 3 * t, 45 - t] for t in range(6)]
WANDERING = [[34, 40, 51, 67], [34, 41, 51, 67], [0, 0, 0, 0], [0, 0, 0, 0], [100, 100, 100, 100], [5, 7, 50, 70]]


@cache
def grammar_of(tokenizer: PreTrainedTokenizerFast, dialect: Dialect) -> AnswerGrammar:
    return AnswerGrammar(tokenizer, dialect)


class Scripted:
    """A model that has one answer in mind: what it says behind a prefix of it, right or wrong.

    Behind a wrong token it says anything; or, where it is ``steady``, what it has in mind for that place, as a model
    that looks at pictures mostly does.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, dialect: Dialect, boxes: list[list[int]], steady: bool = False
    ) -> None:
        self.steady = steady
        text = dialect.format_boxes(boxes, full_stop=True)
        self.ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        self.size = len(tokenizer) + 5

    def logits(self, before: int, draft: list[int]) -> np.ndarray:
        """(len(draft) + 1, V) behind ``before`` tokens of the answer and each token of a draft."""
        rows = np.random.default_rng(before).normal(size=(len(draft) + 1, self.size)).astype(np.float32)
        for place in range(len(draft) + 1):
            right = self.steady or draft[:place] == self.ids[before : before + place]
            if right and before + place < len(self.ids):
                rows[place, self.ids[before + place]] += 20
        return rows


def answer(
    tokenizer: PreTrainedTokenizerFast, dialect: Dialect, boxes: list[list[int]], *, first: bool, drafts: bool,
    free: bool = False, steady: bool = False,
) -> tuple[Row, int]:  # fmt: skip
    """The row that a scripted model wrote, and in how many forwards."""
    model = Scripted(tokenizer, dialect, boxes, steady)
    region = tuple(value / dialect.max_bin for value in boxes[0])
    request = Request("", [], [(0, region)] if first else [], num_boxes=len(boxes))  # type: ignore[list-item]
    state = grammar_of(tokenizer, dialect).start(len(boxes))
    row = Row(request, state, free, frozenset([tokenizer.eos_token_id]))
    drafter, forwards = Drafter(tokenizer, dialect), 0
    row.start([])
    while not row.done:
        row.draft = drafter.draft(row) if drafts else []
        seen = len(row.tokens)
        wrong = row.read(model.logits(seen, row.draft))
        assert 0 <= wrong <= len(row.draft)
        forwards += 1
    assert row.tokens == model.ids
    return row, forwards


@pytest.mark.parametrize("free", [False, True], ids=["grammar", "free"])
@pytest.mark.parametrize("boxes", [STILL, MOVING, WANDERING], ids=["still", "moving", "wandering"])
@pytest.mark.parametrize("cut", CUTS)
def test_drafted_answers_are_undrafted_ones_with_fewer_forwards(cut: str, boxes: list[list[int]], free: bool) -> None:
    tokenizer = CUTS[cut]()
    row, forwards = answer(tokenizer, ELYSIUM, boxes, first=True, drafts=True, free=free)
    plain, steps = answer(tokenizer, ELYSIUM, boxes, first=True, drafts=False, free=free)
    assert row.tokens == plain.tokens
    np.testing.assert_allclose(row.log_probs, plain.log_probs, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(row.scored, plain.scored)
    assert forwards < steps
    if boxes is STILL:  # every draft is right
        assert forwards <= len(row.tokens) / WIDTH + 1
    if boxes is MOVING and not free and cut == "nano":  # the corner is new in each, the size is known
        assert forwards <= 2 * 6 + 1


@pytest.mark.parametrize("free", [False, True], ids=["grammar", "free"])
@pytest.mark.parametrize("cut", CUTS)
def test_what_a_model_says_behind_a_wrong_token_is_drafted_next(cut: str, free: bool) -> None:
    """All numbers have as many digits as before: the first forward finds the first one wrong, and all others out."""
    tokenizer = CUTS[cut]()
    boxes = [[10 + 3 * t, 40 - t, 60 + t, 80 + 2 * t] for t in range(4)]
    row, forwards = answer(tokenizer, ELYSIUM, boxes, first=True, drafts=True, free=free, steady=True)
    _, unaided = answer(tokenizer, ELYSIUM, boxes, first=True, drafts=True, free=free)
    assert forwards <= 2 * (len(row.tokens) / WIDTH + 1) < unaided


def test_hints_are_what_the_model_says_at_the_places_of_what_is_to_come() -> None:
    tokenizer = tiny_tokenizer()
    said = tokenizer("Frame 1: [34,40,51,67], Frame 2: [36,41,52,68].", add_special_tokens=False).input_ids
    guess = tokenizer("Frame 1: [34,40,51,67], Frame 2: [35,40,51,67].", add_special_tokens=False).input_ids
    row = Row(Request("", [], num_boxes=2), grammar_of(tokenizer, ELYSIUM).start(2), False, frozenset([1]))
    row.start([])
    row.draft = guess[len(row.tokens) :]
    logits = np.zeros((len(row.draft) + 1, len(tokenizer) + 5), dtype=np.float32)
    for place, token in enumerate([*said[len(row.tokens) :], 1]):
        logits[place, token] = 5
    wrong = row.read(logits)
    written, differs = len(row.tokens), common_length(said, guess)
    assert row.tokens == said[:written] and written > differs  # with what must follow the number
    assert wrong == len(guess) - differs
    assert row.hints == [*said[written:], 1]
    assert Drafter(tokenizer, ELYSIUM).draft(row)[: len(said) - written] == said[written:]
    row.draft = []
    row.read(logits[written - len(guess) - 1 :][:1])
    assert row.tokens == said[: len(row.tokens)]
    assert row.hints == []  # nothing was drafted, so nothing was said besides


def test_hints_that_make_no_sense_are_left_alone() -> None:
    tokenizer = tiny_tokenizer()
    row = Row(
        Request("", [], [(0, (0.3, 0.4, 0.5, 0.6))], num_boxes=2), grammar_of(tokenizer, ELYSIUM).start(2), False,
        frozenset([1]),
    )  # fmt: skip
    row.start([])
    drafter = Drafter(tokenizer, ELYSIUM)
    without = drafter.draft(row)
    for senseless in ("]]]]", "Frame", "1,2,3,4,5,6,7", "[[", "the dog"):
        row.hints = tokenizer(senseless, add_special_tokens=False).input_ids
        draft = drafter.draft(row)
        assert len(draft) <= WIDTH
    assert without


def test_a_draft_is_as_wide_as_a_forward_has_room() -> None:
    large, nano = 460_000_000, 2_233_344
    assert [spare_tokens("cpu", size) for size in (large, nano)] == [CPU_SPARE + 1, 263]
    assert spare_tokens("cuda", nano) == spare_tokens("cuda", large) == SPARE
    assert [draft_width("cuda", rows, SPARE) for rows in (1, 2, 4, 16, 64)] == [WIDTH, 94, 46, 10, 0]
    assert [draft_width("cpu", rows, 263) for rows in (1, 4, 8, 16)] == [CPU_WIDTH, CPU_WIDTH, 30, 14]
    assert [draft_width("cpu", rows, CPU_SPARE) for rows in (1, 2, 3, 16)] == [CPU_SPARE - 2, 18, 11, 0]
    assert draft_width("cpu", 1, 0) == 0


def test_other_dialects_are_drafted_too() -> None:
    boxes = [[340, 400, 510, 670]] * 4
    row, forwards = answer(zoo.qwen_like(), SHIKRA, boxes, first=True, drafts=True)
    assert forwards <= len(row.tokens) / WIDTH + 1


def test_llama_cuts_numbers_into_digits(shared_dir: Path) -> None:
    model = shared_dir / "data" / "tokenizer" / "llama.model"
    if not model.is_file():
        pytest.skip(f"no tokenizer in {model}")
    tokenizer = zoo.llama(model)
    for boxes, share in ((STILL, 1 / WIDTH), (MOVING, 1 / 5)):
        row, forwards = answer(tokenizer, ELYSIUM, boxes, first=True, drafts=True)
        _, steps = answer(tokenizer, ELYSIUM, boxes, first=True, drafts=False)
        assert forwards <= share * len(row.tokens) + 1 < steps


def test_without_a_first_box_one_in_the_middle_is_drafted_and_brings_hints() -> None:
    tokenizer = tiny_tokenizer()
    drafter, grammar = Drafter(tokenizer, ELYSIUM), grammar_of(tokenizer, ELYSIUM)
    for single, text in ((False, "Frame 1: [25,25,75,75], Frame 2: [25,25,75,75]."), (True, "[25,25,75,75]")):
        row = Row(
            Request("", [], num_boxes=1 if single else 2, single_box=single),
            grammar.start(1 if single else 2, single_box=single), False, frozenset([1]),
        )  # fmt: skip
        row.start([])
        whole = tokenizer(text, add_special_tokens=False).input_ids
        assert row.tokens + drafter.draft(row) == whole[: len(row.tokens) + WIDTH]
    _, with_box = answer(tokenizer, ELYSIUM, STILL, first=True, drafts=True)
    _, by_words = answer(tokenizer, ELYSIUM, STILL, first=False, drafts=True)
    digits = sum(len(str(number)) for number in STILL[0])
    assert with_box < by_words <= with_box + digits  # at worst the first box digit by digit
    _, hinted = answer(tokenizer, ELYSIUM, STILL, first=False, drafts=True, steady=True)
    assert hinted <= with_box + 1  # the first forward finds the first number wrong, and all others out


def test_a_number_that_has_begun_is_drafted_as_the_nearest_with_its_digits() -> None:
    drafter = Drafter(tiny_tokenizer(), ELYSIUM)
    assert drafter._nearest(34, "") == 34
    assert drafter._nearest(34, "3") == 34
    assert drafter._nearest(34, "4") == 40
    assert drafter._nearest(34, "2") == 29
    assert drafter._nearest(130, "") == 100


def test_rows_of_free_text_and_rows_off_the_grammar_have_no_draft() -> None:
    tokenizer = tiny_tokenizer()
    drafter, grammar = Drafter(tokenizer, ELYSIUM), grammar_of(tokenizer, ELYSIUM)
    told = Row(Request("", []), None, True, frozenset())
    assert drafter.draft(told) == []
    astray = Row(Request("", [], [(0, (0.1, 0.1, 0.2, 0.2))], num_boxes=2), grammar.start(2), True, frozenset([1]))
    assert drafter.draft(astray) != []
    astray.read(np.eye(len(tokenizer) + 5, dtype=np.float32)[[7]])  # a token no legal answer begins with
    assert drafter.draft(astray) == []


@pytest.fixture(scope="module")
def nano() -> Elysium:
    return Elysium.from_pretrained("nano", threads=1)


def clip_requests(model: Elysium, number: int, generator: ClipGenerator) -> list[Request]:
    """SOT of every thing in a clip made by program, and RSOT of those that have words."""
    clip = generator.generate(number)
    requests = []
    for thing in clip.objects:
        count, box = len(clip.frames), thing.boxes_xyxyn[0]
        if not np.isnan(box).any():
            bins = np.round(box * 100).astype(int)
            question = build_question(Task.SOT, box_text=ELYSIUM.format_box(bins), region_mark=True)
            region = (0, tuple(float(value) for value in bins / 100))
            prompt = build_prompt(Task.SOT, count, question)
            requests.append(Request(prompt, list(clip.frames), [region], num_boxes=count))  # type: ignore[list-item]
        if thing.expressions:
            question = build_question(Task.RSOT, expression=thing.expressions[0])
            prompt = build_prompt(Task.RSOT, count, question)
            requests.append(Request(prompt, list(clip.frames), query=thing.expressions[0], num_boxes=count))
    return requests


@pytest.mark.slow
def test_nano_answers_the_same_drafted_and_undrafted(nano: Elysium) -> None:
    """In batches whose rows accept different lengths; benchmarks/fast.py compares hundreds of clips."""
    kind = SynthConfig(size_px=224, num_frames=3, max_objects=5, patch_share=0.0)
    generator = ClipGenerator(kind, AssetLibrary.from_folder(None, "val"), seed=3)
    fast = Decoder(nano.model, nano.processor, spare=200)  # on a CPU so many rows would have no drafts
    plain = Decoder(nano.model, nano.processor, spare=0)
    compared = 0
    with torch.inference_mode():
        for number in range(5):
            requests = clip_requests(nano, number, generator)
            for one, other in zip(fast.decode(requests), plain.decode(requests), strict=True):
                assert one.token_ids == other.token_ids
                np.testing.assert_allclose(one.box_scores, other.box_scores, atol=1e-5)
                compared += 1
            if number < 2:
                reference = decode_reference(fast, requests[0])
                (alone,) = fast.decode(requests[:1])
                assert alone.token_ids == reference.token_ids
                np.testing.assert_allclose(alone.box_scores, reference.box_scores, atol=1e-5)
    assert compared >= 25


def test_finer_boxes_lie_within_two_bins_of_the_ones_written_and_questions_stay(nano: Elysium) -> None:
    kind = SynthConfig(size_px=100, num_frames=5, patch_share=0.0)
    clip = ClipGenerator(kind, AssetLibrary.from_folder(None, "val"), seed=3).generate(0)
    asked: dict[bool, list[str]] = {False: [], True: []}
    tracks = {}
    for fine in (False, True):
        result = nano.track(
            clip.frames, boxes=clip.objects[0].boxes_xyxyn[0], box_format="xyxyn", clip_length=3, search_window=None,
            fine=fine, on_answer=lambda said, fine=fine: asked[fine].append(said.prompt + said.text),
        )  # fmt: skip
        tracks[fine] = result.tracks[0].boxes_xyxy
    assert asked[True] == asked[False]
    off = np.abs(tracks[True] - tracks[False])  # in pixels, which are bins here
    assert off[0].max() == 0  # the box that was given
    assert 0 < np.nanmax(off) <= 2
