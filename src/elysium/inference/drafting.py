"""Guesses at how an answer goes on: as the model hinted behind the last draft, and else things are where they were.

A draft costs nothing but the width of a forward. It is verified token by token (`Row.read`), so a bad guess changes
no answer, it only saves nothing.

Hints say more than the box before does: a model that looks at pictures knows the third number and the next frame, if
the first number that it was shown is off by one. Measured on nano's answers about 21 real sequences, 4 forwards a frame
without drafts, prompts included: 2.16 with the box before alone, 10 tokens at a time; with hints 1.27, and 0.79 with 32
tokens at a time, 0.65 with 90. Constant velocity, and the boxes that nano's selector votes for, guess worse than the
box before. Where there is no box before, as where a question is in words, any box will do for the sake of the hints:
6.1 forwards an answer of 8 frames in place of 9.0.

Knows boxes, their text, how a tokenizer cuts it. Does not know: models, logits.
"""

from __future__ import annotations

from typing import Any

from elysium.inference.answers import Row
from elysium.language.dialects import Dialect

# Tokens of a row's draft at most. The further it reaches the less of it is right, and on a CPU each token costs.
WIDTH, CPU_WIDTH = 96, 40
# Tokens of a forward, over all rows, that are worth their time: as many as are computed while the weights are read, and
# with small models on a CPU besides as many as are computed while one gets from one multiplication to the next, which
# takes as long as 500 million of them. Measured on one thread of a CPU: decoding with 460 million parameters is 3.6
# times as fast as token by token with 24 tokens, 4.3 with 32 and with 48, 3.9 with 72; with nano and words in one clip,
# 16 objects take 1.22 seconds with 120 tokens, 1.14 with 187, 1.08 with 260, 1.10 with 350 and 1.11 with 450.
SPARE, CPU_SPARE, _CPU_PAUSES = 192, 40, 500e6
_LEAST_OF_A_BOX = 8  # tokens of a box with its commas, where numbers are single tokens
_MIDDLE = (0.25, 0.25, 0.75, 0.75)
_USUAL_PENDING = 2  # tokens that a row feeds besides: a number and what is forced behind it

Numbers = list[int]


def spare_tokens(device_type: str, parameters: int) -> int:
    """How many tokens of drafts a forward of a language model with so many ``parameters`` may feed, over all rows."""
    return CPU_SPARE + int(_CPU_PAUSES / max(parameters, 1)) if device_type == "cpu" else SPARE


def draft_width(device_type: str, rows: int, spare: int) -> int:
    """How many tokens to draft for each of ``rows`` rows, where a forward has ``spare`` tokens for all of them."""
    share = spare // rows - _USUAL_PENDING
    return min(CPU_WIDTH if device_type == "cpu" else WIDTH, share) if share >= 2 else 0


class Drafter:
    """Drafts for answers made of boxes in one dialect, cut by one tokenizer."""

    def __init__(self, tokenizer: Any, dialect: Dialect) -> None:
        self.tokenizer, self.dialect = tokenizer, dialect
        self._written = [dialect.format_number(value) for value in range(dialect.max_bin + 1)]
        self._values = {text: value for value, text in enumerate(self._written)}

    def draft(self, row: Row, width: int = WIDTH) -> list[int]:
        """At most ``width`` tokens that may follow ``row.tokens``: numbers as hinted, others as in the box before."""
        count = row.request.num_boxes
        if row.done or count is None or row.state is None or not width:
            return []
        begun = self.dialect.begun(self.tokenizer.decode(row.tokens + row.hints))
        boxes: list[Numbers] = []
        while len(boxes) < min(count, len(begun) + width // _LEAST_OF_A_BOX + 1):
            last = boxes[-1] if boxes else self._first(row)
            numbers = begun[len(boxes)] if len(boxes) < len(begun) else []
            boxes.append(self._box(numbers, last, closed=len(boxes) < len(begun) - 1))
        return self._continuation(row, boxes, ends=len(boxes) == count)[:width]

    def _first(self, row: Row) -> Numbers:
        """The box of the first frame, where the question gives it; else one in the middle."""
        boxes = [box for frame, box in row.request.regions if frame == 0]
        return [round(value * self.dialect.max_bin) for value in (boxes[0] if boxes else _MIDDLE)]

    def _box(self, numbers: list[str], last: Numbers, closed: bool) -> Numbers:
        """A box of which ``numbers`` are written, the last perhaps in part unless it is ``closed``; the others as in
        ``last``, moved with them."""
        box: Numbers = []
        for slot in range(4):
            if slot < len(numbers) - (not closed):
                box.append(self._values.get(numbers[slot], 0))
            else:
                moved = last[slot] if slot < 2 else box[slot - 2] + last[slot] - last[slot - 2]
                box.append(self._nearest(moved, numbers[slot] if slot < len(numbers) else ""))
        return box

    def _nearest(self, value: int, begun: str) -> int:
        """The number nearest to ``value`` whose text begins so."""
        value = min(max(value, 0), self.dialect.max_bin)
        if self._written[value].startswith(begun):
            return value
        fitting = [number for number, text in enumerate(self._written) if text.startswith(begun)]
        return min(fitting, key=lambda number: abs(number - value), default=value)

    def _continuation(self, row: Row, boxes: list[Numbers], ends: bool) -> list[int]:
        """What the tokenizer makes of the answer with these boxes, behind what is written. Unless it ``ends`` with
        them, the last tokens are left out: what stands behind may change them."""
        single = row.request.single_box
        text = self.dialect.format_box(boxes[0]) if single else self.dialect.format_boxes(boxes, full_stop=ends)
        ids = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        ids = ids if ends else ids[:-2]
        return list(ids[len(row.tokens) :]) if ids[: len(row.tokens)] == row.tokens else []
