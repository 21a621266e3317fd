"""`elysium stream`: follow objects in a source that does not end, one line of JSON a frame.

Memory is bounded by a clip, however long the source runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.cli.outputs import check_writable
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.inference.sessions import FrameResult
    from elysium.video import Frame, FrameSource, VideoWriter

LOW_LATENCY_CLIP = 2


def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="A webcam's number, rtsp://, http(s)://, - for a pipe, or any other source.", show_default=False
        ),
    ],
    expression: common.Expression = None,
    expressions: common.MoreExpressions = None,
    box: common.Boxes = None,
    box_format: common.BoxFormat = "xyxy",
    model: common.Model = "nano",
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE.mp4", help="Also write an annotated video.", show_default=False),
    ] = None,
    max_frames: common.MaxFrames = None,
    clip_length: common.ClipLength = None,
    low_latency: Annotated[
        bool, typer.Option("--low-latency", help="Clips of 2: a frame's line comes with the next frame.")
    ] = False,
    lost_policy: common.LostPolicyOption = "search",
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
) -> int:
    """Follow objects in a live source; prints one line of JSON a frame on stdout, until the end or Ctrl-C.

    A frame's line comes when its clip is full: up to 7 frames later with clips of 8, with --low-latency one frame
    later. When a webcam or an rtsp source is faster than the model, the oldest waiting frames are dropped; pipes and
    files wait.

    Example: elysium stream 0 "the person in red" --low-latency
    """
    words = common.all_expressions(expression, expressions)
    boxes = [common.parse_box(text) for text in box or []]
    if not words and not boxes:
        raise InputError("There is nothing to follow: no box and no expression", "Give words, or --box A,B,C,D.")
    if low_latency and clip_length is not None:
        raise InputError("--low-latency and --clip-length both set the clip", "Drop one of them.")
    clip = LOW_LATENCY_CLIP if low_latency else common.check_clip_length(clip_length)
    common.check_lost_policy(lost_policy)
    target = _target(output)
    frames = common.open_frames(source, start_s=None, end_s=None, stride=1, max_frames=max_frames)
    common.check_boxes(boxes, box_format, frames.resolution_wh)
    common.check_machine(device, dtype, threads)
    loaded = common.load_model(model, device, dtype, threads)
    for sentence in loaded.unknown_words(words):
        common.warn(sentence)
    tracker = loaded.tracker(clip_length=clip, lost_policy=lost_policy)  # type: ignore[arg-type]
    try:
        with ExitStack() as stack:
            video = None if target is None else stack.enter_context(_video(target, frames))
            _run(tracker, frames, words, boxes, box_format, video)
    except BrokenPipeError:  # whoever read our lines has had enough
        with suppress(OSError):
            sys.stdout.close()
        return common.DONE
    except KeyboardInterrupt:
        common.error_line("interrupted")
        return common.INTERRUPTED
    for sentence in frames.warnings:
        common.warn(sentence)
    return common.DONE


def _target(output: str | None) -> Path | None:
    if output is None:
        return None
    if Path(output).suffix.lower() != ".mp4" or Path(output).is_dir():
        raise InputError(f"--output {output!r} is not an .mp4 file", "Name a file, for example out.mp4.")
    check_writable(Path(output).parent)
    return Path(output)


def _video(path: Path, frames: FrameSource) -> VideoWriter:
    from elysium.video import VideoWriter

    return VideoWriter(path, frames.fps, frames.resolution_wh)


def _run(
    tracker: Any, frames: FrameSource, words: list[str], boxes: list[list[float]], box_format: str,
    video: VideoWriter | None,
) -> None:  # fmt: skip
    """Print every frame's line as soon as it is known, and draw it. Ctrl-C gives what is known by then."""
    held: dict[int, Frame] = {}
    coming = iter(frames)
    first = next(coming)
    for numbers in boxes:
        tracker.init(first, box=numbers, box_format=box_format)
    for text in words:
        tracker.init(first, expression=text)
    if video is not None:
        held[first.index] = first
    try:
        for result in tracker.stream(_remembered(coming, held, video is not None)):
            _tell(result, held, video)
    except KeyboardInterrupt:
        for result in tracker.finish():
            _tell(result, held, video)
        if video is not None:
            video.close()
        raise


def _remembered(frames: Iterator[Frame], held: dict[int, Frame], wanted: bool) -> Iterator[Frame]:
    """The frames, and, if they are to be drawn later, each in ``held`` until then."""
    for frame in frames:
        if wanted:
            held[frame.index] = frame
        yield frame


def _tell(result: FrameResult, held: dict[int, Frame], video: VideoWriter | None) -> None:
    sys.stdout.write(result.to_json() + "\n")
    sys.stdout.flush()
    if video is None:
        return
    import numpy as np

    from elysium.draw import annotate

    items = result.objects
    video.write(annotate(
        held.pop(result.index).image, np.array([item.box_xyxy for item in items]).reshape(-1, 4),
        [item.expression or f"object {item.id}" for item in items], [item.state for item in items],
        [item.id for item in items],
    ))  # fmt: skip
