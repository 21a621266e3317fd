"""Sources that arrive while they are read: addresses, pipes, cameras; and the thread behind them.

Only this machine is talked to: servers run here, cameras are made up.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from elysium.errors import InputError, SourceError
from elysium.live import LIVE_BUFFER_FRAMES, LiveReader
from elysium.readers import feeds
from elysium.readers.feeds import AvFeed, Pipe, feed_of
from elysium.readers.videos import Header, Unreadable
from elysium.video import FrameSource, VideoWriter, open_source

WIDTH, HEIGHT, COUNT, FPS = 64, 48, 30, 10.0
SRC = Path(__file__).resolve().parent.parent / "src"


def noise(seed: int) -> np.ndarray:
    """Frames that do not compress, so that half of a file is about half of its frames."""
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encode(path: Path) -> Path:
    """The same pictures in any container."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(COUNT):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(noise(index), format="rgb24")))
        target.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4 with its index in front."""
    path = tmp_path_factory.mktemp("live") / "clip.mp4"
    with VideoWriter(path, FPS, (WIDTH, HEIGHT)) as writer:
        for index in range(COUNT):
            writer.write(noise(index))
    return path


@pytest.fixture(scope="module")
def expected(clip: Path) -> list[np.ndarray]:
    return [frame.image for frame in open_source(clip)]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("elysium: ")]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Whatever a test does, when its sources are gone so are their threads."""
    yield
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert threads() == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "NETWORK_TIMEOUT_S", 0.5)


# --- addresses ---


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """Start a server on this machine: answers every request by the given function; returns its address."""
    servers = []

    def start(answer: Callable[[Any], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):  # the other side went away
                    answer(self)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/clip.mp4"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(data: bytes, handler: Any, *, length: int | None = None, kind: str = "video/mp4") -> None:
    """Answer with `data`; promise `length` bytes, if that is not 0."""
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    if length != 0:
        handler.send_header("Content-Length", str(length or len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@pytest.mark.parametrize("length", [None, 0], ids=["with its length", "without its length"])
def test_a_video_behind_an_address_gives_the_frames_of_the_file(clip, expected, serve, length: int | None) -> None:
    url = serve(partial(send, clip.read_bytes(), length=length))
    source = open_source(url)
    assert (source.name, source.live, source.num_frames_estimate) == (url, True, None)
    assert (source.fps, source.resolution_wh) == (FPS, (WIDTH, HEIGHT))
    frames = []
    for frame in source:
        time.sleep(0.002)  # slower than it arrives: it must wait
        frames.append(frame)
    np.testing.assert_array_equal([frame.image for frame in frames], expected)
    assert [frame.index for frame in frames] == list(range(COUNT))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(COUNT) / FPS, atol=1e-6)
    assert source.warnings == []


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({"stride": 7}, [0, 7, 14, 21, 28]),
        ({"max_frames": 2}, [0, 1]),
        ({"start_s": 1.0, "end_s": 1.3}, [10, 11, 12]),
        ({"start_s": 0.5, "stride": 10}, [5, 15, 25]),
    ],
)
def test_selection(clip, serve, options: dict[str, Any], indices: list[int]) -> None:
    source = open_source(serve(partial(send, clip.read_bytes())), **options)
    assert [frame.index for frame in source] == indices
    assert source.num_frames_estimate is None


def test_a_live_source_is_read_once(clip, serve) -> None:
    source = open_source(serve(partial(send, clip.read_bytes())))
    assert len(list(source)) == COUNT
    with pytest.raises(InputError, match="live and was read or closed already"):
        list(source)


