"""Raw answers of a model as JSON lines, with the keys of the published evaluation: one line a question.

Knows the seven keys. Knows nothing about what an answer means, which clips there are, files (`journal.py`) or metrics.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class RawAnswer:
    """One question and what the model said. The order of the fields is that of the keys in the file."""

    vid: str  # "clip_a|0": the video, and which of its clips
    id: str  # the record, and which of its clips; no two lines of a file have the same
    question: str  # with an `<image>` for each frame
    prompt: str  # the question in the model's own frame of a conversation
    gt: str  # what would have been right, in the words of an answer
    predict: str
    image_size: Size | None = None  # width, height in pixels; None where it is not known

    def to_json(self) -> str:
        """One line without its end, as `json.dumps` writes it by default: published files come back to the byte."""
        return json.dumps(asdict(self))

    @classmethod
    def from_value(cls, value: Any) -> RawAnswer:
        """From a parsed line; keys besides the seven are left out. Raises ValueError that says what is wrong."""
        if not isinstance(value, dict):
            raise ValueError("is not an object")
        missing = [field.name for field in fields(cls) if field.name not in value]
        if missing:
            raise ValueError(f"has no {', '.join(missing)}")
        texts = {key: value[key] for key in ("vid", "id", "question", "prompt", "gt", "predict")}
        for key in ("vid", "id"):  # some data sets number their videos
            if type(texts[key]) is int:
                texts[key] = str(texts[key])
        wrong = [key for key, text in texts.items() if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"has a {wrong[0]} that is not text")
        return cls(**texts, image_size=_size(value["image_size"]))


def _size(value: Any) -> Size | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
        raise ValueError(f"has the image_size {value!r}, not width and height in whole pixels")
    return value[0], value[1]
