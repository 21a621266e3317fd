"""Grammar tables for tokenizers that begin a new token at every number of an answer (nearly all do).

An answer is then a chain of chunks, "34,", "40,", "51,", "67], Frame 2: [", whose tokens do not depend on
each other. Each kind of chunk becomes a trie over the tokenizer's own encodings of its values, read off real
answers; a number that must not be below another one prunes the trie. Knows nothing about how the tokenizer
works inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from elysium.errors import ModelError
from elysium.language.dialects import Dialect

Ids: TypeAlias = NDArray[np.int64]
Encoding: TypeAlias = tuple[list[int], list[tuple[int, int]]]  # ids, and the (start, end) of each in the text
Encoder: TypeAlias = Callable[[list[str]], list[Encoding]]
_Sample: TypeAlias = tuple[tuple[int, ...], str, list[tuple[int, int]]]  # box, text, spans of its numbers

_NO_NUMBER = 1 << 30  # the "value" of a chunk without a number: above every bound


class NumbersMerged(ModelError):
    """The tokenizer merges a number with what stands around it, so answers do not fall into chunks."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, "Decode without the grammar (free), or use a tokenizer that keeps digits apart"
        )


@dataclass(slots=True)
class Node:
    """A place in a chunk's trie. `highest` is the largest value that can still be reached."""

    children: dict[int, Node] = field(default_factory=dict)
    highest: int = -1
    in_number: bool = False  # whether a next token can hold digits of the number
    _allowed: dict[int, Ids] = field(default_factory=dict)

    def allowed(self, lowest: int) -> Ids:
        """Ids that lead to a value of at least `lowest`."""
        ids = self._allowed.get(lowest)
        if ids is None:
            ids = np.array(sorted(i for i, c in self.children.items() if c.highest >= lowest), dtype=np.int64)
            ids.flags.writeable = False
            self._allowed[lowest] = ids
        return ids

    def insert(self, ids: Sequence[int], value: int, digits: int) -> Node:
        """Adds one encoding, whose first `digits` tokens hold digits of the number; returns its last node."""
        node = self
        for position, token in enumerate(ids):
            node.highest = max(node.highest, value)
            node.in_number |= position < digits
            node = node.children.setdefault(token, Node())
        node.highest = max(node.highest, value)
        return node


@dataclass(frozen=True, slots=True)
class Chunk:
    """What follows in an answer: a trie, whose number belongs to `slot` of `frame` (slot None: no number)."""

    frame: int
    slot: int | None
    root: Node


@dataclass(frozen=True, slots=True)
class TriePosition:
    """A place in an answer: a node in one of its chunks, and the first two numbers of the frame's box."""

    plan: tuple[Chunk, ...]
    chunk: int
    node: Node
    ordered: bool
    x1: int = 0
    y1: int = 0

    @property
    def done(self) -> bool:
        return self.chunk == len(self.plan)

    @property
    def frame(self) -> int | None:
        return None if self.done else self.plan[self.chunk].frame

    @property
    def slot(self) -> int | None:
        return self.plan[self.chunk].slot if not self.done and self.node.in_number else None

    def _lowest(self) -> int:
        slot = self.plan[self.chunk].slot if self.ordered else None
        return self.x1 if slot == 2 else self.y1 if slot == 3 else 0

    def allowed(self) -> Ids:
        return _NOTHING.allowed(0) if self.done else self.node.allowed(self._lowest())

    def after(self, token: int) -> TriePosition | None:
        """The position behind this token, None when it is not legal here."""
        if self.done:
            return None
        node = self.node.children.get(token)
        if node is None or node.highest < self._lowest():
            return None
        x1, y1, chunk = self.x1, self.y1, self.chunk
        if not node.children:  # the end of the chunk: its number is known
            slot = self.plan[chunk].slot
            x1, y1 = (node.highest if slot == 0 else x1), (node.highest if slot == 1 else y1)
            chunk += 1
            node = self.plan[chunk].root if chunk < len(self.plan) else _NOTHING
        return TriePosition(self.plan, chunk, node, self.ordered, x1, y1)


_NOTHING = Node()


