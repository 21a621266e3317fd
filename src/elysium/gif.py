"""Annotated results and plain frames as GIFs, made smaller until they fit.

Knows what a GIF costs: its own palette for each frame, how many frames a second browsers play, and what to give up,
of the frames and of the width, for a file of so many bytes. Knows nothing about models, nor about how frames are
annotated (`elysium.draw`) or other videos are encoded (`elysium.video_writer`).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from PIL import Image

from elysium.draw import annotate_result
from elysium.errors import OutputError
from elysium.files import atomic_path, temporary_beside
from elysium.tracks import TrackResult
from elysium.video import Frame, FrameSource, ImageArray

GIF_MAX_FPS = 15.0
GIF_MAX_BYTES = 10_000_000  # what most sites take as an image
# How a GIF that is too large is made smaller: of its frames every n-th one, and this share of its width.
GIF_STEPS = ((1, 0.75), (2, 0.75), (2, 0.5), (3, 0.5), (4, 0.375), (6, 0.25))


def write_result_gif(
    frames: Iterable[Frame] | FrameSource,
    result: TrackResult,
    path: str | os.PathLike[str],
    *,
    max_width: int = 480,
    max_bytes: int = GIF_MAX_BYTES,
    trails: bool = False,
) -> Path:
    """Like `draw.write_video`, as a GIF of at most `max_bytes`; see `write_gif` for what is given up to get there."""
    images = annotate_result(frames, result, trails=trails)
    return write_gif(path, images, result.output_fps, max_width, max_bytes)


def write_gif(
    path: str | os.PathLike[str],
    frames: Iterable[ImageArray],
    fps: float,
    max_width: int = 480,
    max_bytes: int | None = None,
) -> Path:
    """Write RGB frames as an endless GIF, at most `max_width` pixels wide and `max_bytes` large.

    At most 15 frames a second are kept (of the others every second, third, ... one): browsers slow faster
    GIFs down. Each frame has its own 256 colours, made as it passes, so memory does not grow with the length.
    What comes out larger than `max_bytes` is written again in the steps of `GIF_STEPS`, down to a quarter of the
    width and every sixth frame, and then with half of the frames again and again, until it fits; it plays at the
    same speed throughout. Nothing is written if there are no frames. Raises OutputError.
    """
    step = max(1, int(np.ceil(fps / GIF_MAX_FPS - 1e-6)))
    kept = (image for place, image in enumerate(frames) if place % step == 0)
    first = next(kept, None)
    if first is None:
        return Path(path)
    height, width = first.shape[:2]
    scale = min(1.0, max_width / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    with atomic_path(Path(path)) as temporary:
        try:
            rate = Fraction(fps / step).limit_denominator(1000)
            count = _encode_gif(temporary, _chain(first, kept), rate, size)
            if max_bytes is not None and temporary.stat().st_size > max_bytes:
                _shrink_gif(temporary, count, rate, size, max_bytes)
        except ValueError as error:  # not an OSError: FFmpeg could not make sense of the name
            raise OutputError(
                f"Cannot write a GIF to {os.fspath(path)!r}: {error}", "Use a name ending in .gif."
            ) from error
    return Path(path)


def _shrink_gif(path: Path, count: int, rate: Fraction, size: tuple[int, int], max_bytes: int) -> None:
    """Replace a GIF of `count` frames by the first of its smaller versions that fits.

    They are made from the GIF, not from the frames, which may come only once and are too many to keep.
    """
    smaller = temporary_beside(path)
    try:
        for every, share in _gif_steps(count):
            small = (max(1, round(size[0] * share)), max(1, round(size[1] * share)))
            with closing(_gif_frames(path, every)) as images:
                _encode_gif(smaller, images, rate / every, small, max_bytes)
            if smaller.stat().st_size <= max_bytes:
                os.replace(smaller, path)
                return
    finally:
        smaller.unlink(missing_ok=True)
    raise OutputError(f"Not one frame fits into a GIF of {max_bytes} bytes", "Raise max_bytes, or save an mp4.")


def _gif_steps(count: int) -> Iterator[tuple[int, float]]:
    """`GIF_STEPS`, then fewer and fewer frames, the last time a single one of `count`."""
    yield from GIF_STEPS
    every, share = GIF_STEPS[-1]
    while every < count:
        every *= 2
        yield every, share


def _gif_frames(path: Path, every: int) -> Generator[ImageArray, None, None]:
    """Every n-th frame of a GIF, RGB."""
    with av.open(str(path)) as container:
        for place, frame in enumerate(container.decode(video=0)):
            if place % every == 0:
                yield np.asarray(frame.to_ndarray(format="rgb24", threads=1), dtype=np.uint8)


def _encode_gif(
    path: Path,
    images: Iterable[ImageArray],
    rate: Fraction,
    size: tuple[int, int],
    max_bytes: int | None = None,
) -> int:
    """Write a GIF and return how many frames it has; stops as soon as it is larger than `max_bytes`."""
    count, written_bytes = 0, 0
    with av.open(str(path), "w", format="gif") as container:
        stream = cast(Any, container.add_stream("gif", rate=rate))
        stream.width, stream.height = size
        stream.pix_fmt = "pal8"
        graph = _palette_graph(size, rate)
        for image in images:
            if (image.shape[1], image.shape[0]) != size:
                image = np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="rgba", threads=1)
            frame.pts, frame.time_base = count, 1 / rate
            graph.push(frame)
            packets = stream.encode(_pulled(graph))
            written_bytes += sum(packet.size for packet in packets)
            container.mux(packets)
            count += 1
            if max_bytes is not None and written_bytes > max_bytes:
                break
        container.mux(stream.encode(None))
    return count


def _chain(first: ImageArray, rest: Iterable[ImageArray]) -> Iterator[ImageArray]:
    yield first
    yield from rest


def _pulled(graph: Any) -> Any:
    frame = graph.pull()
    frame.pict_type = 0
    return frame


def _palette_graph(size: tuple[int, int], rate: Fraction) -> Any:
    """A filter that turns RGBA frames into 256 colours, chosen anew for each frame."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=size[0], height=size[1], format=av.VideoFormat("rgba"), time_base=1 / rate)
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
