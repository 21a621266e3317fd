"""`elysium plot`: the curves of training runs as one picture. Knows nothing of what is in a log or a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.errors import InputError
from elysium.files import atomic_path

if TYPE_CHECKING:
    from elysium.training.run_log import Run

PICTURE = "curves.png"


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN ...]", help="Output folders of `elysium train`, or their log.jsonl."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="A .png, .svg or .pdf. [default: curves.png in the first run's folder]",
            show_default=False,
        ),
    ] = None,
    smooth: Annotated[
        int, typer.Option("--smooth", metavar="N", help="Running mean of losses and gradients over N logged points.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the path and the last values as JSON.")] = False,
) -> int:  # fmt: skip
    """Draw the curves of training: loss, validation scores, learning rate, gradient norm.

    The stages of a run follow each other along one axis. Several runs are drawn over each other.

    Example: elysium plot runs/nano

    Example: elysium plot runs/first runs/second --smooth 5 --output curves.svg
    """
    from elysium.training.curves import draw_curves, format_of
    from elysium.training.run_log import distinct, read_run

    if smooth < 1:
        raise InputError(f"--smooth {smooth} is too small", "Give 1 or more; 1 draws the values as they are.")
    format = format_of(output or Path(PICTURE))
    found = distinct([read_run(path) for path in runs], runs)
    target = output or (runs[0].parent if runs[0].is_file() else runs[0]) / PICTURE
    picture = draw_curves(found, smooth_points=smooth, format=format)
    with atomic_path(target) as temporary:
        temporary.write_bytes(picture)
    print(json.dumps(_json(target, runs, found), indent=2, ensure_ascii=False) if as_json else target)
    return common.DONE


def _json(target: Path, paths: list[Path], runs: list[Run]) -> dict[str, Any]:
    from elysium.training.run_log import last_values

    return {
        "picture": str(target),
        "runs": [
            {
                "run": str(path),
                "stages": [
                    {"name": stage.name, "last_step": stage.last_step, "last_values": last_values(stage)}
                    for stage in run.stages
                ],
            }
            for path, run in zip(paths, runs, strict=True)
        ],
    }
