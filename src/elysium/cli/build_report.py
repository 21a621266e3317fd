"""`elysium build-report`: one HTML page about a data set, and what a human check of it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elysium.cli import common


def build_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output of `elysium build`.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Where the page goes. [default: DIR]", show_default=False),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", help="So many that were kept, and as many that were dropped.")
    ] = 12,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another one draws other samples.")] = 0,
    checked: Annotated[
        Path | None,
        typer.Option("--checked", metavar="FILE", help="The sheet with verdicts: keep or drop.", show_default=False),
    ] = None,
) -> int:
    """Write a page about a data set: the funnel, histograms, random samples with reasons, and a sheet to check them by.

    Fill the sheet in on the page, or check.csv in a table; with --checked the precision is computed, with its interval.

    Example: elysium build-report built --checked check.csv
    """
    from elysium.building.report import write_report

    common.at_least("--samples", samples, 0)
    written, verdicts = write_report(folder, output or folder, samples, seed, checked)
    for path in written:
        print(path)
    if verdicts is not None:
        print(f"precision: {verdicts.precision}")
        print(f"dropped, though right: {verdicts.missed}")
        print(f"without a verdict: {verdicts.unsure}")
    return common.DONE
