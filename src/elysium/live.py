"""Sources that arrive while they are read: webcams, network cameras, videos behind an address, pipes.

Each has one thread that opens, decodes and closes it; nobody else touches the device. Between that thread and the
reader stands a short queue. Of what happens now (webcams, RTSP, endless streams) the oldest waiting frames are dropped
when the reader is slower, so that results are about the present; of what can wait (pipes, files behind an address)
nothing is dropped, the thread waits.

Knows threads, the queue and the counting of frames. Devices and decoding are in elysium.readers.feeds, the choice of
frames in elysium.video.
"""

from __future__ import annotations

import operator
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread, current_thread
from typing import Protocol, SupportsIndex

from elysium.errors import InputError, SourceError
from elysium.readers.base import ImageArray, RawFrame, Reader
from elysium.readers.feeds import feed_of, webcam
from elysium.readers.videos import Header, Unreadable

LIVE_BUFFER_FRAMES = 8  # waiting at most: a clip of the tracker, so that dropping falls between clips
_STOP_TIMEOUT_S = 2.0  # a thread that hangs in the network beyond it ends by itself, at the network's timeout
_POLL_S = 0.1  # how often a wait looks up for Ctrl-C, which Windows does not do by itself


class Feed(Protocol):
    """What a `LiveReader` needs of a source. Its thread alone calls everything but `interrupt`."""

    name: str
    remedy: str
    realtime: bool  # this and the rest are known after `open`
    resolution_wh: tuple[int, int]
    header: Header

    def open(self) -> None:
        """Raises Unreadable."""

    def frames(self) -> Iterator[tuple[float, Callable[[], ImageArray]]]:
        """Time in seconds and pixels of every frame; `header.warnings` may grow until the end."""

    def close(self) -> None:
        """Let go of the device; called whatever happened before."""

    def interrupt(self) -> None:
        """Make `frames` end soon, even if it waits for data, as far as that is possible."""


class LiveReader(Reader):
    """A feed as frames, once. It runs from the start on, so close it, or let go of it, if it is not read after all.

    Of a real-time feed, frame 0 and time 0 are those of the moment the reading begins, however long ago the feed was
    opened. Raises SourceError if there is no first frame.
    """

    live = True

    def __init__(self, feed: Feed, buffer_frames: int = LIVE_BUFFER_FRAMES) -> None:
        self.name = feed.name
        self._pump = _Pump(feed, buffer_frames)
        self._stop = weakref.finalize(self, self._pump.stop)  # the thread does not know us: it ends when we are gone
        self._begun = False
        try:
            self._pump.wait_until_open()
        except Unreadable as reason:
            raise SourceError(f"Cannot read {self.name!r}: {reason}", feed.remedy) from reason
        except BaseException:  # Ctrl-C while waiting for the network
            self.close()
            raise
        self.fps, self.count, self.resolution_wh = feed.header.fps, None, feed.resolution_wh
        self.warnings = feed.header.warnings

    def read(self) -> Generator[RawFrame, None, None]:
        if self._begun or not self._stop.alive:
            raise InputError(f"{self.name!r} is live and was read or closed already", "Open it again.")
        self._begun, first, due = True, None, 0
        try:
            while (frame := self._pump.take()) is not None:
                first = first or frame
                index = frame.index - first.index
                self.dropped += index - due
                due = index + 1
                yield RawFrame(index, frame.time_s - first.time_s, frame.load)
        finally:
            self.close()
            if self.dropped:
                self.warnings.append(
                    f"{self.name} was faster than it could be processed: {self.dropped} of {due} frames were left out."
                )

    def close(self) -> None:
        self._stop()


class _Pump:
    """The thread that fills the queue."""

    def __init__(self, feed: Feed, buffer_frames: int) -> None:
        self._feed, self._buffer_frames = feed, buffer_frames
        self._changed = Condition()  # guards everything below
        self._waiting: deque[RawFrame] = deque()
        self._opened = self._wanted = self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=f"elysium: {feed.name}", daemon=True)
        self._thread.start()

    def wait_until_open(self) -> None:
        """Raises what kept the feed from opening."""
        with self._changed:
            while not (self._opened or self._ended):
                self._changed.wait(_POLL_S)
            if not self._opened and self._error is not None:
                raise self._error

    def take(self) -> RawFrame | None:
        """The oldest frame that waits, or the next to come; None at the end."""
        with self._changed:
            self._wanted = True
            while not (self._waiting or self._ended):
                self._changed.wait(_POLL_S)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        """End the thread, and with it the hold on the device."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        self._feed.interrupt()
        if current_thread() is not self._thread:
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._feed.open()
            with self._changed:
                self._opened = True
                self._changed.notify_all()
            for index, (time_s, load) in enumerate(self._feed.frames()):
                if not self._put(RawFrame(index, time_s, load)):
                    break
        except BaseException as error:
            self._error = error  # raised where the frames are taken
        finally:
            try:
                self._feed.close()
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()

    def _put(self, frame: RawFrame) -> bool:
        """Whether frames are still wanted."""
        with self._changed:
            if self._feed.realtime:
                while len(self._waiting) >= (self._buffer_frames if self._wanted else 1):
                    self._waiting.popleft()
            else:
                self._changed.wait_for(lambda: self._stopped or len(self._waiting) < self._buffer_frames)
            if not self._stopped:
                self._waiting.append(frame)
                self._changed.notify_all()
            return not self._stopped


def live_reader(text: str) -> LiveReader | None:
    """A reader of a webcam (its number), an address, or standard input ("-"); None if `text` means none of these.

    Raises SourceError if it cannot be read.
    """
    feed = feed_of(text)
    return None if feed is None else LiveReader(feed)


def webcam_reader(index: SupportsIndex) -> LiveReader:
    """A reader of a camera of this machine. Raises InputError for a number that none can have, SourceError."""
    return LiveReader(webcam(operator.index(index)))
