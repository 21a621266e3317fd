"""Boxes, labels and trails on frames; annotated videos.

Built on supervision's annotators. Everything scales with the frame, so that the same call is readable at 200
pixels and at 4K; colours are those of Okabe and Ito, which colour-blind people can tell apart. A solid box
was written by the model, a dashed one is carried over from an earlier frame, an absent object is named in the
lower left corner. Knows nothing about models, nor about GIFs (`elysium.gif`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from elysium.boxes import FloatArray
from elysium.errors import InputError, SourceError
from elysium.tracks import Track, TrackResult
from elysium.video import Frame, FrameSource, ImageArray, VideoWriter

with warnings.catch_warnings():
    # Without OpenCV supervision draws with NumPy, and says so on every import. That is fine for boxes and
    # labels.
    warnings.filterwarnings("ignore", message="OpenCV")
    import supervision as sv

# Okabe-Ito without black, the ones that stand out most in front.
_HEX = ("E69F00", "56B4E9", "009E73", "F0E442", "CC79A7", "D55E00", "0072B2")
PALETTE = sv.ColorPalette.from_hex(list(_HEX))
_GREY, _WHITE, _BLACK = sv.Color.from_hex("4D4D4D"), sv.Color.from_hex("FFFFFF"), sv.Color.from_hex("000000")
# Labels: the colours, and grey for what is carried; black text reads best on all of them but blue and grey.
_GREY_INDEX = len(_HEX)
_LABEL = sv.ColorPalette([*PALETTE.colors, _GREY])
_TEXT = sv.ColorPalette([_BLACK] * 6 + [_WHITE] * 2)
TRAIL_FRAMES = 30


@dataclass(frozen=True)
class Style:
    """Sizes in pixels of the frame that is drawn on."""

    thickness: int  # of a box's line, without its dark rim
    font_size: int
    padding: int  # around a label's text

    @classmethod
    def for_resolution(cls, resolution_wh: Sequence[int]) -> Style:
        """What suits a frame of this width and height."""
        short = min(resolution_wh)
        return cls(
            thickness=max(2, round(short / 240)),
            font_size=int(np.clip(round(short / 28), 11, 72)),
            padding=max(2, round(short / 180)),
        )


def annotate(
    image: ImageArray,
    boxes: ArrayLike,
    labels: Sequence[str],
    states: Sequence[str],
    ids: Sequence[int],
    trails: Sequence[FloatArray | None] | None = None,
    style: Style | None = None,
) -> ImageArray:
    """Draw N objects on a copy of a frame.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) xyxy pixels; a row with NaN has no box.
        labels, states, ids: N names, states (`tracked`, `absent`, `carried`) and track ids, which choose
        colours. trails: for each object the (M, 2) centres it went through, or None.
        style: sizes; chosen by the resolution when left out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not len(xyxy) == len(labels) == len(states) == len(ids):
        raise ValueError(f"{len(xyxy)} boxes, {len(labels)} labels, {len(states)} states, {len(ids)} ids")
    height, width = image.shape[:2]
    style = style or Style.for_resolution((width, height))
    colors = (np.asarray(ids, dtype=np.int64) - 1) % len(_HEX)  # ids start at 1
    carried = np.array([state == "carried" for state in states], dtype=bool)
    seen = np.isfinite(xyxy).all(axis=1) & np.array([state != "absent" for state in states], dtype=bool)

    canvas = _draw_trails(image, trails or [], colors, style)
    canvas = _draw_boxes(canvas, xyxy[seen & ~carried], colors[seen & ~carried], style)
    for row in np.flatnonzero(seen & carried):
        _draw_dashed(canvas, xyxy[row], PALETTE.by_idx(int(colors[row])).as_rgb(), style)
    names = [
        f"{label} (carried)" if late else label for label, late in zip(labels, carried.tolist(), strict=True)
    ]
    label_colors = np.where(carried, _GREY_INDEX, colors)
    scene = _draw_labels(Image.fromarray(canvas), xyxy, names, label_colors, np.flatnonzero(seen), style)
    absent = [
        f"{label}: {'absent' if state == 'absent' else 'not found'}"
        for label, state in zip(labels, states, strict=True)
    ]
    return np.array(_draw_corner(scene, absent, colors, np.flatnonzero(~seen), style))


