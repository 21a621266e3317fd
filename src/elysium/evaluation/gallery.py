"""Where a tracker fails worst, as pictures: which frame of which sequence, both boxes drawn on it, one contact sheet.

Knows truth, results, frames on disk and Pillow. Knows nothing about pages or plots. A frame that is missing or cannot
be read costs its own picture and nothing else.

The true box is solid and blue, the answer dashed and orange: they differ without colour too, and where they coincide
the truth shows in the gaps of the dashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from elysium.boxes import FloatArray, clip_to_frame, iou
from elysium.data.records import Record
from elysium.draw import PALETTE, Style
from elysium.errors import InputError, SourceError
from elysium.evaluation.conventions import has_area
from elysium.evaluation.quality import FOUND_IOU
from elysium.evaluation.results import Result
from elysium.evaluation.scoring import TrackingSummary, Truth, fitted
from elysium.video import read_image

LOST_IOU = 0.1  # a frame below it is lost, not just loose
WIDTH, HEIGHT = 480, 640  # pixels of a picture at most; smaller frames are enlarged
QUALITY = 85  # of JPEG
ORANGE, BLUE = (PALETTE.by_idx(place).as_rgb() for place in (0, 1))
TRUTH_COLOR, ANSWER_COLOR = BLUE, ORANGE
ASKED_LENGTH = 160
SHEET_COLUMNS = 3
_MARGIN, _LINE, _FONT_SIZE = 12, 22, 17


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """The frame of a sequence that shows its failure.

    Attributes:
        id: of the record. row: of the frame, from 0; num_frames: that the record has.
        iou: there, 0..1. auc: of the sequence, in per cent.
        frame: path below the folder of images.
        truth_xyxy, answer_xyxy: (4,) in pixels of ``frame_size``; the answer may be NaN.
        asked: what was asked for, in words.
    """

    id: str
    row: int
    num_frames: int
    iou: float
    auc: float
    frame: str
    truth_xyxy: FloatArray
    answer_xyxy: FloatArray
    frame_size: tuple[int, int]
    asked: str

    @property
    def caption(self) -> str:
        """Frame, counted from 1, and how bad it and its sequence are."""
        box = f"IoU {self.iou:.2f}" if np.isfinite(self.answer_xyxy).all() else "no box"
        return f"frame {self.row + 1} of {self.num_frames} · {box} · AUC {self.auc:.1f} of the sequence"


Pictured: TypeAlias = tuple[WorstFrame, Image.Image]


def worst_row(overlaps: ArrayLike) -> int | None:
    """The frame that shows best how a sequence is lost: the middle of the longest stretch with IoU below 0.1.

    Args:
        overlaps: (T,) IoU, 0 where the answer has no box; NaN for frames that do not count, which end a stretch.

    Returns:
        A row; that of the lowest IoU where none is below 0.1; None if no frame counts. Of equals the first.

    >>> worst_row([0.9, 0.0, 0.8, 0.05, 0.0, 0.09, 0.7])
    4
    """
    values = np.asarray(overlaps, dtype=np.float64)
    if np.isnan(values).all():
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values < LOST_IOU, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return int(np.nanargmin(values))
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + ends[longest] - 1) // 2


def worst_frames(
    summary: TrackingSummary, records: Mapping[str, Record], results: Mapping[str, Result], limit: int, task: str = ""
) -> list[WorstFrame]:
    """One frame of each of the worst sequences, by AUC; those that never fall below IoU 0.5 have nothing to show."""
    found: list[WorstFrame] = []
    for one in sorted(summary.sequences, key=lambda s: (np.nan_to_num(s.scores.auc, nan=np.inf), s.id)):
        if len(found) >= limit:
            break
        if one.id in records and one.id in results:
            asked = asked_for(records[one.id], results[one.id], task)
            frame = _worst_frame(records[one.id], results[one.id], one.scores.auc, summary.count_first, asked)
            found += [frame] if frame is not None and frame.iou < FOUND_IOU else []
    return found


def _worst_frame(record: Record, result: Result, auc: float, count_first: bool, asked: str) -> WorstFrame | None:
    try:
        truth = Truth.from_record(record)
    except InputError:  # no boxes or no size: it could not have been scored either
        return None
    if result.boxes_xyxy is None:
        return None
    boxes = fitted(result, len(truth.boxes_xyxy))
    overlaps = np.where(has_area(truth.boxes_xyxy), iou(boxes, truth.boxes_xyxy), np.nan)
    if not count_first:
        overlaps[:1] = np.nan
    row = worst_row(overlaps)
    if row is None or row >= len(record.frames):
        return None
    return WorstFrame(
        result.id, row, len(boxes), float(overlaps[row]), auc, record.frames[row],
        truth.boxes_xyxy[row], boxes[row], truth.resolution_wh, asked,
    )  # fmt: skip


def asked_for(record: Record | None, result: Result, task: str = "") -> str:
    """The question in its own words if the run kept it, else what the record calls the object; at most a few lines.

    Without words a tracker of SOT was given the first box, whatever the record calls the object.
    """
    words = without_marks(result.answers[0].question) if result.answers else ""
    if not words:
        name = "" if record is None else " ".join(_description(record).split())
        words = f"the box of the first frame{f' ({name})' if name else ''}" if task == "SOT" else name
    return words if len(words) <= ASKED_LENGTH else words[: ASKED_LENGTH - 1].rstrip() + "…"


def without_marks(question: str) -> str:
    """A question in one line, without the marks that stand for frames, and what numbers them.

    >>> without_marks("Frame 1: <image>\\nFrame 2: <image>\\nWhere is it?")
    'Where is it?'
    """
    return " ".join(re.sub(r"(Frame \d+: *)?<(image|video)>", " ", question).split())


def _description(record: Record) -> str:
    return (record.expressions or [""])[0] or record.object_description or record.object_class


def picture(
    path: Path, truth_xyxy: FloatArray, answer_xyxy: FloatArray, frame_size: tuple[int, int] | None
) -> Image.Image:
    """A frame, made 480 x 640 pixels large at most, with both boxes, (4,) in pixels of ``frame_size``; NaN is no box.

    Raises SourceError if the frame is missing or cannot be read.
    """
    image = Image.fromarray(read_image(path))
    scale = min(WIDTH / image.width, HEIGHT / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    stretch = np.array(size * 2) / np.array((frame_size or size) * 2)
    draw, thickness = ImageDraw.Draw(image), max(3, Style.for_resolution(size).thickness)
    for box, color, dashed in ((truth_xyxy, TRUTH_COLOR, False), (answer_xyxy, ANSWER_COLOR, True)):
        if has_area(box[None])[0]:
            around = np.rint(box * stretch) + np.array([-1, -1, 1, 1]) * (thickness - 1)  # a small object stays visible
            corners = [int(value) for value in clip_to_frame(around, (size[0] - 1, size[1] - 1)).tolist()]
            draw_box(draw, corners, color, thickness, dashed=dashed)
    return image


def draw_box(
    draw: ImageDraw.ImageDraw, corners: Sequence[int], color: tuple[int, int, int], thickness: int, *, dashed: bool
) -> None:
    """A box with its line inside of the corners and a dark rim of a pixel, so that it shows on any background."""
    x1, y1, x2, y2 = corners
    inner = thickness - 1
    bars = [(x1, y1, x2, y1 + inner), (x1, y2 - inner, x2, y2), (x1, y1, x1 + inner, y2), (x2 - inner, y1, x2, y2)]
    dash = min(4 * thickness, max(thickness, max(x2 - x1, y2 - y1) // 5))  # a small box has dashes too
    bars = [piece for bar in bars for piece in (_dashes(bar, dash) if dashed else [bar])]
    for grow, fill in ((1, (0, 0, 0)), (0, color)):
        for left, top, right, bottom in bars:
            draw.rectangle((left - grow, top - grow, max(left, right) + grow, max(top, bottom) + grow), fill=fill)


def _dashes(bar: tuple[int, int, int, int], length: int) -> list[tuple[int, int, int, int]]:
    """Every other piece of a bar, along its longer side; it begins with one that is there."""
    left, top, right, bottom = bar
    if right - left > bottom - top:
        return [(x, top, min(x + length - 1, right), bottom) for x in range(left, right + 1, 2 * length)]
    return [(left, y, right, min(y + length - 1, bottom)) for y in range(top, bottom + 1, 2 * length)]


def failure_pictures(frames: Sequence[WorstFrame], images: Path | None) -> list[Pictured]:
    """The frames that could be read, with their pictures."""
    found = []
    for frame in frames:
        shown = read_picture(images, frame.frame, frame.truth_xyxy, frame.answer_xyxy, frame.frame_size)
        found += [(frame, shown)] if shown is not None else []
    return found


def read_picture(
    images: Path | None, frame: str, truth: FloatArray, answer: FloatArray, frame_size: tuple[int, int] | None
) -> Image.Image | None:
    """`picture` of a frame below the folder ``images``; None if there is none or it cannot be read."""
    if images is None:
        return None
    try:
        return picture(images / frame, truth, answer, frame_size)
    except SourceError:
        return None


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    """A picture as JPEG, with the colours of thin lines kept, or as PNG."""
    buffer = BytesIO()
    options = {"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def contact_sheet(pictures: Sequence[Pictured]) -> Image.Image:
    """All pictures in rows of three with their captions below, and on top which box is which."""
    columns = min(SHEET_COLUMNS, len(pictures))
    rows = [pictures[at : at + columns] for at in range(0, len(pictures), columns)]
    heights = [max(image.height for _, image in row) + 4 * _LINE + _MARGIN for row in rows]
    width = columns * (WIDTH + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, sum(heights) + 2 * _MARGIN + _LINE), "white")
    draw, top = ImageDraw.Draw(sheet), 2 * _MARGIN + _LINE
    _sheet_legend(draw)
    for row, height in zip(rows, heights, strict=True):
        for column, (frame, image) in enumerate(row):
            left = _MARGIN + column * (WIDTH + _MARGIN)
            sheet.paste(image, (left, top))
            for line, text in enumerate((_lines(frame.id)[0], frame.caption, *_lines(frame.asked)[:2])):
                place = (left, top + image.height + 2 + line * _LINE)
                draw.text(place, text, fill="black" if line == 0 else "#444444", font=_font())
        top += height
    return sheet


def _sheet_legend(draw: ImageDraw.ImageDraw) -> None:
    left = _MARGIN
    for name, color, dashed in (("truth (solid)", TRUTH_COLOR, False), ("answer (dashed)", ANSWER_COLOR, True)):
        draw_box(draw, (left, _MARGIN, left + 40, _MARGIN + 18), color, 3, dashed=dashed)
        draw.text((left + 50, _MARGIN - 1), name, fill="black", font=_font())
        left += 230


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)


def _lines(text: str) -> list[str]:
    """A text in lines no wider than a picture, at least one; a word that is wider is cut."""
    font, lines = _font(), [""]
    for word in text.encode("utf-8", "replace").decode("utf-8").split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > WIDTH:
            lines.append(word)
        else:
            lines[-1] = longer
        while font.getlength(lines[-1]) > WIDTH:
            lines[-1] = lines[-1][:-2] + "…"
    return lines
