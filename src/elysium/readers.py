"""The kinds of frame source behind `elysium.video.open_source`: image files, arrays, video files.

A reader gives every frame of its source, in order; which of them are wanted is no business of this file.
A frame is given as a time and a function that makes the pixels, so that skipped ones cost little.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from elysium.errors import InputError, SourceError

ImageArray: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB

DEFAULT_FPS = 25.0
CODEC_THREADS = min(4, os.cpu_count() or 1)  # each thread holds a frame: bounded on machines of many cores
_NOT_VIDEOS = {"tty", "bin", "image2"}  # demuxers of FFmpeg that make "videos" out of text and any bytes

RawFrame: TypeAlias = tuple[float, Callable[[], ImageArray]]  # time, and the pixels if somebody wants them


class Reader(Protocol):
    """What `FrameSource` needs from each kind of source; every frame of it comes out, in order."""

    name: str
    fps: float
    resolution_wh: tuple[int, int]
    count: int | None
    warnings: list[str]

    def read(self) -> Iterator[RawFrame]: ...


class ImageReader:
    """Image files, one a frame. Sizes are checked from the headers before any work is done."""

    def __init__(self, name: str, paths: list[Path], fps: float | None) -> None:
        self.name, self.paths, self.fps = name, paths, fps or DEFAULT_FPS
        self.count: int | None = len(paths)
        self.warnings: list[str] = []
        self.resolution_wh = _image_size(paths[0])
        for path in paths[1:]:
            self._same_size(path, _image_size(path))

    def read(self) -> Iterator[RawFrame]:
        for index, path in enumerate(self.paths):
            yield index / self.fps, partial(self._load, path)

    def _load(self, path: Path) -> ImageArray:
        image = read_image(path)
        self._same_size(path, (image.shape[1], image.shape[0]))
        return image

    def _same_size(self, path: Path, size: tuple[int, int]) -> None:
        if size != self.resolution_wh:
            (w, h), (w1, h1) = size, self.resolution_wh
            raise SourceError(
                f"{str(path)!r} is {w}x{h} pixels, but the first image, {self.paths[0].name!r}, is {w1}x{h1}",
                "The frames of one video need one size: remove or resize the odd ones.",
            )


_IMAGE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def _image_error(path: Path, error: Exception) -> SourceError:
    if not path.exists():
        return SourceError(f"No such image: {str(path)!r}", "Check the path.")
    return SourceError(f"Cannot read the image {str(path)!r}: {error}", "Replace or remove that file.")


def _image_size(path: Path) -> tuple[int, int]:
    """(width, height) as displayed, from the header alone."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the sides
    except _IMAGE_ERRORS as error:
        raise _image_error(path, error) from error
    return (height, width) if turned else (width, height)


