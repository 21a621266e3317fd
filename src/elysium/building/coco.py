"""A detector of the 80 COCO classes as a grounder: an ONNX file in OpenCV's dnn, and which class a noun belongs to.

Knows the output of FastestDet: (1, 5 + classes, H, W) with objectness, offsets of the middle from the cell before tanh,
logits of width and height, class probabilities. Does not know: adjectives; "the red car" is a car to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.stages import Detections, Image, Phrase
from elysium.errors import ModelError
from elysium.opencv import check_one_opencv, import_opencv, read_network

_INPUT_SIDE = 352
_LEAST_SCORE = 0.1  # of what is looked at at all
_SAME_IOU = 0.45  # cells of one object
_OBJECTNESS_POWER, _CLASS_POWER = 0.6, 0.4  # FastestDet's own weighting of the two


class CocoGrounder:
    """Objects of the class that a phrase's noun belongs to.

    Args:
        path: the ONNX file of a detector with FastestDet's output.
        input_side: pixels of its square input.

    A noun of no class is found nowhere. Raises ModelError if OpenCV or the file is missing, or its output is another.
    """

    def __init__(self, path: str | Path, input_side: int = _INPUT_SIDE) -> None:
        check_one_opencv()
        self.name = f"coco ({Path(path).name})"
        self._network, self._side, self._path = read_network(path), input_side, path

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        classes = [class_of(phrase.noun) for phrase in phrases]
        if all(number is None for number in classes):
            return [_nothing() for _ in phrases]
        boxes, scores = self._detect(image)
        return [_nothing() if number is None else _best(boxes, scores[number]) for number in classes]

    def _detect(self, image: Image) -> tuple[FloatArray, FloatArray]:
        """(cells, 4) boxes in pixels, (classes, cells) scores in 0..1."""
        cv2 = import_opencv()
        bgr = np.ascontiguousarray(image[..., ::-1])
        self._network.setInput(cv2.dnn.blobFromImage(bgr, 1 / 255, (self._side, self._side)))
        output = np.asarray(self._network.forward(), dtype=np.float64)
        if output.ndim != 4 or output.shape[1] != 5 + len(_classes()):
            raise ModelError(
                f"{str(self._path)!r} gives an output of shape {output.shape}",
                f"Use a detector with FastestDet's output, (1, {5 + len(_classes())}, H, W).",
            )
        return decode(output[0], (image.shape[1], image.shape[0]))


def decode(output: FloatArray, resolution_wh: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """(5 + C, H, W) of the network -> (H W, 4) boxes in pixels of the image and (C, H W) scores."""
    _, rows, columns = output.shape
    row, column = np.mgrid[:rows, :columns]
    middle_x = (column + np.tanh(output[1])) / columns
    middle_y = (row + np.tanh(output[2])) / rows
    half_wide, half_high = (0.5 / (1 + np.exp(-output[k])) for k in (3, 4))
    edges = [middle_x - half_wide, middle_y - half_high, middle_x + half_wide, middle_y + half_high]
    boxes = np.stack(edges, axis=-1).reshape(-1, 4) * np.tile(resolution_wh, 2)
    scores = output[0] ** _OBJECTNESS_POWER * output[5:] ** _CLASS_POWER
    return boxes, scores.reshape(len(scores), -1)


def class_of(noun: str) -> int | None:
    """The number of the COCO class that a noun belongs to, by its name or as a kind of it; None if to none.

    >>> class_of("puppy") == class_of("dog"), class_of("love")
    (True, None)
    """
    return _nouns().get(noun.lower())


def _best(boxes: FloatArray, scores: FloatArray) -> Detections:
    """Non-maximum suppression for one class, best first."""
    kept: list[int] = []
    cv2 = import_opencv()
    usable = np.flatnonzero(scores > _LEAST_SCORE)
    rectangles = np.c_[boxes[usable, :2], boxes[usable, 2:] - boxes[usable, :2]]
    if len(usable):
        kept = [int(k) for k in cv2.dnn.NMSBoxes(rectangles, scores[usable], _LEAST_SCORE, _SAME_IOU)]
    return Detections(boxes[usable[kept]], scores[usable[kept]])


def _nothing() -> Detections:
    return Detections(np.empty((0, 4)), np.empty(0))


@lru_cache(maxsize=1)
def _classes() -> dict[str, list[str]]:
    """Names of the classes in COCO's order, each with other nouns for it and for kinds of it."""
    text = Path(__file__).with_name("coco.json").read_text(encoding="utf-8")
    return {name: [noun for noun in nouns.split(", ") if noun] for name, nouns in json.loads(text).items()}


@lru_cache(maxsize=1)
def _nouns() -> dict[str, int]:
    return {noun: k for k, (name, others) in enumerate(_classes().items()) for noun in (name, *others)}
