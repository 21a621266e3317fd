"""`elysium ask`: a question about a video or an image, an answer in words."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from elysium.cli import common
from elysium.errors import InputError


def ask(
    source: common.Source,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Any words.", show_default=False)],
    model: common.Model = "nano",
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            help="Frames that the model sees, spread evenly. Default: the model's, 16 (nano: 8).",
            show_default=False,
        ),
    ] = None,
    start: common.Start = None,
    end: common.End = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    reference: common.Reference = False,
    as_json: common.AsJson = False,
) -> int:
    """Answer a question about a video or an image.

    nano was trained on questions of four kinds: "What color is ...?", "What is ...?", "How many ... are there?" and
    "Which way does ... move?".

    Example: elysium ask street.mp4 "What color is the car on the left?"
    """
    if not question.strip():
        raise InputError("The question is empty", 'Ask something, for example "What color is the car?".')
    if frames is not None and frames < 1:
        raise InputError(f"--frames {frames} is too small", "Give 1 or more.")
    opened = common.open_frames(source, start_s=start, end_s=end, stride=1, max_frames=None)
    common.check_machine(device, dtype, threads)
    loaded = common.load_model(model, device, dtype, threads, reference)
    answer = loaded.ask(opened, question, num_frames=frames)
    for sentence in [*loaded.unknown_words([question]), *opened.warnings]:
        common.warn(sentence)
    if as_json:
        report = {"source": source, "model": model, "question": question, "answer": answer}
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(" ".join(answer.split()))
    return common.DONE
