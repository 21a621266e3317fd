"""The trackers that a model is measured against: no motion at all, and those that OpenCV brings along.

Knows how OpenCV's trackers are built and asked, and what their answers mean. Does not know: data sets, scores, models
of Elysium. OpenCV is imported when the first of its trackers is built.

OpenCV says of some frames that the object is lost, KCF of two in three; the box before then stands, as LaSOT's toolkit
and pytracking have it. Success AUC of 21 short sequences of OTB, DAVIS, UAV123 and VOT, first frame counted, OpenCV 5.0
on one thread or two:

| | hold | kcf | csrt | mil | nanotrack v2 |
|---|---|---|---|---|---|
| measured here | 27.3 | 33.8 | 57.2 | 46.7 | 70.9 |
| lost frames as misses | 27.3 | 24.3 | 57.2 | 46.7 | 70.9 |
| OTB's boxes as distributed, counted from 1 and so a pixel off | 27.3 | 33.7 | 59.4 | | 70.7 |
| measured by others, OpenCV 5.0 | 27.3 | 33.7 | 59.3 | | 70.7 |

So the others seem to have left out that shift; and CSRT is unsteady: a pixel at the start moves single sequences by up
to 56 points. OpenCV 4.10: csrt and nanotrack the same, kcf 34.1. MIL draws with C's `rand`, which OpenCV cannot seed:
what ran before it in the same process changes its boxes (46.7 to 48.0 in three runs).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray, as_boxes, format_numbers, to_xyxy
from elysium.errors import InputError, ModelError

ImageArray: TypeAlias = NDArray[np.uint8]

BASELINES = ("hold", "kcf", "csrt", "mil", "nanotrack:PATH")  # as help texts show them
_OPENCV_CLASSES = {"kcf": "TrackerKCF", "csrt": "TrackerCSRT", "mil": "TrackerMIL"}
# With less than this OpenCV's MIL looks for features that fit into the box, and never comes back.
_MIL_SIDE = 5
_NAN = float("nan")
_INSTALL = (
    'Install its extra, pip install "elysium-video[eval]"; exactly one OpenCV package may be installed, so first '
    "uninstall any other (opencv-python, opencv-python-headless, opencv-contrib-python)."
)
_NANO_REMEDY = (
    "Give nanotrack:PATH, a folder with NanoTrack v2 as two files, one *backbone*.onnx and one *head*.onnx."
)


class BoxTracker(Protocol):
    """Follows one box. One tracker follows one object through one video."""

    def init(self, image: ImageArray, box_xyxy: FloatArray) -> None:
        """Start in `image`, (H, W, 3) RGB, from the box (4,) in pixels."""

    def update(self, image: ImageArray) -> tuple[FloatArray, float]:
        """The next frame, (H, W, 3) RGB -> the box (4,) xyxy in pixels, NaN when the object is lost, and its score:
        0 when it is lost, NaN when the tracker has none."""


def is_baseline(name: str) -> bool:
    """Whether `name` asks for a baseline, not for a model. `nanotrack` counts without its path, too, so that
    `build_baseline` can say what is missing."""
    return name in ("hold", "nanotrack", *_OPENCV_CLASSES) or name.startswith("nanotrack:")


def build_baseline(name: str) -> BoxTracker:
    """A fresh tracker.

    Args:
        name: one of `BASELINES`; PATH is a folder with the two ONNX files of NanoTrack v2, one with "backbone" in its
            name and one with "head".

    Raises:
        InputError: no baseline has this name, or the folder is not as it should be.
        ModelError: the installed OpenCV is without this tracker, there is none, or it cannot read the ONNX files.
    """
    if not is_baseline(name):
        raise InputError(f"There is no baseline {name!r}", f"Use one of {', '.join(BASELINES)}.")
    kind, _, path = name.partition(":")
    if kind == "hold":
        return _Hold()
    if kind == "nanotrack":
        return _OpenCvTracker(_build_nanotrack(path), scored=True)
    return _OpenCvTracker(_find(_OPENCV_CLASSES[kind]).create(), min_side=_MIL_SIDE if kind == "mil" else 1)


def track_boxes(
    tracker: BoxTracker, frames: Iterable[ImageArray], box_xyxy: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Follow one box through T frames, as one-pass evaluation asks for it: with a box in every frame.

    A frame in which the object is lost repeats the box before it and has score 0, so whoever wants to count it as "no
    box" can.

    Args:
        tracker: a fresh one.
        frames: (H, W, 3) RGB each, all of one size; read once, one at a time.
        box_xyxy: (4,) pixels, the box in the first frame.

    Returns:
        (T, 4) boxes in pixels, the first of them as given, and (T,) scores, NaN where there is none and in frame 0.

    Raises InputError if the box is not four numbers, or is one that the tracker cannot start from.
    """
    (first,) = _one_box(box_xyxy)
    boxes: list[FloatArray] = []
    scores: list[float] = []
    for image in frames:
        if not boxes:
            tracker.init(image, first)
            box, score = first, _NAN
        else:
            box, score = tracker.update(image)
        boxes.append(box if np.isfinite(box).all() else boxes[-1])
        scores.append(score)
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(scores, dtype=np.float64)


