"""`elysium report`: one HTML file and PNGs of one or several runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.cli.figures import ConventionOption, CountFirst, JavaOption
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.evaluation.report import RunView
    from elysium.evaluation.runs import Scoring


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR [DIR ...]", help="Folders of runs; the first is the subject.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="[default: the first run's folder]", show_default=False),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", metavar="PATH", help="Where they lie now.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Where the frames lie now.", show_default=False)
    ] = None,
    gallery: Annotated[int, typer.Option("--gallery", metavar="N", help="At most N pictures of failures.")] = 12,
    convention: ConventionOption = None,
    count_first: CountFirst = True,
    java: JavaOption = True,
) -> int:  # fmt: skip
    """Write a report: plots, tables, and the frames where the first run fails worst.

    Example: elysium report runs/nano runs/csrt runs/hold --output report
    """
    from elysium.evaluation.report import write_report
    from elysium.evaluation.runs import Scoring

    if gallery < 0:
        raise InputError(f"--gallery {gallery} makes no sense", "Give 0 or more.")
    scoring = Scoring(convention, count_first, False, java)
    views = [_view(folder, annotations, images, scoring) for folder in runs]
    if len({view.run["task"] for view in views}) > 1:
        raise InputError("The runs are of different tasks", "Report on one task at a time.")
    names = [view.name for view in views]
    views = [view if names.count(view.name) == 1 else _named_by_folder(view) for view in views]
    written = write_report(views, output or runs[0], gallery=gallery)
    for path in written:
        print(path)
    return common.DONE


def _named_by_folder(view: RunView) -> RunView:
    return replace(view, name=f"{view.name} ({view.folder.name})")


def _view(folder: Path, annotations: Path | None, images: Path | None, scoring: Scoring) -> RunView:
    from elysium.evaluation.report import RunView
    from elysium.evaluation.runs import Run

    run = Run.open(folder, annotations)
    figures = run.figures(scoring)
    place = images or Path(str(run.facts["images"]))
    if not place.is_dir():
        common.warn(f"the frames of {folder} are not at {place}: no pictures; name the folder with --images")
    facts = {**run.facts, "num_records": len(run.items)}
    if figures.tracking is not None:
        facts |= {"convention": figures.tracking.convention, "count_first": figures.tracking.count_first}
    return RunView(
        run.name, folder, facts, {item.id: item.record for item in run.items}, {one.id: one for one in run.results},
        run.failures, place if place.is_dir() else None, figures.tracking, figures.language,
    )  # fmt: skip
