"""The grammar admits the tokenizer's own encodings of legal answers, all of them and nothing else."""

from __future__ import annotations

import json
import random
import time
from functools import cache

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import tokenizers_zoo as zoo
from elysium.errors import InputError, ModelError
from elysium.language.dialects import ELYSIUM, Dialect, dialect_names, get_dialect
from elysium.language.grammar import AnswerGrammar

NAMES = [*zoo.IN_MEMORY, "llama"]
CUTS_AT_NUMBERS = ["qwen", "smollm2", "gpt2", "llama3", "unigram", "llama"]


@cache
def _grammar(name, dialect=ELYSIUM, folder=None):
    tokenizer = zoo.llama(folder / "data" / "tokenizer" / "llama.model") if folder else zoo.IN_MEMORY[name]()
    return tokenizer, AnswerGrammar(tokenizer, dialect)


@pytest.fixture
def build(request):
    """name -> (tokenizer, grammar); skips LLaMA where its pieces are not at hand."""

    def get(name, dialect=ELYSIUM):
        return _grammar(name, dialect, request.getfixturevalue("shared_dir") if name == "llama" else None)

    return get


def _encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _random_box(rng, dialect=ELYSIUM):
    if rng.random() < 0.1:
        return [0, 0, 0, 0]
    values = [rng.choice([0, 1, 10, dialect.max_bin, rng.randint(0, dialect.max_bin)]) for _ in range(4)]
    (x1, x2), (y1, y2) = sorted(values[:2]), sorted(values[2:])
    return [x1, y1, x2, y2]


def _walk(state, ids):
    for token in ids:
        assert token in state.allowed()
        state.advance(token)
    return state


def _advance_all(state, ids):
    for token in ids:
        state.advance(token)


def _random_walk(state, rng):
    ids = []
    while not state.done:
        ids.append(int(rng.choice(state.allowed())))
        state.advance(ids[-1])
    return ids


@pytest.mark.parametrize("name", NAMES)
def test_encodings_of_legal_answers_walk_through(build, name):
    tokenizer, grammar = build(name)
    rng = random.Random(0)
    rounds, lengths = (25, [1, 2, 3, 8]) if name in CUTS_AT_NUMBERS else (3, [2])
    for round_ in range(rounds):
        boxes = [_random_box(rng) for _ in range(rng.choice(lengths))]
        text = ELYSIUM.format_boxes(boxes, full_stop=round_ % 2 == 0)
        state = _walk(grammar.start(len(boxes)), _encode(tokenizer, text))
        assert not state.done
        assert grammar.eos_token_id in state.allowed()
        state.advance(grammar.eos_token_id)
        assert state.done
        assert state.allowed().tolist() == state.forced() == []
        single = _walk(grammar.start(single_box=True), _encode(tokenizer, ELYSIUM.format_box(boxes[0])))
        assert grammar.eos_token_id in single.allowed()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ordered", [True, False])
def test_random_walks_are_the_tokenizers_own_encodings(build, name, ordered):
    tokenizer, grammar = build(name)
    rng = random.Random(1)
    quick = name in CUTS_AT_NUMBERS
    for frames in (1, 2, 5, None) if quick else (2, None):
        for _ in range(8 if quick else 3):
            single = frames is None
            ids = _random_walk(grammar.start(frames or 1, ordered=ordered, single_box=single), rng)
            assert ids.pop() == grammar.eos_token_id
            text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            assert _encode(tokenizer, text) == ids
            assert text.startswith("[" if single else "Frame 1: [")
            answer = ELYSIUM.parse(text, frames or 1)
            assert answer.surplus == 0
            assert set(answer.statuses) <= {"ok", "absent"} | ({"malformed"} if not ordered else set())


def _compare_everywhere(grammar, state, answers):
    """At every place that `answers` (lists of ids) reach, their next ids are exactly the allowed ones."""
    paths = [(state, answers, 0)]
    places = 0
    while paths:
        here, alike, depth = paths.pop()
        places += 1
        groups: dict[int, list[list[int]]] = {}
        for ids in alike:
            if depth < len(ids):
                groups.setdefault(ids[depth], []).append(ids)
        assert here.allowed().tolist() == sorted(groups)
        for token, group in groups.items():
            behind = here.copy()
            behind.advance(token)
            paths.append((behind, group, depth + 1))
    return places


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("max_bin", "frames"), [(10, None), (1, 2)])
def test_allowed_is_exact(build, name, max_bin, frames):
    dialect = Dialect(f"up to {max_bin}", max_bin=max_bin)
    tokenizer, grammar = build(name, dialect)
    pairs = [(low, high) for low in range(max_bin + 1) for high in range(low, max_bin + 1)]
    boxes = [(x1, y1, x2, y2) for x1, x2 in pairs for y1, y2 in pairs]
    if frames is None:
        texts = [dialect.format_box(box) for box in boxes]
    else:
        texts = [dialect.format_boxes([one, two]) for one in boxes for two in boxes]
    texts = [text + stop for text in texts for stop in ("", ".")]
    answers = [[*ids, grammar.eos_token_id] for ids in _encode(tokenizer, texts)]
    start = grammar.start(frames or 1, single_box=frames is None)
    assert _compare_everywhere(grammar, start, answers) > len(texts)