def test_an_address_that_dies_midway_keeps_what_was_read_and_warns(clip, expected, serve) -> None:
    data = clip.read_bytes()
    source = open_source(serve(partial(send, data[: len(data) // 2], length=len(data))))
    read = [frame.image for frame in source]
    assert COUNT // 2 - 5 < len(read) < COUNT
    np.testing.assert_array_equal(read[:-2], expected[: len(read) - 2])
    assert source.warnings == [
        f"{source.name} is cut short: {len(read)} of {COUNT} frames could be read and were used."
    ]


@pytest.mark.usefixtures("impatient")
def test_an_address_that_falls_silent_midway(clip, serve) -> None:
    data, hang = clip.read_bytes(), threading.Event()

    def answer(handler: Any) -> None:
        send(data[: len(data) // 2], handler, length=len(data))
        hang.wait(20)

    source = open_source(serve(answer))
    began = time.monotonic()
    assert len(list(source)) < COUNT
    assert time.monotonic() - began < 5
    assert "is cut short" in source.warnings[0]
    hang.set()


@pytest.mark.usefixtures("impatient")
def test_addresses_that_give_no_video(clip, serve) -> None:
    hang = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    for url, words in [
        (f"http://127.0.0.1:{port}/a.mp4", "connection refused"),
        (f"rtsp://127.0.0.1:{port}/a", "connection refused"),
        (serve(lambda handler: handler.send_error(404)), "server returned 404 Not Found"),
        (serve(partial(send, b"<html>Log in first</html>" * 99)), "of no known video format"),
        (serve(partial(send, clip.read_bytes()[:2000])), "cannot|no frame|of no known"),
        (serve(lambda _: hang.wait(20)), "there was no answer within 0.5 s"),
        ("ftp://127.0.0.1/a.mp4", "ftp:// are not read"),
    ]:
        began = time.monotonic()
        with pytest.raises(SourceError, match=words) as caught:
            open_source(url)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert time.monotonic() - began < 4
    hang.set()


def test_the_password_of_a_camera_is_not_told() -> None:
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@127\.0\.0\.1:9/a") as caught:
        open_source("rtsp://me:secret@127.0.0.1:9/a")
    assert "secret" not in str(caught.value)


def test_a_network_camera_of_jpegs_has_the_times_of_arrival(serve) -> None:
    """Multipart JPEG says neither times nor length: it is about the present."""

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
        handler.end_headers()
        for grey in range(0, 200, 10):
            jpeg = io.BytesIO()
            Image.new("RGB", (WIDTH, HEIGHT), (grey,) * 3).save(jpeg, "JPEG")
            head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.tell()}\r\n\r\n"
            handler.wfile.write(head.encode() + jpeg.getvalue() + b"\r\n")
            time.sleep(0.5 if grey == 180 else 0.02)

    source = open_source(serve(answer))
    frames = list(source)
    greys = [int(frame.image[5, 5, 0]) for frame in frames]
    assert len(frames) >= 2  # FFmpeg looks at the first ones for a while, so they may be past
    assert (greys, greys[-1]) == (sorted(greys), 190)
    steps_s = np.diff([frame.time_s for frame in frames])
    assert (steps_s >= 0).all()
    assert steps_s.max() > 0.3  # FFmpeg would say 0.04 everywhere
    assert source.fps == 25.0
    unsaid, *rest = source.warnings
    assert unsaid == f"{source.name} does not say how many frames a second it has; 25 assumed."
    assert set(rest) <= {f"{source.name} broke off; what came before that was used."}  # as FFmpeg sees it


class RtspHandler(socketserver.StreamRequestHandler):
    """As much of a network camera as FFmpeg asks for: one stream of MPEG-TS, inside the RTSP connection."""

    data = b""  # MPEG-TS
    asked: list[str] = []  # the transports that were asked for

    def handle(self) -> None:
        while words := self.rfile.readline().decode().split():
            headers = {}
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body, more = "", ""
            if words[0] == "DESCRIBE":
                body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:a\r\n"
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif words[0] == "SETUP":
                self.asked.append(headers["transport"])
                more = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{more}\r\n{body}".encode())
            if words[0] == "PLAY":
                self.play()
                return

    def play(self) -> None:
        for number, place in enumerate(range(0, len(self.data), 1316)):
            packet = struct.pack(">BBHII", 0x80, 33, number, number * 900, 7) + self.data[place : place + 1316]
            self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
            time.sleep(0.005)


def test_a_network_camera(tmp_path: Path) -> None:
    RtspHandler.data = encode(tmp_path / "a.ts").read_bytes()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RtspHandler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        source = open_source(f"rtsp://me:secret@127.0.0.1:{server.server_address[1]}/a")
        frames = list(source)
        server.shutdown()
    assert source.name == f"rtsp://***@127.0.0.1:{server.server_address[1]}/a"
    assert (source.live, source.resolution_wh, source.num_frames_estimate) == (True, (WIDTH, HEIGHT), None)
    assert RtspHandler.asked[0].startswith("RTP/AVP/TCP")  # UDP would be lost in many networks
    assert (frames[0].index, frames[0].time_s) == (0, 0.0)
    np.testing.assert_allclose([frame.time_s for frame in frames], [frame.index / FPS for frame in frames], atol=0.06)


# --- pipes ---


@pytest.fixture
def pipe_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], int]]:
    """Put bytes into a real pipe and make that the standard input; returns the end to write more into."""
    opened: list[Any] = []

    def start(data: bytes, *, close: bool = True) -> int:
        reading, writing = os.pipe()

        def write() -> None:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(writing, rest) :]
            if close:
                os.close(writing)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        opened.append((thread, os.fdopen(reading, "rb")))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(opened[-1][1]))
        return writing

    yield start
    for thread, file in opened:
        thread.join(5)
        file.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_pipe_gives_the_frames_of_the_file(clip: Path, tmp_path: Path, pipe_in, suffix: str) -> None:
    path = clip if suffix == ".mp4" else encode(tmp_path / f"a{suffix}")
    expected = [frame.image for frame in open_source(path)]
    pipe_in(path.read_bytes())
    source = open_source("-", fps=3)
    assert (source.name, source.live, source.fps) == ("standard input", True, FPS)
    frames = list(source)
    assert len(frames) == COUNT
    np.testing.assert_array_equal([frame.image for frame in frames], expected)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(COUNT) / FPS, atol=1e-6)
    assert source.warnings == ["The given fps was ignored: standard input has its own, 10."]


