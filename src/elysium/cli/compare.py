"""`elysium compare`: runs side by side, with how much of their difference is luck of the sequences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.evaluation.bootstrap import Interval


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR DIR ...", help="Folders of runs that have been scored.")],
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="[default: the task's main one]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Compare runs on the sequences that all of them have.

    For each run the mean over sequences with its 95 % bootstrap interval, and for each but the first the difference to
    the first, sequence by sequence.

    Example: elysium compare runs/nano runs/csrt runs/hold --metric auc
    """
    from elysium.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
    from elysium.evaluation.runs import per_item, read_scores

    if len(runs) < 2:
        raise InputError("One run cannot be compared", "Give the folders of two runs or more.")
    tables, scored = [], [read_scores(folder) for folder in runs]
    _refuse_unlike(runs, scored)
    for scores in scored:
        metric, values = per_item(scores, metric)
        tables.append({id: value for id, value in values.items() if value == value})
    shared = [id for id in tables[0] if all(id in table for table in tables)]
    if not shared:
        raise InputError("The runs have no sequence in common", "Compare runs on the same annotations.")
    columns = [[table[id] for id in shared] for table in tables]
    means = [bootstrap_mean(column, seed=seed) for column in columns]
    differences = [bootstrap_difference(column, columns[0], seed=seed) for column in columns[1:]]
    _warn_of_others(runs, tables, len(shared))
    if as_json:
        print(json.dumps(_json(runs, str(metric), len(shared), means, differences), indent=2))
    else:
        for line in _lines(runs, str(metric), len(shared), means, differences):
            print(line)
    return common.DONE


def _refuse_unlike(runs: list[Path], scored: list[dict[str, Any]]) -> None:
    """Raise InputError for figures that do not mean the same."""
    for folder, scores in zip(runs[1:], scored[1:], strict=True):
        for key in ("task", "convention", "count_first", "meteor_name"):
            if scores.get(key) != scored[0].get(key):
                raise InputError(
                    f"{key} is {scored[0].get(key)!r} in {runs[0]} and {scores.get(key)!r} in {folder}",
                    "Score both in the same way with `elysium score`, and compare runs of one task.",
                )
        first, other = (one.get("sequences") or {} for one in (scored[0], scores))
        unlike = [id for id in first if id in other and first[id].get("num_frames") != other[id].get("num_frames")]
        if unlike:
            raise InputError(
                f"{runs[0]} and {folder} have scored different frames of {unlike[0]!r}",
                "Run both with the same options.",
            )


def _warn_of_others(runs: list[Path], tables: list[dict[str, float]], shared: int) -> None:
    for folder, table in zip(runs, tables, strict=True):
        if len(table) > shared:
            common.warn(f"{folder}: {len(table) - shared} sequences for which not all runs have a figure are left out")


def _json(
    runs: list[Path], metric: str, shared: int, means: list[Interval], differences: list[Interval]
) -> dict[str, object]:
    from dataclasses import asdict

    rows = [{"run": str(folder), **asdict(mean)} for folder, mean in zip(runs, means, strict=True)]
    for row, difference in zip(rows[1:], differences, strict=True):
        row["difference_to_first"] = asdict(difference)
    return {"metric": metric, "num_sequences": shared, "runs": rows}


def _lines(runs: list[Path], metric: str, shared: int, means: list[Interval], differences: list[Interval]) -> list[str]:
    width = max(len(str(folder)) for folder in runs)
    lines = [f"{metric} over {shared} sequences, 95 % bootstrap intervals"]
    for folder, mean, difference in zip(runs, means, [None, *differences], strict=True):
        line = f"  {folder!s:<{width}}  {mean.mean:6.2f}  [{mean.low:.2f}, {mean.high:.2f}]"
        if difference is not None:
            line += (
                f"   {difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}] against the first, "
                f"better in {100 * difference.above_zero:.0f} % of resamples"
            )
        lines.append(line)
    return lines
