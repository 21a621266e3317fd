"""Frames in, frames out: one iterable over files, folders, globs, lists, arrays, cameras and streams; one writer.

Memory is bounded by a few frames, whatever the length of the source. Knows nothing about boxes, tracks or
models, and leaves the reading itself to elysium.readers and elysium.live.

Conventions: images are (H, W, 3) uint8 RGB, upright, transparency dropped, in the size of the first frame; time 0 is
the first frame of the source and times never run backwards; `Frame.index` counts the frames of the source (those
left out by `stride`, and those dropped by a live source, too), so it lines up with annotations.
"""

from __future__ import annotations

import glob
import math
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from elysium.errors import InputError, SourceError
from elysium.live import live_reader, webcam_reader
from elysium.readers import (
    AnimationReader,
    ArrayReader,
    ImageArray,
    ImageReader,
    RawFrame,
    Reader,
    VideoReader,
    image_size,
    is_animated,
    missing,
    read_image,
)
from elysium.video_writer import VideoWriter

__all__ = ["Frame", "FrameSource", "ImageArray", "Source", "VideoWriter", "image_size", "open_source",
           "read_image"]  # fmt: skip

Source: TypeAlias = (
    str | int | os.PathLike[str] | NDArray[Any] | Sequence[str | os.PathLike[str]] | Iterable[NDArray[Any]]
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".gif", ".apng")
_MAYBE_ANIMATED = (".gif", ".apng", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its index in the source, its time in seconds after the first frame, its pixels."""

    index: int
    time_s: float
    image: ImageArray  # (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class _Selection:
    """Which frames of a source are wanted."""

    start_s: float | None = None
    end_s: float | None = None
    stride: int = 1
    max_frames: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("start", self.start_s), ("end", self.end_s)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}", f"Give {name} in seconds after the first frame, 0 or more.")
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise InputError(f"end ({self.end_s:g} s) is not after start ({self.start_s or 0:g} s)", "Swap them?")
        if self.stride < 1:
            raise InputError(f"stride is {self.stride}", "Use 1 for every frame, 2 for every other, and so on.")
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"max-frames is {self.max_frames}", "Use 1 or more, or leave it out for all frames.")

    def estimate(self, count: int, fps: float) -> int:
        """How many of `count` frames at `fps` are selected."""
        first = 0 if self.start_s is None else math.ceil(self.start_s * fps - 1e-6)
        last = count if self.end_s is None else min(count, math.ceil(self.end_s * fps - 1e-6))
        selected = max(0, math.ceil((last - first) / self.stride))
        return selected if self.max_frames is None else min(selected, self.max_frames)


class FrameSource:
    """The selected frames of a source, as an iterable of `Frame`; made by `open_source`.

    It can be iterated over several times (each time from the start) unless it is `live` or was made from a bare
    iterator. `warnings` grows while frames are read: look at it afterwards.

    A live source holds its device or connection from `open_source` on, until it has been iterated over (to the end or
    not), closed (`with` does that), or let go of.
    """

    def __init__(self, reader: Reader, selection: _Selection) -> None:
        self._reader = reader
        self._selection = selection
        self.name: str = reader.name
        self.fps: float = reader.fps  # of the source, whatever the stride
        self.resolution_wh: tuple[int, int] = reader.resolution_wh
        self.stride: int = selection.stride
        self.live: bool = reader.live  # it arrives while it is read, and only once
        # It may be read in another thread, and further than asked; whoever hands us frames may not expect that.
        self.in_files: bool = isinstance(reader, VideoReader | ImageReader | AnimationReader)

    def close(self) -> None:
        """Stop a live source; others hold nothing."""
        self._reader.close()

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def warnings(self) -> list[str]:
        """What was not as it should be, one sentence each, so far."""
        return self._reader.warnings

    @property
    def num_frames_estimate(self) -> int | None:
        """How many frames iteration will give, by the file's own account; None when it does not say."""
        if self._reader.count is None:
            return None
        return self._selection.estimate(self._reader.count, self.fps)

    def __iter__(self) -> Iterator[Frame]:
        """Raises SourceError when the selection is empty or a frame cannot be read."""
        with closing(self._selected()) as frames:
            for raw in frames:
                yield Frame(raw.index, raw.time_s, raw.load())

    def stamps(self) -> Iterator[tuple[int, float]]:
        """Index and time in seconds of each frame that iteration would give, without making its pixels."""
        with closing(self._selected()) as frames:
            for raw in frames:
                yield raw.index, raw.time_s

    def at(self, indices: Sequence[int]) -> Iterator[Frame]:
        """The frames with these indices in the source, ascending, of those that iteration would give; no other's
        pixels are made, and nothing is read behind the last of them."""
        wanted = iter(indices)
        due = next(wanted, None)
        with closing(self._selected()) as frames:
            while due is not None and (raw := next(frames, None)) is not None:
                if raw.index == due:
                    yield Frame(raw.index, raw.time_s, raw.load())
                    due = next(wanted, None)

    def _selected(self) -> Generator[RawFrame, None, None]:
        wanted, due, given = self._selection, 0, 0
        with closing(self._reader.read()) as frames:  # at once, also on Ctrl-C: there may be a camera behind it
            for raw in frames:
                if wanted.end_s is not None and raw.time_s >= wanted.end_s - 1e-6:
                    break
                if raw.time_s < (wanted.start_s or 0.0) - 1e-6 or raw.index < due:
                    continue
                due = raw.index + wanted.stride
                yield raw
                given += 1
                if given == wanted.max_frames:
                    return
        if not given:
            raise SourceError(f"No frame of {self.name!r} was selected", "Check --start and --end.")


def open_source(
    source: Source,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    color: str = "rgb",
    fps: float | None = None,
) -> FrameSource:
    """Open anything that has frames.

    Args:
        source: a video file, an image (an animated GIF, WebP or PNG is a video), a folder of images (in natural
            order: 2 before 10), a glob, a list of image paths, an array (T, H, W, 3) uint8, or an iterable of arrays
            (H, W, 3) uint8. Or something live: a webcam by its number (0 or "0"), an address (rtsp://, http://,
            https://), "-" for a video on standard input. Where a text is also the name of an existing file or
            folder, that is meant; a Path never means anything else.
        start_s, end_s: seconds after the first frame; frames with start <= time < end are taken.
        stride: take every stride-th frame of the source, counted from the first one taken.
        max_frames: stop after so many frames.
        color: "rgb" or "bgr", the order of channels in given arrays; files always come out as RGB.
        fps: frames per second of images and arrays (25 by default); a video file knows its own.

    Raises:
        SourceError: missing, not a video, an empty folder, an unreadable image, images of different sizes, a camera
            or an address that does not answer.
        InputError: options that make no sense, arrays of a wrong shape or type.
    """
    selection = _Selection(start_s, end_s, stride, max_frames)
    if color not in ("rgb", "bgr"):
        raise InputError(f"Unknown color {color!r}", "Use 'rgb' or 'bgr'.")
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps is {fps}", "Give frames per second, more than 0.")
    if isinstance(source, str | os.PathLike):
        return FrameSource(_text_reader(source, fps), selection)
    if isinstance(source, bool):  # it would count as a webcam
        raise InputError(f"Cannot read frames from {source}", "Give a path or arrays.")
    if isinstance(source, int | np.integer):
        return FrameSource(_without_fps(webcam_reader(source), fps), selection)
    items: Iterable[Any] = source if not (isinstance(source, np.ndarray) and source.ndim == 3) else [source]
    if isinstance(items, list | tuple) and items and isinstance(items[0], str | os.PathLike):
        return FrameSource(ImageReader(f"{len(items)} images", [Path(p) for p in items], fps), selection)
    return FrameSource(ArrayReader(items, fps, color), selection)


def natural_key(path: str | os.PathLike[str]) -> list[str | int]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", os.fspath(path).casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _text_reader(source: str | os.PathLike[str], fps: float | None) -> Reader:
    name, path = os.fspath(source), Path(source).expanduser()
    if os.path.isdir(path):
        return ImageReader(name, _images_of_folder(path), fps)
    if os.path.exists(path):  # (Path.exists fails for addresses longer than file names can be)
        return _file_reader(name, path, fps)
    if os.path.islink(path):
        raise missing(path, "file")
    live = live_reader(source) if isinstance(source, str) else None  # a Path is never an address
    if live is not None:
        return _without_fps(live, fps)
    if not glob.has_magic(name):
        raise SourceError(f"No such file or folder: {name!r}", "Check the path.")
    found = [Path(match) for match in glob.glob(os.path.expanduser(name), recursive=True)]
    images = sorted((p for p in found if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if len(images) > 1:
        return ImageReader(name, images, fps)
    files = images or [p for p in found if p.is_file()]
    if len(files) == 1:
        return _file_reader(str(files[0]), files[0], fps)
    what = f"{len(files)} files, none of them an image" if files else "nothing"
    raise SourceError(f"The pattern {name!r} matches {what}", "Give one video or a pattern of images.")


def _file_reader(name: str, path: Path, fps: float | None) -> Reader:
    kind = path.stat().st_mode
    if stat.S_ISCHR(kind):
        live = live_reader(name)  # /dev/video0
        if live is not None:
            return _without_fps(live, fps)
    if not stat.S_ISREG(kind):
        raise SourceError(
            f"{name!r} is neither a file nor a folder", f"Read a pipe through standard input: elysium ... - < {name}"
        )
    suffix = path.suffix.lower()
    if suffix in _MAYBE_ANIMATED and is_animated(path):
        return _without_fps(AnimationReader(name, path), fps)
    if suffix in IMAGE_SUFFIXES or suffix in _MAYBE_ANIMATED:
        return ImageReader(name, [path], fps)
    return _without_fps(VideoReader(name, path), fps)


def _without_fps(reader: Reader, fps: float | None) -> Reader:
    """The reader; it says that a given fps was of no use, because it knows its own."""
    if fps is not None:
        reader.warnings.append(f"The given fps was ignored: {reader.name} has its own, {reader.fps:g}.")
    return reader


def _images_of_folder(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise SourceError(
            f"Cannot read the folder {str(folder)!r}: {error.strerror}", "Check its permissions."
        ) from error
    images = sorted((p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if images:
        return images
    remedy = f"Give a folder of images ({', '.join(s[1:] for s in IMAGE_SUFFIXES)}) or a video file."
    for entry in sorted(entries):
        if entry.suffix.lower() in VIDEO_SUFFIXES:
            remedy = f"It has a video: give that file, {str(entry)!r}."
        elif entry.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES for p in entry.iterdir()):
            remedy = f"Its subfolder has images: give {str(entry)!r}."
    raise SourceError(f"The folder {str(folder)!r} has no images in it", remedy)
