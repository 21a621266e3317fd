"""Frames of a video as image files, with the index and the time of each.

    <folder>/000123.jpg ...  a frame, named by its index in the video
    <folder>/frames.json     of which video, by whose choice, and for each frame "index", "time_s" and "file"

The folder is made under another name and moved to its place when all of it is there: one that has frames.json is whole.
Indices and times are those of `elysium.video.open_source`: index 0 and time 0 are the first frame of the video,
whatever is selected of it. Knows videos and files; knows nothing about records and models.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PIL import Image

from elysium.errors import InputError, SourceError
from elysium.files import ensure_folder, output_error, temporary_beside
from elysium.sampling import Ticks, spread_frames
from elysium.video import Frame, FrameSource, open_source

FRAMES_JSON = "frames.json"
_KNOWN_BYTES = 2**20  # so much of a video is looked at to see whether it is still the same, and its size

ImageFormat: TypeAlias = Literal["jpg", "png"]
_Rule: TypeAlias = Callable[[int, Frame], bool]
"""Whether a frame is wanted, by its place among the selected ones, which are asked about in order."""


@dataclass(frozen=True)
class ExtractedFrames:
    """What a folder of frames holds, in the order of time.

    Attributes:
        folder: where they are.
        files: their paths.
        indices: their places in the video, from 0.
        times_s: seconds after the first frame of the video.
        resolution_wh: width and height in pixels.
        fps: frames per second of the video.
    """

    folder: Path
    files: tuple[Path, ...]
    indices: tuple[int, ...]
    times_s: tuple[float, ...]
    resolution_wh: tuple[int, int]
    fps: float


@dataclass(frozen=True)
class _Request:
    """What was asked for; see :func:`extract_frames`."""

    indices: tuple[int, ...] | None
    count: int | None
    fps: float | None
    stride: int
    start_s: float | None
    end_s: float | None
    quality: int
    image_format: ImageFormat

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.indices, self.count, self.fps)) > 1:
            raise InputError("More than one of indices, count and fps was given", "Choose one, or none for all frames.")
        if self.indices is not None and (not self.indices or self.indices[0] < 0):
            raise InputError(f"The indices of frames are {list(self.indices)}", "Give at least one; they count from 0.")
        if self.count is not None and self.count < 1:
            raise InputError(f"count is {self.count}", "Give 1 or more.")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"fps is {self.fps}", "Give frames per second, more than 0.")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality is {self.quality}", "Give 1 to 100.")
        if self.image_format not in ("jpg", "png"):
            raise InputError(f"Images of the format {self.image_format!r} are not written", "Use jpg or png.")

    def to_json(self) -> dict[str, Any]:
        """What of it says anything, as JSON gives it back."""
        return {key: value for key, value in json.loads(json.dumps(asdict(self))).items() if value is not None}


def extract_frames(
    video: Path, folder: Path, *, indices: Sequence[int] | None = None, count: int | None = None,
    fps: float | None = None, stride: int = 1, start_s: float | None = None, end_s: float | None = None,
    quality: int = 95, image_format: ImageFormat = "jpg",
) -> ExtractedFrames:  # fmt: skip
    """Write frames of a video file into a folder of their own; a folder that holds just these is left as it is.

    ``start_s``, ``end_s`` and ``stride`` select frames as `open_source` does. Of these, all are written, or:

    Args:
        indices: those with these places in the video; each must be among them.
        count: so many, evenly spread, the first and the last among them; all if there are not more. A video that does
            not say how many frames it has, or is wrong about it, is read twice.
        fps: so many a second: of each 1/fps s from the first frame on the first one. All if there are not more.
        quality: of JPEG, 1 to 100.

    Raises:
        SourceError: the video is not there or cannot be read, or nothing of it is selected.
        InputError: options that make no sense; an index that there is not; the folder holds something else: other
        frames of it, or those of another video.
        OutputError: the folder cannot be written.
    """
    chosen = None if indices is None else tuple(sorted({int(index) for index in indices}))
    request = _Request(chosen, count, fps, stride, start_s, end_s, quality, image_format)
    known = _fingerprint(video)
    if (found := _found(folder, video, known, request)) is not None:
        return found
    ensure_folder(folder.parent)
    temporary = temporary_beside(folder)
    try:
        temporary.mkdir()
        about = {"video": video.name, **known, **_written(video, temporary, request)}
        (temporary / FRAMES_JSON).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        _move(temporary, folder)
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    made = _found(folder, video, known, request)
    assert made is not None  # it has its frames.json
    return made


def _fingerprint(video: Path) -> dict[str, Any]:
    """What shows that a file became another one. Raises SourceError."""
    if not video.is_file():
        raise SourceError(f"There is no video {str(video)!r}", "Check the path.")
    try:
        with video.open("rb") as file:
            digest = hashlib.sha256(file.read(_KNOWN_BYTES)).hexdigest()
        return {"bytes": video.stat().st_size, "sha256_of_first_mib": digest}
    except OSError as error:
        raise SourceError(f"Cannot read {str(video)!r}: {error.strerror or error}", "Check its permissions.") from error


def _found(folder: Path, video: Path, known: dict[str, Any], request: _Request) -> ExtractedFrames | None:
    """What the folder holds already; None if it is not there or empty. Raises InputError if it is something else."""
    path = folder / FRAMES_JSON
    if not path.is_file():
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{folder} is there already, without a {FRAMES_JSON}", "Name another folder or empty it.")
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        same_video = all(about[key] == value for key, value in known.items())
        asked, told = about["request"], _told(folder, about)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is broken", "Delete its folder, so that it is made anew.") from error
    if not same_video:
        raise InputError(
            f"{folder} holds frames of another video than {video}, or of what that was before",
            "Name another folder, or delete this one.",
        )
    if asked != request.to_json():
        raise InputError(
            f"{folder} holds other frames of {video.name}: it was asked for {json.dumps(asked)}",
            "Ask for the same, name another folder, or delete this one.",
        )
    gone = next((file for file in told.files if not file.is_file()), None)
    if gone is not None:
        raise InputError(f"{gone} is gone, which {path} names", "Delete the folder, so that it is made anew.")
    return told


def _told(folder: Path, about: dict[str, Any]) -> ExtractedFrames:
    rows = about["frames"]
    width, height = about["resolution_wh"]
    return ExtractedFrames(
        folder, tuple(folder / row["file"] for row in rows), tuple(int(row["index"]) for row in rows),
        tuple(float(row["time_s"]) for row in rows), (int(width), int(height)), float(about["fps"]),
    )  # fmt: skip


def _move(temporary: Path, folder: Path) -> None:
    try:
        if folder.is_dir():
            folder.rmdir()  # it is empty; not every system puts a folder in its place
        os.replace(temporary, folder)
    except OSError:
        if not (folder / FRAMES_JSON).is_file():  # if it is, another process was faster; whoever called looks into it
            raise


def _written(video: Path, folder: Path, request: _Request) -> dict[str, Any]:
    """Write the images; what frames.json says about them."""
    source = open_source(video, start_s=request.start_s, end_s=request.end_s, stride=request.stride)
    guess = source.num_frames_estimate
    rows, seen = _pass(source, folder, request, guess)
    if request.count is not None and seen != guess:
        for row in rows:
            (folder / row["file"]).unlink()
        rows, seen = _pass(source, folder, request, seen)
    missing = sorted(set(request.indices or ()) - {row["index"] for row in rows})
    if missing:
        raise InputError(f"{video} has no frame {missing[0]} in what was selected of it", "Frames count from 0.")
    for sentence in source.warnings:
        warnings.warn(sentence, stacklevel=3)
    whole = request.indices is None and request.stride == 1 and request.start_s is None and request.end_s is None
    return {
        "fps": source.fps, "num_frames": seen if whole else open_source(video).num_frames_estimate,
        "resolution_wh": list(source.resolution_wh), "request": request.to_json(), "frames": rows,
    }  # fmt: skip


def _pass(source: FrameSource, folder: Path, request: _Request, total: int | None) -> tuple[list[dict[str, Any]], int]:
    """Write what is wanted of ``total`` frames, and count the frames that there are."""
    wanted, last = _rule(request, source.fps, total or 0), request.indices[-1] if request.indices else None
    rows: list[dict[str, Any]] = []
    seen = 0
    for frame in source:
        if wanted(seen, frame):
            name = f"{frame.index:06d}.{request.image_format}"
            Image.fromarray(frame.image).save(folder / name, quality=request.quality)
            rows.append({"index": frame.index, "time_s": frame.time_s, "file": name})
        seen += 1
        if last is not None and frame.index >= last:
            break
    return rows, seen


def _rule(request: _Request, source_fps: float, total: int) -> _Rule:
    if request.indices is not None:
        indices = frozenset(request.indices)
        return lambda _, frame: frame.index in indices
    if request.count is not None:
        places = frozenset(spread_frames(total, request.count).tolist())
        return lambda place, _: place in places
    if request.fps is not None:
        ticks = Ticks(request.fps, source_fps)
        return lambda _, frame: ticks(frame.time_s)
    return lambda *_: True
