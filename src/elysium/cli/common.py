"""What several commands share: their options, the checks of them, and how they speak.

stdout is for results, stderr for progress, notes, warnings and errors. PyTorch is never imported at the top.
"""

from __future__ import annotations

import glob
import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from elysium.errors import InputError, SourceError

if TYPE_CHECKING:
    from elysium.inference.pipelines import Elysium
    from elysium.video import FrameSource

DONE, SOME_FAILED, INTERRUPTED = 0, 1, 130
LOST_POLICIES = ("search", "report", "stop")

Source = Annotated[
    str,
    typer.Argument(
        help="A video, an image, a folder of images, a quoted glob, an address, a webcam's number, or - for a pipe.",
        show_default=False,
    ),
]
BoxFormat = Annotated[
    str,
    typer.Option(
        "--box-format",
        metavar="FORMAT",
        help="xyxy or xywh (left, top, width, height) in pixels, xyxyn in 0..1, percent in 0..100.",
    ),
]
Model = Annotated[
    str, typer.Option("--model", metavar="NAME|PATH", help="A bundled name, a folder or a hub id.")
]
Stride = Annotated[int, typer.Option("--stride", metavar="N", help="Read every Nth frame.")]
Start = Annotated[
    float | None, typer.Option("--start", metavar="S", help="Start at this second.", show_default=False)
]
End = Annotated[
    float | None, typer.Option("--end", metavar="S", help="End at this second.", show_default=False)
]
MaxFrames = Annotated[
    int | None, typer.Option("--max-frames", metavar="N", help="Read at most N frames.", show_default=False)
]
Expression = Annotated[str | None, typer.Argument(help="What to follow, in words.", show_default=False)]
MoreExpressions = Annotated[
    list[str] | None,
    typer.Option("--expression", metavar="TEXT", help="One more object, in words. Repeatable."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box", metavar="A,B,C,D", help="One more object, as a box in the frame it starts in. Repeatable."
    ),
]
ClipLength = Annotated[
    int | None,
    typer.Option(
        "--clip-length",
        metavar="N",
        help="Frames the model sees at once. Default: the model's, 8.",
        show_default=False,
    ),
]
LostPolicyOption = Annotated[
    str,
    typer.Option(
        "--lost-policy",
        metavar="search|report|stop",
        help="A lost object is searched, or reported absent from then on, or its track stops.",
    ),
]
SearchWindow = Annotated[
    str,
    typer.Option(
        "--search-window",
        metavar="auto|none|RATIO",
        help="Look only near the box, in a window of RATIO box sizes; none: at whole frames; auto: as the model wants.",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="NAME", help="auto, float32, bfloat16, float16, 8bit or 4bit.")]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", help="CPU threads to use.", show_default=False)
]
Workers = Annotated[int, typer.Option("--workers", metavar="N", help="So many processes.")]
Reference = Annotated[
    bool, typer.Option("--reference", help="Answer one object and one token at a time: slow, the same answers.")
]
TokensPerFrame = Annotated[
    int | None,
    typer.Option(
        "--tokens-per-frame",
        metavar="K",
        help="Keep K visual tokens of each frame. Default: as many as the model was made for.",
        show_default=False,
    ),
]
Zoom = Annotated[bool, typer.Option("--zoom", help="Look again, closer, at what is small in what the model saw.")]
Fine = Annotated[bool, typer.Option("--fine", help="Boxes finer than the whole per cents that the model writes.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no summary; warnings stay.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")
]


