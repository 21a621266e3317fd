"""`elysium describe`: say in words what is in a box."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from elysium.cli import common
from elysium.errors import InputError

DESCRIBE_FRAMES = 8  # as Elysium.describe; a test compares them (importing it here would import PyTorch)


def describe(
    source: common.Source,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="A,B,C,D", help="The object, as a box in the frame of --at. Repeatable."),
    ] = None,
    box_format: common.BoxFormat = "xyxy",
    model: common.Model = "nano",
    at: Annotated[
        float | None,
        typer.Option(
            "--at", metavar="S", help="The second of the frame in which the boxes lie. Default: the first frame."
        ),
    ] = None,
    stride: common.Stride = 1,
    end: common.End = None,
    max_frames: Annotated[
        int | None,
        typer.Option(
            "--max-frames", metavar="N", help="Frames that the model sees, 8 by default.", show_default=False
        ),
    ] = None,
    search_window: common.SearchWindow = "auto",
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    reference: common.Reference = False,
    as_json: common.AsJson = False,
) -> int:
    """Describe the object in a box: one line a box, in the order given.

    The model sees the frame in which the box lies and those after it. An image is a video of one frame.

    Example: elysium describe street.mp4 --box 120,80,220,300 --at 2.5
    """
    boxes = [common.parse_box(text) for text in box or []]
    if not boxes:
        raise InputError("There is no box to describe", "Give --box A,B,C,D.")
    window = common.parse_window(search_window)
    seen = DESCRIBE_FRAMES if max_frames is None else max_frames
    frames = common.open_frames(source, start_s=at, end_s=end, stride=stride, max_frames=seen)
    common.check_boxes(boxes, box_format, frames.resolution_wh)
    common.check_machine(device, dtype, threads)
    loaded = common.load_model(model, device, dtype, threads, reference)
    texts = [loaded.describe(frames, numbers, box_format, search_window=window) for numbers in boxes]
    for sentence in frames.warnings:
        common.warn(sentence)
    if as_json:
        items = [{"box": numbers, "description": text} for numbers, text in zip(boxes, texts, strict=True)]
        print(
            json.dumps(
                {"source": source, "model": model, "box_format": box_format, "objects": items}, indent=2
            )
        )
    else:
        print("\n".join(" ".join(text.split()) for text in texts))
    return common.DONE
