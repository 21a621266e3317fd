"""Video files through PyAV, and the parts of that which live sources need too: rates, times, damage, pixels.

Knows containers and decoders. Does not know where else videos come from (elysium.live), nor which frames are wanted.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from elysium.errors import SourceError
from elysium.readers.base import CODEC_THREADS, DEFAULT_FPS, ImageArray, RawFrame, Reader

_NOT_VIDEOS = {"tty", "bin", "image2"}  # demuxers of FFmpeg that make "videos" out of text and any bytes
_LEAST_FPS, _MOST_FPS = 0.01, 1000.0  # what is outside of these is a broken header, not a frame rate
_JITTER_FRAMES = 1.5  # times that go back further than so many frames belong to a recording that began anew


class Unreadable(Exception):
    """Why something cannot be read as a video; whoever opened it knows its name."""


@dataclass
class Header:
    """What a container says about its video stream before it is read."""

    fps: float
    stamped: bool  # whether its timestamps are to be believed
    count: int | None  # frames
    seconds: float | None
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, container: Any, stream: Any, *, guess: bool = True) -> Header:
        """The header of a stream just opened; with `guess`, FFmpeg's idea of a rate is good enough."""
        header = cls(DEFAULT_FPS, True, None, None)
        average, guessed = (float(rate or 0) for rate in (stream.average_rate, stream.guessed_rate))
        if average and not _LEAST_FPS <= average < _MOST_FPS:
            header.stamped = False
            header.warnings.append(
                f"{name} claims {average:g} frames a second; {DEFAULT_FPS:g} assumed, its timestamps ignored."
            )
        elif average or (guess and _LEAST_FPS <= guessed < _MOST_FPS):
            header.fps = average or guessed
        else:
            header.warnings.append(f"{name} does not say how many frames a second it has; {DEFAULT_FPS:g} assumed.")
        header._read_length(container, stream)
        return header

    def _read_length(self, container: Any, stream: Any) -> None:
        """How many frames and how many seconds are promised."""
        if self.stamped:
            if stream.duration is not None:
                self.seconds = float(stream.duration * stream.time_base)
            elif container.duration is not None and not container.streams.audio:  # else the sound may last longer
                self.seconds = container.duration / av.time_base
        if not stream.frames:
            self.count = None if self.seconds is None else max(1, round(self.seconds * self.fps))
            return
        self.count = int(stream.frames)
        if self.stamped and "mp4" not in container.format.name:
            # The duration of a cut AVI is guessed from what is left. (In MP4 it can be trusted, and edit
            # lists may rightly leave out some frames.)
            self.seconds = max(self.seconds or 0.0, self.count / self.fps)


@dataclass
class Damage:
    """What went wrong while decoding."""

    packets: int = 0
    cut: Exception | None = None  # what ended it early


class Clock:
    """Seconds after the first frame, from timestamps that may be missing, wrong or begin anew midway."""

    def __init__(self, fps: float, *, stamped: bool = True) -> None:
        self._step_s, self._stamped = 1 / fps, stamped
        self._frames, self._last_s = 0, 0.0
        self._origin_s: float | None = None  # the timestamp of time 0

    def time_of(self, stamp_s: float | None) -> float:
        """The time of the next frame, which carries `stamp_s`; never less than the one before."""
        due_s = self._frames * self._step_s if not self._stamped else self._last_s + self._step_s
        self._frames += 1
        if self._frames == 1:
            self._origin_s = stamp_s
            return 0.0
        if stamp_s is None or self._origin_s is None or not self._stamped:
            self._last_s = due_s
        elif stamp_s - self._origin_s < self._last_s - _JITTER_FRAMES * self._step_s:
            self._origin_s, self._last_s = stamp_s - due_s, due_s
        else:
            self._last_s = max(self._last_s, stamp_s - self._origin_s)
        return self._last_s