@pytest.mark.parametrize("name", NAMES)
def test_illegal_answers_are_stopped(build, name):
    tokenizer, grammar = build(name)
    for text in (
        "Frame 1: [51,40,34,67]",
        "Frame 1: [34,67,51,40]",
        "Frame 1: [34,40,51,101]",
        "Frame 1: [034,40,51,67]",
        "Frame 1: [34,40,51]",
        "Frame 1: [34,40,51,67,3]",
        "Frame 1: [34, 40, 51, 67]",
        "Frame 2: [34,40,51,67]",
        "Frame 1: [34,40,51,67]..",
        "Frame 1: [34,40,51,67], Frame 2: [34,40,51,67]",
        "frame 1: [34,40,51,67]",
        "[34,40,51,67]",
        "",
    ):
        state = grammar.start(1)
        with pytest.raises(InputError, match="not legal here"):
            _advance_all(state, [*_encode(tokenizer, text), grammar.eos_token_id])
        assert not state.done
        assert len(state.allowed()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_forced_is_the_run_without_alternatives(build, name):
    _, grammar = build(name)
    rng = random.Random(2)
    state = grammar.start(3 if name in CUTS_AT_NUMBERS else 1)
    while not state.done:
        naive, ahead = [], state.copy()
        while len(ahead.allowed()) == 1:
            naive.append(int(ahead.allowed()[0]))
            ahead.advance(naive[-1])
        assert state.forced() == naive
        state.advance(rng.choice(state.allowed().tolist()))


def test_forced_text(build):
    tokenizer, grammar = build("qwen")
    state = grammar.start(2)
    assert tokenizer.decode(state.forced()) == "Frame 1: ["
    _walk(state, _encode(tokenizer, "Frame 1: [90,90,100"))
    assert tokenizer.decode(state.forced()) == ","
    _walk(state, _encode(tokenizer, ",100"))
    assert tokenizer.decode(state.forced()) == "], Frame 2: ["
    _walk(state, _encode(tokenizer, "], Frame 2: [100,100"))
    assert tokenizer.decode(state.forced()) == ",100,100"


@pytest.mark.parametrize("name", CUTS_AT_NUMBERS)
def test_slot_and_frame_at_every_digit(build, name):
    tokenizer, grammar = build(name)
    text = "Frame 1: [3,40,51,100], Frame 2: [10,0,10,0]."
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    state, seen = grammar.start(2), []
    for token, (start, stop) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        if text[start:stop].isdigit() and text[start - 1] != " ":  # not the digit of a label
            assert state.slot is not None
            seen.append((state.frame, state.slot, text[start:stop].strip()))
        elif "Frame" in text[start:stop] or text[start:stop].strip() == "[":
            assert state.slot is None
        state.advance(token)
    numbers = {}
    for frame, slot, digits in seen:
        numbers[frame, slot] = numbers.get((frame, slot), "") + digits
    assert list(numbers.values()) == ["3", "40", "51", "100", "10", "0", "10", "0"]
    assert list(numbers) == [(frame, slot) for frame in (0, 1) for slot in range(4)]
    state.advance(grammar.eos_token_id)
    assert (state.frame, state.slot) == (None, None)


def test_slots_of_merged_and_single_digits(build):
    slots = {}
    for name in ("llama3", "qwen"):
        tokenizer, grammar = build(name)
        state, slots[name] = grammar.start(single_box=True), []
        for token in _encode(tokenizer, "[3,40,51,100]"):
            slots[name].append(state.slot)
            state.advance(token)
    assert slots["llama3"] == [None, 0, None, 1, None, 2, None, 3, None]
    # Behind "3" the comma is a choice (a digit could follow), behind "40" it is not.
    assert slots["qwen"] == [None, 0, 0, 1, 1, None, 2, 2, None, 3, 3, 3, None]


def test_the_bound_prunes_the_digits(build):
    tokenizer, grammar = build("qwen")
    state = _walk(grammar.start(single_box=True), _encode(tokenizer, "[35,20,"))
    assert tokenizer.decode(state.allowed()) == "13456789"  # "1" for 100
    free = _walk(grammar.start(single_box=True, ordered=False), _encode(tokenizer, "[35,20,"))
    assert tokenizer.decode(free.allowed()) == "0123456789"
    _walk(state, _encode(tokenizer, "3"))
    assert tokenizer.decode(state.allowed()) == "56789"
    merged, grammar = build("llama3")
    state = _walk(grammar.start(single_box=True), _encode(merged, "[35,20,"))
    assert sorted(map(int, map(merged.decode, state.allowed().tolist()))) == list(range(35, 101))


def test_copies_are_independent(build):
    tokenizer, grammar = build("qwen")
    state = grammar.start(1)
    other = state.copy()
    _walk(other, _encode(tokenizer, "Frame 1: [3"))
    assert state.forced() == grammar.start(1).forced()
    assert other.allowed().tolist() != state.allowed().tolist()
    with pytest.raises(ValueError, match="read-only"):
        state.allowed()[0] = 7


@pytest.mark.parametrize("name", dialect_names())
@pytest.mark.parametrize("tokenizer_name", ["qwen", "llama"])
def test_other_dialects(build, name, tokenizer_name):
    dialect = get_dialect(name)
    tokenizer, grammar = build(tokenizer_name, dialect)
    rng = random.Random(3)
    for _ in range(5):
        ids = _random_walk(grammar.start(2), rng)[:-1]
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert _encode(tokenizer, text) == ids
        assert set(dialect.parse(text, 2).statuses) <= {"ok", "absent"}
        boxes = [_random_box(rng, dialect) for _ in range(2)]
        _walk(grammar.start(2), _encode(tokenizer, dialect.format_boxes(boxes)))


def test_published_labels_walk_through(build, shared_dir):
    _, grammar = build("llama")
    prompts = json.loads((shared_dir / "compat" / "expected.json").read_text())["prompts"]
    for key, frames in {"online_SOT_8f": 8, "online_VideoREC_8f": 8, "online_REC_1f": 1}.items():
        labels = [token for token in prompts[key]["labels"] if token != -100]
        assert _walk(grammar.start(frames, single_box=frames == 1), labels).done


def test_seventeen_llama_tokens_a_frame_nine_of_them_forced(build):
    tokenizer, grammar = build("llama")
    text = ELYSIUM.format_boxes([[34, 40, 51, 67]] * 8)
    ids = _encode(tokenizer, text)
    assert len(ids) == 8 * 17
    state, forced = grammar.start(8), 0
    for token in ids[: 7 * 17]:
        forced += len(state.allowed()) == 1
        state.advance(token)
    assert forced == 7 * 9


@pytest.mark.parametrize("name", CUTS_AT_NUMBERS)
def test_looking_up_is_quick(build, name):
    _, grammar = build(name)
    rng, times = random.Random(4), []
    for _ in range(5):
        state = grammar.start(8)
        while not state.done:
            began = time.perf_counter()
            allowed = state.allowed()
            times.append(time.perf_counter() - began)
            state.advance(rng.choice(allowed.tolist()))
    assert np.median(times) < 50e-6


def test_start_wants_frames(build):
    _, grammar = build("qwen")
    for options in ({"num_frames": 0}, {"num_frames": 2, "single_box": True}):
        with pytest.raises(InputError, match="frames"):
            grammar.start(**options)


def test_tokenizers_that_cannot_be_followed():
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "Frame": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ModelError, match="WordLevel"):
        AnswerGrammar(zoo.wrap(words))
    endless = zoo.qwen_like().__class__(tokenizer_object=zoo.qwen_like().backend_tokenizer)
    with pytest.raises(ModelError, match="no end token"):
        AnswerGrammar(endless)
    assert AnswerGrammar(endless, eos_token_id=2).eos_token_id == 2


@pytest.mark.parametrize("name", CUTS_AT_NUMBERS)
def test_the_alphabet_is_what_answers_are_made_of(build, name):
    """Every id of legal answers, and none that no answer has."""
    _, grammar = build(name)
    rng = random.Random(4)
    for frames, single in ((1, True), (1, False), (3, False)):
        alphabet, seen = grammar.alphabet(frames, single_box=single), set()
        assert alphabet is not None
        for _ in range(300):
            state = grammar.start(frames, single_box=single)
            while not state.done:
                seen.update(state.allowed().tolist())
                state.advance(rng.choice(state.allowed().tolist()))
        assert seen <= alphabet
        assert len(alphabet - seen) <= 0.05 * len(alphabet)


def test_no_alphabet_where_numbers_merge(build):
    _, grammar = build("bloom")
    assert grammar.alphabet(2) is None