def _one_box(box_xyxy: ArrayLike) -> FloatArray:
    """(1, 4); raises InputError unless it is exactly one."""
    boxes = as_boxes(box_xyxy)
    if len(boxes) != 1:
        raise InputError(f"A baseline follows one box, got {len(boxes)}", "Give left, top, right, bottom in pixels.")
    return boxes


class _Hold:
    """Says that nothing ever moves."""

    def init(self, image: ImageArray, box_xyxy: FloatArray) -> None:
        self._box = box_xyxy.copy()

    def update(self, image: ImageArray) -> tuple[FloatArray, float]:
        return self._box.copy(), _NAN


class _OpenCvTracker:
    """One of OpenCV's trackers, with our colours, boxes and meaning of "lost".

    Args:
        tracker: with OpenCV's `init(image, rectangle)` and `update(image)`, for BGR images.
        scored: whether its tracking score is one; most say -1, and before OpenCV 5 do not have the method.
        min_side: smaller boxes are widened to this many pixels at the start.
    """

    def __init__(self, tracker: Any, *, scored: bool = False, min_side: int = 1) -> None:
        self._tracker = tracker
        self._scored = scored
        self._min_side = min_side

    def init(self, image: ImageArray, box_xyxy: FloatArray) -> None:
        height, width = image.shape[:2]
        # Inside of the frame: MIL fails on a box that sticks out.
        (box,) = to_xyxy(box_xyxy, "xyxy", (width, height)).boxes
        try:
            self._tracker.init(_to_bgr(image), _rectangle(box, self._min_side))
        except _opencv().error as error:
            raise InputError(
                f"OpenCV's {type(self._tracker).__name__} cannot start from box {format_numbers(box)} in a frame of "
                f"{width}x{height} pixels",
                "Give a box of some pixels that leaves a margin around it, or use another baseline.",
            ) from error

    def update(self, image: ImageArray) -> tuple[FloatArray, float]:
        located, (left, top, width, height) = self._tracker.update(_to_bgr(image))
        if not located:  # what OpenCV returns as the box is then without meaning
            return np.full(4, _NAN), 0.0
        score = float(self._tracker.getTrackingScore()) if self._scored else _NAN
        return np.array([left, top, left + width, top + height], dtype=np.float64), score


def _to_bgr(image: ImageArray) -> ImageArray:
    """(H, W, 3) RGB -> (H, W, 3) BGR, in one piece, as OpenCV wants it."""
    return np.ascontiguousarray(image[..., ::-1])


def _rectangle(box_xyxy: FloatArray, min_side: int) -> tuple[int, int, int, int]:
    """(4,) -> left, top, width, height in whole pixels. The sides are rounded, not the far edges, so an object of one
    size gives one size wherever it lies; and not cut down, as `int` would."""
    left, top, right, bottom = (float(edge) for edge in box_xyxy)
    return round(left), round(top), max(round(right - left), min_side), max(round(bottom - top), min_side)


def _opencv() -> Any:
    """The module cv2; raises ModelError if it cannot be imported."""
    try:
        import cv2
    except ImportError as error:
        raise ModelError(f"This baseline needs OpenCV, which cannot be imported ({error})", _INSTALL) from error
    return cv2


def _find(name: str) -> Any:
    """The class of one of OpenCV's trackers; raises ModelError if the installed OpenCV lacks it."""
    cv2 = _opencv()
    # The present interface first; `legacy` has older versions of the same trackers.
    for home in (cv2, getattr(cv2, "legacy", None)):
        if hasattr(home, name):
            return getattr(home, name)
    version = getattr(cv2, "__version__", "(damaged)")  # what is left when one of two packages was uninstalled
    raise ModelError(f"The installed OpenCV {version} has no {name}", _INSTALL)


def _build_nanotrack(path: str) -> Any:
    """OpenCV's TrackerNano with the networks of the folder `path`; raises as `build_baseline` does."""
    backbone, head = _nanotrack_files(path)
    tracker_class, cv2 = _find("TrackerNano"), _opencv()
    params = tracker_class.Params()
    params.backbone, params.neckhead = str(backbone), str(head)
    try:
        with _without_warnings(cv2):
            return tracker_class.create(params)
    except cv2.error as error:
        raise ModelError(f"OpenCV cannot read the networks in {path!r}", _NANO_REMEDY) from error


def _nanotrack_files(path: str) -> tuple[Path, Path]:
    """The backbone and the head; raises InputError if there is no folder, or not exactly one of each in it."""
    if not path:
        raise InputError("The baseline nanotrack needs to know where its model is", _NANO_REMEDY)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(f"There is no folder {path!r}", _NANO_REMEDY)
    found = []
    for part in ("backbone", "head"):
        files = sorted(folder.glob(f"*{part}*.onnx"))
        if len(files) != 1:
            raise InputError(f"The folder {path!r} has {len(files)} files *{part}*.onnx, not one", _NANO_REMEDY)
        found.append(files[0])
    return found[0], found[1]


@contextmanager
def _without_warnings(cv2: Any) -> Iterator[None]:
    """OpenCV 5 warns twice for every network read that targets are not supported yet, on the CPU as well, where that
    changes nothing. Its levels are not in Python before version 5, and neither is the warning."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    before = logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(before)
