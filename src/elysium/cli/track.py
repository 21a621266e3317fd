"""`elysium track`: follow objects through a video and write what was found.

Checks everything that can be checked before the model is loaded. Knows nothing of how tracking works.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from elysium.cli import common
from elysium.cli.outputs import DEFAULT_SAVE, FORMATS, OutputPlan, plan_output, save_result, without_pictures
from elysium.cli.progress import frame_progress
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.inference.pipelines import Elysium
    from elysium.tracks import Track, TrackResult
    from elysium.video import FrameSource

_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="DIR|FILE.mp4",
        help="Where to write. Default: runs/track/<name of the source>, numbered up.",
        show_default=False,
    ),
]
Save = Annotated[str, typer.Option("--save", metavar="LIST", help=f"Some of {','.join(FORMATS)}; or none.")]
At = Annotated[
    list[float] | None,
    typer.Option(
        "--at",
        metavar="S",
        help="Objects start at this second. Once for all of them, or once for each, boxes first.",
        show_default=False,
    ),
]
Free = Annotated[bool, typer.Option("--free", help="Decode without the answer grammar.")]


def track(
    source: common.Source,
    expression: common.Expression = None,
    expressions: common.MoreExpressions = None,
    box: common.Boxes = None,
    at: At = None,
    box_format: common.BoxFormat = "xyxy",
    model: common.Model = "nano",
    output: Output = None,
    save: Save = DEFAULT_SAVE,
    stride: common.Stride = 1,
    start: common.Start = None,
    end: common.End = None,
    max_frames: common.MaxFrames = None,
    clip_length: common.ClipLength = None,
    lost_policy: common.LostPolicyOption = "search",
    search_window: common.SearchWindow = "auto",
    free: Free = False,
    fine: common.Fine = False,
    zoom: common.Zoom = False,
    tokens_per_frame: common.TokensPerFrame = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    reference: common.Reference = False,
    quiet: common.Quiet = False,
    as_json: common.AsJson = False,
) -> int:
    """Follow objects through a video.

    Each box and each expression is an object of its own. A box belongs to the frame in which the object starts, the
    first processed one unless --at says otherwise. Boxes in the results are pixels of the original frame.

    Example: elysium track street.mp4 "the person in red" --save mp4,csv
    """
    words = _words(source, expression, expressions or [])
    boxes = [common.parse_box(text) for text in box or []]
    if not words and not boxes:
        raise InputError(
            "There is nothing to follow: no box and no expression", "Give words, or --box A,B,C,D."
        )
    window = common.parse_window(search_window)
    common.check_clip_length(clip_length)
    common.check_lost_policy(lost_policy)
    common.at_least("--tokens-per-frame", tokens_per_frame)
    common.check_times(at or [], len(words) + len(boxes))
    plan = plan_output(output, save, source, Path("runs/track") / common.source_stem(source))
    frames = common.open_frames(source, start_s=start, end_s=end, stride=stride, max_frames=max_frames)
    plan = without_pictures(plan, frames, chosen=save != DEFAULT_SAVE or (output or "").lower().endswith(".mp4"))
    common.check_boxes(boxes, box_format, frames.resolution_wh)
    common.check_machine(device, dtype, threads)
    loaded = common.load_model(model, device, dtype, threads, reference, tokens_per_frame)

    began = time.monotonic()
    result, stopped = _run(
        loaded,
        frames,
        words,
        boxes,
        box_format,
        at_s=at or None,
        clip_length=clip_length,
        lost_policy=lost_policy,
        window=window,
        free=free,
        fine=fine,
        zoom=zoom,
        quiet=quiet,
    )
    seconds = time.monotonic() - began
    return _finish(result, plan, seconds, stopped=stopped, quiet=quiet, as_json=as_json)


def _words(source: str, expression: str | None, more: list[str]) -> list[str]:
    """All expressions, stripped. Raises InputError for an empty one, and for what a shell made of a glob."""
    words = common.all_expressions(expression, more)
    if expression is not None and Path(expression).suffix.lower() in _IMAGES and Path(expression).is_file():
        raise InputError(
            f"{expression!r} stands where the words belong, but it is an image",
            f"Put a pattern in quotes: elysium track '{Path(source).parent / '*'}{Path(source).suffix}' ...",
        )
    return words


def _run(
    model: Elysium,
    frames: FrameSource,
    words: list[str],
    boxes: list[list[float]],
    box_format: str,
    *,
    at_s: list[float] | None,
    clip_length: int | None,
    lost_policy: str,
    window: float | Literal["auto"] | None,
    free: bool,
    fine: bool,
    zoom: bool,
    quiet: bool,
) -> tuple[TrackResult, bool]:
    """The result, and whether Ctrl-C cut it short."""
    from elysium.inference.tracker import Interrupted

    with frame_progress("tracking", quiet=quiet) as report:
        try:
            result = model.track(
                frames,
                words or None,
                boxes or None,
                box_format,
                at_s=at_s,
                clip_length=clip_length,
                lost_policy=lost_policy,  # type: ignore[arg-type]
                search_window=window,
                free=free,
                fine=fine,
                zoom=zoom,
                progress=report,
            )
        except Interrupted as stop:
            return stop.result, True
    return result, False


def _finish(
    result: TrackResult,
    plan: OutputPlan,
    seconds: float,
    *,
    stopped: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Say what has to be said, write the files, and return the exit code."""
    for sentence in result.warnings:
        common.warn(sentence)
    for item in result.tracks:
        for note in item.notes:
            common.warn(f"object {item.id}: {note}")
    if stopped and not result.num_frames:
        common.error_line("interrupted before the first clip was finished; nothing was written")
        return common.INTERRUPTED
    written, failed = save_result(result, plan)
    if as_json:
        sys.stdout.write(result.to_json())
    elif not quiet:
        speed = result.num_frames / max(seconds, 1e-9)
        print(f"{result.num_frames} frames in {seconds:.1f} s ({speed:.1f} frames/s)")
        for item in result.tracks:
            print(_summary(item))
        for path in written.values():
            print(path)
    for error in failed:
        common.error_line(str(error))
    if stopped:
        common.error_line("interrupted; what was tracked so far has been kept" if written else "interrupted")
        return common.INTERRUPTED
    if failed:
        return common.SOME_FAILED if written else failed[0].exit_code
    return common.DONE


def _summary(item: Track) -> str:
    """One line about a track, for example `object 1 "the dog": 70 tracked, 9 carried, 1 absent`."""
    counts = {state: int((item.states == state).sum()) for state in ("tracked", "carried", "absent")}
    name = f'object {item.id} "{item.expression}"' if item.expression else f"object {item.id}"
    return f"{name}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)