def shortfall(name: str, header: Header, read: int, last_s: float, damage: Damage) -> str:
    """A sentence if less came out than the header promised, to be asked for after the end; else empty."""
    missing = header.count is not None and read < header.count - max(2, header.count // 100)
    short = header.seconds is None or last_s < header.seconds - 3 / header.fps
    if header.count is None and damage.cut:
        return f"{name} broke off; what came before that was used."
    if header.count is not None and ((damage.cut and read < header.count) or (missing and short)):
        of = f" of {header.count}" if header.count > read else ""
        return f"{name} is cut short: {read}{of} frames could be read and were used."
    if damage.packets:
        return f"{name} is damaged: {damage.packets} piece(s) could not be decoded and were left out."
    return ""


class VideoReader(Reader):
    """A video file through PyAV. It is opened anew for each pass, and once at the start to learn its size."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        with self._opened() as (container, stream):
            first = next(decode(container.demux(stream), stream, Damage()), None)
            if first is None:
                raise Unreadable("no frame of it can be decoded")
            height, width = to_rgb(first, None).shape[:2]
            self.resolution_wh = (width, height)
            self._header = Header.of(name, container, stream)
        self.fps, self.count, self.warnings = self._header.fps, self._header.count, self._header.warnings

    def read(self) -> Generator[RawFrame, None, None]:
        damage, clock, index, time_s = Damage(), Clock(self.fps, stamped=self._header.stamped), -1, 0.0
        with self._opened() as (container, stream):
            for index, frame in enumerate(decode(container.demux(stream), stream, damage)):
                time_s = clock.time_of(frame.time)
                yield RawFrame(index, time_s, partial(to_rgb, frame, self.resolution_wh))
        text = shortfall(self.name, self._header, index + 1, time_s, damage)
        if text and text not in self.warnings:
            self.warnings.append(text)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The container and its video stream; whatever is Unreadable about them becomes a SourceError."""
        try:
            try:  # an absolute path, because FFmpeg would take "a:b.mp4" for an address of the kind "a"
                container = av.open(os.path.abspath(self.path), metadata_errors="ignore")
            except (av.FFmpegError, OSError) as error:
                raise Unreadable(_why_not(self.path, error)) from error
            with container:
                yield container, video_stream(container)
        except Unreadable as reason:
            raise SourceError(
                f"{self.name!r} is not a video that can be read: {reason}", "Try to play or convert it first."
            ) from reason


def _why_not(path: Path, error: Exception) -> str:
    """Why a file cannot be opened, in better words than FFmpeg's where they are known."""
    if not isinstance(error, av.InvalidDataError):
        return str(getattr(error, "strerror", None) or error)
    try:
        head = path.open("rb").read(12)
    except OSError as failure:
        return str(failure.strerror)
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp":
        return "its index is missing, the recording or download was probably cut off"
    return "its content is of no known video format"


def video_stream(container: Any, *, delay: bool = True) -> Any:
    """The stream to read; raises Unreadable if there is none.

    With `delay`, several frames are decoded at a time, so that each comes out some frames later.
    """
    if container.format.name in _NOT_VIDEOS:
        raise Unreadable("its content is of no known video format")
    for stream in container.streams.video:
        if stream.disposition & av.stream.Disposition.attached_pic:  # the cover of a song
            continue
        if stream.codec_context is None:
            raise Unreadable("its codec is not known here")
        stream.thread_type = "AUTO" if delay else "SLICE"
        stream.codec_context.thread_count = CODEC_THREADS
        return stream
    raise Unreadable("it has sound but no pictures" if container.streams.audio else "it has no pictures")


def decode(packets: Iterator[Any], stream: Any, damage: Damage) -> Iterator[Any]:
    """Every frame to be had: a bad packet is counted and passed over, an unreadable rest ends the video."""
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            damage.cut = error
            yield from _held_back(stream)
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damage.packets += 1
            continue
        yield from frames


def _held_back(stream: Any) -> list[Any]:
    """The frames that a decoder still has when the packets break off."""
    try:
        frames = list(stream.codec_context.decode(None))
    except av.FFmpegError:
        return []
    for frame in frames:
        frame.time_base = stream.time_base  # PyAV takes it from the packet, and there is none
    return frames


def to_rgb(frame: Any, resolution_wh: tuple[int, int] | None) -> ImageArray:
    """Pixels upright, in the size of the first frame if that is given."""
    # Each frame would start threads of its own, which stay until the garbage is collected: hundreds of them.
    image = _upright(frame.to_ndarray(format="rgb24", threads=1), frame)
    if resolution_wh is not None and (image.shape[1], image.shape[0]) != resolution_wh:
        # Some streams change size on the way; boxes are in pixels of the first frame.
        image = np.array(Image.fromarray(image).resize(resolution_wh))
    return image


def _upright(image: ImageArray, frame: Any) -> ImageArray:
    """Phones store portrait videos on their side, some mirrored, with a matrix that turns them."""
    matrix = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return image
    # x' = a x + c y, y' = b x + d y; only quarter turns and mirrors can be had without inventing pixels.
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    right, down = a, d
    if abs(b) > abs(a):
        image, right, down = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
