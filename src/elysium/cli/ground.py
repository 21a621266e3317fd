"""`elysium ground`: find what words name in one image."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.cli.outputs import OutputPlan, check_writable, make_folder, remove_empty
from elysium.errors import ElysiumError, InputError

if TYPE_CHECKING:
    from elysium.video import ImageArray

PICTURE = "annotated.png"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def ground(
    source: Annotated[
        str, typer.Argument(metavar="IMAGE", help="An image; of a video its first frame.", show_default=False)
    ],
    expression: Annotated[
        str | None, typer.Argument(metavar="EXPRESSION", help="What to find, in words.", show_default=False)
    ] = None,
    expressions: Annotated[
        list[str] | None, typer.Option("--expression", metavar="TEXT", help="One more thing to find. Repeatable.")
    ] = None,
    model: common.Model = "nano",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="DIR|FILE.png|none",
            help="Where to draw the boxes. Default: runs/ground/<name of the image>, numbered up.",
            show_default=False,
        ),
    ] = None,
    zoom: common.Zoom = False,
    tokens_per_frame: common.TokensPerFrame = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    reference: common.Reference = False,
    as_json: common.AsJson = False,
) -> int:
    """Find what words name in one image: a box, a score, and a picture of it.

    Boxes are left, top, right, bottom in pixels of the image.

    Example: elysium ground street.jpg "the red car on the left"
    """
    words = common.all_expressions(expression, expressions)
    if not words:
        raise InputError("There is nothing to find: no expression", "Say in words what to find.")
    common.at_least("--tokens-per-frame", tokens_per_frame)
    plan = _plan(output, source)
    frames = common.open_frames(source, start_s=None, end_s=None, stride=1, max_frames=1)
    common.check_machine(device, dtype, threads)
    image = next(iter(frames)).image
    loaded = common.load_model(model, device, dtype, threads, reference, tokens_per_frame)
    for sentence in [*loaded.unknown_words(words), *frames.warnings]:
        common.warn(sentence)
    found = [loaded.ground(image, text, zoom=zoom) for text in words]
    picture = None if plan is None else _draw(plan, image, words, [box for box, _ in found])
    items = [_as_json(text, box, score) for text, (box, score) in zip(words, found, strict=True)]
    if as_json:
        report = {"source": source, "model": model, "resolution_wh": list(frames.resolution_wh), "objects": items}
        json.dump(report, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        for item in items:
            print(_line(item))
        if picture is not None:
            print(picture)
    return common.DONE


def _plan(output: str | None, source: str) -> OutputPlan | None:
    """Where the picture goes, proven to be writable; None for nowhere."""
    if output == "none":
        return None
    if output is None:
        plan = OutputPlan(Path("runs/ground") / common.source_stem(source), {"png": PICTURE}, numbered=True)
    elif Path(output).suffix.lower() in _SUFFIXES and not Path(output).is_dir():
        plan = OutputPlan(Path(output).parent, {"png": Path(output).name})
    elif Path(output).suffix and not Path(output).is_dir():
        raise InputError(f"--output {output!r} is neither a folder nor an image", f"Use {', '.join(_SUFFIXES)}.")
    else:
        plan = OutputPlan(Path(output), {"png": PICTURE})
    check_writable(plan.folder)
    target = plan.folder / plan.names["png"]
    if not plan.numbered and target.exists() and Path(source).exists() and target.samefile(source):
        raise InputError(f"--output would write over the source {source!r}", "Choose another --output.")
    return plan


def _draw(plan: OutputPlan, image: ImageArray, words: list[str], boxes: list[Any]) -> Path:
    import numpy as np
    from PIL import Image

    from elysium.draw import annotate
    from elysium.files import atomic_path

    states = ["tracked" if np.isfinite(box).all() else "absent" for box in boxes]
    drawn = annotate(image, np.array(boxes), words, states, list(range(1, len(words) + 1)))
    folder, made = make_folder(plan)
    target = folder / plan.names["png"]
    try:
        with atomic_path(target) as path:
            Image.fromarray(drawn).save(path, format=Image.registered_extensions()[target.suffix.lower()])
    except ElysiumError:
        remove_empty(made)
        raise
    return target


def _as_json(text: str, box: Any, score: float) -> dict[str, Any]:
    known = all(math.isfinite(value) for value in box)
    return {
        "expression": text,
        "box_xyxy": [round(float(value), 2) for value in box] if known else None,
        "score": round(score, 4),
    }


def _line(item: dict[str, Any]) -> str:
    if item["box_xyxy"] is None:
        return f'"{item["expression"]}": not found'
    numbers = ",".join(f"{value:g}" for value in item["box_xyxy"])
    return f'"{item["expression"]}": {numbers} (score {item["score"]:.2f})'
