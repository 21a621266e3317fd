"""What one annotation record is, in types. Knows no file, and no rule that a type cannot say: `checks` has those."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from elysium.boxes import FloatArray, denormalize
from elysium.errors import InputError

Box: TypeAlias = tuple[float, float, float, float]
Size: TypeAlias = tuple[int, int]


class Turn(BaseModel):
    """One side of a round of a chat; `box` replaces the `<box>` marks in `value`, in order."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    from_: str = Field(alias="from")
    value: str
    box: list[Box] | None = None


class Record(BaseModel):
    """One line of an annotation file. Keys that are not listed here are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    source: str = ""
    id: str | int
    vid: str | int = ""
    metadata: Any = None
    frames: list[str]  # image paths relative to an image folder
    object_class: str = ""
    box: list[Box | None] | None = None  # x1, y1, x2, y2 in 0..1; one a frame, but in a chat one a `<box>` mark
    object_description: str = ""
    frame_size: Size | None = None  # width, height
    vqa: list[Turn] | None = None
    absent: list[bool] | None = None
    expressions: list[str] | None = None
    caption: str | None = None
    times_s: list[float] | None = None

    @property
    def boxes_xyxyn(self) -> FloatArray:
        """(T, 4) in 0..1 of the frame; NaN where the object is absent."""
        nothing = (np.nan,) * 4
        boxes = np.array([box or nothing for box in self.box or []], dtype=np.float64).reshape(-1, 4)
        if self.absent:
            boxes[np.array(self.absent)] = np.nan
        return boxes

    @property
    def boxes_xyxy(self) -> FloatArray:
        """(T, 4) pixels, unrounded. Raises InputError if the record does not say how large a frame is."""
        if self.frame_size is None:
            raise InputError(f"The record {self.id!r} has no frame_size", "Give it one, as [width, height].")
        return denormalize(self.boxes_xyxyn, self.frame_size)

    def to_json(self) -> str:
        """One line without its end, holding the keys that were given and no others; of optional ones, no null."""
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return to_line({key: value for key, value in values.items() if value is not None or key == "metadata"})


def to_line(value: Any) -> str:
    """JSON of a value on one line, readable but for text that is no Unicode (halves of characters), which is escaped.

    Raises ValueError for NaN.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text
