"""How boxes are written in answers, and how they are read back: the only formatter and the only parser.

Knows the text of a box and of a list of frames in several dialects. Knows nothing about pixels (see
`elysium.boxes` for quantisation), prompts, tokenizers or models.

A box here is four integers in bins, ``x1,y1,x2,y2``, from 0 to ``dialect.max_bin`` of the width and height.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from elysium.errors import InputError

ParseStatus = Literal["ok", "absent", "missing", "malformed"]

ABSENT_BOX = (0, 0, 0, 0)
"""What a model writes for a frame in which the object is not visible."""

# Nine digits are far more than any frame number; the bound also keeps int() cheap on hostile text.
_FRAME_LABEL = re.compile(r"\bFrame\s*([0-9]{1,9})\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedAnswer:
    """Boxes read from an answer.

    boxes: (n, 4) float64 xyxy in bins; NaN rows wherever the status is not "ok".
    statuses: n of "ok", "absent" (all four zero), "missing" (nothing written for this frame) or
        "malformed" (something written that is not a box).
    surplus: boxes written for frames that were not asked for, or twice for one frame; they are dropped.
    """

    boxes: NDArray[np.float64]
    statuses: list[ParseStatus]
    surplus: int = 0


@dataclass(frozen=True)
class Dialect:
    """One way to write a box: ``opening + number + separator + ... + closing``.

    max_bin: the largest value of a number (100: per cent).
    width: numbers are padded with zeros to this many digits (0: no padding).
    decimals: numbers are written as ``value / max_bin`` with so many decimals (0: as integers).
    """

    name: str
    max_bin: int = 100
    opening: str = "["
    separator: str = ","
    closing: str = "]"
    width: int = 0
    decimals: int = 0

    def format_number(self, value: int) -> str:
        """Text of one number, 0..max_bin.

        >>> ELYSIUM.format_number(34), SHIKRA.format_number(340)
        ('34', '0.340')
        """
        if self.decimals:
            return f"{value / self.max_bin:.{self.decimals}f}"
        return f"{value:0{self.width}d}" if self.width else str(value)

    def format_box(self, box: Sequence[int] | NDArray[np.integer]) -> str:
        """Text of one box of four integers in bins. Values are written as they are, never clamped.

        Raises InputError when there are not four integers.

        >>> ELYSIUM.format_box([34, 40, 51, 67])
        '[34,40,51,67]'
        """
        numbers = [int(value) for value in box]
        if len(numbers) != 4 or any(number != value for number, value in zip(numbers, box, strict=True)):
            raise InputError(
                f"A box is four integers, not {list(box)}", "Quantise it first (elysium.boxes.quantize)"
            )
        return self.opening + self.separator.join(map(self.format_number, numbers)) + self.closing

    def format_boxes(
        self, boxes: Sequence[Sequence[int] | NDArray[np.integer] | None], *, full_stop: bool = False
    ) -> str:
        """Text of one box a frame, None for a frame without the object.

        >>> ELYSIUM.format_boxes([[34, 40, 51, 67], None], full_stop=True)
        'Frame 1: [34,40,51,67], Frame 2: [0,0,0,0].'
        """
        texts = [self.format_box(ABSENT_BOX if box is None else box) for box in boxes]
        answer = ", ".join(f"Frame {number}: {text}" for number, text in enumerate(texts, start=1))
        return answer + "." if full_stop else answer

    def parse(self, text: str, num_frames: int = 1) -> ParsedAnswer:
        """Reads the boxes of an answer over `num_frames` frames. Never raises, never invents a box.

        When the text names frames ("Frame 3: ..."), each box goes to the frame that is named before it and
        boxes without a name are surplus; otherwise boxes are taken in order. The first box of a frame counts.
        A box that is inverted, out of range or does not have four numbers is "malformed"; a box of no width
        or height is widened by one bin.

        >>> ELYSIUM.parse("Frame 1: [34,40,51,67], Frame 2: [0,0,0,0]", 3).statuses
        ['ok', 'absent', 'missing']
        """
        count = max(0, int(num_frames))
        boxes = np.full((count, 4), np.nan)
        statuses: list[ParseStatus] = ["missing"] * count
        surplus = 0
        for frame, content in self._items(text):
            if not 0 <= frame < count or statuses[frame] != "missing":
                surplus += content is not None
                continue
            statuses[frame], box = self._read_box(content)
            if box is not None:
                boxes[frame] = box
        return ParsedAnswer(boxes, statuses, surplus)

    def begun(self, text: str) -> list[list[str]]:
        """The numbers of each box of a legal answer that may break off anywhere, as they are written.

        A box that is closed has four. Of one that is not, the last may be cut short (or empty): more may follow.

        >>> ELYSIUM.begun("Frame 1: [34,40,51,67], Frame 2: [3"), ELYSIUM.begun("[34,40,")
        ([['34', '40', '51', '67'], ['3']], [['34', '40', '']])
        """
        boxes = []
        for part in _FRAME_LABEL.sub("", text).split(self.opening)[1:]:
            inner, _, _ = part.partition(self.closing)
            boxes.append([self._digits.match(number)[0] for number in inner.split(self.separator)])  # type: ignore[index]
        return boxes

    def _items(self, text: str) -> Iterator[tuple[int, str | None]]:
        """(0-based frame, text between the brackets or None when there is no complete box), in order."""
        labels = list(_FRAME_LABEL.finditer(text))
        if not labels:
            yield from enumerate(self._contents(text))
            return
        for _ in self._contents(text[: labels[0].start()]):
            yield -1, ""
        ends = [label.start() for label in labels[1:]] + [len(text)]
        for label, end in zip(labels, ends, strict=True):
            contents = list(self._contents(text[label.end() : end])) or [None]
            yield int(label[1]) - 1, contents[0]
            for _ in contents[1:]:
                yield -1, ""

    def _contents(self, text: str) -> Iterator[str | None]:
        for match in self._bracket.finditer(text):
            if match[2]:
                yield match[1]
            elif match[1].strip():  # an opening bracket alone is nesting, "[[1,2,3,4]]", not a box
                yield None

    def _read_box(self, content: str | None) -> tuple[ParseStatus, tuple[int, ...] | None]:
        parts = [] if content is None else content.split(self.separator)
        if len(parts) != 4 or not all(self._number.fullmatch(part.strip()) for part in parts):
            return "malformed", None
        scale = self.max_bin if self.decimals else 1
        x1, y1, x2, y2 = (round(float(part) * scale) for part in parts)
        if x1 > x2 or y1 > y2 or x2 > self.max_bin or y2 > self.max_bin:
            return "malformed", None
        if (x1, y1, x2, y2) == ABSENT_BOX:
            return "absent", None
        (x1, x2), (y1, y2) = self._widen(x1, x2), self._widen(y1, y2)
        return "ok", (x1, y1, x2, y2)

    def _widen(self, low: int, high: int) -> tuple[int, int]:
        if low < high:
            return low, high
        return (low, high + 1) if high < self.max_bin else (low - 1, high)

    @cached_property
    def _bracket(self) -> re.Pattern[str]:
        # Lazy up to the closing bracket, the next opening one (this box was never closed) or the end.
        opening, closing = re.escape(self.opening), re.escape(self.closing)
        return re.compile(rf"{opening}(.*?)({closing}|(?={opening})|\Z)", re.DOTALL)

    @cached_property
    def _digits(self) -> re.Pattern[str]:
        return re.compile(r"[0-9.]*" if self.decimals else r"[0-9]*")

    @cached_property
    def _number(self) -> re.Pattern[str]:
        return re.compile(r"[0-9]{0,3}\.[0-9]{1,9}|[01]" if self.decimals else r"[0-9]{1,9}")


ELYSIUM = Dialect("elysium")
SHIKRA = Dialect("shikra", max_bin=1000, decimals=3)
COGVLM = Dialect("cogvlm", max_bin=1000, opening="[[", closing="]]", width=3)
MINIGPT_V2 = Dialect("minigpt-v2", opening="{<", separator="><", closing=">}")

_DIALECTS = {dialect.name: dialect for dialect in (ELYSIUM, SHIKRA, COGVLM, MINIGPT_V2)}


def dialect_names() -> list[str]:
    """Names that `get_dialect` knows."""
    return list(_DIALECTS)


def get_dialect(name: str) -> Dialect:
    """The dialect of this name; InputError when there is none.

    >>> get_dialect("cogvlm").format_box([340, 400, 510, 670])
    '[[340,400,510,670]]'
    """
    if name not in _DIALECTS:
        raise InputError(f"There is no box dialect {name!r}", f"Choose one of: {', '.join(_DIALECTS)}")
    return _DIALECTS[name]
