"""OpenCV's trackers behind one small protocol: how they are built and asked, and what their answers mean.

Knows OpenCV's rectangles, colours and classes, and that of its several packages only one may be installed. Does not
know: data sets, scores of an evaluation, models of Elysium. OpenCV is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import FloatArray, format_numbers, to_xyxy
from elysium.errors import InputError, ModelError

ImageArray: TypeAlias = NDArray[np.uint8]

OPENCV_TRACKERS = {"kcf": "TrackerKCF", "csrt": "TrackerCSRT", "mil": "TrackerMIL"}  # by the names that we give them
# With less than this OpenCV's MIL looks for features that fit into the box, and never comes back.
_MIL_SIDE = 5
_NAN = float("nan")
_PACKAGE = "opencv-contrib-python-headless"
_ONE_PACKAGE = (
    "exactly one OpenCV package may be installed, so first uninstall any other (opencv-python, opencv-python-headless, "
    "opencv-contrib-python)."
)
_INSTALL = (
    f'Install an extra that brings it, pip install "elysium-video[eval]" or "elysium-video[build]"; {_ONE_PACKAGE}'
)
_NANO_REMEDY = "Give nanotrack:PATH, a folder with NanoTrack v2 as two files, one *backbone*.onnx and one *head*.onnx."


class BoxTracker(Protocol):
    """Follows one box. One tracker follows one object through one video."""

    def init(self, image: ImageArray, box_xyxy: FloatArray) -> None:
        """Start in `image`, (H, W, 3) RGB, from the box (4,) in pixels."""

    def update(self, image: ImageArray) -> tuple[FloatArray, float]:
        """The next frame, (H, W, 3) RGB -> the box (4,) xyxy in pixels, NaN when the object is lost, and its score:
        0 when it is lost, NaN when the tracker has none."""


def build_tracker(name: str) -> BoxTracker:
    """A fresh tracker of OpenCV: `kcf`, `csrt`, `mil`, or `nanotrack:PATH` with a folder of its two ONNX files.

    Raises:
        InputError: the folder is not as it should be.
        ModelError: the installed OpenCV is without this tracker, there is none, or it cannot read the ONNX files.
    """
    kind, _, path = name.partition(":")
    if kind == "nanotrack":
        return _OpenCvTracker(_build_nanotrack(path), scored=True)
    return _OpenCvTracker(_find(OPENCV_TRACKERS[kind]).create(), min_side=_MIL_SIDE if kind == "mil" else 1)


def check_one_opencv() -> None:
    """Raises ModelError where cv2 comes from more than one package, whose files then overwrite each other, or is
    without CSRT, which only those with `contrib` in their names have."""
    packages = sorted(set(packages_distributions().get("cv2", ())))
    if len(packages) > 1:
        raise ModelError(
            f"{len(packages)} packages of OpenCV are installed, whose files overwrite each other: "
            + ", ".join(packages),
            f"Leave one: pip uninstall -y {' '.join(packages)}, then pip install {_PACKAGE}.",
        )
    if any(hasattr(home, "TrackerCSRT") for home in _homes(import_opencv())):
        return
    found = packages[0] if packages else "OpenCV"
    raise ModelError(
        f"The installed {found} is without OpenCV's contributed trackers, such as CSRT",
        f"pip uninstall -y {found}, then pip install {_PACKAGE}.",
    )


def import_opencv() -> Any:
    """The module cv2; raises ModelError if it cannot be imported."""
    try:
        import cv2
    except ImportError as error:
        raise ModelError(f"This needs OpenCV, which cannot be imported ({error})", _INSTALL) from error
    return cv2


def read_network(path: str | Path) -> Any:
    """An ONNX file as a network of OpenCV's dnn. Raises ModelError if there is none or OpenCV cannot read it."""
    cv2 = import_opencv()
    if not Path(path).is_file():
        raise ModelError(f"There is no file {str(path)!r}", "Name an ONNX file.")
    try:
        with without_warnings(cv2):
            return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise ModelError(f"OpenCV cannot read the network {str(path)!r}", "Export it to ONNX once more.") from error


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
        except import_opencv().error as error:
            raise InputError(
                f"OpenCV's {type(self._tracker).__name__} cannot start from box {format_numbers(box)} in a frame of "
                f"{width}x{height} pixels",
                "Give a box of some pixels that leaves a margin around it, or use another tracker.",
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


def _homes(cv2: Any) -> tuple[Any, Any]:
    """Where classes of trackers are: the present interface first; `legacy` has older versions of the same."""
    return cv2, getattr(cv2, "legacy", None)


def _find(name: str) -> Any:
    """The class of one of OpenCV's trackers; raises ModelError if the installed OpenCV lacks it."""
    cv2 = import_opencv()
    for home in _homes(cv2):
        if hasattr(home, name):
            return getattr(home, name)
    version = getattr(cv2, "__version__", "(damaged)")  # what is left when one of two packages was uninstalled
    raise ModelError(f"The installed OpenCV {version} has no {name}", _INSTALL)


def _build_nanotrack(path: str) -> Any:
    """OpenCV's TrackerNano with the networks of the folder `path`; raises as `build_tracker` does."""
    backbone, head = _nanotrack_files(path)
    tracker_class, cv2 = _find("TrackerNano"), import_opencv()
    params = tracker_class.Params()
    params.backbone, params.neckhead = str(backbone), str(head)
    try:
        with without_warnings(cv2):
            return tracker_class.create(params)
    except cv2.error as error:
        raise ModelError(f"OpenCV cannot read the networks in {path!r}", _NANO_REMEDY) from error


def _nanotrack_files(path: str) -> tuple[Path, Path]:
    """The backbone and the head; raises InputError if there is no folder, or not exactly one of each in it."""
    if not path:
        raise InputError("nanotrack needs to know where its model is", _NANO_REMEDY)
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
def without_warnings(cv2: Any) -> Iterator[None]:
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
