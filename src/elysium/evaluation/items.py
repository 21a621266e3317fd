"""What there is to evaluate: from annotation records to questions with known answers, task by task.

Knows which records fit a task, where its words and its references stand, and the text of true answers. Knows nothing
about models, results or metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elysium.boxes import quantize
from elysium.data.convert.sequences import read_sequences
from elysium.data.records import Problem, Record, read_records
from elysium.data.records.chats import pairs, without_frame_marks
from elysium.errors import InputError
from elysium.language.dialects import ELYSIUM

TASKS = ("SOT", "RSOT", "Video-REG", "REC", "REG", "VideoQA")
TRACKING = ("SOT", "RSOT")
DEFAULT_TEXT_KEY = "object_description"
PUBLISHED_TEXT_KEY = "object_class"


@dataclass(frozen=True)
class Item:
    """One question and what is right.

    Attributes:
        id: of the record; in a chat with several rounds "id|round".
        record: where it comes from. Of REC and REG only the first frame counts.
        words: the expression (RSOT, REC) or the question (VideoQA) that is asked; "" where a box is.
        references: right texts (Video-REG, REG, VideoQA).
    """

    id: str
    record: Record
    words: str = ""
    references: tuple[str, ...] = ()


def check_task(task: str) -> str:
    """The task in the spelling of `TASKS`, whatever the case. Raises InputError."""
    plain = {name.lower().replace("-", ""): name for name in TASKS}
    name = plain.get(task.lower().replace("-", "").replace("_", ""))
    if name is None:
        raise InputError(f"There is no task {task!r}", f"Use one of {', '.join(TASKS)}.")
    return name


def read_items(
    path: Path, task: str, *, text_key: str = DEFAULT_TEXT_KEY, limit: int | None = None, max_frames: int | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> list[Item]:  # fmt: skip
    """The items of an annotation file, or of a folder of sequences, in its order.

    Args:
        text_key: the key of the record whose words are asked for (RSOT, REC) or right (Video-REG, REG); of a list the
            first are asked for, and all are right.
        limit: only so many. max_frames: of each record.
        on_problem: see `read_records`.

    Raises:
        SourceError: the file cannot be read. InputError: a record that the task cannot use, an id that occurs twice.
    """
    items: dict[str, Item] = {}
    records = read_sequences(path) if path.is_dir() else read_records(path, on_problem=on_problem)
    for record in records:
        for item in _items(record if max_frames is None else _shortened(record, max_frames), task, text_key):
            if item.id in items:
                raise InputError(f"{path}: the id {item.id!r} occurs twice", "Give each record an id of its own.")
            items[item.id] = item
            if limit is not None and len(items) == limit:
                return list(items.values())
    return list(items.values())


def _shortened(record: Record, max_frames: int) -> Record:
    """Only the first frames, and what goes with each; a chat stays whole, for its boxes are not those of frames."""
    if record.vqa is not None:
        return record
    lists = {key: getattr(record, key) for key in ("frames", "box", "absent", "times_s")}
    return record.model_copy(update={key: entries[:max_frames] for key, entries in lists.items() if entries})


def _items(record: Record, task: str, text_key: str) -> Iterator[Item]:
    if task == "VideoQA":
        yield from _questions(record)
        return
    if record.vqa is not None or not record.box:
        raise InputError(f"Record {record.id!r} has no box for each frame, which {task} needs", "Leave it out.")
    if record.frame_size is None:
        raise InputError(
            f"Record {record.id!r} has no frame_size, so its boxes have no pixels", "Give width and height."
        )
    words = texts_of(record, text_key) if task != "SOT" else ()
    asked = words[0] if task in ("RSOT", "REC") else ""
    yield Item(str(record.id), record, asked, words if task in ("Video-REG", "REG") else ())


def texts_of(record: Record, key: str) -> tuple[str, ...]:
    """The texts under a key of a record, which may be one of ours. Raises InputError if there are none."""
    value = record.model_dump().get(key) if key not in ("frames", "metadata") else None
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    said = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
    if not said:
        raise InputError(
            f"Record {record.id!r} has no words under {key!r}",
            "Name another key with --text-key, for example object_class.",
        )
    return tuple(said)


def _questions(record: Record) -> Iterator[Item]:
    """Each round of a chat; without images in its text, the frames of the record are what it is about."""
    if record.vqa is None:
        raise InputError(f"Record {record.id!r} has no vqa, which VideoQA needs", "Leave it out.")
    rounds = pairs(record)
    for number, (human, gpt) in enumerate(rounds):
        if human.box or record.box:
            raise InputError(f"Record {record.id!r} asks about boxes, which VideoQA does not", "Leave it out.")
        id = str(record.id) if len(rounds) == 1 else f"{record.id}|{number}"
        yield Item(id, record, without_frame_marks(human.value), (gpt.value.strip(),))


def boxes_text(record: Record, indices: Iterator[int] | range | tuple[int, ...], *, clamp: bool = True) -> str:
    """The true boxes of some frames as an answer, numbered from 1 and without the full stop: what the published
    evaluation puts under ``gt`` (which does not ``clamp`` those that stick out of the frame)."""
    boxes = record.boxes_xyxyn
    bins = [None if np.isnan(boxes[i]).any() else quantize(boxes[i][None], clamp=clamp)[0] for i in indices]
    return ELYSIUM.format_boxes(bins)
