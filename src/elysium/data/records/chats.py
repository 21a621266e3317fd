"""The rounds of a chat record. Knows turns and the marks in them; does not know prompts, tokens or box formats."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from elysium.data.records.checks import BOX_MARK
from elysium.data.records.model import Box, Record, Turn
from elysium.errors import InputError

_SIDES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
_FRAME_MARKS = re.compile(r"<(?:image|video)>\n?")


def pairs(record: Record) -> list[tuple[Turn, Turn]]:
    """Question and answer of each round; turns of the system are left out.

    Raises InputError unless human and gpt speak in turn, and gpt last.
    """
    turns = [turn for turn in record.vqa or [] if turn.from_ != "system"]
    found = list(zip(turns[::2], turns[1::2], strict=False))
    if not found or [_SIDES.get(turn.from_) for turn in turns] != ["human", "gpt"] * len(found):
        raise InputError(f"The chat of record {record.id!r} is not question and answer in turn", "Leave it out.")
    return found


def without_frame_marks(text: str) -> str:
    """A question without ``<image>`` and ``<video>``, which say where the frames stand."""
    return _FRAME_MARKS.sub("", text).strip()


def rounds(record: Record, write_box: Callable[[Box], str]) -> tuple[tuple[str, str], ...]:
    """(question, answer) of each round, frame marks taken out and ``<box>`` marks replaced by what ``write_box`` makes
    of the boxes, which are those of the turn or, for turns without, the record's, in order.

    A round without words, in question or answer, ends the chat: what follows would refer to what nobody said.
    Raises InputError as :func:`pairs` does.
    """
    pairs(record)  # that it is question and answer in turn
    shared = iter([box for box in record.box or [] if box is not None])
    texts = [(turn, without_frame_marks(_filled(turn, shared, write_box))) for turn in record.vqa or []]
    spoken = [text for turn, text in texts if turn.from_ != "system"]  # whose boxes are used up all the same
    filled = []
    for asked, said in zip(spoken[::2], spoken[1::2], strict=True):
        if not (asked and said):
            break
        filled.append((asked, said))
    return tuple(filled)


def _filled(turn: Turn, shared: Iterator[Box], write_box: Callable[[Box], str]) -> str:
    """Checks have made sure that there is a box for each mark."""
    boxes = shared if turn.box is None else iter(turn.box)
    return re.sub(re.escape(BOX_MARK), lambda _: write_box(next(boxes)), turn.value)
