"""Opens an upload and writes its frames: `python -m elysium.app.intake`, a process of its own with limits.

Reads one line of JSON on stdin (`files`, `folder`, `name`, `limits`, and `confine`, whether to take the limits of the
system, and to end with whoever holds stdin open), writes lines of JSON on stdout: `{"frames": n}` on the way, at the
end `{"clip": ...}` or `{"error": [message, remedy]}`. The header is checked before anything is decoded. Knows nothing
of visitors; `confine` watches over it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elysium.app.limits import CONTAINERS, IMAGES, Limits, check_size, check_video
from elysium.errors import ElysiumError, InputError, SourceError

JPEG_QUALITY = 92
_MAX_FRAME_BYTES = 64 * 2**20  # no file that is written here is larger
_TOLD_EVERY = 10  # frames


def main() -> int:
    """Do what stdin says; 0 if an answer was written, whatever it says."""
    order = json.loads(sys.stdin.readline())
    limits = Limits(**order["limits"])
    if order.get("confine", True):
        confine_self(limits)
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    files = [Path(path) for path in order["files"]]
    try:
        _tell(clip=take_in(files, Path(order["folder"]), order["name"], limits))
    except ElysiumError as error:
        _tell(error=[_named(error.message, files), _named(error.remedy, files)])
    except (MemoryError, ImportError):  # a library that finds no room is an ImportError
        _tell(error=[f"{order['name']!r} needs more memory than an upload may take", "Make its frames smaller."])
    return 0


def _end_with_stdin() -> None:
    """End this process when the server is gone, however it ended."""
    with suppress(OSError):  # of descriptor 0 itself: the lock of sys.stdin would be held to the end
        while os.read(0, 1024):
            pass
    os._exit(1)


def _named(text: str, files: list[Path]) -> str:
    """A sentence with the names of files instead of their paths, which are no visitor's business."""
    for path in files:
        text = text.replace(str(path), path.name)
    return text


def _tell(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def confine_self(limits: Limits) -> None:
    """Take limits of memory, processor time and file size for the rest of this process, where the system has them."""
    try:
        import resource
    except ImportError:  # Windows: the deadline of `confine` has to do
        return
    seconds = max(1, int(limits.intake_seconds))
    cores = os.cpu_count() or 1
    for what, most in (
        (resource.RLIMIT_AS, limits.intake_bytes),
        (resource.RLIMIT_CPU, seconds * cores),
        (resource.RLIMIT_FSIZE, _MAX_FRAME_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 128),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def take_in(files: list[Path], folder: Path, name: str, limits: Limits) -> dict[str, Any]:
    """Write the frames of an upload into ``folder`` and return what a `Clip` needs, ready for JSON.

    Raises InputError for what the limits do not allow, SourceError for what cannot be read.
    """
    from PIL import Image

    from elysium.app.clips import frame_name
    from elysium.readers import Reader

    reader: Reader = _checked_reader(files, name, limits)
    times_s: list[float] = []
    for raw in reader.read():
        check_size(reader.resolution_wh, len(times_s) + 1, limits)
        if raw.time_s > limits.max_seconds:
            raise InputError(f"The video is longer than {limits.max_seconds:.0f} s", "Cut it to the part you need.")
        Image.fromarray(raw.load()).save(folder / frame_name(len(times_s)), quality=JPEG_QUALITY)
        times_s.append(raw.time_s)
        if len(times_s) % _TOLD_EVERY == 0:
            _tell(frames=len(times_s))
    if not times_s:
        raise SourceError(f"{name!r} has no frame that can be read", "Try to play or convert it first.")
    return {
        "fps": reader.fps,
        "resolution_wh": list(reader.resolution_wh),
        "times_s": [round(time_s, 6) for time_s in times_s],
        "warnings": list(reader.warnings),
    }


def _checked_reader(files: list[Path], name: str, limits: Limits) -> Any:
    """A reader for files whose headers are within the limits."""
    from elysium.readers import AnimationReader, ImageReader, VideoReader, is_animated
    from elysium.video import natural_key

    pictures = [size for path in files if (size := _image_size(path)) is not None]
    if len(files) > 1:
        if len(pictures) < len(files):
            raise InputError(f"{len(files)} files, not all of them images", "Choose one video, or images of one size.")
        for size in pictures:
            check_size(size, len(files), limits)
        return ImageReader(name, sorted(files, key=natural_key), None)
    (path,) = files
    if pictures:
        check_size(pictures[0], 1, limits)
        if is_animated(path):
            reader = AnimationReader(name, path)
            check_size(reader.resolution_wh, reader.count, limits)
            return reader
        return ImageReader(name, [path], None)
    _probe(path, name, limits)
    return VideoReader(name, path)


def _image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) if it is one of our kinds of image, by its header; None for anything else."""
    from PIL import Image

    try:
        with Image.open(path, formats=IMAGES) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _probe(path: Path, name: str, limits: Limits) -> None:
    """Check container, codec, size and length of a video by its header.

    Only the containers of the list may be tried: others would open files and addresses that an upload names.
    """
    with _opened(path, name) as (container, stream):
        context = stream.codec_context
        seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
        if seconds is None and container.duration is not None:
            seconds = container.duration / 1_000_000
        rate = float(stream.average_rate or 0)
        frames = int(stream.frames) or (None if seconds is None or not rate else round(seconds * rate))
        codec = context.codec.canonical_name  # of the standard, whichever decoder is in use
        check_video(container.format.name, codec, (context.width, context.height), seconds, frames, limits)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[Any, Any]]:
    """The container and the stream that will be read. Raises SourceError."""
    import av

    from elysium.readers.videos import Unreadable, video_stream

    if not path.stat().st_size:
        raise SourceError(f"{name!r} is empty", "Upload it again.")
    safe = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        with av.open(os.path.abspath(path), container_options=safe, metadata_errors="ignore") as container:
            yield container, video_stream(container)
    except Unreadable as reason:
        raise SourceError(f"{name!r} is not a video that can be read: {reason}", "Convert it to MP4 first.") from reason
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{name!r} is not a video or image that can be read", "Try to play it, or convert it to MP4 first."
        ) from error


def as_order(files: list[Path], folder: Path, name: str, limits: Limits) -> str:
    """What goes to stdin of this process."""
    order = {"files": [str(path) for path in files], "folder": str(folder), "name": name, "limits": asdict(limits)}
    return json.dumps(order)


if __name__ == "__main__":
    sys.exit(main())
