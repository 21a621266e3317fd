"""Records to look at: contact sheets, and GIFs of single tracks. Knows records, images, drawing; no models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from elysium.data.records import Record
from elysium.data.records.chats import without_frame_marks
from elysium.data.records.images import ImageFolder
from elysium.draw import annotate
from elysium.errors import InputError
from elysium.files import atomic_path
from elysium.gif import write_gif
from elysium.sampling import spread_frames
from elysium.video import ImageArray

CELL_PX = 360
_CAPTION_PX, _GAP_PX, _COLUMNS = 44, 8, 4
_GIF_FPS, _SLOWEST_FPS, _FASTEST_FPS = 8.0, 0.5, 60.0
KINDS = (".png", ".jpg", ".jpeg", ".webp")


def sheet(records: Sequence[Record], images: ImageFolder, frames_each: int = 1) -> Image.Image:
    """A cell for ``frames_each`` frames of each record, evenly spread, with its box and words.

    Raises SourceError for an image that cannot be read.
    """
    cells = [
        (_cell(drawn(record, place, images)), f"{record.id}, frame {place}\n{words(record)}")
        for record in records for place in spread_frames(len(record.frames), frames_each).tolist()
    ]  # fmt: skip
    if not cells:
        raise InputError("There is no frame to show", "Choose records with images.")
    columns = min(_COLUMNS, len(cells))
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    heights = [max(cell.height for cell, _ in row) + _CAPTION_PX for row in rows]
    size = (columns * (CELL_PX + _GAP_PX) + _GAP_PX, sum(heights) + len(rows) * _GAP_PX + _GAP_PX)
    page, top = Image.new("RGB", size, "white"), _GAP_PX
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for row, height in zip(rows, heights, strict=True):
        for column, (cell, caption) in enumerate(row):
            left = _GAP_PX + column * (CELL_PX + _GAP_PX)
            page.paste(cell, (left, top))
            for line, text in enumerate(caption.split("\n")):
                place = (left, top + cell.height + 3 + 18 * line)
                pen.text(place, _cut(text, font), fill="black", font=font)
        top += height + _GAP_PX
    return page


def gif(record: Record, images: ImageFolder, path: Path) -> Path:
    """All frames of one record, its box drawn, as a GIF. Raises SourceError for an image that cannot be read."""
    shown: Iterator[ImageArray] = (drawn(record, place, images) for place in range(len(record.frames)))
    return write_gif(path, shown, _fps(record))


def save(page: Image.Image, path: Path) -> Path:
    """Write a sheet; the kind of image follows from the name. Raises InputError for another kind, OutputError."""
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{str(path)!r} is no name of an image", f"Let it end in {', '.join(KINDS)}, or .gif.")
    with atomic_path(path) as temporary:
        page.save(temporary)
    return path


def drawn(record: Record, place: int, images: ImageFolder) -> ImageArray:
    """Frame ``place`` of a record as (H, W, 3) uint8 RGB with its box; chats have none."""
    image = images.read(record.frames[place])
    if record.vqa is not None or not record.box:
        return image
    height, width = image.shape[:2]
    box = record.boxes_xyxyn[place] * np.tile([width, height], 2)
    state = "tracked" if np.isfinite(box).all() else "absent"
    return annotate(image, box[None], [record.object_class or words(record)], [state], [1])


def words(record: Record) -> str:
    """The description, or the first question and answer of a chat."""
    if record.vqa is None:
        return record.object_description
    return " → ".join(without_frame_marks(turn.value) for turn in record.vqa[:2])


def _cell(image: ImageArray) -> Image.Image:
    picture = Image.fromarray(image)
    picture.thumbnail((CELL_PX, CELL_PX))
    return picture


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a text as a cell is wide."""
    if font.getlength(text) <= CELL_PX:
        return text
    while text and font.getlength(text + "…") > CELL_PX:
        text = text[:-1]
    return text + "…"


def _fps(record: Record) -> float:
    times = record.times_s or []
    if len(times) < 2 or not 0 < times[-1] - times[0] < float("inf"):
        return _GIF_FPS
    return min(max((len(times) - 1) / (times[-1] - times[0]), _SLOWEST_FPS), _FASTEST_FPS)
