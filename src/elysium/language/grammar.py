"""What an answer made of boxes may look like, token by token, in any tokenizer's own encoding.

A legal answer is "Frame 1: [x1,y1,x2,y2], ..., Frame n: [..]" (or one box alone) with numbers 0..max_bin,
x1 <= x2 and y1 <= y2 ("[0,0,0,0]", absent, is one of them), an optional full stop, and the end token. A
token is allowed when the text so far and it begin what the tokenizer itself makes of some legal answer: a
model that was trained on the tokenizer's encodings never has to leave them.

Why not llguidance, which does masks, forced tokens and rollback: it matches bytes, so it also admits the
other ways to cut the same text, and a model is then asked about tokens that it never saw there. Measured
with llguidance 1.9.1 on answers over two frames: along LLaMA's own encodings its masks were wider than
needed at 1,703 of 3,332 steps ("]" where the answer needs "],", a byte token beside every character), and of
200 random walks under its masks LLaMA's tokenizer reproduced none (57 of 200 failed with digit-by-digit
byte-level BPE, 120 with merged numbers). Nor can it compare two numbers. Here every random walk is
reproduced, and a look at `allowed()` takes about a microsecond.

The work is done by `_tries` (tokenizers that cut at numbers: LLaMA, Qwen, SmolLM2, GPT-2, nano, ...) and,
where a token can hold a digit and what stands around it, by `_pairs` (slow on the first visit of a place).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Protocol

from elysium.errors import InputError, ModelError
from elysium.language._pairs import PairPosition, PairTables
from elysium.language._tries import Ids, NumbersMerged, TriePosition, TrieTables
from elysium.language.dialects import ELYSIUM, Dialect


class FastTokenizer(Protocol):
    """What is needed of a Hugging Face fast tokenizer."""

    eos_token_id: Any
    unk_token_id: Any
    backend_tokenizer: Any

    def __call__(self, text: Any, **options: Any) -> Any: ...


class GrammarState:
    """A place in an answer that is being written. Get one from `AnswerGrammar.start`."""

    __slots__ = ("_position",)

    def __init__(self, position: TriePosition | PairPosition) -> None:
        self._position = position

    @property
    def done(self) -> bool:
        """Whether the end token has been written."""
        return self._position.done

    @property
    def frame(self) -> int | None:
        """The 0-based frame being written; None behind the end. Changes where the next box begins."""
        return self._position.frame

    @property
    def slot(self) -> int | None:
        """0..3 for x1, y1, x2, y2 when the next token can hold digits of this number, else None.

        A token that ends the number ("," behind "3", where "4" is possible too) is decided under its slot:
        the probabilities of the steps with one slot multiply to the probability of the number.
        """
        return self._position.slot

    def allowed(self) -> Ids:
        """Legal next ids, (k,) int64, ascending, read-only; empty when done."""
        return self._position.allowed()

    def forced(self) -> list[int]:
        """The longest run of ids from here without an alternative, the end token included."""
        run: list[int] = []
        position: TriePosition | PairPosition | None = self._position
        while position is not None and len(ids := position.allowed()) == 1:
            run.append(int(ids[0]))
            position = position.after(run[-1])
        return run

    def advance(self, token: int) -> None:
        """Moves behind one token. Raises InputError when it is not in `allowed()`; the state stays then."""
        position = self._position.after(int(token))
        if position is None:
            legal = ", ".join(map(str, self.allowed()[:8].tolist())) or "none, the answer has ended"
            raise InputError(f"Token {int(token)} is not legal here", f"Legal ids: {legal}")
        self._position = position

    def copy(self) -> GrammarState:
        """An independent state at the same place."""
        return GrammarState(self._position)


class AnswerGrammar:
    """The grammar of answers for one tokenizer and dialect.

    Building it takes some tenths of a second: keep it and share it.

    tokenizer: any Hugging Face fast tokenizer. eos_token_id: the end token when it is not the tokenizer's.
    Raises ModelError when the tokenizer has no end token, or its encodings of answers cannot be followed.
    """

    def __init__(
        self, tokenizer: FastTokenizer, dialect: Dialect = ELYSIUM, *, eos_token_id: int | None = None
    ) -> None:
        eos = tokenizer.eos_token_id if eos_token_id is None else eos_token_id
        if eos is None:
            raise ModelError("The tokenizer has no end token", "Set its eos_token")
        self._tokenizer, self.dialect, self.eos_token_id = tokenizer, dialect, int(eos)
        samples = list(_sample_answers(dialect))
        self._alphabets: dict[tuple[int, bool], frozenset[int]] = {}
        self._tables: TrieTables | PairTables
        try:
            self._tables = TrieTables(self._encode, dialect, self.eos_token_id)
            self._check(samples)
        except NumbersMerged:
            self._tables = PairTables(tokenizer.backend_tokenizer, dialect, self.eos_token_id, samples)
            self._check(samples)

    def start(self, num_frames: int = 1, *, ordered: bool = True, single_box: bool = False) -> GrammarState:
        """The beginning of an answer over `num_frames` frames.

        ordered: whether x1 <= x2 and y1 <= y2. single_box: one box without "Frame 1: ", as in REC.
        Raises InputError when num_frames is below 1, or above 1 for a single box.
        """
        if num_frames < 1 or (single_box and num_frames != 1):
            raise InputError(
                f"An answer cannot have {num_frames} frames here", "Give 1 or more (1 for a single box)"
            )
        return GrammarState(self._tables.start(num_frames, ordered, single_box))

    def alphabet(self, num_frames: int = 1, *, single_box: bool = False) -> frozenset[int] | None:
        """All ids that stand in a legal answer over `num_frames` frames: a few dozen, or a hundred where numbers are
        tokens; None where they are not known without writing all answers (tokenizers that merge numbers)."""
        if isinstance(self._tables, PairTables):
            return None
        key = (num_frames, single_box)
        if key not in self._alphabets:
            self._alphabets[key] = self._tables.alphabet(*key)
        return self._alphabets[key]

    def _encode(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        batch = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        return list(zip(batch["input_ids"], batch["offset_mapping"], strict=True))

    def _check(self, samples: list[str]) -> None:
        """Raises NumbersMerged when the tables do not follow the encodings of these answers."""
        unknown = self._tokenizer.unk_token_id
        for text, (ids, _) in zip(samples, self._encode(samples), strict=True):
            if unknown is not None and unknown in ids:
                raise ModelError(f"The tokenizer has no tokens for {text!r}", "Use one that can write boxes")
            single = not text.startswith("Frame")
            if text.count("Frame") > 2:
                continue  # only there to learn from: it would need the tables of many frames
            state = self.start(1 if single else text.count("Frame"), ordered=False, single_box=single)
            try:
                for token in [*ids, self.eos_token_id]:
                    state.advance(token)
            except InputError as error:
                raise NumbersMerged(
                    f"The grammar cannot follow the tokenizer's encoding of {text!r}"
                ) from error


def _sample_answers(dialect: Dialect) -> Iterator[str]:
    """Answers that put the tables to the test: every length of number beside every other."""
    rng = random.Random(0)
    top = dialect.max_bin
    values = [0, min(1, top), min(5, top), top // 10, top // 2, top]
    for frames in [11, *[1, 2] * 20]:  # the first has labels of one and of two digits
        boxes = [rng.choices([*values, rng.randint(0, top)], k=4) for _ in range(frames)]
        yield dialect.format_boxes(boxes, full_stop=rng.random() < 0.5)
        yield dialect.format_box(boxes[0])