def test_piped_jpegs(pipe_in) -> None:
    data = io.BytesIO()
    for grey in range(0, 200, 10):
        Image.new("RGB", (WIDTH, HEIGHT), (grey,) * 3).save(data, "JPEG", quality=95)
    pipe_in(data.getvalue())
    frames = list(open_source("-"))
    np.testing.assert_allclose([frame.image.mean() for frame in frames], np.arange(0, 200, 10), atol=2)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(20) / 25, atol=1e-6)


def test_a_pipe_between_processes(clip) -> None:
    code = "from elysium.video import open_source; print(*(f'{f.image.mean():.3f}' for f in open_source('-')))"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), *sys.path])}
    piped = subprocess.run(command, input=clip.read_bytes(), capture_output=True, check=True, env=environment)
    means = [f"{frame.image.mean():.3f}" for frame in open_source(clip)]
    assert piped.stdout.decode().split() == means
    with clip.open("rb") as file:  # not a pipe: elysium track - < clip.mp4
        redirected = subprocess.run(command, stdin=file, capture_output=True, check=True, env=environment)
    assert redirected.stdout.decode().split() == means


def test_a_pipe_that_breaks_off(clip, pipe_in) -> None:
    data = clip.read_bytes()
    pipe_in(data[: len(data) // 2])
    source = open_source("-")
    read = len(list(source))
    assert 5 < read < COUNT
    assert source.warnings == [f"standard input is cut short: {read} of {COUNT} frames could be read and were used."]


def test_pipes_that_give_no_video(tmp_path: Path, pipe_in, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = encode(tmp_path / "behind.mp4")  # with its index behind the pictures
    for data in (b"", b"words\n" * 999, behind.read_bytes()):
        pipe_in(data)
        with pytest.raises(SourceError, match="Cannot read 'standard input'") as caught:
            open_source("-")
        assert "faststart" in caught.value.remedy
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="nothing is piped in"):
        open_source("-")


def test_stopping_does_not_wait_for_a_pipe_that_waits(clip, pipe_in) -> None:
    data = clip.read_bytes()
    writing = pipe_in(data[: len(data) // 2], close=False)  # the rest never comes
    source = open_source("-")
    for frame in source:
        if frame.index == 3:
            break
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 1
    assert threads() == []
    assert source.warnings == []  # it was not its fault
    os.close(writing)


def test_a_pipe_made_by_a_program(clip, expected) -> None:
    pipe = Pipe(io.BytesIO(clip.read_bytes()))
    assert pipe.seekable()
    feed = AvFeed("made", partial(av.open, pipe), realtime=False, remedy="", interrupt=pipe.stop)
    with closing(LiveReader(feed).read()) as frames:
        np.testing.assert_array_equal([frame.load() for frame in frames], expected)


# --- cameras ---


@pytest.mark.parametrize("source", [31, "31", np.int64(31), "/dev/video31"])
def test_a_missing_webcam(source: Any) -> None:
    with pytest.raises(SourceError, match="Cannot read 'webcam 31'") as caught:
        open_source(source)
    assert "count from 0" in caught.value.remedy


@pytest.mark.parametrize("source", [-1, 32, 1_000_000])
def test_a_number_that_no_webcam_has(source: int) -> None:
    with pytest.raises(InputError, match="is not the number of a webcam"):
        open_source(source)


def test_an_existing_file_wins_over_a_webcam(clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").write_bytes(clip.read_bytes())
    (tmp_path / "1").mkdir()
    Image.fromarray(noise(1)).save(tmp_path / "1" / "a.png")
    for name, count in (("0", COUNT), ("1", 1)):
        source = open_source(name)
        assert (source.live, source.num_frames_estimate, len(list(source))) == (False, count, count)
    (tmp_path / "31").write_bytes(clip.read_bytes())
    with pytest.raises(SourceError, match="webcam 31"):
        open_source(31)  # a number is never a file
    with pytest.raises(SourceError, match="No such file or folder: '30'"):
        open_source(Path("30"))  # and a path never a camera
    with pytest.raises(InputError, match="frames from True"):
        open_source(True)


@pytest.mark.parametrize(
    ("platform", "arguments"),
    [
        ("darwin", {"file": "2:none", "format": "avfoundation", "container_options": {"framerate": "30"}}),
        ("win32", {"file": "video=third", "format": "dshow", "container_options": {}}),
    ],
)
def test_how_webcams_are_called_elsewhere(platform: str, arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __init__(self, name: str, *media_types: str) -> None:
            self.name, self.media_types = name, media_types

    devices = [
        Device("first", "video"),
        Device("microphone", "audio"),
        Device("2nd", "video"),
        Device("third", "video"),
    ]
    calls = []
    monkeypatch.setattr(feeds.av, "enumerate_input_devices", lambda kind: devices, raising=False)
    monkeypatch.setattr(feeds.av, "open", lambda file, **options: calls.append({"file": file, **options}))
    feeds._open_webcam(2, platform)
    assert {key: calls[0][key] for key in arguments} == arguments
    if platform == "win32":
        with pytest.raises(Unreadable, match="3 camera"):
            feeds._open_webcam(3, platform)


def test_a_camera_that_has_no_new_picture_yet(clip) -> None:
    """FFmpeg on macOS says "again" instead of waiting."""

    class Camera:
        """A container that says so before every packet."""

        def __init__(self) -> None:
            self.inner: Any = av.open(str(clip))
            self.packets = self.inner.demux(video=0)
            self.asked = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def demux(self, _: Any) -> Iterator[Any]:
            while True:
                self.asked += 1
                if self.asked % 2:
                    raise av.BlockingIOError(11, "again")
                packet = next(self.packets, None)
                if packet is None:
                    return
                yield packet

    reader = LiveReader(AvFeed("camera", Camera, realtime=False, remedy=""))
    assert len(list(reader.read())) == COUNT
    assert reader.warnings == []


# --- the thread and its queue ---


class FakeFeed:
    """A source whose pictures come when the test says so. The brightness of a frame is its number."""

    name, remedy, resolution_wh = "fake", "Mend it.", (4, 4)

    def __init__(self, count: int, *, realtime: bool) -> None:
        self.count, self.realtime = count, realtime
        self.header = Header(FPS, True, None, None)
        self.go, self.done, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.given, self.closed = 0, 0

    def open(self) -> None:
        pass

    def frames(self) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
        for number in range(self.count):
            self.given += 1
            yield 100 + number / FPS, partial(np.full, (4, 4, 3), number, np.uint8)
            if number == 2:
                while not (self.go.is_set() or self.stopped.is_set()):
                    self.go.wait(0.01)
        self.done.set()

    def close(self) -> None:
        self.closed += 1

    def interrupt(self) -> None:
        self.stopped.set()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def source_of(feed: Any, **options: Any) -> FrameSource:
    from elysium.video import _Selection

    return FrameSource(LiveReader(feed), _Selection(**options))


def test_a_slow_reader_of_the_present_gets_the_newest_frames() -> None:
    feed = FakeFeed(30, realtime=True)
    source = source_of(feed)
    until(lambda: feed.given == 3)
    time.sleep(0.02)
    frames = iter(source)
    first = next(frames)
    # What came before the reading began is past: the newest frame is number 0, at time 0.
    assert (first.index, first.time_s, int(first.image[0, 0, 0])) == (0, 0.0, 2)
    assert source.warnings == []
    feed.go.set()
    assert feed.done.wait(5)  # meanwhile the reader thinks
    rest = list(frames)
    assert [int(frame.image[0, 0, 0]) for frame in rest] == list(range(30 - LIVE_BUFFER_FRAMES, 30))
    assert [frame.index for frame in rest] == list(range(28 - LIVE_BUFFER_FRAMES, 28))  # of the source
    np.testing.assert_allclose([frame.time_s for frame in rest], [frame.index / FPS for frame in rest])
    assert source.warnings == ["fake was faster than it could be processed: 19 of 28 frames were left out."]
    assert feed.closed == 1


def test_a_stride_goes_on_over_dropped_frames() -> None:
    feed = FakeFeed(30, realtime=True)
    frames = iter(source_of(feed, stride=5))
    until(lambda: feed.given == 3)
    first = next(frames)
    feed.go.set()
    assert feed.done.wait(5)
    indices = [first.index, *(frame.index for frame in frames)]
    assert indices[0] == 0
    assert len(indices) == 3
    assert indices[2] - indices[1] == 5


def test_a_slow_reader_of_what_can_wait_gets_all_frames() -> None:
    feed = FakeFeed(30, realtime=False)
    feed.go.set()
    source, numbers = source_of(feed), []
    for frame in source:
        time.sleep(0.002)
        assert feed.given <= len(numbers) + LIVE_BUFFER_FRAMES + 2  # memory is bounded
        numbers.append(int(frame.image[0, 0, 0]))
    assert numbers == list(range(30))
    assert source.warnings == []


def stop_by_closing_the_generator(source: FrameSource) -> None:
    frames = iter(source)
    next(frames)
    frames.close()  # type: ignore[attr-defined]


def stop_by_leaving_the_loop(source: FrameSource) -> None:
    for _ in source:
        break


def stop_by_an_error(source: FrameSource) -> None:
    def fail() -> None:
        for _ in source:
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def stop_by_the_selection(source: FrameSource) -> None:
    source._selection = type(source._selection)(max_frames=1)
    assert len(list(source)) == 1


def stop_by_closing(source: FrameSource) -> None:
    with source as same:
        assert same is source
    with pytest.raises(InputError, match="closed already"):
        list(source)


def stop_by_letting_go(source: FrameSource) -> None:
    del source._reader


def stop_by_ctrl_c(source: FrameSource) -> None:
    frames = iter(source)
    next(frames)
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))

    def wait() -> None:
        for _ in frames:  # nothing more comes
            pass

    # Python leaves SIGINT alone where the parent ignored it, as a shell does for what it starts in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGINT, before)
        timer.join()


@pytest.mark.parametrize("realtime", [True, False])
@pytest.mark.parametrize(
    "stop",
    [
        stop_by_closing_the_generator,
        stop_by_leaving_the_loop,
        stop_by_an_error,
        stop_by_the_selection,
        stop_by_closing,
        stop_by_letting_go,
        stop_by_ctrl_c,
    ],
)
def test_stopping_ends_the_thread_and_releases_the_device(stop: Callable[[FrameSource], None], realtime: bool) -> None:
    feed = FakeFeed(30, realtime=realtime)
    source = source_of(feed)
    assert len(threads()) == 1
    stop(source)
    assert (threads(), feed.closed) == ([], 1)


def test_an_endless_source_is_dropped_and_stopped() -> None:
    """FFmpeg's own test picture, as fast as it can be drawn."""
    try:
        av.open("testsrc=size=32x32:rate=30", format="lavfi").close()
    except (ValueError, OSError):
        pytest.skip("this PyAV has no test picture")
    connect = partial(av.open, "testsrc=size=32x32:rate=30", format="lavfi")
    source = source_of(AvFeed("test picture", connect, realtime=True, remedy=""), max_frames=30)
    indices = []
    for frame in source:
        assert frame.image.shape == (32, 32, 3)
        assert frame.time_s == pytest.approx(frame.index / 30)
        indices.append(frame.index)
        time.sleep(0.005)
    assert len(indices) == 30
    assert indices[0] == 0
    assert indices[-1] > 60
    assert "frames were left out" in source.warnings[0]
    assert threads() == []


@pytest.mark.parametrize("error", [Unreadable("it is off"), RuntimeError("a bug")])
def test_errors_of_the_thread_reach_the_reader(error: Exception) -> None:
    feed = FakeFeed(30, realtime=True)

    def fail() -> None:
        raise error

    feed.open = fail  # type: ignore[method-assign]
    with pytest.raises((SourceError, RuntimeError)) as caught:
        LiveReader(feed)
    assert ("it is off. Mend it." in str(caught.value)) == isinstance(error, Unreadable)
    assert feed.closed == 1


def test_a_bug_midway_is_not_swallowed() -> None:
    feed = FakeFeed(2, realtime=False)
    frames_of = feed.frames

    def fail() -> Iterator[Any]:
        yield from frames_of()
        raise ZeroDivisionError

    feed.frames = fail  # type: ignore[method-assign]
    read: list[int] = []

    def read_all() -> None:
        read.extend(frame.index for frame in source_of(feed))

    with pytest.raises(ZeroDivisionError):
        read_all()
    assert feed.closed == 1


@pytest.mark.parametrize("text", ["clip.mp4", "frames/", "*.png", "32", "007", "-1", "c:/clip.mp4", "webcam", "~/0"])
def test_what_is_not_live(text: str) -> None:
    assert feed_of(text) is None


@pytest.mark.parametrize(
    ("text", "name", "realtime"),
    [
        ("0", "webcam 0", True),
        ("rtsp://127.0.0.1/a", "rtsp://127.0.0.1/a", True),
        ("RTSPS://u:p@127.0.0.1/a@b", "RTSPS://***@127.0.0.1/a@b", True),
        ("https://127.0.0.1/a.mp4?x=1", "https://127.0.0.1/a.mp4?x=1", False),
    ],
)
def test_what_is_live(text: str, name: str, realtime: bool) -> None:
    feed = feed_of(text)
    assert feed is not None
    assert (feed.name, feed.realtime) == (name, realtime)