def _detections(xyxy: FloatArray) -> sv.Detections:
    return sv.Detections(xyxy=xyxy.reshape(-1, 4), class_id=np.zeros(len(xyxy), dtype=np.int64))


def _draw_trails(
    image: ImageArray, trails: Sequence[FloatArray | None], colors: np.ndarray[Any, Any], style: Style
) -> ImageArray:
    """A copy of the image with a line through the centres of each object so far."""
    lines = [
        (t[np.isfinite(t).all(axis=1)], c) for t, c in zip(trails, colors, strict=False) if t is not None
    ]
    lines = [(points, color) for points, color in lines if len(points) > 1]
    if not lines:
        return image.copy()
    scene = Image.fromarray(image)
    draw = ImageDraw.Draw(scene)
    for points, color in lines:
        path = [(float(x), float(y)) for x, y in points]
        draw.line(path, fill=PALETTE.by_idx(int(color)).as_rgb(), width=style.thickness, joint="curve")
    return np.array(scene)


def _draw_boxes(
    canvas: ImageArray, xyxy: FloatArray, colors: np.ndarray[Any, Any], style: Style
) -> ImageArray:
    """Solid boxes with a dark rim, so that they show on any background."""
    if not len(xyxy):
        return canvas
    detections = _detections(xyxy)
    # The annotators paint in OpenCV's order of channels; our image is RGB, so the palette is turned round.
    turned = sv.ColorPalette([sv.Color(r=c.b, g=c.g, b=c.r) for c in PALETTE.colors])
    rim = sv.BoxAnnotator(color=_BLACK, thickness=style.thickness + 2 * max(1, style.thickness // 3))
    line = sv.BoxAnnotator(color=turned, thickness=style.thickness)
    canvas = rim.annotate(canvas, detections)
    return line.annotate(canvas, detections, custom_color_lookup=colors)


def _draw_dashed(canvas: ImageArray, box: FloatArray, color: tuple[int, int, int], style: Style) -> None:
    """A dashed box, in place: dashes of the colour with dark gaps, thinner than a solid box."""
    height, width = canvas.shape[:2]
    thick, dash = max(1, style.thickness - style.thickness // 3), max(4, 4 * style.thickness)
    x1, y1, x2, y2 = (int(v) for v in np.rint(box))
    x1, x2 = (min(max(x, 0), width - 1) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), height - 1) for y in (y1, y2))
    edges = [canvas[y : y + thick, x1 : x2 + 1] for y in (y1, max(y1, y2 - thick + 1))] + [
        canvas[y1 : y2 + 1, x : x + thick].swapaxes(0, 1) for x in (x1, max(x1, x2 - thick + 1))
    ]
    for edge in edges:  # views of shape (thick, length, 3)
        on = np.arange(edge.shape[1]) // dash % 2 == 0
        edge[:, on] = color
        edge[:, ~on] //= 3


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitted(text: str, style: Style, width: int) -> str:
    """The text in one line, its end replaced by an ellipsis if it is wider than the frame allows."""
    text, font, room = " ".join(text.split()), _font(style.font_size), width - 2 * style.padding - 2
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _draw_labels(
    scene: Image.Image,
    xyxy: FloatArray,
    names: Sequence[str],
    colors: np.ndarray[Any, Any],
    rows: np.ndarray[Any, Any],
    style: Style,
) -> Image.Image:
    """The names of `rows` above their boxes, moved into the frame where they would stick out."""
    if not len(rows):
        return scene
    annotator = sv.RichLabelAnnotator(
        color=_LABEL,
        text_color=_TEXT,
        font_size=style.font_size,
        text_padding=style.padding,
        smart_position=True,
    )
    texts = [_fitted(names[row], style, scene.width) for row in rows]
    return annotator.annotate(scene, _detections(xyxy[rows]), texts, custom_color_lookup=colors[rows])


def _draw_corner(
    scene: Image.Image,
    names: Sequence[str],
    colors: np.ndarray[Any, Any],
    rows: np.ndarray[Any, Any],
    style: Style,
) -> Image.Image:
    """The names of objects without a box, from the lower left corner upwards, with spots of their colours."""
    draw, font, pad = ImageDraw.Draw(scene), _font(style.font_size), style.padding
    line = round(style.font_size * 1.25) + 2 * pad
    for place, row in enumerate(rows):
        bottom = scene.height - 1 - place * (line + 1)
        text = _fitted(names[row], style, scene.width - line)
        middle, right = bottom - line / 2, line + font.getlength(text) + pad
        draw.rectangle((0, bottom - line, right, bottom), fill=_GREY.as_rgb())
        spot = (pad, middle - line / 2 + 2 * pad, line - 3 * pad, middle + line / 2 - 2 * pad)
        draw.rectangle(spot, fill=PALETTE.by_idx(int(colors[row])).as_rgb())
        draw.text((line - pad, middle), text, font=font, fill=_WHITE.as_rgb(), anchor="lm")
    return scene


def annotate_result(
    frames: Iterable[Frame] | FrameSource, result: TrackResult, *, trails: bool = False
) -> Iterator[ImageArray]:
    """The frames that were processed, annotated, in order; frames of the source that were not are left out.

    Raises InputError if the frames are of another size than the tracks, SourceError if none of them was
    tracked.
    """
    wanted, drawn = set(result.indices.tolist()), 0
    style = Style.for_resolution(result.resolution_wh)
    for frame in frames:
        if frame.index not in wanted:
            continue
        size = (frame.image.shape[1], frame.image.shape[0])
        if size != tuple(result.resolution_wh):
            raise InputError(
                f"The frames are {size} pixels, the tracks {tuple(result.resolution_wh)}",
                "Use the video that was tracked.",
            )
        yield _annotate_frame(frame, result, trails, style)
        drawn += 1
        if drawn == len(wanted):
            return
    if wanted and not drawn:
        raise SourceError("None of the tracked frames is in this source", "Use the video that was tracked.")


def _annotate_frame(frame: Frame, result: TrackResult, trails: bool, style: Style) -> ImageArray:
    found = [(track, row) for track in result.tracks if (row := track.row(frame.index)) is not None]
    return annotate(
        frame.image,
        np.array([track.boxes_xyxy[row] for track, row in found]).reshape(-1, 4),
        [track.label for track, _ in found],
        [str(track.states[row]) for track, row in found],
        [track.id for track, _ in found],
        [_trail(track, row) for track, row in found] if trails else None,
        style,
    )


def _trail(track: Track, row: int) -> FloatArray:
    """(M, 2) centres of the last boxes the model wrote, up to this row."""
    rows = np.arange(max(0, row + 1 - TRAIL_FRAMES), row + 1)
    boxes = track.boxes_xyxy[rows[track.states[rows] == "tracked"]]
    centers: FloatArray = (boxes[:, :2] + boxes[:, 2:]) / 2
    return centers


def write_video(
    frames: Iterable[Frame] | FrameSource,
    result: TrackResult,
    path: str | os.PathLike[str],
    *,
    trails: bool = False,
) -> Path:
    """Annotate the processed frames and write them as a video that plays at the speed of life.

    Args:
        frames: the source that was tracked, from its start (`open_source(result.source)`).
        result: what was found in it.
        path: a `.mp4` or another container for H.264.
        trails: whether to draw where the objects came from.

    Raises OutputError if it cannot be written, SourceError or InputError if the frames are not those of the
    result.
    """
    with VideoWriter(path, result.output_fps, result.resolution_wh) as writer:
        for image in annotate_result(frames, result, trails=trails):
            writer.write(image)
    return Path(path)
