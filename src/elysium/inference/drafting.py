"""Guesses at how an answer goes on: things are mostly where they were, so the next box is drafted as the last one.

A draft costs nothing but the width of a forward. It is verified token by token (`Row.read`), so a bad guess changes
no answer, it only saves nothing.

Measured on nano's answers about 21 real sequences: with the last box 2.0 forwards a frame, with constant velocity
2.3, with the box that nano's selector votes for 2.7 to 3.0 (what it votes for is finer than what is written); without
a draft 4.

Knows boxes, their text, how a tokenizer cuts it. Does not know: models, logits.
"""

from __future__ import annotations

from typing import Any

from elysium.inference.answers import Row
from elysium.language.dialects import Dialect

WIDTHS = {"cpu": 6}  # tokens of a draft: a CPU computes each of a forward's tokens, however few they are
WIDTH = 24  # elsewhere a forward takes as long as reading the weights does, and some more tokens cost nothing
WIDEST = 4  # times as many, after drafts that were right to their ends

Numbers = list[int]


class Drafter:
    """Drafts for answers made of boxes in one dialect, cut by one tokenizer."""

    def __init__(self, tokenizer: Any, dialect: Dialect) -> None:
        self.tokenizer, self.dialect = tokenizer, dialect
        self._written = [dialect.format_number(value) for value in range(dialect.max_bin + 1)]
        self._values = {text: value for value, text in enumerate(self._written)}

    def draft(self, row: Row, width: int = WIDTH) -> list[int]:
        """At most ``width`` tokens that may follow ``row.tokens``; none where there is nothing to go by."""
        count = row.request.num_boxes
        if row.done or count is None or row.state is None:
            return []
        begun = self.dialect.begun(self.tokenizer.decode(row.tokens))
        boxes: list[Numbers] = []
        while len(boxes) < count:
            last = boxes[-1] if boxes else self._first(row)
            numbers = begun[len(boxes)] if len(boxes) < len(begun) else []
            box = self._box(numbers, last, closed=len(boxes) < len(begun) - 1)
            if box is None:
                return []
            boxes.append(box)
        return self._continuation(row, boxes)[:width]

    def _first(self, row: Row) -> Numbers | None:
        """The box of the first frame, where the question gives it."""
        boxes = [box for frame, box in row.request.regions if frame == 0]
        return [round(value * self.dialect.max_bin) for value in boxes[0]] if boxes else None

    def _box(self, numbers: list[str], last: Numbers | None, closed: bool) -> Numbers | None:
        """A box of which ``numbers`` are written, the last perhaps in part unless it is ``closed``; the others as in
        ``last``, moved with them. None if there are others and no last box."""
        box: Numbers = []
        for slot in range(4):
            if slot < len(numbers) - (not closed):
                box.append(self._values.get(numbers[slot], 0))
            elif last is None:
                return None
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

    def _continuation(self, row: Row, boxes: list[Numbers]) -> list[int]:
        """What the tokenizer makes of the answer with these boxes, behind what is written."""
        single = row.request.single_box
        text = self.dialect.format_box(boxes[0]) if single else self.dialect.format_boxes(boxes, full_stop=True)
        ids = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return list(ids[len(row.tokens) :]) if ids[: len(row.tokens)] == row.tokens else []
