"""Grammar tables for BPE tokenizers that merge numbers with what stands around them (",4", "7],", "▁[3").

Rests on two facts. A sequence of tokens is what BPE makes of its text exactly when that holds for every two
neighbours alone. And the usual pre-tokenizers cut this kind of text between two characters or not, whatever
stands farther away; which, is learnt from sample answers. So a legal answer is a walk over its characters
in steps of tokens, each of which goes with the token before. Slower than the tries, and only used where
they fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from elysium.errors import ModelError
from elysium.language._tries import Ids
from elysium.language.dialects import Dialect

_SPACES = "Ġ▁ "  # how byte-level and SentencePiece vocabularies write a space, and the space itself
_LOOK_AHEAD = (
    3  # elements of a plan: a token that leads nowhere shows before a literal and a number have passed
)
_CACHE_LIMIT = 200_000

_REMEDY = "Decode without the grammar (free), or use a tokenizer that keeps digits apart"


class TextState(NamedTuple):
    """Where in an answer's text: an element of its plan, and how far into it.

    offset: characters written of a literal. digits: characters written of a number. x1, y1: of this box.
    """

    element: int = 0
    offset: int = 0
    digits: str = ""
    x1: int = 0
    y1: int = 0


@dataclass(frozen=True, slots=True)
class Element:
    """A literal text, or (literal None) the number of one slot of a frame."""

    frame: int
    slot: int | None
    literal: str | None


class Plan:
    """The text of all answers over some frames, as steps from character to character."""

    def __init__(
        self, dialect: Dialect, num_frames: int, *, ordered: bool, single_box: bool, space: str, prefix: str
    ) -> None:
        self.ordered = ordered
        self.elements = tuple(_elements(dialect, num_frames, single_box, space, prefix))
        self.values = {dialect.format_number(value): value for value in range(dialect.max_bin + 1)}
        self.digits = sorted(set("".join(self.values)))
        self._follow: dict[TextState, dict[str, TextState]] = {}
        self.highest: dict[str, int] = {}  # beginning of a number -> the largest number with it
        for text, value in self.values.items():
            for length in range(len(text) + 1):
                self.highest[text[:length]] = max(value, self.highest.get(text[:length], 0))

    def follow(self, state: TextState) -> dict[str, TextState]:
        """Each legal next character, and the state behind it."""
        found = self._follow.get(state)
        if found is None:
            if len(self._follow) > _CACHE_LIMIT:
                self._follow.clear()
            literal = self.elements[state.element].literal
            if literal is None:
                found = self._follow_number(state)
            elif state.offset < len(literal):
                found = {literal[state.offset]: self._settle(state._replace(offset=state.offset + 1))}
            else:
                found = {}
            self._follow[state] = found
        return found

    def _follow_number(self, state: TextState) -> dict[str, TextState]:
        slot = self.elements[state.element].slot
        lowest = 0 if not self.ordered else state.x1 if slot == 2 else state.y1 if slot == 3 else 0
        found = {
            char: state._replace(digits=state.digits + char)
            for char in self.digits
            if self.highest.get(state.digits + char, -1) >= lowest
        }
        value = self.values.get(state.digits, -1)
        if value >= lowest:
            # Numbers are forgotten once they bind no more: equal states share what is known about them.
            bounds = {0: (value, 0), 1: (state.x1, value), 2: (0, state.y1)} if self.ordered else {}
            x1, y1 = bounds.get(-1 if slot is None else slot, (0, 0))
            found |= self.follow(TextState(state.element + 1, 0, "", x1, y1))
        return found

    def _settle(self, state: TextState) -> TextState:
        """At the end of a literal the next element begins; the optional full stop stays the last one."""
        literal = self.elements[state.element].literal
        last = state.element == len(self.elements) - 1
        if literal is not None and state.offset == len(literal) and not last:
            return state._replace(element=state.element + 1, offset=0)
        return state

    def may_end(self, state: TextState) -> bool:
        """Whether the answer is complete: its last bracket is written."""
        return state.element == len(self.elements) - 1


def _elements(
    dialect: Dialect, num_frames: int, single_box: bool, space: str, prefix: str
) -> Iterator[Element]:
    for frame in range(num_frames):
        head = "" if single_box else f"Frame {frame + 1}: "
        before = prefix if frame == 0 else dialect.closing + ", "
        yield Element(frame, None, (before + head + dialect.opening).replace(" ", space))
        for slot in range(4):
            yield Element(frame, slot, None)
            if slot < 3:
                yield Element(frame, None, dialect.separator.replace(" ", space))
    yield Element(num_frames - 1, None, dialect.closing)
    yield Element(num_frames - 1, None, ".")


@dataclass(slots=True)
class PieceNode:
    """A beginning of pieces, by characters; `piece` and its id `token` where it is a whole one."""

    children: dict[str, PieceNode] = field(default_factory=dict)
    piece: str = ""
    token: int = -1


@dataclass(frozen=True, slots=True)
class PairPosition:
    """A place in an answer: its text state and the piece before it (state None: behind the end token)."""

    tables: PairTables
    plan: Plan
    state: TextState | None
    piece: str = ""

    @property
    def done(self) -> bool:
        return self.state is None

    @property
    def frame(self) -> int | None:
        return None if self.state is None else self.plan.elements[self.state.element].frame

    @property
    def slot(self) -> int | None:
        return None if self.state is None else self.tables.slot(self.plan, self.state, self.piece)

    def allowed(self) -> Ids:
        return (
            np.zeros(0, np.int64)
            if self.state is None
            else self.tables.steps(self.plan, self.state, self.piece)[0]
        )

    def after(self, token: int) -> PairPosition | None:
        """The position behind this token, None when it is not legal here."""
        if self.state is None:
            return None
        follow = self.tables.steps(self.plan, self.state, self.piece)[1].get(token)
        return None if follow is None else PairPosition(self.tables, self.plan, *follow)


class PairTables:
    """The pieces of one BPE tokenizer that occur in answers, and which may stand beside which.

    core: the `tokenizers.Tokenizer` inside a fast tokenizer. samples: legal answers.
    Raises ModelError when it is not a BPE, or does not cut by neighbouring characters.
    """

    def __init__(self, core: Any, dialect: Dialect, eos: int, samples: Sequence[str]) -> None:
        if type(core.model).__name__ != "BPE":
            raise ModelError(f"The grammar cannot follow this {type(core.model).__name__} tokenizer", _REMEDY)
        self._core, self._dialect, self._eos = core, dialect, eos
        self._cuts: dict[tuple[str, str], bool] = {}
        self._space, self._prefix = "", ""  # learnt from the first sample, which has several words
        letters = {letter for sample in samples for letter in self._learn(sample)}
        self._pieces = self._useful_pieces(letters)
        self._pairs: dict[tuple[str, str], bool] = {}
        self._plans: dict[tuple[int, bool, bool], Plan] = {}
        self._steps: dict[tuple[Any, ...], tuple[Ids, dict[int, tuple[TextState | None, str]]]] = {}
        self._alive: dict[tuple[Any, ...], bool] = {}

    def start(self, num_frames: int, ordered: bool, single_box: bool) -> PairPosition:
        """The beginning of an answer."""
        key = (num_frames, ordered, single_box)
        if key not in self._plans:
            self._plans[key] = Plan(
                self._dialect,
                num_frames,
                ordered=ordered,
                single_box=single_box,
                space=self._space,
                prefix=self._prefix,
            )
        return PairPosition(self, self._plans[key], TextState())

    def _learn(self, sample: str) -> str:
        """Learns from a sample how spaces are written and between which characters texts are cut."""
        words = self._words(sample)
        text = "".join(words)
        if not self._space:
            self._space = next((letter for letter in _SPACES if letter in text), " ")
            self._prefix = text[: len(text) - len(sample)]
        if text != self._prefix + sample.replace(" ", self._space):
            raise ModelError(
                f"The grammar cannot follow this tokenizer's normalisation of {sample!r}", _REMEDY
            )
        ends = {sum(map(len, words[:count])) for count in range(1, len(words))}
        for place, (left, right) in enumerate(pairwise(text), start=1):
            if self._cuts.setdefault((left, right), place in ends) != (place in ends):
                raise ModelError(f"This tokenizer cuts {left!r} from {right!r} in some places only", _REMEDY)
        return text

    def _words(self, text: str) -> list[str]:
        core = self._core
        text = core.normalizer.normalize_str(text) if core.normalizer else text
        return (
            [word for word, _ in core.pre_tokenizer.pre_tokenize_str(text)] if core.pre_tokenizer else [text]
        )

    def _tokens(self, text: str) -> list[str]:
        return [token.value for token in self._core.model.tokenize(text)]

    def _useful_pieces(self, letters: set[str]) -> PieceNode:
        """The pieces made of these letters that BPE gives for their own text."""
        root = PieceNode()
        for piece, token in self._core.get_vocab(False).items():
            whole = piece and letters.issuperset(piece) and not any(map(self._cut, piece, piece[1:]))
            if whole and self._tokens(piece) == [piece]:
                node = root
                for char in piece:
                    node = node.children.setdefault(char, PieceNode())
                node.piece, node.token = piece, token
        return root

    def _cut(self, left: str, right: str) -> bool:
        return self._cuts.get((left, right), False)

    def _goes_with(self, left: str, right: str) -> bool:
        key = (left, right)
        if key not in self._pairs:
            cut = not left or self._cut(left[-1], right[0])
            self._pairs[key] = cut or self._tokens(left + right) == [left, right]
        return self._pairs[key]

    def _next(self, plan: Plan, state: TextState, piece: str) -> Iterator[tuple[str, int, TextState]]:
        """Pieces that the text and the piece before allow, with the state behind them."""
        paths = [(self._pieces, state)]
        while paths:
            node, here = paths.pop()
            if node.piece and self._goes_with(piece, node.piece):
                yield node.piece, node.token, here
            for char, behind in plan.follow(here).items():
                child = node.children.get(char)
                if child is not None:
                    paths.append((child, behind))

    def _lives(self, plan: Plan, state: TextState, piece: str, goal: int) -> bool:
        """Whether tokens can go on from here as far as the element `goal`, or to the end."""
        if state.element >= goal or plan.may_end(state):
            return True
        key = (id(plan), state, piece, goal)
        if key not in self._alive:
            if len(self._alive) > _CACHE_LIMIT:
                self._alive.clear()
            steps = self._next(plan, state, piece)
            self._alive[key] = any(self._lives(plan, behind, text, goal) for text, _, behind in steps)
        return self._alive[key]

    def steps(
        self, plan: Plan, state: TextState, piece: str
    ) -> tuple[Ids, dict[int, tuple[TextState | None, str]]]:
        """Legal ids, and for each the state and piece behind it."""
        key = (id(plan), state, piece)
        if key not in self._steps:
            if len(self._steps) > _CACHE_LIMIT:
                self._steps.clear()
            follow: dict[int, tuple[TextState | None, str]] = {
                token: (behind, text)
                for text, token, behind in self._next(plan, state, piece)
                if self._lives(plan, behind, text, behind.element + _LOOK_AHEAD)
            }
            if plan.may_end(state):
                follow[self._eos] = (None, "")
            ids = np.array(sorted(follow), dtype=np.int64)
            ids.flags.writeable = False
            self._steps[key] = (ids, follow)
        return self._steps[key]

    def slot(self, plan: Plan, state: TextState, piece: str) -> int | None:
        """The slot of the first digit that a legal next token holds; of the number that it may end."""
        element = plan.elements[state.element]
        if element.literal is None:
            return element.slot
        ahead = [behind for behind, _ in self.steps(plan, state, piece)[1].values() if behind is not None]
        if not any(behind.digits or behind.element > state.element + 1 for behind in ahead):
            return None
        return next((e.slot for e in plan.elements[state.element :] if e.literal is None), None)
