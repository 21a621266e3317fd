"""What an upload may be, and how much of the machine a visitor may use. Knows numbers; reads nothing.

All of it is decided by whoever starts the server, nothing by a visitor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elysium.errors import ElysiumError, InputError, SourceError

# FFmpeg's names. Formats that name other files or addresses (HLS, DASH, concat, SDP) must never be among them.
CONTAINERS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "ogg")
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "mpeg1video", "mpeg2video", "theora")
IMAGES = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # Pillow's names


class Turned(ElysiumError):
    """Turned away: there is too much to do, too little room, or nobody wants it any more."""


@dataclass(frozen=True)
class Limits:
    """The limits of one server.

    Args:
        max_bytes: of one upload, all of its files together.
        max_files: images in one upload.
        max_seconds: length of a video.
        max_frames: of a video, or images.
        max_side: width or height in pixels.
        max_total_pixels: width x height x frames; bounds the work and the disk at once.
        intake_seconds, intake_bytes: time and memory of the process that decodes an upload.
        max_objects: followed at once. max_text: characters of an expression or a question.
        max_waiting: jobs that wait for the model; more are turned away.
        job_seconds: a job that takes longer is stopped as if its visitor had done so.
        max_visitors: people at once. min_free_bytes: of the disk; no more uploads are taken where less is left.
        idle_seconds: a visitor who has done nothing for so long is forgotten, with all files.
        brief_seconds: the same for a call of the interface for programs, whose files are fetched at once.
        live_seconds: longest live view in one go.
    """

    max_bytes: int = 200 * 2**20
    max_files: int = 500
    max_seconds: float = 120.0
    max_frames: int = 3000
    max_side: int = 4096
    max_total_pixels: int = 2_000_000_000
    intake_seconds: float = 120.0
    intake_bytes: int = 3 * 2**30
    max_objects: int = 8
    max_text: int = 300
    max_waiting: int = 8
    job_seconds: float = 1800.0
    max_visitors: int = 100
    min_free_bytes: int = 2**30
    idle_seconds: float = 3600.0
    brief_seconds: float = 600.0
    live_seconds: float = 120.0


def check_files(paths: Sequence[Path], limits: Limits) -> None:
    """Raise InputError for too many files or too many bytes, SourceError for one that is gone; opens none of them."""
    if not paths:
        raise InputError("There is no file in this upload", "Choose a video, or images of one size.")
    if len(paths) > limits.max_files:
        raise InputError(f"{len(paths)} files are too many", f"At most {limits.max_files} images make a clip.")
    try:
        size = sum(path.stat().st_size for path in paths)
    except OSError as error:
        raise SourceError("The upload is no longer on the server", "Upload it again.") from error
    if size > limits.max_bytes:
        raise InputError(
            f"The upload has {size / 2**20:.0f} MB, the limit is {limits.max_bytes / 2**20:.0f} MB",
            "Cut it, or make its frames smaller.",
        )


def check_video(
    container: str, codec: str, resolution_wh: tuple[int, int], seconds: float | None, frames: int | None,
    limits: Limits,
) -> None:  # fmt: skip
    """Raise InputError for what a header says and the limits do not allow; None is what it does not say.

    ``container`` may be several names with commas, as FFmpeg gives them.
    """
    if not set(container.split(",")) & set(CONTAINERS):
        raise InputError(f"Files of the format {container} are not taken here", "Convert it to MP4 first.")
    if codec not in CODECS:
        raise InputError(f"Videos coded as {codec} are not taken here", "Convert it to MP4 with H.264 first.")
    if seconds is not None and seconds > limits.max_seconds:
        raise InputError(
            f"The video is {seconds:.0f} s long, the limit is {limits.max_seconds:.0f} s",
            "Cut it to the part you need.",
        )
    check_size(resolution_wh, frames, limits)


def check_size(resolution_wh: tuple[int, int], frames: int | None, limits: Limits) -> None:
    """Raise InputError for frames that are too large or too many; ``frames`` is None where nobody knows yet."""
    width, height = resolution_wh
    if max(width, height) > limits.max_side:
        raise InputError(
            f"The frames are {width}x{height} pixels, the limit is {limits.max_side} on a side", "Make them smaller."
        )
    if min(width, height) < 8:
        raise InputError(f"The frames are {width}x{height} pixels, which is too small to look at", "Use 8 or more.")
    if frames is None:
        return
    if frames > limits.max_frames:
        raise InputError(
            f"The video has {frames} frames, the limit is {limits.max_frames}", "Cut it to the part you need."
        )
    if width * height * frames > limits.max_total_pixels:
        fitting = limits.max_total_pixels // (width * height)
        raise InputError(
            f"{frames} frames of {width}x{height} pixels are too much; {fitting} of this size would do",
            "Cut the video, or make its frames smaller.",
        )


def check_text(text: str, what: str, limits: Limits) -> str:
    """The text without blanks around it. Raises InputError if it is empty or too long."""
    text = " ".join(text.split())
    if not text:
        raise InputError(f"The {what} is empty", "Write a few words.")
    if len(text) > limits.max_text:
        raise InputError(f"The {what} has {len(text)} characters, the limit is {limits.max_text}", "Make it shorter.")
    return text