def error_line(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def print_while_read(line: object) -> None:
    """Print a line, unless whoever reads stdout has had enough (``| head``): then this and all that follow are lost."""
    try:
        print(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_box(text: str) -> list[float]:
    """`"A,B,C,D"` -> four finite numbers. What they mean is checked once the frame's size is known.

    Raises:
        InputError: not four numbers, or NaN or infinity among them.
    """
    parts = text.strip().strip("[]()").replace(",", " ").split()
    remedy = "Give four numbers, for example --box 10,20,110,220."
    if len(parts) != 4:
        raise InputError(f"--box {text!r} has {len(parts)} numbers instead of 4", remedy)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise InputError(f"--box {text!r} holds something that is not a number", remedy) from None
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"--box {text!r} has a number that is not finite", remedy)
    return numbers


def check_boxes(boxes: list[list[float]], box_format: str, resolution_wh: tuple[int, int]) -> None:
    """Raise InputError for a box that is inverted, empty or wholly outside the frame, or a wrong format."""
    from elysium.boxes import to_xyxy

    to_xyxy(boxes, box_format, resolution_wh)


def at_least(name: str, value: int | None, least: int = 1) -> None:
    """Raise InputError for a number under ``least``; None is what was not given."""
    if value is not None and value < least:
        raise InputError(f"{name} {value} is too small", f"Give {least} or more.")


def check_workers(workers: int, ray: str | None) -> None:
    """Raise InputError for fewer processes than none, and for none on a Ray cluster."""
    at_least("--workers", workers, 0)
    if ray is not None and not workers:
        raise InputError("--ray with --workers 0 leaves nobody to do the work", "Give --workers 1 or more.")


def all_expressions(expression: str | None, more: list[str] | None) -> list[str]:
    """The argument and the options, without blanks around them. Raises InputError for an empty one."""
    words = [text.strip() for text in ([] if expression is None else [expression]) + (more or [])]
    if not all(words):
        raise InputError("An expression is empty", "Say in words what is meant, for example 'the red car'.")
    return words


def check_clip_length(clip_length: int | None) -> int | None:
    """The same number. Raises InputError for one that leaves no room for an overlap."""
    if clip_length is not None and clip_length < 2:
        raise InputError(
            f"--clip-length {clip_length} is too small", "Clips overlap by one frame: give 2 or more."
        )
    return clip_length


def check_lost_policy(policy: str) -> None:
    """Raise InputError for a policy that does not exist (a test compares them with the tracker's)."""
    if policy not in LOST_POLICIES:
        raise InputError(f"--lost-policy {policy!r} does not exist", f"Use one of {', '.join(LOST_POLICIES)}.")


def parse_window(text: str) -> float | Literal["auto"] | None:
    """`auto`, `none`, or a number of at least 1. Raises InputError."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    try:
        ratio = float(text)
    except ValueError:
        raise InputError(
            f"--search-window {text!r} is not a size", "Use auto, none, or a number such as 4."
        ) from None
    if not 1 <= ratio < math.inf:
        raise InputError(f"--search-window {text} cannot hold the object", "Give 2 or more, or none.")
    return ratio


def check_times(times_s: list[float], objects: int) -> None:
    """Raise InputError for starting times that are no times, or not one for all or one for each object."""
    for time in times_s:
        if not (math.isfinite(time) and time >= 0):
            raise InputError(f"--at {time:g} is not a time", "Give seconds after the first frame, 0 or more.")
    if len(times_s) not in (0, 1, objects):
        raise InputError(
            f"--at was given {len(times_s)} times for {objects} objects", "Give it once, or once for each object."
        )


def check_machine(device: str, dtype: str, threads: int | None) -> None:
    """Raise InputError for a device, number type or count of threads that cannot be had here.

    Imports PyTorch, so it comes after the checks that need nothing.
    """
    at_least("--threads", threads, 1)
    from elysium.inference.devices import resolve_device, resolve_dtype

    resolve_dtype(dtype, resolve_device(device))


def open_frames(
    source: str, *, start_s: float | None, end_s: float | None, stride: int, max_frames: int | None
) -> FrameSource:
    """Open `source`; nothing is read but its header. Raises SourceError, InputError for bad options."""
    from elysium.video import open_source

    if not source.strip():
        raise SourceError("The source is empty", "Give a video file, a folder of images or a quoted glob.")
    return open_source(source, start_s=start_s, end_s=end_s, stride=stride, max_frames=max_frames)


def source_stem(source: str) -> str:
    """The name that results of `source` are filed under: of a file, a folder, a glob's folder, an address or "live"."""
    path = Path(source)
    if not path.exists() and (source == "-" or source.isdigit()):
        return "live"
    if not path.exists() and "://" in source:
        return re.sub(r"[^\w.-]+", "-", Path(urlsplit(source).path).stem or urlsplit(source).hostname or "") or "live"
    if glob.has_magic(source) and not path.exists():
        while glob.has_magic(str(path)):
            path = path.parent
    path = path.resolve()
    return (path.name if path.is_dir() else path.stem) or "frames"


def load_model(
    model: str, device: str, dtype: str, threads: int | None, reference: bool = False,
    tokens_per_frame: int | None = None,
) -> Elysium:  # fmt: skip
    """The model that a command works with. Raises ModelError, InputError."""
    from elysium.inference.pipelines import Elysium

    return Elysium.from_pretrained(
        model, device=device, dtype=dtype, threads=threads, reference=reference, tokens_per_frame=tokens_per_frame
    )
