"""Where live pictures come from: a webcam, an address or standard input, opened and decoded by PyAV.

Knows what the user's words for a source mean, devices and protocols. Knows nothing about threads but that `interrupt`
is called from another one; queues and dropping are the business of elysium.live.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import av

from elysium.errors import InputError, SourceError
from elysium.readers.base import ImageArray
from elysium.readers.videos import Clock, Damage, Header, Unreadable, decode, shortfall, to_rgb, video_stream

MOST_WEBCAM = 31  # larger numbers are more likely slips than cameras
NETWORK_TIMEOUT_S = 10.0  # without a byte, in opening and in reading
_POLL_S = 0.1  # how often a wait for data looks whether it is still wanted

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_SCHEMES = ("http", "https", "rtsp", "rtsps")
_WEBCAM = re.compile(r"(?:/dev/video)?(0|[1-9][0-9]?)")
# Containers without times of their own: FFmpeg counts frames at a guessed rate.
_UNTIMED = {"mpjpeg", "mjpeg", "jpeg_pipe", "h264", "hevc"}
_NETWORK_REMEDY = "Check the address and the network; if both are right, download the video and give the file."
_WEBCAM_REMEDY = (
    "Connect a camera, or close the programs that use it; cameras count from 0. "
    "If a file or folder was meant: there is none of that name."
)
_PIPE_REMEDY = (
    "Pipe a video that can be read from front to back: MKV, MPEG-TS, MJPEG, or MP4 with its index in front "
    "(ffmpeg's -movflags +faststart)."
)


class AvFeed:
    """A live source through PyAV. Everything but `interrupt` belongs to one thread.

    Args:
        name: what to call it in messages and results.
        connect: opens the container.
        realtime: whether it shows what happens now; None: if its container tells neither length nor duration.
        remedy: what to do if it cannot be read.
        interrupt: makes a read that waits for data come back.
    """

    resolution_wh: tuple[int, int]  # this and `header` are known once it is open
    header: Header

    def __init__(
        self,
        name: str,
        connect: Callable[[], Any],
        *,
        realtime: bool | None,
        remedy: str,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.remedy = name, remedy
        self.realtime = bool(realtime)
        self._connect, self._ask_container, self._interrupt = connect, realtime is None, interrupt
        self._container: Any = None
        self._damage, self._stopped = Damage(), Event()

    def open(self) -> None:
        """Connect and decode the first frame. Raises Unreadable."""
        self._container = self._connected()
        if self._ask_container:
            self.realtime = self._container.duration is None and self._container.size <= 0
        stream = video_stream(self._container, delay=not self.realtime)
        self._frames = decode(self._packets(stream), stream, self._damage)
        first = next(self._frames, None)
        if first is None:
            cut = self._damage.cut
            raise Unreadable("no frame of it can be decoded" + (f" ({_reason(cut)})" if cut is not None else ""))
        self._frames = chain([first], self._frames)
        height, width = to_rgb(first, None).shape[:2]
        self.resolution_wh = (width, height)
        self._by_arrival = self.realtime and (first.time is None or self._container.format.name in _UNTIMED)
        self.header = Header.of(self.name, self._container, stream, guess=not self._by_arrival)

    def frames(self) -> Iterator[tuple[float, Callable[[], ImageArray]]]:
        """The time in seconds and the pixels of every frame; at the end `header.warnings` may grow."""
        clock = Clock(self.header.fps, stamped=self.header.stamped or self._by_arrival)
        read, time_s = 0, 0.0
        for frame in self._frames:
            read += 1
            time_s = clock.time_of(time.monotonic() if self._by_arrival else frame.time)
            yield time_s, partial(to_rgb, frame, self.resolution_wh)
        text = shortfall(self.name, self.header, read, time_s, self._damage)
        if text and not self._stopped.is_set():
            self.header.warnings.append(text)

    def close(self) -> None:
        """Let go of the device or the connection."""
        if self._container is not None:
            self._container.close()

    def interrupt(self) -> None:
        """Ask for an early end."""
        self._stopped.set()
        if self._interrupt is not None:
            self._interrupt()

    def _connected(self) -> Any:
        try:
            return self._connect()
        except (av.FFmpegError, OSError) as error:
            reason = _reason(error)
            if reason == "input/output error":  # FFmpeg's word for no such host, a login page, and more
                reason = "it cannot be reached, or does not send a video"
            raise Unreadable(reason) from error

    def _packets(self, stream: Any) -> Iterator[Any]:
        packets, last_s = self._container.demux(stream), time.monotonic()
        while not self._stopped.is_set():
            try:
                packet = next(packets, None)
            except av.BlockingIOError:  # cameras of macOS say so when they have no new picture yet
                if time.monotonic() - last_s > NETWORK_TIMEOUT_S:
                    raise TimeoutError(f"nothing came for {NETWORK_TIMEOUT_S:g} s") from None
                time.sleep(_POLL_S / 20)
                packets = self._container.demux(stream)
                continue
            if packet is None:
                return
            last_s = time.monotonic()
            yield packet


class Pipe:
    """A binary stream as PyAV wants it, whose waiting can be ended."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._stopped = stream, Event()
        self._seekable = bool(stream.seekable())  # a file: `elysium track - < clip.mp4`
        self._descriptor: int | None = None
        if not self._seekable:
            with suppress(AttributeError, OSError):  # one made by a program has none
                self._descriptor = stream.fileno()

    def stop(self) -> None:
        """Make `read` give an end."""
        self._stopped.set()

    def read(self, size: int) -> bytes:
        """What is there, up to `size` bytes; waits for at least one. Empty at the end."""
        while not self._stopped.is_set():
            if self._descriptor is None:
                return bytes(self._stream.read(size))
            # (On Windows select knows sockets only: there a wait ends with the pipe.)
            if sys.platform == "win32" or select.select([self._descriptor], [], [], _POLL_S)[0]:
                return os.read(self._descriptor, size)
        return b""

    def seekable(self) -> bool:
        """Whether `seek` may be called."""
        return self._seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of files."""
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        """As of files."""
        return int(self._stream.tell())


def feed_of(text: str) -> AvFeed | None:
    """The feed behind the user's words: "0", "rtsp://...", "https://...", "-"; None if they mean something else.

    Nothing is opened yet. Raises SourceError for an address that is not read and a standard input without a pipe.
    """
    if text == "-":
        return _standard_input()
    camera = _WEBCAM.fullmatch(text)
    if camera is not None and int(camera[1]) <= MOST_WEBCAM:
        return webcam(int(camera[1]))
    address = _ADDRESS.match(text)
    if address is None:
        return None
    scheme = address[1].lower()
    if scheme not in _SCHEMES:
        raise SourceError(f"Addresses of the kind {scheme}:// are not read", f"Known are {', '.join(_SCHEMES)}.")
    shown = re.sub(r"//[^/?#]*@", "//***@", text)  # results are shared; the password of a camera is not
    realtime = True if scheme.startswith("rtsp") else None
    return AvFeed(shown, partial(_open_address, text), realtime=realtime, remedy=_NETWORK_REMEDY)


def webcam(index: int) -> AvFeed:
    """The feed of a camera of this machine, counted from 0. Raises InputError for a number that none can have."""
    if not 0 <= index <= MOST_WEBCAM:
        raise InputError(f"{index} is not the number of a webcam", f"They count from 0, and end at {MOST_WEBCAM} here.")
    return AvFeed(f"webcam {index}", partial(_open_webcam, index), realtime=True, remedy=_WEBCAM_REMEDY)


def _standard_input() -> AvFeed:
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError("The source is '-', but nothing is piped in", "For example: cat clip.mkv | elysium ... -")
    pipe = Pipe(sys.stdin.buffer)
    connect = partial(av.open, pipe, metadata_errors="ignore")
    return AvFeed("standard input", connect, realtime=False, remedy=_PIPE_REMEDY, interrupt=pipe.stop)


def _open_address(url: str) -> Any:
    # Many networks swallow the UDP that RTSP would try first. (As container_options: with options, older PyAVs
    # crash on streams that are announced late.)
    options = {"rtsp_flags": "prefer_tcp"} if url.lower().startswith("rtsp") else {}
    return av.open(url, container_options=options, timeout=NETWORK_TIMEOUT_S, metadata_errors="ignore")


def _open_webcam(index: int, platform: str = sys.platform) -> Any:
    device, kind = f"/dev/video{index}", "v4l2"
    options: dict[str, str] = {}
    if platform == "darwin":
        # FFmpeg would ask for 29.97 frames a second, which hardly any camera has.
        device, kind, options = f"{index}:none", "avfoundation", {"framerate": "30"}
    elif platform == "win32":
        device, kind = _camera_of_windows(index), "dshow"
    elif not Path(device).exists():
        raise Unreadable(f"there is no {device}")
    try:
        return av.open(
            device, format=kind, container_options=options, timeout=NETWORK_TIMEOUT_S, metadata_errors="ignore"
        )
    except ValueError as error:  # of a PyAV built without devices; (its other errors are ValueErrors too)
        if isinstance(error, av.FFmpegError):
            raise
        raise Unreadable(f"this PyAV cannot open cameras: {error}") from error


def _camera_of_windows(index: int) -> str:
    """DirectShow knows cameras by name only."""
    if not hasattr(av, "enumerate_input_devices"):
        raise Unreadable("this PyAV cannot list cameras, a newer one can")
    cameras = [device.name for device in av.enumerate_input_devices("dshow") if "video" in device.media_types]
    if index >= len(cameras):
        raise Unreadable(f"{len(cameras)} camera(s) were found")
    return f"video={cameras[index]}"


def _reason(error: Exception) -> str:
    """What an error says, in better words than FFmpeg's where they are known."""
    if isinstance(error, av.ExitError):
        return f"there was no answer within {NETWORK_TIMEOUT_S:g} s"
    if isinstance(error, av.InvalidDataError):
        return "its content is of no known video format"
    text = str(getattr(error, "strerror", None) or error)
    return text[:1].lower() + text[1:]