class TrieTables:
    """The tries of one tokenizer and dialect, built when first needed.

    encode: texts -> their encodings by a fast tokenizer without special tokens. eos: id of the end token.
    Raises NumbersMerged, here or in `start`, when the tokenizer does not cut at numbers.
    """

    def __init__(self, encode: Encoder, dialect: Dialect, eos: int) -> None:
        self._encode, self._dialect, self._eos = encode, dialect, eos
        self._plans: dict[tuple[int, bool], tuple[Chunk, ...]] = {}
        self._before: dict[int, list[Node]] = {}  # number of the next frame -> tries of the four slots
        self._last = self._slot_tries("Frame 1: ", None)
        self._leads = {False: self._lead("Frame 1: "), True: self._lead("")}

    def start(self, num_frames: int, ordered: bool, single_box: bool) -> TriePosition:
        """The beginning of an answer."""
        key = (num_frames, single_box)
        if key not in self._plans:
            self._plans[key] = self._plan(*key)
        plan = self._plans[key]
        return TriePosition(plan, 0, plan[0].root, ordered)

    def alphabet(self, num_frames: int, single_box: bool) -> frozenset[int]:
        """All ids that stand in an answer over so many frames."""
        self.start(num_frames, True, single_box)
        found, seen = set[int](), set[int]()
        waiting = [chunk.root for chunk in self._plans[num_frames, single_box]]
        while waiting:
            node = waiting.pop()
            if id(node) not in seen:
                seen.add(id(node))
                found.update(node.children)
                waiting += node.children.values()
        return frozenset(found)

    def _plan(self, num_frames: int, single_box: bool) -> tuple[Chunk, ...]:
        chunks = [Chunk(0, None, self._leads[single_box])]
        for frame in range(num_frames):
            tries = self._last if frame == num_frames - 1 else self._tries_before(frame + 2)
            chunks += [Chunk(frame, slot, root) for slot, root in enumerate(tries)]
        return tuple(chunks)

    def _tries_before(self, number: int) -> list[Node]:
        if number not in self._before:
            self._before[number] = self._slot_tries(f"Frame {number - 1}: ", f", Frame {number}: ")
        return self._before[number]

    def _lead(self, head: str) -> Node:
        """The trie, of a single path, of what stands before the first number."""
        text, spans = self._layout(head, (5, 6, 7, 8))
        [(ids, offsets)] = self._encode([text])
        root = Node()
        root.insert([ids[i] for i in _between(offsets, 0, spans[0][0])], _NO_NUMBER, 0)
        return root

    def _slot_tries(self, head: str, following: str | None) -> list[Node]:
        """Tries of the four slots of a box behind `head`; following None: the last box of an answer."""
        tries = [Node() for _ in range(4)]
        ends: list[Node] = []
        samples = list(self._samples(head, following))
        known: dict[tuple[int, int, bool], list[int]] = {}
        owners: dict[tuple[int, tuple[int, ...]], int] = {}
        for (box, text, spans), (ids, offsets) in zip(
            samples, self._encode([text for _, text, _ in samples]), strict=True
        ):
            for slot, value in enumerate(box):
                stop = spans[slot + 1][0] if slot + 1 < len(spans) else len(text)
                tokens = _between(offsets, spans[slot][0], stop)
                digits = sum(offsets[i][0] < spans[slot][1] for i in tokens)
                chunk = [ids[i] for i in tokens]
                if slot == 3 and following is None:
                    chunk.append(self._eos)
                if known.setdefault((slot, value, slot == 3 and text.endswith(".")), chunk) != chunk:
                    raise NumbersMerged(f"The tokens of {value} in {text!r} depend on the numbers around it")
                if owners.setdefault((slot, tuple(chunk)), value) != value:
                    raise NumbersMerged(f"The tokenizer writes {value} in {text!r} like another number")
                ends.append(tries[slot].insert(chunk, value, digits))
        if any(end.children for end in ends):
            raise NumbersMerged(f"Behind {head!r} the tokens of one number begin those of another")
        return tries

    def _samples(self, head: str, following: str | None) -> Iterator[_Sample]:
        """Boxes that together put every value into every slot, in the texts in which they may stand."""
        count = self._dialect.max_bin + 1
        for first in range(count):
            box = tuple((first + 37 * slot) % count for slot in range(4))
            text, spans = self._layout(head, box)
            if following is None:
                yield box, text, spans
                yield box, text + ".", spans
            else:
                behind = text + following + self._dialect.opening
                number = self._dialect.format_number(box[1])
                yield box, behind + number, [*spans, (len(behind), len(behind + number))]

    def _layout(self, head: str, box: tuple[int, ...]) -> tuple[str, list[tuple[int, int]]]:
        """A box behind `head`, and where its four numbers start and end."""
        text, spans = head + self._dialect.opening, []
        for slot, value in enumerate(box):
            start = len(text)
            text += self._dialect.format_number(value)
            spans.append((start, len(text)))
            text += self._dialect.closing if slot == 3 else self._dialect.separator
        return text, spans


def _between(offsets: list[tuple[int, int]], start: int, stop: int) -> range:
    """Positions of the tokens that make up text[start:stop]; NumbersMerged when one of them sticks out."""
    inside = [i for i, (first, _) in enumerate(offsets) if start <= first < stop]
    if any(first < place < last for first, last in offsets for place in (start, stop)):
        raise NumbersMerged("A token of the tokenizer holds digits and what stands before them")
    if not inside or any(b != a + 1 for a, b in pairwise(inside)):
        raise NumbersMerged("The tokenizer's offsets do not follow the text")
    return range(inside[0], inside[-1] + 1)