def read_image(path: str | os.PathLike[str]) -> ImageArray:
    """An image file as (H, W, 3) uint8 RGB, turned as its EXIF says, alpha dropped. Raises SourceError."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bit grey: Pillow would clip instead of scale
                grey = (np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except _IMAGE_ERRORS as error:
        raise _image_error(Path(path), error) from error


class ArrayReader:
    """Arrays in memory, or an iterator that makes them."""

    def __init__(self, frames: Iterable[Any], fps: float | None, color: str) -> None:
        self.name, self.fps, self._color = "array", fps or DEFAULT_FPS, color
        self.count: int | None = len(frames) if isinstance(frames, Sized) else None
        self.warnings: list[str] = []
        try:
            iterator = iter(frames)
            head = next(iterator)
        except StopIteration:
            raise SourceError("The list of frames is empty", "Give at least one frame.") from None
        except TypeError:
            raise InputError(
                f"Cannot read frames from a {type(frames).__name__}", "Give a path or arrays."
            ) from None
        # An iterator can be gone through only once, and its first frame is in our hands already.
        self._once = chain([head], iterator) if iterator is frames else None
        self._frames = frames
        height, width = self._image(0, head, None).shape[:2]
        self.resolution_wh = (width, height)

    def read(self) -> Iterator[RawFrame]:
        frames = self._frames if self._once is None else self._once
        empty = True
        for index, frame in enumerate(frames):
            empty = False
            yield index / self.fps, partial(self._image, index, frame, self.resolution_wh)
        if empty:
            raise InputError(
                "These frames were an iterator that is used up", "Give a list, or a new iterator."
            )

    def _image(self, index: int, frame: Any, size: tuple[int, int] | None) -> ImageArray:
        image = np.asarray(frame)
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(
                f"Frame {index} is an array of shape {image.shape} and type {image.dtype}",
                "Frames are (height, width, 3) arrays of uint8.",
            )
        if size is not None and (image.shape[1], image.shape[0]) != size:
            raise InputError(
                f"Frame {index} is an array of shape {image.shape}, the first is {size[0]}x{size[1]} pixels",
                "The frames of one video need one size.",
            )
        image = image[..., :3]
        return np.ascontiguousarray(image[..., ::-1] if self._color == "bgr" else image)


@dataclass
class _Damage:
    """What went wrong while decoding."""

    packets: int = 0
    cut: str = ""


class VideoReader:
    """A video file through PyAV. It is opened anew for each pass, and once at the start to learn its size."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.warnings: list[str] = []
        with self._open() as container:
            stream = self._stream(container)
            first = next(_decode(container, stream, _Damage()), None)
            if first is None:
                raise self._not_a_video("no frame of it can be decoded")
            height, width = _to_rgb(first, None).shape[:2]
            self.resolution_wh = (width, height)
            self.fps = self._rate(stream)
            self.count, self._seconds = self._announced(container, stream)

    def read(self) -> Iterator[RawFrame]:
        damage, index, time_s, origin = _Damage(), -1, 0.0, None
        with self._open() as container:
            stream = self._stream(container)
            for index, frame in enumerate(_decode(container, stream, damage)):
                stamp = frame.time
                if stamp is None:
                    time_s = index / self.fps
                else:
                    origin = stamp if origin is None else origin
                    time_s = float(stamp - origin)
                yield time_s, partial(_to_rgb, frame, self.resolution_wh)
        self._judge(index + 1, time_s, damage)

    def _open(self) -> Any:
        try:
            container = av.open(str(self.path), metadata_errors="ignore")
        except av.FFmpegError as error:
            raise self._not_a_video(str(error.strerror or error)) from error
        if container.format.name in _NOT_VIDEOS:
            container.close()
            raise self._not_a_video("it is of another kind")
        return container

    def _stream(self, container: Any) -> Any:
        for stream in container.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:  # the cover of a song
                stream.thread_type = "AUTO"
                stream.codec_context.thread_count = CODEC_THREADS
                return stream
        raise self._not_a_video("it has no video stream")

    def _not_a_video(self, why: str) -> SourceError:
        return SourceError(
            f"{self.name!r} is not a video that can be read: {why}", "Try to play or convert it first."
        )

    def _rate(self, stream: Any) -> float:
        for rate in (stream.average_rate, stream.guessed_rate):
            if rate and 0 < float(rate) <= 1000:
                return float(rate)
        self.warnings.append(
            f"{self.name} does not say how many frames a second it has; {DEFAULT_FPS:g} assumed."
        )
        return DEFAULT_FPS

    def _announced(self, container: Any, stream: Any) -> tuple[int | None, float | None]:
        """How many frames and how many seconds the header promises."""
        seconds = None
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        elif (
            container.duration is not None and not container.streams.audio
        ):  # else the sound may just last longer
            seconds = container.duration / av.time_base
        if not stream.frames:
            return (None if seconds is None else max(1, round(seconds * self.fps))), seconds
        if "mp4" not in container.format.name:
            # The duration of a cut AVI is guessed from what is left. (In MP4 it can be trusted, and edit
            # lists may rightly leave out some frames.)
            seconds = max(seconds or 0.0, stream.frames / self.fps)
        return int(stream.frames), seconds

    def _judge(self, read: int, last_s: float, damage: _Damage) -> None:
        """Warn if less came out than the header promised (only called after reading to the end)."""
        count, seconds = self.count, self._seconds
        missing = count is not None and read < count - max(2, count // 100)
        short = seconds is None or last_s < seconds - 3 / self.fps
        text = ""
        if damage.cut or (missing and short):
            of = f" of {count}" if count is not None and count > read else ""
            text = f"{self.name} is cut short: {read}{of} frames could be read and were used."
        elif damage.packets:
            text = (
                f"{self.name} is damaged: {damage.packets} piece(s) could not be decoded and were left out."
            )
        if text and text not in self.warnings:
            self.warnings.append(text)


def _decode(container: Any, stream: Any, damage: _Damage) -> Iterator[Any]:
    """Every frame to be had: a bad packet is counted and passed over, an unreadable rest ends the video."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            damage.cut = str(error)
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damage.packets += 1
            continue
        yield from frames


def _to_rgb(frame: Any, resolution_wh: tuple[int, int] | None) -> ImageArray:
    """Pixels upright: phones store portrait videos on their side and a display matrix that turns them."""
    quarter_turns = round(frame.rotation / 90) % 4
    image: ImageArray = frame.to_ndarray(format="rgb24")
    if quarter_turns:
        image = np.ascontiguousarray(np.rot90(image, quarter_turns))
    if resolution_wh is not None and (image.shape[1], image.shape[0]) != resolution_wh:
        # Some streams change size on the way; boxes are in pixels of the first frame.
        image = np.array(Image.fromarray(image).resize(resolution_wh))
    return image
