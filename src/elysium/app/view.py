"""A frame on which boxes are drawn, and the boxes in it: the bridge to the component gradio-image-annotation.

Knows the component's form of a box; checks nothing (`desk` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradio.data_classes import FileData
from gradio_image_annotation import image_annotator
from gradio_image_annotation.image_annotator import AnnotatedImageData

from elysium.app.corrections import Box
from elysium.draw import PALETTE


def frame_view(label: str, elem_id: str, *, single: bool = False) -> image_annotator:
    """The component; of what the browser sends it passes on the boxes alone."""
    _wall_in()
    return image_annotator(
        label=label, elem_id=elem_id, sources=[], show_download_button=False, show_share_button=False,
        show_clear_button=False, show_remove_button=True, disable_edit_boxes=True, single_box=single,
        boxes_alpha=0.12, box_thickness=3, box_selected_thickness=4, handle_size=9, box_min_size=4,
        image_type="filepath", visible=False, use_default_label=False,
    )  # fmt: skip


def _wall_in() -> None:
    """Replace what the component does with images, for this process.

    It would open whatever image a visitor sends, in the server. Nobody needs that image: it is a frame that we have.
    (The class is changed because Gradio makes new objects of it as it goes, and a class of our own would not find the
    component's JavaScript.)
    """
    image_annotator.preprocess = _boxes_only
    image_annotator.postprocess = _as_sent


def _boxes_only(self: Any, payload: AnnotatedImageData | None) -> list[list[float]]:
    """(xmin, ymin, xmax, ymax) in pixels of every box that is complete, in the order they were drawn in: the component
    has the newest first."""
    found: list[list[float]] = []
    for box in payload.boxes if payload is not None else []:
        try:
            scale = float(box.get("scaleFactor", 1)) or 1.0
            sides = [float(box[name]) / scale for name in ("xmin", "ymin", "xmax", "ymax")]
        except (KeyError, TypeError, ValueError):
            continue
        if sides[2] > sides[0] and sides[3] > sides[1]:
            found.append([round(side, 1) for side in sides])
    return found[::-1]


def _as_sent(self: Any, value: dict[str, Any] | None) -> AnnotatedImageData | None:
    """An image that lies in a visitor's folder, by its path, and its boxes."""
    if value is None:
        return None
    image = FileData(path=value["image"], orig_name=Path(value["image"]).name)
    return AnnotatedImageData(image=image, boxes=value["boxes"])


def shown(image: Path, boxes: Sequence[Box], labels: Sequence[str] = (), ids: Sequence[int] = ()) -> dict[str, Any]:
    """What to give the component: an image and boxes in the colours of their ids (from 1; by their place without)."""
    numbers = list(ids) or list(range(1, len(boxes) + 1))
    names = list(labels) or [f"object {number}" for number in numbers]
    items = []
    for box, name, number in zip(boxes, names, numbers, strict=True):
        color = PALETTE.by_idx((number - 1) % len(PALETTE.colors)).as_rgb()
        sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(value) for value in box), strict=True))
        items.append({**sides, "label": name, "color": color})
    return {"image": str(image), "boxes": items[::-1]}
